"""How busy the GPUs are, from the driver's own library (NVML), where there is one."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from pipeline.engine.nvml import LIBRARY

__all__ = ["Gpu", "gpus"]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU now.

    Attributes:
        index: as the driver counts.
        busy: share of the driver's last sample period (up to a second) in which a kernel ran, 0 to 1.
        memory_used: bytes.
    """

    index: int
    busy: float
    memory_used: int


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


@cache
def _nvml() -> ctypes.CDLL | None:
    """The library, initialised once; none on a machine without a driver."""
    try:
        library = ctypes.CDLL(os.environ.get(LIBRARY, "libnvidia-ml.so.1"))
        return library if library.nvmlInit_v2() == 0 else None
    except (OSError, AttributeError):
        return None


def gpus() -> Sequence[Gpu]:
    """All GPUs that the driver shows; none where there is no driver, and no zero in place of an answer."""
    nvml = _nvml()
    if nvml is None:
        return ()
    count = ctypes.c_uint()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return ()
    return tuple(found for index in range(count.value) if (found := _one(nvml, index)) is not None)


def _one(nvml: ctypes.CDLL, index: int) -> Gpu | None:
    handle, use, memory = ctypes.c_void_p(), _Utilization(), _Memory()
    calls = (
        nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)),
        nvml.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(use)),
        nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)),
    )
    return None if any(calls) else Gpu(index, use.gpu / 100, int(memory.used))
