"""Which images may pass: readable, of a sensible size and shape, not blank."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from lake.op import Op, Outcome
from lake.schema import drops, no_drops

__all__ = ["Image"]

_Broken = tuple[str, float | None, float | None, str]


class Image(Op):
    """Keep the images that can be decoded, have sensible sides and are not blank.

    Works on every format that ``lake.images`` decodes, 8 and 16 bit, DICOM too. Rows without an image pass.

    Drops, in this order: the decoder's own rule (``corrupt-image``, ``unsupported-image``,
    ``decompression-bomb``), ``small-image`` and ``large-image`` (sides in pixels), ``long-image`` (long side
    over short side), ``blank-image`` (the standard deviation of the channel that varies most, over the range
    of the type: 255 or 65535).

    >>> import pyarrow as pa
    >>> Image(min_side=32)(pa.table({"_id": ["a"], "image": pa.array([None], pa.binary())})).num_rows
    1
    """

    min_side: int | None = Field(default=16, ge=1, description="Least short side, pixels; null: any.")
    max_side: int | None = Field(default=None, ge=1, description="Greatest long side, pixels; null: any.")
    max_aspect: float | None = Field(
        default=None, ge=1, description="Greatest long side / short side; null: any."
    )
    min_contrast: float | None = Field(
        default=0.0005,
        ge=0,
        le=0.5,
        description="Least standard deviation of the pixel values, as a share of 255 or 65535; null: trust the "
        "header and leave the pixels alone.",
    )

    @model_validator(mode="after")
    def _possible(self) -> Image:
        if self.min_side is not None and self.max_side is not None and self.min_side > self.max_side:
            raise ValueError(f"no image can pass: min_side {self.min_side} is above max_side {self.max_side}")
        return self

    def apply(self, table: pa.Table) -> Outcome:
        """Drop the images that break a rule."""
        if "image" not in table.schema.names:
            return Outcome(table, no_drops())
        places: list[int] = []
        why: list[_Broken] = []
        for place, blob in enumerate(table.column("image")):
            broken = self._broken(blob.as_py()) if blob.is_valid else None
            if broken:
                places.append(place)
                why.append(broken)
        if not places:
            return Outcome(table, no_drops())
        keep = [True] * table.num_rows
        for place in places:
            keep[place] = False
        rules, values, limits, details = zip(*why, strict=True)
        gone = drops(
            table.take(pa.array(places)),
            pa.array(rules),
            value=pa.array(values, pa.float64()),
            threshold=pa.array(limits, pa.float64()),
            detail=pa.array(details),
        )
        return Outcome(table.filter(pa.array(keep)), gone)

    def _broken(self, blob: bytes) -> _Broken | None:
        """The first rule that the image breaks: name, value, threshold, words."""
        from lake.images import BadImageError, decode, header

        try:
            width, height, _, _ = header(blob)
            short, long = min(width, height), max(width, height)
            if self.min_side is not None and short < self.min_side:
                return "small-image", short, self.min_side, "short side in pixels, at least"
            if self.max_side is not None and long > self.max_side:
                return "large-image", long, self.max_side, "long side in pixels, at most"
            if self.max_aspect is not None and long > self.max_aspect * short:
                return "long-image", long / max(short, 1), self.max_aspect, "long side over short side, at most"
            if self.min_contrast is not None:
                pixels = decode(blob)
                # By channel: an image of one colour is blank, whatever its red, green and blue.
                contrast = float(pixels.std(axis=(0, 1), dtype="float64").max()) / np.iinfo(pixels.dtype).max
                if contrast < self.min_contrast:
                    return "blank-image", contrast, self.min_contrast, "contrast, at least"
        except BadImageError as error:
            return error.rule, None, None, "the image cannot be decoded"
        return None
