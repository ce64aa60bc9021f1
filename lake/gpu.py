"""The door to the GPU: the only place that imports CuPy."""

from __future__ import annotations

from typing import Any

from lake.errors import DeviceError

__all__ = ["check_place", "cupy"]


def cupy() -> Any:
    """Give the module CuPy, with a GPU behind it.

    Raises:
        DeviceError: there is no GPU, or no CuPy; the host is never taken in its place.
    """
    try:
        import cupy as module
    except ImportError as error:
        raise DeviceError(
            "device cuda needs CuPy, which is not installed",
            why=str(error),
            hint="install gristmill[cuda12] or gristmill[cuda13], or choose device cpu",
        ) from error
    if not module.is_available():
        raise DeviceError(
            "device cuda was asked for, but there is no GPU", hint="choose device cpu, or start where one is"
        )
    return module


def check_place(module: Any, array: Any) -> None:
    """Refuse an array on another GPU than the current one, whose kernels cannot read it.

    Raises:
        ValueError: it is on another one.
    """
    found, now = array.device.id, module.cuda.Device().id
    if found != now:
        raise ValueError(
            f"an array is on GPU {found}, but the current one is GPU {now}: call this inside of "
            f"`with cupy.cuda.Device({found}):`"
        )
