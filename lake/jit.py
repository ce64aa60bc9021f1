"""How a loop is compiled.

Numba keeps compiled code beside the source (or in the user's cache folder where that one cannot be written) and
looks only at the time stamp of the file that the function stands in. Here it also looks at what that file says,
and at the modules of the same package whose constants it imports. A kernel of another file could change all
the same without its callers being compiled anew: so a kernel calls only kernels of its own file.

**What is on disk is never trusted to be whole.** Numba itself numbers the files of a kernel, and writes the
index before the code: a process that is killed in between leaves an index of today that names code of
yesterday, two processes that compile at once may each find the other's code under its own name, and a damaged
file stops every run that comes after. So here code is written first, into a file that is named by all that it
depends on; what cannot be read, or is for other types, is compiled anew; what cannot be written is not kept.

**One compiles, the others wait.** The workers of a node begin at once, and would all compile the same kernel:
so who finds none on disk takes the kernel's turn, and looks again: another process may have made it meanwhile.

**Loading is not compiling.** Before it looks for a kernel on disk, Numba registers all that it can compile:
two hundred modules, SciPy's linear algebra among them, in twice the time that ``import numba`` takes. Code that
is compiled needs none of it but the runtime. So a kernel that is found on disk is loaded without; when one has
to be compiled, Numba makes up for it by itself.
"""

from __future__ import annotations

import fcntl
import gc
import os
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

from lake.native import source_of, sources, stamp

_collects = gc.isenabled()
gc.disable()  # what an import makes is no garbage, and the collector would go through it again and again
try:
    import numba
finally:
    if _collects:
        gc.enable()

__all__ = ["Turn", "arrays_at", "kernel", "values_at"]

F = TypeVar("F", bound=Callable[..., Any])

_PATIENCE = 120.0  # seconds: no kernel takes that long, but a process may be stopped in the middle


def kernel(function: F) -> F:
    """Compile on first use, free of the interpreter lock, and keep the result on disk where that can be."""
    module = function.__module__
    if module not in sources:
        with suppress(OSError, ImportError, ValueError):
            sources[module] = source_of(module, Path(function.__code__.co_filename))
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        compiled: F = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder at all that it may write
        return numba.njit(**options)(function)  # type: ignore[no-any-return]
    _keep_safely(compiled, stamp(sources.get(module, b"")))
    return compiled


def _keep_safely(dispatcher: Any, source: str) -> None:
    """Let a kernel's cache load without what only the compiler needs, and survive whatever is on disk.

    Numba's ``Cache.load_overload`` is the two steps of ``lightly`` after ``target_context.refresh()``. Where
    another version of it has other parts, its own way is left alone.
    """
    cache: Any = getattr(dispatcher, "_cache", None)
    try:
        from numba.core.runtime.nrt import rtsys

        file, initialize = cache._cache_file, rtsys.initialize  # noqa: SLF001  (numba has no other way in)
        file._source_stamp = (file._source_stamp, source)  # noqa: SLF001  (Numba looks at one file, and at its time)
        found, load, save = cache.load_overload, cache._load_overload, cache.save_overload  # noqa: SLF001
        file.save, turn = _saving(file), Turn(Path(file._index_path).with_suffix(".turn"))  # noqa: SLF001
    except (ImportError, AttributeError):
        return

    def lightly(signature: Any, target: Any) -> Any:
        initialize(target)
        return load(signature, target)

    def load_overload(signature: Any, target: Any) -> Any:
        for way in (lightly, found):
            try:
                loaded = way(signature, target)
            except Exception:  # noqa: BLE001, S112  (whatever a damaged file makes of itself)
                continue
            if loaded is None or tuple(loaded.signature.args) == tuple(signature):
                return loaded
        try:
            cache.flush()
        except OSError:
            cache.disable()
        return None

    def save_overload(signature: Any, compiled: Any) -> None:
        try:
            save(signature, compiled)
        except OSError:  # no space, no permission any more: it runs all the same
            cache.disable()

    cache.load_overload, cache.save_overload = load_overload, save_overload
    _by_turns(dispatcher, cache, turn)


def _by_turns(dispatcher: Any, cache: Any, turn: Turn) -> None:
    """Have a dispatcher take its turn where a kernel is not on disk, until that is saved or has failed."""
    look, compile_ = cache.load_overload, dispatcher.compile

    def load_overload(signature: Any, target: Any) -> Any:
        loaded = look(signature, target)
        return look(signature, target) if loaded is None and turn.take() else loaded

    def compiled(signature: Any) -> Any:
        try:
            return compile_(signature)
        finally:
            turn.leave()

    cache.load_overload, dispatcher.compile = load_overload, compiled


class Turn:
    """Whose turn it is to compile a kernel, among processes: a lock that the kernel of the system frees.

    It saves work and promises nothing: where it cannot be had, two compile the same.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def take(self) -> bool:
        """Wait for it; whether somebody else may have compiled meanwhile."""
        if self._handle is not None:
            return False
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError:  # nothing can be kept here
                return False
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(handle).st_ino == self._path.stat().st_ino:
                    self._handle = handle
                    return True
            except (BlockingIOError, FileNotFoundError):  # it is another's, or he has just given it back
                pass
            except OSError:  # a disk without locks
                os.close(handle)
                return False
            os.close(handle)
            time.sleep(0.05)
        return True

    def leave(self) -> None:
        """Give it back, if it is ours."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)  # whoever waits has it open, and sees that it is gone
            os.close(handle)


def _saving(file: Any) -> Callable[[Any, Any], None]:
    """Make what takes the place of numba's ``IndexDataCacheFile.save``, from the same parts."""
    read_index, write_index, write_data = file._load_index, file._save_index, file._save_data  # noqa: SLF001
    about, name_of = (file._version, file._source_stamp), file._data_name  # noqa: SLF001
    index = Path(file._index_path)  # noqa: SLF001

    def save(key: Any, data: Any) -> None:
        known = read_index()
        if not known:  # there is none, or one of another source: nobody asks for these any more
            for old in index.parent.glob(f"{index.stem}.*.nbc"):
                old.unlink(missing_ok=True)
        number = int.from_bytes(blake2b(repr((about, key)).encode(), digest_size=8).digest())
        write_data(name_of(number), data)
        write_index({**known, key: name_of(number)})

    return save


def values_at(element: Any, bytes_each: int) -> Any:
    """Make ``f(address, count)`` for kernels: the values at an address (uint64) as an array, without a copy.

    Columns may be mapped files that are larger than the memory. The caller keeps them open.
    """
    from numba import types

    return _view(types.Array(element, 1, "C"), bytes_each, types.int64)


def arrays_at(
    element: Any, bytes_each: int, dimensions: int, *, strided: bool = False, readonly: bool = False
) -> Any:
    """Make ``f(address, shape)``: as :func:`values_at`, with any number of dimensions.

    Args:
        element: the type of a value.
        bytes_each: its size.
        dimensions: how many.
        strided: ``shape`` is followed, in the same tuple, by the bytes from one to the next in each dimension.
        readonly: nothing that writes into it compiles.
    """
    from numba import types

    view = types.Array(element, dimensions, "A" if strided else "C", readonly=readonly)
    shaped: Any = types.UniTuple
    return _view(view, bytes_each, shaped(types.int64, dimensions * (1 + strided)))


def _view(view: Any, bytes_each: int, shaped: Any) -> Any:
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def at(_context: Any, _address: Any, _shape: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            from numba.core import cgutils
            from numba.np.arrayobj import populate_array  # half of numba hangs on it: only to compile

            array = context.make_array(view)(context, builder)
            start = builder.inttoptr(arguments[0], cgutils.voidptr_t)
            unpack: Any = cgutils.unpack_tuple
            given = [arguments[1]] if shaped == types.int64 else unpack(builder, arguments[1])
            shape, strides = given[: view.ndim], given[view.ndim :]
            size = context.get_constant(types.intp, bytes_each)
            if not strides:
                strides = [size]
                for length in reversed(shape[1:]):
                    strides.insert(0, builder.mul(strides[0], length))
            populate_array(  # type: ignore[no-untyped-call]  # numba types this module in part only
                array,
                data=builder.bitcast(start, array.data.type),
                shape=shape,
                strides=strides,
                itemsize=size,
                meminfo=None,
            )
            return array._getvalue()  # noqa: SLF001  (numba's own way to read a struct proxy)

        return view(types.uint64, shaped), generate

    return at
