"""What belongs to an image and moves with it: its mask, its boxes, its keypoints.

They go the way of the image: through the policy (:mod:`augment.targets`), then into the box that ``size`` cuts
out, and to that size. On the way boxes are corners in pixels; they leave in the format in which they came.

- A mask takes the nearest neighbour: pixel i of n is pixel floor(start + (i + 1/2) * length / n).
- A box is cut off at the edges; one of which less than ``least_visible`` is left is dropped.
- A keypoint outside the image is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augment.annotations import parse
from augment.targets import BoxFormat, Targets, check_boxes, from_corners
from pipeline.loader.finish import Crop

__all__ = ["Beside", "Columns"]

Pixels = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]

_SLACK = 1e-6  # of a box's area: as in augment.targets


@dataclass(frozen=True, eq=False)
class Beside:
    """What belongs to one image.

    Attributes:
        mask: (h, w, k); None where the row has none.
        boxes: float64 (b, 4), x0, y0, x1, y1 in pixels.
        items: what each of the boxes stood in.
        points: float64 (p, 2); NaN where there is none, or none in the image.
    """

    mask: Pixels | None
    boxes: F64
    items: Sequence[Any]
    points: F64


@dataclass(frozen=True)
class Columns:
    """The columns that hold it; "" for none. See :class:`pipeline.loader.Loader`."""

    mask: str = ""
    boxes: str = ""
    keypoints: str = ""
    box_format: BoxFormat = "pascal_voc"
    least_visible: float = 0.1

    @property
    def names(self) -> tuple[str, ...]:
        """Those that there are."""
        return tuple(name for name in (self.mask, self.boxes, self.keypoints) if name)

    def read(self, shape: tuple[int, ...], row: Mapping[str, Any]) -> Beside:
        """What a row says about its image of that shape.

        Raises:
            augment.annotations.BadAnnotationError: it cannot be used; with the rule and the reason.
        """
        said = parse(
            shape,
            self.box_format,
            boxes=row.get(self.boxes),
            keypoints=row.get(self.keypoints),
            mask=row.get(self.mask),
        )
        points = np.full((len(said.point_items), 2), np.nan)
        points[[item is not None for item in said.point_items]] = said.keypoints
        corners = check_boxes(
            said.boxes if said.boxes is not None else (), self.box_format, (shape[0], shape[1])
        )
        return Beside(said.mask, corners, said.box_items, points)

    def targets(self, rows: Sequence[Beside]) -> Targets:
        """As a policy takes it."""
        return Targets(
            masks=[row.mask for row in rows],
            boxes=[row.boxes for row in rows],
            keypoints=[row.points[_there(row.points)] for row in rows],
            least_visible=self.least_visible,
        )

    def moved(self, rows: Sequence[Beside], made: Any) -> list[Beside]:
        """As a policy gave it back."""
        found = []
        for i, row in enumerate(rows):
            points = np.full_like(row.points, np.nan)
            points[_there(row.points)] = np.where(made.visible[i][:, None], made.keypoints[i], np.nan)
            items = [row.items[k] for k in made.kept[i]]
            found.append(Beside(made.masks[i], np.asarray(made.boxes[i]), items, points))
        return found

    def fitted(self, row: Beside, crop: Crop | None, size: tuple[int, int] | None) -> Beside:
        """Cut out and resized as :meth:`pipeline.loader.finish.Finish.shape` does it to the image."""
        if crop is None or size is None:
            return row
        (h, w), scale = size, np.array([size[1] / crop.width, size[0] / crop.height])
        start = np.array([crop.left, crop.top])
        corners = (row.boxes - np.tile(start, 2)) * np.tile(scale, 2)
        inside = np.clip(corners, 0, [w, h, w, h])
        whole, left = _area(corners), _area(inside)
        kept = (left > 0) & (left >= (self.least_visible - _SLACK) * whole)
        return Beside(
            None if row.mask is None else _nearest(row.mask, crop, h, w),
            inside[kept],
            [item for item, stays in zip(row.items, kept, strict=True) if stays],
            (row.points - start) * scale,
        )

    def columns(
        self, rows: Sequence[Beside | None], sizes: Sequence[tuple[int, int] | None]
    ) -> dict[str, list[Any]]:
        """The columns of a batch; ``sizes`` are (height, width) of the finished images."""
        found: dict[str, list[Any]] = {}
        if self.mask:
            masks = [None if row is None else row.mask for row in rows]
            found[self.mask] = [m[:, :, 0] if m is not None and m.shape[2] == 1 else m for m in masks]
        if self.boxes:
            found[self.boxes] = [
                np.empty((0, 4))
                if row is None or size is None
                else from_corners(row.boxes, self.box_format, size)
                for row, size in zip(rows, sizes, strict=True)
            ]
            found["_box_items"] = [[] if row is None else list(row.items) for row in rows]
        if self.keypoints:
            found[self.keypoints] = [
                np.empty((0, 2)) if row is None or size is None else _inside(row.points, size)
                for row, size in zip(rows, sizes, strict=True)
            ]
        return found


def _there(points: F64) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isfinite(points).all(axis=1))


def _inside(points: F64, size: tuple[int, int]) -> F64:
    inside = np.asarray(((points >= 0) & (points < [size[1], size[0]])).all(axis=1))
    return np.where(inside[:, None], points, np.nan)


def _area(corners: F64) -> F64:
    area: F64 = np.prod(np.maximum(corners[:, 2:] - corners[:, :2], 0), axis=1)
    return area


def _nearest(mask: Pixels, crop: Crop, h: int, w: int) -> Pixels:
    rows = np.floor(crop.top + (np.arange(h) + 0.5) * crop.height / h).astype(np.int64)
    columns = np.floor(crop.left + (np.arange(w) + 0.5) * crop.width / w).astype(np.int64)
    rows, columns = rows.clip(0, mask.shape[0] - 1), columns.clip(0, mask.shape[1] - 1)
    return np.ascontiguousarray(mask[rows[:, None], columns])
