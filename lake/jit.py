"""How a loop is compiled.

Numba keeps compiled code beside the source (or in the user's cache folder where that one cannot be
written) and looks only at the time stamp of the file that the function stands in. A helper in another
file could change without its callers being compiled anew: so a kernel calls only kernels of its own file.

**Loading is not compiling.** Before it looks for a kernel on disk, Numba registers all that it can compile:
two hundred modules, SciPy's linear algebra among them, in twice the time that ``import numba`` takes. Code that
is compiled needs none of it but the runtime. So a kernel that is found on disk is loaded without; when one has
to be compiled, Numba makes up for it by itself.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, TypeVar

_collects = gc.isenabled()
gc.disable()  # what an import makes is no garbage, and the collector would go through it again and again
try:
    import numba
finally:
    if _collects:
        gc.enable()

__all__ = ["kernel", "values_at"]

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile on first use, free of the interpreter lock, and keep the result on disk where that can be."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        compiled: F = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder at all that it may write
        return numba.njit(**options)(function)  # type: ignore[no-any-return]
    _load_lightly(compiled)
    return compiled


def _load_lightly(dispatcher: Any) -> None:
    """Let a kernel's cache load without what only the compiler needs.

    Numba's ``Cache.load_overload`` is these two steps after ``target_context.refresh()``. Where another version
    of it has other parts, its own way is left alone.
    """
    cache: Any = getattr(dispatcher, "_cache", None)
    found, load = getattr(cache, "load_overload", None), getattr(cache, "_load_overload", None)
    try:
        from numba.core.runtime.nrt import rtsys

        initialize = rtsys.initialize
    except (ImportError, AttributeError):
        return
    if found is None or load is None:
        return

    def load_overload(signature: Any, target: Any) -> Any:
        try:
            initialize(target)
            return load(signature, target)
        except Exception:  # noqa: BLE001  (whatever it was: numba's own way either works or says what it is)
            return found(signature, target)

    cache.load_overload = load_overload


def values_at(element: Any, bytes_each: int) -> Any:
    """Make ``f(address, count)`` for kernels: the values at an address (uint64) as an array, without a copy.

    Columns may be mapped files that are larger than the memory. The caller keeps them open.
    """
    from numba import types
    from numba.extending import intrinsic

    view = types.Array(element, 1, "C")

    @intrinsic
    def at(_context: Any, _address: Any, _count: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            from numba.core import cgutils
            from numba.np.arrayobj import populate_array  # half of numba hangs on it: only to compile

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
