"""How busy the GPU is, by the driver's own gauge (NVML), where there is one."""

from __future__ import annotations

import ctypes
import os
import threading

__all__ = ["LIBRARY", "Gauge"]

LIBRARY = "GRISTMILL_NVML"
"""The environment variable with another library than the driver's ``libnvidia-ml.so.1``."""

_SECONDS = 0.1  # between two readings: NVML itself averages over 1/6 to 1 second


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class Gauge:
    """Reads the share of time in which kernels ran, in the background, since the last question.

    The GPU that is read is the first of ``CUDA_VISIBLE_DEVICES``, which Ray sets for an actor; where several
    actors share it, each reads the same.
    """

    def __init__(self) -> None:
        library, self._device = _open()
        self._lock = threading.Lock()
        self._sum = 0.0
        self._count = 0
        if library is not None:
            reader = threading.Thread(target=self._read, args=[library], name="gristmill-nvml", daemon=True)
            reader.start()

    def share(self) -> float | None:
        """From 0 to 1; None where nothing can be read."""
        with self._lock:
            found = self._sum / self._count if self._count else None
            self._sum, self._count = 0.0, 0
        return found

    def _read(self, library: ctypes.CDLL) -> None:
        pause = threading.Event()
        while not pause.wait(_SECONDS):
            rates = _Utilization()
            if library.nvmlDeviceGetUtilizationRates(self._device, ctypes.byref(rates)) != 0:
                return
            with self._lock:
                self._sum += rates.gpu / 100
                self._count += 1


def _open() -> tuple[ctypes.CDLL | None, ctypes.c_void_p]:
    device = ctypes.c_void_p()
    try:
        library = ctypes.CDLL(os.environ.get(LIBRARY, "libnvidia-ml.so.1"))
    except OSError:  # no driver: no GPU
        return None, device
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    if library.nvmlInit_v2() != 0:
        return None, device
    if first.isdigit():
        found = library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(first)), ctypes.byref(device))
    else:  # a UUID, as for a part of a GPU
        found = library.nvmlDeviceGetHandleByUUID(first.encode(), ctypes.byref(device))
    return (library, device) if found == 0 else (None, device)
