"""Pixels of any kind as 8-bit RGB of a size to look at, with masks, boxes and keypoints drawn on them.

Everything here happens after augmenting. Small images are enlarged by whole factors, each pixel becoming a
square; large ones are reduced by averaging areas.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from augment.preview.letters import lettered
from augment.targets import Targets, check_boxes

__all__ = ["COLOURS", "Marks", "Screen"]

Array = npt.NDArray[Any]
RGB = npt.NDArray[np.uint8]

COLOURS = (
    (230, 25, 75), (0, 130, 200), (60, 180, 75), (245, 130, 48),
    (145, 30, 180), (0, 160, 160), (240, 50, 230), (190, 150, 0),
)  # fmt: skip
"""Of labels, boxes without labels, and keypoints, in turn."""

_COLOUR_CHANNELS = 3
_GAP = 4  # pixels between the channels of a montage
_OVERLAY = 0.35  # of a mask's colour
_RADIUS = 3.0  # of a keypoint
_TAG = 10  # size of the letters of a box's label
_LONGEST_TAG = 24


@dataclass(frozen=True, slots=True)
class Screen:
    """How images of one shape and dtype are shown.

    Attributes:
        height: of the images.
        width: of the images.
        channels: of the images.
        low: the value that is shown black.
        high: the value that is shown white.
        size: height and width of one picture as shown.
        montage: whether all channels stand side by side, in grey.
    """

    height: int
    width: int
    channels: int
    low: float
    high: float
    size: tuple[int, int]
    montage: bool

    @classmethod
    def of(cls, image: Array, most: int, *, montage: bool = False) -> Screen:
        """For an image (h, w, c), and those made of it.

        Args:
            image: uint8, uint16 or float32; if not of 8 bits, shown from its least value to its greatest.
            most: pixels of the longer side as shown.
            montage: of more than three channels show all, not the first three; two always are.

        >>> Screen.of(np.zeros((28, 28, 1), np.uint8), 104).size
        (84, 84)
        """
        height, width, channels = image.shape
        low, high = (0.0, 255.0) if image.dtype == np.uint8 else (float(image.min()), float(image.max()))
        longest = max(height, width)
        if longest <= most:
            size = (height * (most // longest), width * (most // longest))
        else:
            size = (max(1, round(height * most / longest)), max(1, round(width * most / longest)))
        apart = channels == 2 or (montage and channels != 1)  # noqa: PLR2004  (neither grey nor colours)
        return cls(height, width, channels, low, high if high > low else low + 1.0, size, apart)

    @property
    def factor(self) -> int:
        """By how much it enlarges; 0 where it reduces."""
        return self.size[0] // self.height if self.size[0] % self.height == 0 else 0

    @property
    def exact(self) -> bool:
        """Whether every pixel is shown."""
        return self.size == (self.height * self.factor, self.width * self.factor)

    def caption(self, dtype: np.dtype[Any]) -> str:
        """What is shown how, in words."""
        h, w, c = self.height, self.width, self.channels
        words = [f"{w} x {h} pixels, {_KINDS.get(c, f'{c} channels')}, {dtype}"]
        if dtype != np.uint8:
            words.append(
                f"shown from {self.low:.6g} (black) to {self.high:.6g} (white), the original's own range, "
                "and cut off beyond"
            )
        if self.montage:
            words.append("all channels side by side")
        elif c > _COLOUR_CHANNELS:
            words.append("the first three channels as red, green and blue")
        if not self.exact:
            words.append(f"reduced for display to {self.size[1]} x {self.size[0]}")
        elif self.factor > 1:
            words.append(f"enlarged {self.factor} times")
        return "; ".join(words)

    def show(self, image: Array, draw: Callable[[RGB], RGB] | None = None) -> RGB:
        """The picture, uint8 (h, w, 3) as shown; ``draw`` puts something on it, or on each of a montage.

        >>> Screen.of(np.zeros((2, 2, 1), np.uint8), 6).show(np.full((2, 2, 1), 7, np.uint8))[:, :, 0].shape
        (6, 6)
        """
        planes = self._planes(self._eight_bit(image))
        pictures = [self._resized(plane) for plane in planes]
        if draw is not None:
            pictures = [draw(picture) for picture in pictures]
        return pictures[0] if len(pictures) == 1 else _tiled(pictures)

    def _eight_bit(self, image: Array) -> RGB:
        if image.dtype == np.uint8:
            return image
        share = (image.astype(np.float64) - self.low) * (255.0 / (self.high - self.low))
        made: RGB = np.rint(share.clip(0.0, 255.0)).astype(np.uint8)
        return made

    def _planes(self, image: RGB) -> list[RGB]:
        if self.montage:
            return [np.repeat(image[:, :, k : k + 1], 3, axis=2) for k in range(self.channels)]
        return [np.repeat(image, 3, axis=2) if self.channels == 1 else image[:, :, :3]]

    def _resized(self, plane: RGB) -> RGB:
        if self.exact:
            return plane.repeat(self.factor, axis=0).repeat(self.factor, axis=1)
        small = Image.fromarray(np.ascontiguousarray(plane)).resize(self.size[::-1], Image.Resampling.BOX)
        return np.array(small)


_KINDS = {1: "grey", 3: "RGB"}


def _tiled(pictures: list[RGB]) -> RGB:
    """Side by side, in about a square."""
    columns = int(np.ceil(np.sqrt(len(pictures))))
    rows = -(-len(pictures) // columns)
    h, w = pictures[0].shape[:2]
    sheet = np.full((rows * (h + _GAP) - _GAP, columns * (w + _GAP) - _GAP, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        y, x = (h + _GAP) * (number // columns), (w + _GAP) * (number % columns)
        sheet[y : y + h, x : x + w] = picture
    return sheet


class Marks:
    """Draws targets; a label, or a box, has one colour before and after it has moved.

    Args:
        targets: those of the original, of one image.

    Raises:
        ValueError: they are of more or fewer images.
    """

    def __init__(self, targets: Targets) -> None:
        targets.check(1)
        self._number: dict[Hashable, int] = {}
        labels = [] if targets.box_labels is None else [str(label) for label in targets.box_labels[0]]
        for label in labels:
            self._number.setdefault(label, len(self._number))

    def draw(self, picture: RGB, targets: Targets, size: tuple[int, int]) -> RGB:
        """A picture of an image with what belongs to it.

        Args:
            picture: uint8 (h, w, 3), as shown.
            targets: of one image.
            size: height and width of the image itself.
        """
        made = picture.copy()
        if targets.masks is not None:
            for number, region in _regions(np.asarray(targets.masks[0])):
                _tint(made, _stretched(region, picture.shape[0], picture.shape[1]), _colour(number))
        sheet = Image.fromarray(made)
        pen = ImageDraw.Draw(sheet)
        scale = (picture.shape[1] / size[1], picture.shape[0] / size[0])
        if targets.boxes is not None:
            self._boxes(pen, targets, size, scale)
        if targets.keypoints is not None:
            _points(pen, targets, size, scale)
        return np.array(sheet)

    def _boxes(
        self, pen: ImageDraw.ImageDraw, targets: Targets, size: tuple[int, int], scale: tuple[float, float]
    ) -> None:
        assert targets.boxes is not None  # noqa: S101  (for the type checker)
        corners = check_boxes(targets.boxes[0], targets.box_format, size) * np.array([*scale, *scale])
        numbers = targets.kept[0] if targets.kept else np.arange(len(corners))
        labels = [""] * len(corners)
        if targets.box_labels is not None:
            labels = [str(label) for label in targets.box_labels[0]]
        for number, label, (x0, y0, x1, y1) in zip(numbers, labels, np.rint(corners), strict=True):
            colour = _colour(self._number[label] if label in self._number else int(number))
            # The last pixel of a box is the one before its edge.
            pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=2)
            if label:
                _tag(pen, label[:_LONGEST_TAG], float(x0), float(y0), colour)


def _regions(mask: Array) -> list[tuple[int, npt.NDArray[np.bool_]]]:
    """Number and pixels of each label; 0 is none."""
    if mask.ndim == 3 and mask.shape[2] != 1:  # noqa: PLR2004  (h, w, k)
        return [(k, mask[:, :, k] != 0) for k in range(mask.shape[2])]
    flat = mask.reshape(mask.shape[:2])
    return [(number, flat == value) for number, value in _numbered(flat)]


def _numbered(flat: Array) -> list[tuple[int, Any]]:
    """The labels of a mask with numbers that do not depend on which others are left in it."""
    values = [value for value in np.unique(flat) if value != 0]
    if flat.dtype.kind in "iu":
        return [(int(value) - 1, value) for value in values]
    return list(enumerate(values)) if len(values) <= len(COLOURS) else [(0, value) for value in values]


def _stretched(region: npt.NDArray[np.bool_], height: int, width: int) -> npt.NDArray[np.bool_]:
    rows = (np.arange(height) * 2 + 1) * region.shape[0] // (2 * height)
    columns = (np.arange(width) * 2 + 1) * region.shape[1] // (2 * width)
    found: npt.NDArray[np.bool_] = region[rows[:, None], columns[None, :]]
    return found


def _tint(picture: RGB, region: npt.NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    """A translucent colour, and an outline of one pixel."""
    inner: npt.NDArray[Any] = np.pad(region, 1)
    inner = inner[1:-1, 1:-1] & inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    mixed = picture[inner] * (1.0 - _OVERLAY) + np.array(colour) * _OVERLAY
    picture[inner] = np.rint(mixed).astype(np.uint8)
    picture[region & ~inner] = colour


def _points(
    pen: ImageDraw.ImageDraw, targets: Targets, size: tuple[int, int], scale: tuple[float, float]
) -> None:
    assert targets.keypoints is not None  # noqa: S101  (for the type checker)
    points = np.asarray(targets.keypoints[0], np.float64).reshape(-1, 2)
    inside: Array = np.asarray(((points >= 0) & (points < [size[1], size[0]])).all(axis=1))
    for number, (x, y) in enumerate(points * np.array(scale)):
        if inside[number]:
            box = (x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS)
            pen.ellipse(box, fill=_colour(number), outline=(255, 255, 255))


def _tag(pen: ImageDraw.ImageDraw, label: str, x: float, y: float, colour: tuple[int, int, int]) -> None:
    label, letters = lettered(label, _TAG)
    wide = int(letters.getlength(label)) + 4
    # Above the box where there is room, else inside it.
    top = y - _TAG - 2 if y >= _TAG + 2 else y
    pen.rectangle((x, top, x + wide, top + _TAG + 2), fill=colour)
    pen.text((x + 2, top), label, fill=(255, 255, 255), font=letters)


def _colour(number: int) -> tuple[int, int, int]:
    return COLOURS[number % len(COLOURS)]
