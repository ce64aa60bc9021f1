"""How a kernel that Numba compiled becomes a shared library: see :mod:`lake.native`."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from numba import types
from numba.core.runtime.nrtdynmod import _meminfo_struct_type

from lake.jit import Turn, arrays_at
from lake.native import RESULTS, digest_of, is_whole

__all__ = ["link"]

_RUNTIME = """
%info = type { i64, ptr, ptr, ptr, i64, ptr }
declare noalias ptr @malloc(i64)
declare void @free(ptr)

define noalias ptr @NRT_MemInfo_alloc_aligned(i64 %size, i32 %align) {
  %wide = zext i32 %align to i64
  %room = add i64 %wide, 48
  %all = add i64 %size, %room
  %info = call ptr @malloc(i64 %all)
  %none = icmp eq ptr %info, null
  br i1 %none, label %failed, label %there
failed:
  ret ptr null
there:
  %at = ptrtoint ptr %info to i64
  %behind = add i64 %at, 48
  %less = sub i64 %wide, 1
  %over = add i64 %behind, %less
  %mask = sub i64 0, %wide
  %start = and i64 %over, %mask
  %data = inttoptr i64 %start to ptr
  store i64 1, ptr %info
  %dtor = getelementptr %info, ptr %info, i64 0, i32 1
  store ptr null, ptr %dtor
  %place = getelementptr %info, ptr %info, i64 0, i32 3
  store ptr %data, ptr %place
  %length = getelementptr %info, ptr %info, i64 0, i32 4
  store i64 %size, ptr %length
  ret ptr %info
}

define noalias ptr @NRT_MemInfo_alloc(i64 %size) {
  %info = call ptr @NRT_MemInfo_alloc_aligned(i64 %size, i32 16)
  ret ptr %info
}

define void @NRT_MemInfo_call_dtor(ptr %info) {
  call void @free(ptr %info)
  ret void
}

define noalias ptr @NRT_Allocate(i64 %size) {
  %found = call ptr @malloc(i64 %size)
  ret ptr %found
}

define void @NRT_Free(ptr %given) {
  call void @free(ptr %given)
  ret void
}
"""
"""Of Numba's runtime what it takes to allocate arrays and to free them: a block begins with its ``MemInfo``."""

_MEMINFO = "{i64, i8*, i8*, i8*, i64}"
"""What Numba's code takes the head of a block for; of other versions it may be another."""

_SCALARS: dict[str, Any] = {
    "b1": types.boolean, "i1": types.int8, "i2": types.int16, "i4": types.int32, "i8": types.int64,
    "u1": types.uint8, "u2": types.uint16, "u4": types.uint32, "u8": types.uint64,
    "f4": types.float32, "f8": types.float64,
}  # fmt: skip
_TUPLE: Any = types.BaseTuple
_UNKNOWN = "?"


def link(dispatcher: Any, kinds: Any, path: Path) -> None:
    """Make the library of a kernel for arguments of some kinds, if it can be had.

    Of processes that begin at once one makes it, and the others wait.
    """
    turn = Turn(path.with_suffix(".turn"))
    turn.take()
    try:
        if not is_whole(path):  # another one may have made it meanwhile
            _make(dispatcher, kinds, path)
    except Exception:  # noqa: BLE001, S110  (what is wrong with the arguments, Numba will say)
        pass
    finally:
        turn.leave()


def _make(dispatcher: Any, kinds: Any, path: Path) -> None:
    signature = tuple(_type(kind) for kind in kinds)
    dispatcher.compile(signature)
    returns = _kind(dispatcher.overloads[signature].signature.return_type)
    words = _words(returns)
    if _UNKNOWN in words or len(words) > RESULTS or str(_meminfo_struct_type) != _MEMINFO:
        return
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic",
        codemodel="small",
    )
    module = _alone(_adapter(dispatcher, kinds, returns), machine, repr(returns))
    if _resolves(module):
        _write(machine.emit_object(module), path)


def _type(kind: Any) -> Any:
    if isinstance(kind, tuple):
        return _TUPLE.from_types([_type(each) for each in kind])
    element, dimensions, strided, readonly = _array(kind)
    if not dimensions:
        return _SCALARS[element]
    return types.Array(_SCALARS[element], dimensions, "A" if strided else "C", readonly=readonly)


def _kind(returned: Any) -> Any:
    """Name what a kernel gives back, as far as words hold it."""
    if returned == types.none:
        return None
    if isinstance(returned, _TUPLE):
        return tuple(_kind(each) for each in returned)
    return next((name for name, known in _SCALARS.items() if known == returned), _UNKNOWN)


def _words(returns: Any) -> list[Any]:
    if isinstance(returns, tuple):
        return [word for each in returns for word in _words(each)]
    return [returns]


def _adapter(dispatcher: Any, kinds: Any, returns: Any) -> Any:
    """Compile ``f(address)``, which calls the kernel with what the words at the address say.

    What it gives back stands behind them.
    """
    known: dict[str, Any] = {"np": np, "kernel": dispatcher}
    known |= {"u8_at": arrays_at(types.uint64, 8, 1), "f8_at": arrays_at(types.float64, 8, 1)}
    places = itertools.count()
    given = ", ".join(_expression(kind, places, known) for kind in kinds)
    stores = _stores("found", returns, places)
    room = next(places) + RESULTS
    lines = [
        f"words, floats = u8_at(at, (np.int64({room}),)), f8_at(at, (np.int64({room}),))",
        f"found = kernel({given})",
        *stores,
    ]
    exec("\n    ".join(["def adapter(at):", *lines]), known)  # noqa: S102  (made of the kinds alone)
    return numba.njit(types.void(types.uint64), nogil=True, error_model="numpy")(known["adapter"])


def _expression(kind: Any, words: Iterator[int], known: dict[str, Any]) -> str:
    if isinstance(kind, tuple):
        return "(" + "".join(f"{_expression(each, words, known)}, " for each in kind) + ")"
    word = next(words)
    element, dimensions, strided, readonly = _array(kind)
    if not dimensions:
        known[f"as_{kind}"] = _SCALARS[kind]
        return f"as_{kind}({'floats' if kind[0] == 'f' else 'words'}[{word}])"
    name = "at_" + kind.replace("[", "_").replace("]", "_")
    size = np.dtype(element).itemsize
    known[name] = arrays_at(_SCALARS[element], size, dimensions, strided=strided, readonly=readonly)
    shape = "".join(f"np.int64(words[{next(words)}]), " for _ in range(dimensions * (1 + strided)))
    return f"{name}(words[{word}], ({shape}))"


def _array(kind: str) -> tuple[str, int, bool, bool]:
    """Take a kind apart: element, dimensions (0: a number), whether strides follow, whether it is read-only."""
    element, _, rest = kind.partition("[")
    dimensions, _, how = rest.partition("]")
    return element, int(dimensions or 0), "strided" in how, "readonly" in how


def _stores(found: str, kind: Any, places: Iterator[int]) -> list[str]:
    if isinstance(kind, tuple):
        return [line for at, each in enumerate(kind) for line in _stores(f"{found}[{at}]", each, places)]
    return [] if kind is None else [f"{'floats' if kind[0] == 'f' else 'words'}[{next(places)}] = {found}"]


def _alone(adapter: Any, machine: Any, returns: str) -> Any:
    """Give a module with the adapter as ``kernel``, what it calls, and nothing else."""
    [compiled] = adapter.overloads.values()
    module = llvm.parse_assembly(adapter.inspect_llvm(compiled.signature.args))
    text = "".join(f"\\{byte:02x}" for byte in [*returns.encode(), 0])
    told = f'@returns = constant [{len(returns) + 1} x i8] c"{text}"'
    module.link_in(llvm.parse_assembly(_RUNTIME + told))
    module.get_function(compiled.fndesc.llvm_func_name).name = "kernel"
    for each in (*module.functions, *module.global_variables):
        if not each.is_declaration and each.name not in {"kernel", "returns"}:
            each.linkage = "internal"
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    return module


def _resolves(module: Any) -> bool:
    """Whether the system has what the module has not, and no address of this process is in it."""
    ours = ctypes.CDLL(None)
    for each in (*module.functions, *module.global_variables):
        if each.name.startswith("numba.dynamic.globals"):  # an array that was too large to be copied in
            return False
        if each.is_declaration and not each.name.startswith("llvm.") and not hasattr(ours, each.name):
            return False
    return True


def _write(code: bytes, path: Path) -> None:
    """Link code, and move the library into place; beside a source, those of what it was before go."""
    with tempfile.TemporaryDirectory() as folder:
        here, made = Path(folder) / "kernel.o", Path(folder) / "kernel.so"
        here.write_bytes(code)
        command = ["cc", "-shared", "-nostdlib", "-o", str(made), str(here)]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603  (our own files)
        content = made.read_bytes()
    writing = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    try:
        writing.write_bytes(content + digest_of(content))
        writing.replace(path)
    finally:
        writing.unlink(missing_ok=True)
    if path.parent.name != "__pycache__":  # a folder for several sources
        return
    name, source, _ = path.name.rsplit("-", 2)
    for other in path.parent.glob(f"{name}-*.so"):
        if not other.name.startswith(f"{name}-{source}-"):
            other.unlink(missing_ok=True)
