"""CuPy's stand-in for the tests of the GPU's code."""

from __future__ import annotations

from cupy_on_cpu import device, stand_in

__all__ = ["device", "stand_in"]
