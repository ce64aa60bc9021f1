"""Boxes, keypoints and masks as columns of a table, and back.

- Boxes: a JSON array per row (a string column) or a list column. An item is ``[a, b, c, d]``, ``[a, b, c, d,
  rest ...]`` or an object with such numbers under ``bbox`` (as in COCO's annotations); what else it holds stays
  with it.
- Keypoints: likewise ``[x, y]``, ``[x, y, rest ...]``; one that leaves the image becomes ``null`` in its place,
  and ``null`` stays.
- Masks: an encoded image (PNG) of the image's size in a binary column.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augment.targets import BoxFormat, Targets, check_boxes, check_keypoints

__all__ = ["Annotated", "BadAnnotationError", "parse", "write"]

_BOX, _POINT = 4, 2


class BadAnnotationError(ValueError):
    """A row's boxes, keypoints or mask cannot be used; ``rule`` says which: ``bad-boxes`` and so on."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(rule, reason)
        self.rule = rule
        self.reason = reason


@dataclass(frozen=True)
class Annotated:
    """What belongs to one image.

    Attributes:
        boxes: float64 (b, 4), in the format that the column has.
        box_items: what the boxes stood in.
        keypoints: float64 (p, 2), without those that are None in ``point_items``.
        point_items: what the keypoints stood in.
        mask: (h, w, k).
        text: whether boxes and keypoints came as JSON text.
    """

    boxes: npt.NDArray[np.float64] | None = None
    box_items: Sequence[Any] = ()
    keypoints: npt.NDArray[np.float64] | None = None
    point_items: Sequence[Any] = ()
    mask: npt.NDArray[Any] | None = None
    text: tuple[bool, bool] = (False, False)


def parse(
    shape: tuple[int, ...],
    form: BoxFormat,
    *,
    boxes: Any = None,
    keypoints: Any = None,
    mask: bytes | None = None,
) -> Annotated:
    """What a row says about its image of that shape; None is none.

    Raises:
        BadAnnotationError: it is not of the form above, or not inside of the image.
    """
    box_items, as_text = _items(boxes, "bad-boxes")
    point_items, points_as_text = _items(keypoints, "bad-keypoints")
    corners = _numbers(box_items, _BOX, "bad-boxes")
    points = _numbers([item for item in point_items if item is not None], _POINT, "bad-keypoints")
    try:
        check_boxes(corners, form, (shape[0], shape[1]))
    except ValueError as error:
        raise BadAnnotationError("bad-boxes", str(error)) from error
    try:
        check_keypoints(points)
    except ValueError as error:
        raise BadAnnotationError("bad-keypoints", str(error)) from error
    return Annotated(corners, box_items, points, point_items, _mask(mask, shape), (as_text, points_as_text))


def _items(value: Any, rule: str) -> tuple[list[Any], bool]:
    if value is None:
        return [], False
    if isinstance(value, str):
        try:
            found = json.loads(value)
        except json.JSONDecodeError as error:
            raise BadAnnotationError(rule, f"no JSON at character {error.pos}: {error.msg}") from error
        except (ValueError, RecursionError) as error:
            raise BadAnnotationError(rule, "JSON with too many digits or levels") from error
        if not isinstance(found, list):
            raise BadAnnotationError(rule, f"JSON, but {type(found).__name__} instead of a list")
        return found, True
    if not isinstance(value, (list, tuple)):
        raise BadAnnotationError(rule, f"{type(value).__name__} instead of a list or JSON")
    return list(value), False


def _numbers(items: list[Any], count: int, rule: str) -> npt.NDArray[np.float64]:
    rows = []
    for i, item in enumerate(items):
        part = item.get("bbox") if isinstance(item, dict) else item
        if not isinstance(part, (list, tuple)) or len(part) < count:
            raise BadAnnotationError(rule, f"item {i} has not {count} numbers")
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in part[:count]):
            raise BadAnnotationError(rule, f"item {i} has something else than numbers in its first {count}")
        try:
            rows.append([float(v) for v in part[:count]])
        except OverflowError as error:
            raise BadAnnotationError(rule, f"item {i} has a number of too many digits") from error
    return np.array(rows, np.float64).reshape(-1, count)


def _mask(blob: bytes | None, shape: tuple[int, ...]) -> npt.NDArray[Any] | None:
    from lake.images import BadImageError, decode

    if blob is None:
        return None
    try:
        mask = decode(blob)
    except BadImageError as error:
        raise BadAnnotationError("bad-mask", error.reason) from error
    if mask.shape[:2] != tuple(shape[:2]):
        raise BadAnnotationError(
            "bad-mask", f"{mask.shape[0]} x {mask.shape[1]}, the image {shape[0]} x {shape[1]}"
        )
    return mask


def targets(rows: Sequence[Annotated], form: BoxFormat, least_visible: float) -> Targets:
    """What belongs to the images of a batch; a row without a mask gets none back."""
    return Targets(
        masks=[row.mask for row in rows],
        boxes=[row.boxes if row.boxes is not None else () for row in rows],
        keypoints=[row.keypoints if row.keypoints is not None else () for row in rows],
        box_format=form,
        least_visible=least_visible,
    )


def write(row: Annotated, moved: Targets, i: int) -> tuple[Any, Any]:
    """The boxes and the keypoints of image ``i`` as they are now, in the form in which they came."""
    boxes: list[Any] = []
    for k, corners in zip(moved.kept[i], np.asarray(moved.boxes[i]), strict=True):  # type: ignore[index]  # given
        item = row.box_items[k]
        numbers = [round(float(v), 6) for v in corners]
        boxes.append({**item, "bbox": numbers} if isinstance(item, dict) else [*numbers, *item[_BOX:]])
    points: list[Any] = []
    seen = zip(np.asarray(moved.keypoints[i]), moved.visible[i], strict=True)  # type: ignore[index]  # given
    for item in row.point_items:
        at, inside = ((), False) if item is None else next(seen)
        points.append([*(round(float(v), 6) for v in at), *item[_POINT:]] if inside else None)
    return (
        json.dumps(boxes) if row.text[0] else boxes,
        json.dumps(points) if row.text[1] else points,
    )
