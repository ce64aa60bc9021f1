"""What a loader is asked to do, checked at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

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
        if self.seed is not None and not 0 <= self.seed < 1 << _SEED_BITS:
            raise ConfigError(f"seed={self.seed}", hint="it lies in 0 .. 2**64 - 1")
        if self.augment_at == "size" and self.size is None:
            raise ConfigError('augment_at="size" without size=')
        names = self.beside.names
        if len({*names, "image"}) <= len(names) or any(name.startswith("_") for name in names):
            raise ConfigError(
                "mask=, boxes= and keypoints= name columns of their own", why=f"given: {', '.join(names)}"
            )
        if not 0.0 <= self.least_visible <= 1.0:
            raise ConfigError(f"least_visible={self.least_visible!r}", hint="it is a share of 0 .. 1")
        self.finish  # noqa: B018  (raises what is wrong)

    @property
    def beside(self) -> Columns:
        """The columns that move with the images."""
        return Columns(self.mask, self.boxes, self.keypoints, self.box_format, self.least_visible)

    @property
    def finish(self) -> Finish:
        """What is done to each image after decoding and augmentation."""
        size = (self.size, self.size) if isinstance(self.size, int) else self.size
        if size is not None:
            size = (int(size[0]), int(size[1]))
            if min(size) < 1:
                raise ConfigError(f"size={self.size!r}", hint="(height, width) in pixels, at least 1")
        normalize = None
        if self.normalize is not None:
            mean, std = (_numbers(each) for each in self.normalize)
            if len(mean) != len(std) or min(std) <= 0:
                raise ConfigError(
                    f"normalize={self.normalize!r}",
                    hint="(mean, std), as many of one as of the other, in the scale 0 .. 1; std above 0",
                )
            normalize = (mean, std)
        dtype = self.dtype or ("float32" if normalize else None)
        return Finish(self.mode, size, self.resize, dtype, normalize, self.layout)

    def change(self, **changes: Any) -> Settings:
        """The settings with some of them changed."""
        return replace(self, **changes)


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(
        float(each)
        for each in (value if isinstance(value, (Sequence, tuple)) or hasattr(value, "__len__") else [value])
    )
