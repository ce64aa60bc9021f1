"""What comes out of an augmentation: the values' type, their order, and how they are scaled.

A training step wants neither bytes nor channels last, but, say, half-precision numbers in planes, with a mean
taken off. On a GPU that happens as the pixels are stored, without a pass of its own; the CPU gives the same
numbers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

__all__ = ["Dtype", "Layout", "Output"]

Dtype = Literal["uint8", "uint16", "float16", "bfloat16", "float32"]
Layout = Literal["NHWC", "NCHW"]
Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]

_BATCH = 4  # dimensions
_TOPS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535, np.dtype(np.float32): 1}
_UNIT = 257  # of 16 bits in 8: 65535 / 255
_CHUNK = 1 << 20  # values that a thread takes at a time


@dataclass(frozen=True, slots=True)
class Output:
    """How images are handed over.

    A float is ``(v * (1 / top) - mean) * (1 / std)``, each step rounded to float32, and at last to the nearest
    value of its type, ties to even; ``top`` is 255 or 65535, and 1 for float32 images. Integers are the values
    themselves; between 8 and 16 bits, 257 times as much or the nearest 257th.

    Attributes:
        dtype: of the values. "bfloat16" comes as its bits, uint16, since NumPy has no such type: in PyTorch,
            ``torch.from_dlpack(made).view(torch.bfloat16)``.
        layout: channels last, or in planes.
        mean: of all channels or of each, on the scale 0 .. 1; for floats only.
        std: likewise; positive.

    Raises:
        ValueError: an attribute is none of those.

    >>> half = Output("float16", "NCHW", mean=0.5, std=0.25)
    >>> half.convert(np.full((1, 2, 2, 3), 255, np.uint8)).shape
    (1, 3, 2, 2)
    >>> float(half.convert(np.full((1, 2, 2, 3), 255, np.uint8))[0, 0, 0, 0])
    2.0
    """

    dtype: Dtype = "float32"
    layout: Layout = "NHWC"
    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0

    def __post_init__(self) -> None:
        if self.dtype not in get_args(Dtype):
            raise ValueError(f"dtype {self.dtype!r}: give one of {', '.join(get_args(Dtype))}")
        if self.layout not in get_args(Layout):
            raise ValueError(f"layout {self.layout!r}: give NHWC or NCHW")
        for name in ("mean", "std"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)):
                object.__setattr__(self, name, tuple(float(each) for each in value))
        mean, std = np.atleast_1d(self.mean), np.atleast_1d(self.std)
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise ValueError("mean must be finite, std finite and positive")
        if self.integer and ((mean != 0).any() or (std != 1).any()):
            raise ValueError(f"{self.dtype} values are the pixels themselves: mean and std go with floats")

    @property
    def integer(self) -> bool:
        """Whether pixels stay what they are."""
        return self.dtype in {"uint8", "uint16"}

    @property
    def holder(self) -> np.dtype[Any]:
        """NumPy's type of the values: uint16 for bfloat16."""
        return np.dtype("uint16" if self.dtype == "bfloat16" else self.dtype)

    def shape(self, images: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what images of shape (n, h, w, c) or (n, h, w) become.

        >>> Output(layout="NCHW").shape((8, 32, 48))
        (8, 1, 32, 48)
        """
        if self.layout == "NHWC":
            return images
        n, h, w, c = (*images, 1)[:_BATCH]
        return (n, c, h, w)

    def check(self, dtype: np.dtype[Any]) -> None:
        """Refuse images that cannot be handed over like this.

        Raises:
            TypeError: float32 images do not become integers.
        """
        if dtype.kind == "f" and self.integer:
            raise TypeError(f"float32 images do not become {self.dtype}: ask for a float type")

    def factors(self, channels: int) -> F32:
        """The means of the channels, then one over their deviations: float32 (2, channels).

        Raises:
            ValueError: there are means for another number of channels.
        """
        made = np.empty((2, channels), np.float32)
        for row, (name, value) in enumerate((("mean", self.mean), ("std", self.std))):
            given = np.atleast_1d(np.asarray(value, np.float32))
            if len(given) not in {1, channels}:
                raise ValueError(f"{len(given)} values of {name} for images of {channels} channels")
            made[row] = given
        made[1] = np.float32(1.0) / made[1]
        return made

    def convert(self, images: Array) -> Array:
        """Hand over images that are on the CPU.

        Args:
            images: uint8, uint16 or float32, (n, h, w, c) or (n, h, w).

        Returns:
            A new array; grey images without a channel axis get one in the layout NCHW.

        Raises:
            TypeError: for another dtype, or float32 images where integers are asked for.
            ValueError: for another shape, or a mean that does not fit.
        """
        from augment.engine.cpu import threads
        from lake.parallel import in_chunks

        images = np.asarray(images)
        if images.dtype not in _TOPS:
            raise TypeError(f"images of dtype {images.dtype}: give uint8, uint16, or float32 of 0 .. 1")
        self.check(images.dtype)
        if images.ndim not in {_BATCH, _BATCH - 1}:
            raise ValueError(f"images of shape {images.shape}: give (n, h, w, c) or (n, h, w)")
        four = images if images.ndim == _BATCH else images[..., None]
        made = np.empty(self.shape(images.shape), self.holder)
        into = made.reshape(self.shape(four.shape))
        table = None if images.dtype.kind == "f" else self._table(four.shape[3], images.dtype)

        def work(start: int, stop: int) -> None:
            for k in range(four.shape[3]):
                values = four[start:stop, :, :, k]
                target = into[start:stop, k] if self.layout == "NCHW" else into[start:stop, :, :, k]
                target[...] = table[k][values] if table is not None else self._made(values, k, four.shape[3], 1)

        if four.size:
            in_chunks(threads(), len(four), max(1, _CHUNK // four[0].size), work)
        return made

    def _table(self, channels: int, dtype: np.dtype[Any]) -> Array:
        """What each value of each channel becomes: (channels, 256 or 65536)."""
        top = _TOPS[dtype]
        values = np.arange(top + 1, dtype=np.uint32)
        if not self.integer:
            return np.stack([self._made(values, k, channels, top) for k in range(channels)])
        if self.dtype != dtype.name:
            values = values * _UNIT if self.dtype == "uint16" else (values + _UNIT // 2) // _UNIT
        return np.broadcast_to(values.astype(self.holder), (channels, top + 1))

    def _made(self, values: Array, k: int, channels: int, top: int) -> Array:
        mean, factor = self.factors(channels)[:, k]
        made = (values.astype(np.float32) * (np.float32(1.0) / np.float32(top)) - mean) * factor
        if self.dtype != "bfloat16":
            return np.asarray(made, self.holder)
        bits = made.view(np.uint32)
        bits += np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
        return np.asarray(bits >> np.uint32(16), np.uint16)
