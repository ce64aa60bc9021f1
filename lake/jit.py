"""How a loop is compiled.

Numba keeps compiled code beside the source (or in the user's cache folder where that one cannot be
written) and looks only at the time stamp of the file that the function stands in. A helper in another
file could change without its callers being compiled anew: so a kernel calls only kernels of its own file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

__all__ = ["kernel"]

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile on first use, free of the interpreter lock, and keep the result on disk where that can be."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        compiled: F = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder at all that it may write
        compiled = numba.njit(**options)(function)
    return compiled
