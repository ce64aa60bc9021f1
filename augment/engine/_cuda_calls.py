"""Ops that are functions of their own, on images that lie on a GPU."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from augment.ops import Op
from lake.errors import DeviceError
from lake.gpu import cupy as _cupy

__all__ = ["call", "check", "moves_masks"]

_BLOCK = 256
_TYPES = {"uint8": "unsigned char", "uint16": "unsigned short", "float32": "float"}
_EFFECTS = "augment.effects."

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]


def check(op: Op, *, host: bool) -> None:
    """Refuse an op that no GPU can carry out; ``host``: its images may go to the CPU and back.

    Raises:
        lake.errors.DeviceError: it has no function for a GPU.
    """
    if not (host or _in_effects(op) or _source(op)):
        raise DeviceError(
            f"{op.name} has no function for a GPU",
            hint='pass calls="host": its images go to the CPU and back; or choose device cpu',
        )


def moves_masks(op: Op, *, host: bool) -> bool:
    """Whether the GPU carries out how an op moves masks; ``host``: else the CPU may.

    Raises:
        lake.errors.DeviceError: it does not, and the CPU may not.
    """
    if not (host or _in_effects(op)):
        raise DeviceError(
            f"{op.name} moves masks by a function of the CPU",
            hint='pass calls="host": the masks go to the CPU and back; or choose device cpu',
        )
    return _in_effects(op)


def call(cupy: Any, op: Op, images: Any, rows: I64, values: F64, keys: U32) -> None:  # noqa: PLR0917  (all of them differ)
    """Carry out an op on some images of a batch, in place and in the current stream.

    Args:
        cupy: the module.
        op: of kind ``call``.
        images: CuPy, (n, h, w, c).
        rows: int64 (m,), which of them.
        values: float64 (m, 12), on the host.
        keys: uint32 (m, 4), there too.
    """
    index = cupy.asarray(rows)
    some = images[index]
    if _in_effects(op):
        from augment.effects import cuda as effects

        images[index] = effects.run(op.name, some, values, keys)
    elif _source(op):
        images[index] = _twin(cupy, op, some, values, keys)
    else:
        made = [op.call(image, value, key) for image, value, key in zip(some.get(), values, keys, strict=True)]
        images[index] = cupy.asarray(np.stack(made))


def _in_effects(op: Op) -> bool:
    return op.run.startswith(_EFFECTS)


def _source(op: Op) -> str:
    """The twin of an op of one's own, in CUDA C++: see :func:`augment.custom.op`."""
    found: str = getattr(op, "cuda", "")
    return found


def _twin(cupy: Any, op: Op, images: Any, values: F64, keys: U32) -> Any:
    """One thread for each value, in blocks along x."""
    made = cupy.empty(images.shape, images.dtype)
    kernel = _kernel(cupy.cuda.Device().id, _source(op), str(images.dtype))
    kernel(
        (-(-images.size // _BLOCK),),
        (_BLOCK,),
        (
            images, made, *(np.int32(side) for side in images.shape),
            cupy.asarray(np.ascontiguousarray(values[:, 0])), cupy.asarray(np.ascontiguousarray(keys)),
        ),
    )  # fmt: skip
    return made


@cache
def _kernel(_device: int, source: str, dtype: str) -> Any:
    code = f"#define T {_TYPES[dtype]}\n{source}"
    return _cupy().RawModule(code=code, options=("--std=c++14", "--fmad=false")).get_function("op")
