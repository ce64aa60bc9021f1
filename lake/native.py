"""Compiled loops without the compiler.

Numba keeps what it compiled. But a process that only wants to run it must import Numba, which loads LLVM, and
link the code anew: most of a second, more than a small run works. So where there is a C compiler to link with,
a kernel becomes a shared library, which the system loads in a millisecond::

    _kernels = kernels("dedup.text._kernels")  # imports nothing

    _kernels.band_keys(signatures, 8, out)  # loads a library; the module is imported only to make one

The code is that of Numba's own LLVM module for the same types, with a function around it that takes its
arguments from a list of words. **Whatever cannot be had falls back to Numba**: no linker, a folder that cannot
be written, a kernel that wants more of Numba's runtime than to allocate arrays, or gives one back.

A library is named by all that it depends on: the sources of the kernel's module, of those of its package whose
constants it imports, of :mod:`lake.jit` and of this one; the versions, the processor, Numba's settings in the
environment, the types. It ends with its own digest and is moved into place whole: what a killed process or a
full disk leaves is never run.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pickle
import platform
import re
import shutil
import struct
from ast import literal_eval
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["RESULTS", "Kernel", "digest_of", "is_whole", "kernels", "source_of", "sources", "stamp"]

Kind = Any
"""``i8`` and the like; ``u4[2]`` for an array of so many dimensions, ``u4[2]strided`` for one that is not in C
order, a trailing ``readonly`` for one that must not be written; or a tuple of kinds."""

sources: dict[str, bytes] = {}
"""Of each module with kernels that was imported, what it was made from (:func:`source_of`): that may change."""

RESULTS = 16
"""Words that are left for what a kernel gives back."""

_NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"}
_WORD = (1 << 64) - 1
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_DIGEST = 16
_DONE = (0, -2)  # what Numba's code returns: fine, and fine with None
_PROCESSOR = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")
_IMPORT = re.compile(rb"^from ([\w.]+) import", re.MULTILINE)


def kernels(module: str) -> Any:
    """Give an object whose attributes are the kernels of a module (functions under :func:`lake.jit.kernel`)."""
    return _Kernels(module)


class _Kernels:
    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Kernel:
        if name.startswith("__"):
            raise AttributeError(name)
        found = Kernel(self._module, name)
        setattr(self, name, found)
        return found


class Kernel:
    """A kernel: takes numbers, truth values, NumPy arrays and tuples of those, as the function itself does."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name
        self._ready: dict[Kind, Callable[..., Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Kernel, (self.module, self.name)

    def __call__(self, *given: Any) -> Any:
        """Run it, free of the interpreter lock.

        Raises:
            MemoryError: an array that it works with could not be had; or another error of the kernel.
        """
        words: list[int] = []
        kinds = tuple(_lay(each, words) for each in given)
        run = self._ready.get(kinds)
        if run is None:
            run = self._ready[kinds] = self._find(kinds)
        return run(words, given)

    @property
    def function(self) -> Any:
        """Numba's own dispatcher; the module is imported."""
        return getattr(import_module(self.module), self.name)

    def _find(self, kinds: Kind) -> Callable[..., Any]:
        path = None if None in _flat(kinds) else _place(self.module, self.name, kinds)
        if path is not None and not _differs(self.module, path):
            library = _load(path) or self._link(kinds, path)
            if library is not None:
                return _caller(library, f"{self.module}.{self.name}")
        function = self.function
        return lambda _words, given: function(*given)

    def _link(self, kinds: Kind, path: Path) -> ctypes.CDLL | None:
        function = self.function
        if not shutil.which("cc") or not hasattr(function, "overloads") or _differs(self.module, path):
            return None
        from lake._linking import link

        link(function, kinds, path)
        return _load(path)


def _differs(module: str, path: Path) -> bool:
    """Whether a module was imported from another source than the one that lies there now.

    Then what was imported is run, and nothing is kept under the name of the new source.
    """
    imported = sources.get(module)
    return imported is not None and f"-{stamp(imported)}-" not in path.name


# ---------------------------------------------------------------- arguments and results


def _lay(value: Any, words: list[int]) -> Kind:
    """Write a value into words, and tell its kind; None for what has none."""
    form = type(value)
    if form is np.ndarray or form is np.memmap:
        return _lay_array(value, words)
    if form is tuple:
        return tuple(_lay(each, words) for each in value)
    if form is bool or form is np.bool_:
        words.append(int(value))
        return "b1"
    if form is float or form is np.float64 or form is np.float32:
        words.append(*struct.unpack("<Q", struct.pack("<d", value)))
        return "f4" if form is np.float32 else "f8"
    kind = "i8" if form is int and _LEAST <= value <= _MOST else getattr(value, "dtype", np.dtype("O")).str[1:]
    if kind[0] not in "iu" or not isinstance(value, int | np.integer):
        return None
    words.append(int(value) & _WORD)
    return kind


def _lay_array(array: np.ndarray[Any, Any], words: list[int]) -> Kind:
    kind, flags = array.dtype.str[1:], array.flags
    if kind not in _NUMBERS or not array.dtype.isnative or not flags.aligned or not array.ndim:
        return None
    words.append(array.__array_interface__["data"][0])
    words.extend(array.shape)
    kind = f"{kind}[{array.ndim}]"
    if not flags.c_contiguous:
        words.extend(step & _WORD for step in array.strides)
        kind += "strided"
    return kind if flags.writeable else kind + "readonly"


def _flat(kind: Kind) -> Iterator[str | None]:
    if isinstance(kind, tuple):
        for each in kind:
            yield from _flat(each)
    else:
        yield kind


class _Error(ctypes.Structure):
    """What Numba's code says of an exception: class, arguments and place, pickled, or how to make them."""

    _fields_ = (
        ("pickled", ctypes.c_void_p),
        ("size", ctypes.c_int32),
        ("unwrap", ctypes.c_void_p),
        ("arguments", ctypes.c_void_p),
        ("made", ctypes.c_int32),
    )


def _caller(library: ctypes.CDLL, name: str) -> Callable[..., Any]:
    run = library.kernel
    run.argtypes, run.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p], ctypes.c_int32
    kind = literal_eval(ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(library, "returns"))).decode())

    def call(words: list[int], given: Any) -> Any:  # noqa: ARG001  (held until the kernel has ended)
        place = (ctypes.c_uint64 * (len(words) + RESULTS))(*words)
        nothing, error = ctypes.c_void_p(), ctypes.POINTER(_Error)()
        status = run(ctypes.byref(nothing), ctypes.byref(error), place)
        if status not in _DONE:
            raise _exception(error, name)
        return _read(kind, iter(place[len(words) :]))

    return call


def _exception(error: Any, name: str) -> BaseException:
    if error and not error.contents.made:
        pickled = ctypes.string_at(error.contents.pickled, error.contents.size)
        form, arguments, _ = pickle.loads(pickled)  # noqa: S301  (a constant of the kernel's code)
        made: BaseException = form(*arguments or (f"in the compiled loop {name}",))
        return made
    return ValueError(f"the compiled loop {name} failed: with NUMBA_DISABLE_JIT=1 Python says why, and where")


def _read(kind: Kind, words: Iterator[int]) -> Any:
    if kind is None:
        return None
    if isinstance(kind, tuple):
        return tuple(_read(each, words) for each in kind)
    word = next(words)
    if kind == "b1":
        return bool(word)
    if kind[0] == "f":
        return struct.unpack("<d", struct.pack("<Q", word))[0]
    return word - (1 << 64) if kind[0] == "i" and word >> 63 else word


# ---------------------------------------------------------------- files


def _load(path: Path) -> ctypes.CDLL | None:
    """Load a library, if it is there and whole."""
    try:
        return ctypes.CDLL(str(path)) if is_whole(path) else None
    except OSError:  # on a disk from which nothing may be run
        return None


def is_whole(path: Path) -> bool:
    """Whether a library is there, as it was written."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return digest_of(content[:-_DIGEST]) == content[-_DIGEST:]


def digest_of(content: bytes) -> bytes:
    """What a library ends with."""
    return blake2b(content, digest_size=_DIGEST).digest()


def _place(module: str, name: str, kinds: Kind) -> Path | None:
    """Tell where a library lies or would lie; None where nothing can be kept or Numba shall not compile."""
    source, folder = _source(module)
    if folder is None or os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        return None
    return folder / f"{module}.{name}-{source}-{_short(_machine() + repr(kinds))}.so"


@cache
def _source(module: str) -> tuple[str, Path | None]:
    """Stamp the source of a module, and tell the folder for what is made of it."""
    with suppress(OSError, ImportError, ValueError):
        found = importlib.util.find_spec(module)
        if found is not None and found.origin is not None:
            return stamp(source_of(module, Path(found.origin))), _folder(Path(found.origin).parent)
    return "", None


def source_of(module: str, file: Path) -> bytes:
    """Read what kernels are made from: their module, and those of its package that it imports from."""
    source, package = file.read_bytes(), module.partition(".")[0]
    names = sorted({found.decode() for found in _IMPORT.findall(source)})
    specs = [importlib.util.find_spec(name) for name in names if name.partition(".")[0] == package]
    return b"".join([source, *(Path(spec.origin).read_bytes() for spec in specs if spec and spec.origin)])


def stamp(source: bytes) -> str:
    """Name what code is made from and by."""
    return blake2b(source + _makers(), digest_size=8).hexdigest()


@cache
def _makers() -> bytes:
    files = [Path(__file__).with_name(name).read_bytes() for name in ("jit.py", "native.py", "_linking.py")]
    return b"".join([*files, version("numba").encode(), b" ", version("llvmlite").encode()])


def _folder(source: Path) -> Path | None:
    """Where Numba would keep what it compiles, by the same rules."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    cached = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111  (raises nothing)
    for folder in (
        [Path(chosen)] if chosen else [source / "__pycache__", Path(cached) / "gristmill" / "kernels"]
    ):
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
    return None


@cache
def _machine() -> str:
    """What code depends on besides its source: the processor, the system, and Numba's settings."""
    settings = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith("NUMBA_"))
    about = [platform.machine(), platform.system(), *settings]
    with suppress(OSError), Path("/proc/cpuinfo").open() as lines:
        for line in lines:
            if not line.strip():
                break  # the first processor: all are of a kind
            if line.partition("\t")[0].strip() in _PROCESSOR:
                about.append(line)
    return repr(about)


def _short(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()
