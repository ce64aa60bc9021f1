"""What moves with an image: masks, boxes and keypoints, through the same composed matrices.

A geometric op moves all of them; noise and colour leave them alone, and so does Cutout (an erased object is
still there). Masks are resampled with the nearest neighbour, whatever the image's resampling. A box becomes the
box about its four moved corners, cut off at the edges; a keypoint moves as the pixel under it does. Boxes of
which too little is left are dropped, and keypoints outside the image are marked as not visible. What a
perspective puts behind the camera is cut off a box; a keypoint there is at NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from augment.engine.compile import CALLS, WARP, Compiled
from augment.ops import by_code

__all__ = ["BoxFormat", "Targets", "check_boxes", "check_keypoints", "check_mask", "from_corners", "move"]

BoxFormat = Literal["pascal_voc", "coco", "yolo"]
F64 = npt.NDArray[np.float64]
U32 = npt.NDArray[np.uint32]

_BOX, _POINT, _MASK = 4, 2, 3
_SLACK = 1e-6
_HORIZON = 1e-6  # what is less far in front of the camera is behind it
_FORMATS = get_args(BoxFormat)


@dataclass(frozen=True)
class Targets:
    """What belongs to each image of a batch.

    Attributes:
        masks: of each image labels per pixel, (h, w) or (h, w, k), of any type, or None; or None for all.
        boxes: of each image float64 (b, 4); or None.
        keypoints: of each image float64 (p, 2), x and y in pixels from the top left corner; or None.
        box_format: ``pascal_voc``: x0, y0, x1, y1 in pixels; ``coco``: x0, y0, width, height in pixels;
            ``yolo``: the centre, width and height, as shares of the image's sides.
        box_labels: of each image what belongs to its boxes, an array of b rows; goes with them.
        least_visible: of its area, or a box is dropped.

    After moving, ``kept`` says for each image which of its boxes are left (their numbers), and ``visible`` for
    each of its keypoints whether it is inside.

    >>> import numpy as np
    >>> from augment import Policy
    >>> policy = Policy(subpolicies=[[{"op": "FlipX"}]])
    >>> targets = Targets(boxes=[np.array([[1.0, 2.0, 4.0, 6.0]])])
    >>> _, moved = policy.apply(np.zeros((1, 8, 10, 3), np.uint8), ids=[7], targets=targets)
    >>> moved.boxes[0].tolist()
    [[6.0, 2.0, 9.0, 6.0]]
    """

    masks: Sequence[npt.NDArray[Any] | None] | npt.NDArray[Any] | None = None
    boxes: Sequence[npt.ArrayLike] | None = None
    keypoints: Sequence[npt.ArrayLike] | None = None
    box_format: BoxFormat = "pascal_voc"
    box_labels: Sequence[Any] | None = None
    least_visible: float = 0.1
    kept: tuple[npt.NDArray[np.int64], ...] = ()
    visible: tuple[npt.NDArray[np.bool_], ...] = ()

    def __post_init__(self) -> None:
        if self.box_format not in _FORMATS:
            known = f"{', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}"
            raise ValueError(f"box_format {self.box_format!r}: give {known}")
        if not 0.0 <= self.least_visible <= 1.0:
            raise ValueError(f"least_visible is a share of 0 .. 1, not {self.least_visible}")
        if self.box_labels is not None and self.boxes is None:
            raise ValueError("box_labels go with boxes: give those too")

    def check(self, n: int) -> None:
        """Hold the numbers against that of the images.

        Raises:
            ValueError: there are more or fewer entries.
        """
        for name in ("masks", "boxes", "keypoints", "box_labels"):
            values = getattr(self, name)
            if values is not None and len(values) != n:
                raise ValueError(
                    f"{n} images but {len(values)} {name}: give one entry per image, if an empty one"
                )

    def take(self, index: Sequence[int]) -> Targets:
        """Those of some images."""

        def some(values: Any) -> Any:
            if values is None or (isinstance(values, np.ndarray) and values.dtype != object):
                return values if values is None else values[np.asarray(index, np.int64)]
            return [values[i] for i in index]

        return replace(
            self, masks=some(self.masks), boxes=some(self.boxes), keypoints=some(self.keypoints),
            box_labels=some(self.box_labels),
        )  # fmt: skip


def move(compiled: Compiled, targets: Targets, numbers: Sequence[int] | None = None) -> Targets:
    """Move what belongs to the images of a batch as the images are moved.

    Args:
        compiled: of the images.
        targets: of as many.
        numbers: what errors call the images; their positions where not given.

    Raises:
        ValueError: a mask has another size than its image, or boxes are not (b, 4), outside the image or empty,
            or have more or fewer labels.
        TypeError: a mask holds objects.
    """
    n = len(compiled)
    targets.check(n)
    moves = [_Moves(compiled, i, i if numbers is None else numbers[i]) for i in range(n)]
    made: dict[str, Any] = {}
    if targets.masks is not None:
        made["masks"] = [
            None if mask is None else _mask(mask, moves[i]) for i, mask in enumerate(targets.masks)
        ]
        if isinstance(targets.masks, np.ndarray) and targets.masks.dtype != object:
            made["masks"] = np.stack(made["masks"]) if n else targets.masks.copy()
    if targets.boxes is not None:
        for i, labels in enumerate(targets.box_labels or ()):
            if len(labels) != len(targets.boxes[i]):  # type: ignore[arg-type]  # rows of boxes
                raise ValueError(
                    f"image {moves[i].number} has {len(targets.boxes[i])} boxes but {len(labels)} box_labels: "  # type: ignore[arg-type]
                    "give one per box"
                )
        moved = [_boxes(boxes, moves[i], targets) for i, boxes in enumerate(targets.boxes)]
        made["boxes"], made["kept"] = [boxes for boxes, _ in moved], tuple(kept for _, kept in moved)
        if targets.box_labels is not None:
            made["box_labels"] = [
                [labels[k] for k in kept] if isinstance(labels, (list, tuple)) else labels[kept]
                for labels, (_, kept) in zip(targets.box_labels, moved, strict=True)
            ]
    if targets.keypoints is not None:
        points = [_keypoints(points, moves[i]) for i, points in enumerate(targets.keypoints)]
        made["keypoints"], made["visible"] = [p for p, _ in points], tuple(v for _, v in points)
    return replace(targets, **made)


class _Moves:
    """The geometric stages of one image."""

    def __init__(self, compiled: Compiled, i: int, number: int) -> None:
        self.height, self.width = compiled.shape[:2]
        self.number = number
        self.stages: list[tuple[int, F64, U32]] = []
        for code, values, key in zip(compiled.codes[i], compiled.values[i], compiled.keys[i], strict=True):
            if code == WARP or (code >= CALLS and by_code(int(code)).moves):
                self.stages.append((int(code), values, key))

    def mask(self, mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Resample (h, w, k), the nearest neighbour."""
        from augment.engine import _kernels

        for code, values, key in self.stages:
            if code == WARP:
                out = np.empty_like(mask)
                _kernels.move(mask, np.ascontiguousarray(values), out)
                mask = out
            else:
                mask = np.require(by_code(code).move_mask(mask, values, key), requirements=["C", "W"])
        return mask

    def points(self, points: F64) -> F64:
        """Where points (n, 2) of the source stand in the output; NaN: behind the camera."""
        for code, values, key in self.stages:
            if code == WARP:
                homogeneous = _homogeneous(points, values)
                homogeneous[homogeneous[:, 2] <= 0] = np.nan
                points = homogeneous[:, :2] / homogeneous[:, 2:]
            elif len(points):
                points, there = points.copy(), np.isfinite(points).all(axis=1)
                points[there] = by_code(code).move_points(points[there], values, key, (self.height, self.width))
        return points

    def seen(self, corners: F64) -> tuple[F64, float]:
        """Of a box (4, 2) that reaches behind the camera: the polygon that is seen, and its share of the box.

        It is cut off at the horizon, and in the last stage at the image's edges.
        """
        # With each point goes where it was in the source, for the share.
        points, origin = corners, corners
        for place, (code, values, key) in enumerate(self.stages):
            if code != WARP:
                points = by_code(code).move_points(points, values, key, (self.height, self.width))
                continue
            made = np.concatenate([_homogeneous(points, values), origin], axis=1)
            made = _cut(made, [0, 0, 1], _HORIZON)
            if place == len(self.stages) - 1:
                for side in ([1, 0, 0], [0, 1, 0], [-1, 0, self.width], [0, -1, self.height]):
                    made = _cut(made, side, 0.0)
            points, origin = made[:, :2] / made[:, 2:3], made[:, 3:]
            if not len(points):
                break
        return points, _area(origin) / _area(corners)


def _homogeneous(points: F64, values: F64) -> F64:
    """Points (n, 2) of the source in the output: (n, 3), the last one positive in front of the camera."""
    inverse = np.linalg.inv(values[:9].reshape(3, 3))
    made: F64 = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ inverse.T
    return made


def _cut(polygon: F64, side: Sequence[float], least: float) -> F64:
    """The part of a polygon (n, k) in which the first columns times ``side`` are ``least`` or more."""
    value = polygon[:, : len(side)] @ np.asarray(side, np.float64) - least
    made = []
    for i, now in enumerate(value):
        before = value[i - 1]
        if (before >= 0) != (now >= 0):
            made.append(polygon[i - 1] + (polygon[i] - polygon[i - 1]) * (before / (before - now)))
        if now >= 0:
            made.append(polygon[i])
    return np.array(made).reshape(-1, polygon.shape[1])


def _area(polygon: F64) -> float:
    """The area of a polygon (n, 2)."""
    x, y = polygon[:, 0], polygon[:, 1]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def check_mask(mask: Any, size: tuple[int, int], number: int) -> None:
    """Hold the mask of image ``number``, an array on any device, against the image's (height, width).

    Raises:
        ValueError: it has another size.
        TypeError: it holds objects.
    """
    if mask.dtype.hasobject:
        raise TypeError(f"the mask of image {number} holds objects: give an array of numbers")
    if mask.ndim not in {2, _MASK} or tuple(mask.shape[:2]) != size:
        raise ValueError(
            f"the mask of image {number} is {' x '.join(map(str, mask.shape))}, but the image "
            f"{size[0]} x {size[1]}: give one of the image's size"
        )


def _mask(mask: npt.NDArray[Any], moves: _Moves) -> npt.NDArray[Any]:
    array = np.asarray(mask)
    check_mask(array, (moves.height, moves.width), moves.number)
    if array.size == 0:
        return array.copy()
    plain = array.dtype.isnative and (array.dtype.kind in "iu" or array.dtype in {np.float32, np.float64})
    if not (plain or array.dtype == np.bool_):
        # The kernels do not know such numbers (half precision, another byte order): their numbers are moved.
        values, numbers = np.unique(array, return_inverse=True)
        found = _mask(numbers.reshape(array.shape) + 1, moves)
        known: npt.NDArray[Any] = np.concatenate([np.zeros(1, array.dtype), values]).astype(array.dtype)
        again: npt.NDArray[Any] = known[found]
        return again
    work = array if plain else array.view(np.uint8)
    moved = moves.mask(np.require(work.reshape(*array.shape[:2], -1), requirements=["C", "W"]))
    made: npt.NDArray[Any] = (np.array(moved) if plain else moved != 0).reshape(array.shape)
    return made


def _boxes(boxes: npt.ArrayLike, moves: _Moves, targets: Targets) -> tuple[F64, npt.NDArray[np.int64]]:
    """The boxes that are left, and their numbers."""
    size = (moves.height, moves.width)
    corners = _said(moves, lambda: check_boxes(boxes, targets.box_format, size))
    x, y = corners[:, [0, 2, 2, 0]], corners[:, [1, 1, 3, 3]]
    square = np.stack([x, y], axis=2)
    moved = moves.points(square.reshape(-1, 2)).reshape(-1, 4, 2)
    low, high = moved.min(axis=1), moved.max(axis=1)
    shares = np.full(len(moved), np.nan)
    for k in np.flatnonzero(np.isnan(moved).any(axis=(1, 2))):
        polygon, shares[k] = moves.seen(square[k])
        low[k], high[k] = (polygon.min(axis=0), polygon.max(axis=0)) if len(polygon) else (0.0, 0.0)
    inside = np.concatenate([low, high], axis=1).clip(0, [moves.width, moves.height] * 2)
    whole = np.prod(high - low, axis=1)
    left = np.prod(inside[:, 2:] - inside[:, :2], axis=1)
    # Of an unbounded shape no share can be left: it is that of the source.
    whole = np.where(shares > 0, left / np.maximum(shares, _SLACK), whole)
    kept = np.flatnonzero(left > np.maximum(targets.least_visible * whole, 0) - _SLACK * whole)
    kept = kept[left[kept] > 0]
    return _FROM_CORNERS[targets.box_format](inside[kept], moves.width, moves.height), kept


def _keypoints(points: npt.ArrayLike, moves: _Moves) -> tuple[F64, npt.NDArray[np.bool_]]:
    moved = moves.points(_said(moves, lambda: check_keypoints(points)))
    inside = ((moved >= 0) & (moved < [moves.width, moves.height])).all(axis=1)
    return moved, np.asarray(inside)


def _said(moves: _Moves, check: Callable[[], F64]) -> F64:
    """Name the image in what is complained of."""
    try:
        return check()
    except ValueError as error:
        raise ValueError(f"image {moves.number}: {error}") from error


def check_boxes(boxes: npt.ArrayLike, form: BoxFormat, size: tuple[int, int]) -> F64:
    """The boxes of one image as corners x0, y0, x1, y1: float64 (b, 4).

    A box half outside is a mistake of the data or of the format, and is not guessed at.

    Raises:
        ValueError: they are of another shape, one is empty, or lies outside of (height, width).
    """
    given = _rows(boxes, _BOX, "boxes")
    height, width = size
    corners = _TO_CORNERS[form](given, width, height)
    slack = _SLACK * max(width, height)
    limit = np.array([width, height] * 2)
    bad = ~np.isfinite(corners).all(axis=1) | (corners < -slack).any(axis=1)
    bad |= (corners > limit + slack).any(axis=1) | (corners[:, 2:] <= corners[:, :2]).any(axis=1)
    if bad.any():
        k = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"box {k} is {np.round(corners[k], 3).tolist()} as x0, y0, x1, y1, which is empty or outside of "
            f"{width} x {height} pixels: is box_format={form!r} right? Else clip it, or leave it out"
        )
    found: F64 = np.clip(corners, 0, limit)
    return found


def from_corners(corners: F64, form: BoxFormat, size: tuple[int, int]) -> F64:
    """Boxes of an image of that (height, width) in another format; the way back from :func:`check_boxes`."""
    return _FROM_CORNERS[form](corners, size[1], size[0])


def check_keypoints(points: npt.ArrayLike) -> F64:
    """The keypoints of one image: float64 (p, 2).

    Raises:
        ValueError: they are of another shape, or not finite.
    """
    given = _rows(points, _POINT, "keypoints")
    if not np.isfinite(given).all():
        raise ValueError("keypoints must be finite")
    return given


def _rows(values: npt.ArrayLike, count: int, what: str) -> F64:
    given = np.asarray(values, np.float64)
    if given.size == 0:
        return given.reshape(-1, count)
    if given.ndim != 2 or given.shape[1] != count:  # noqa: PLR2004  (rows and columns)
        raise ValueError(f"{what} of shape {given.shape}: give (n, {count})")
    return given


Convert = Callable[[F64, int, int], F64]


def _from_coco(boxes: F64, _w: int, _h: int) -> F64:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _to_coco(corners: F64, _w: int, _h: int) -> F64:
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def _from_yolo(boxes: F64, w: int, h: int) -> F64:
    half = boxes[:, 2:] / 2
    made: F64 = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1) * ([w, h] * 2)
    return made


def _to_yolo(corners: F64, w: int, h: int) -> F64:
    share = corners / ([w, h] * 2)
    return np.concatenate([(share[:, :2] + share[:, 2:]) / 2, share[:, 2:] - share[:, :2]], axis=1)


_TO_CORNERS: dict[str, Convert] = {
    "pascal_voc": lambda boxes, _w, _h: boxes,
    "coco": _from_coco,
    "yolo": _from_yolo,
}
_FROM_CORNERS: dict[str, Convert] = {
    "pascal_voc": lambda boxes, _w, _h: boxes,
    "coco": _to_coco,
    "yolo": _to_yolo,
}
