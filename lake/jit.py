"""How a loop is compiled.

Numba keeps compiled code beside the source (or in the user's cache folder where that one cannot be
written) and looks only at the time stamp of the file that the function stands in. A helper in another
file could change without its callers being compiled anew: so a kernel calls only kernels of its own file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

__all__ = ["kernel", "values_at"]

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile on first use, free of the interpreter lock, and keep the result on disk where that can be."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        compiled: F = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder at all that it may write
        compiled = numba.njit(**options)(function)
    return compiled


def values_at(element: Any, bytes_each: int) -> Any:
    """Make ``f(address, count)`` for kernels: the values at an address (uint64) as an array, without a copy.

    Columns may be mapped files that are larger than the memory. The caller keeps them open.
    """
    view = types.Array(element, 1, "C")

    @intrinsic
    def at(_context: Any, _address: Any, _count: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            array = context.make_array(view)(context, builder)
            start = builder.inttoptr(arguments[0], cgutils.voidptr_t)
            size = context.get_constant(types.intp, bytes_each)
            populate_array(  # type: ignore[no-untyped-call]  # numba types this module in part only
                array,
                data=builder.bitcast(start, array.data.type),
                shape=[arguments[1]],
                strides=[size],
                itemsize=size,
                meminfo=None,
            )
            return array._getvalue()  # noqa: SLF001  (numba's own way to read a struct proxy)

        return view(types.uint64, types.int64), generate

    return at
