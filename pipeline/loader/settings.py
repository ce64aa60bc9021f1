"""What a loader is asked to do, checked at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pyarrow.compute as pc

from augment.targets import BoxFormat
from lake.errors import ConfigError
from pipeline.loader.beside import Columns
from pipeline.loader.decode import DecoderName
from pipeline.loader.finish import Finish, Layout, Number, Resize
from pipeline.loader.order import Shuffle
from pipeline.loader.share import By, Last

__all__ = ["Settings"]

_CHOICES = {
    "shuffle": get_args(Shuffle),
    "by": get_args(By),
    "last": get_args(Last),
    "mode": ("RGB", "L", None),
    "dtype": (*get_args(Number), None),
    "layout": get_args(Layout),
    "resize": get_args(Resize),
    "decoder": get_args(DecoderName),
    "on_error": ("raise", "skip"),
    "box_format": get_args(BoxFormat),
    "augment_at": ("stored", "size"),
}
_LEAST = {"batch_size": 1, "window": 1, "spread": 1, "threads": 1, "prefetch": 0, "world": 1, "rank": 0}
_SEED_BITS = 64


@dataclass(frozen=True)
class Settings:
    """The arguments of :class:`pipeline.loader.Loader`; it tells what they mean."""

    batch_size: int = 64
    seed: int | None = None
    shuffle: Shuffle = "window"
    window: int = 256 << 20
    spread: int = 1
    columns: Sequence[str] | None = None
    filter: pc.Expression | None = None
    policy: Any = "table"
    augment_at: Literal["stored", "size"] = "stored"
    classes: Sequence[str] | Literal["auto"] | None = None
    mode: Literal["RGB", "L"] | None = None
    size: tuple[int, int] | int | None = None
    resize: Resize = "pillow"
    dtype: Number | None = None
    normalize: tuple[Any, Any] | None = None
    layout: Layout = "NHWC"
    decoder: DecoderName = "auto"
    mask: str = ""
    boxes: str = ""
    keypoints: str = ""
    box_format: BoxFormat = "pascal_voc"
    least_visible: float = 0.1
    on_error: Literal["raise", "skip"] = "raise"
    last: Last = "keep"
    by: By = "batch"
    rank: int = 0
    world: int = 1
    threads: int | None = None
    prefetch: int = 2
    cache: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                hint = f"one of {', '.join(repr(each) for each in allowed)}"
                raise ConfigError(f"{name}={getattr(self, name)!r} is not known", hint=hint)
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise ConfigError(f"{name}={value!r}: it is a whole number, at least {least}")
        if self.rank >= self.world:
            raise ConfigError(f"rank={self.rank} of world={self.world}", hint="ranks count from 0")
        seed: Any = self.seed
        if seed is not None and not (isinstance(seed, int) and 0 <= seed < 1 << _SEED_BITS):
            raise ConfigError(f"seed={self.seed!r}", hint="it is a whole number of 0 .. 2**64 - 1")
        if self.augment_at == "size" and self.size is None:
            raise ConfigError('augment_at="size" without size=')
        if not isinstance(self.filter, pc.Expression | None):
            raise ConfigError(f"filter={self.filter!r}", hint='such as pyarrow.compute.field("label") == "cat"')
        self._check_names()
        share: Any = self.least_visible
        if not isinstance(share, int | float) or not 0.0 <= share <= 1.0:
            raise ConfigError(f"least_visible={self.least_visible!r}", hint="it is a share of 0 .. 1")
        self.finish  # noqa: B018  (raises what is wrong)

    def _check_names(self) -> None:
        """Of columns and classes."""
        classes = None if isinstance(self.classes, str) and self.classes == "auto" else self.classes
        for name, value in (("columns", self.columns), ("classes", classes)):
            if value is None:
                continue
            if isinstance(value, str) or not all(isinstance(each, str) for each in value):
                raise ConfigError(f"{name}={value!r}", hint=f'it is a list of names: {name}=["a", "b"]')
            if len(set(value)) < len(value):
                raise ConfigError(f"{name}={list(value)!r} names one of them twice")
        names: tuple[Any, ...] = self.beside.names
        named = all(isinstance(name, str) and not name.startswith("_") for name in names)
        if not named or len({*names, "image"}) <= len(names):
            raise ConfigError(
                "mask=, boxes= and keypoints= name columns of their own",
                why=f"given: {', '.join(map(repr, names))}",
            )

    @property
    def beside(self) -> Columns:
        """The columns that move with the images."""
        return Columns(self.mask, self.boxes, self.keypoints, self.box_format, self.least_visible)

    @property
    def finish(self) -> Finish:
        """What is done to each image after decoding and augmentation."""
        normalize = None if self.normalize is None else _means(self.normalize)
        dtype = self.dtype or ("float32" if normalize else None)
        size = None if self.size is None else _size(self.size)
        return Finish(self.mode, size, self.resize, dtype, normalize, self.layout)

    def change(self, **changes: Any) -> Settings:
        """The settings with some of them changed."""
        return replace(self, **changes)


def _size(given: Any) -> tuple[int, int]:
    """Height and width."""
    both = (given, given) if isinstance(given, int) else given
    try:
        height, width = (int(side) for side in both)
    except (TypeError, ValueError):
        height = width = 0
    if isinstance(given, str) or min(height, width) < 1:
        raise ConfigError(f"size={given!r}", hint="(height, width) in pixels, at least 1")
    return height, width


def _means(given: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and standard deviations of the channels."""
    try:
        mean, std = (tuple(np.atleast_1d(np.asarray(each, np.float64)).tolist()) for each in given)
    except (TypeError, ValueError):
        mean = std = ()
    if not mean or len(mean) != len(std) or not np.isfinite([*mean, *std]).all() or min(std) <= 0:
        raise ConfigError(
            f"normalize={given!r}",
            hint="(mean, std), as many of one as of the other, in the scale 0 .. 1; std above 0",
        )
    return mean, std
