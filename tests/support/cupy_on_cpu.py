"""A stand-in for CuPy: arrays in the host's memory, and kernels whose sources run on the CPU.

Its fixtures: ``stand_in``, and ``device``, which is also the real one where there is a GPU.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import tempfile
from contextlib import nullcontext
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cuda_on_cpu import HEADER, gpu, pointer, shared_library

from augment.engine import _cuda_calls, _launch, cuda, cuda_draw

__all__ = [
    "CARD", "DRAW", "FINITE", "SOURCE", "Array", "Kernel", "OutOfMemoryError", "Stream", "device",
    "stand_in",
]  # fmt: skip

SOURCE = Path(str(files("augment.engine").joinpath("programs.cu")))
FINITE = Path(str(files("augment.engine").joinpath("finite.cu")))
DRAW = Path(str(files("augment.engine").joinpath("draw.cu")))
# What the sources need beyond tests/support/cuda_on_cpu.h; macros, so that it may come to have them too.
PRELUDE = """
#include <math.h>
#include <sys/mman.h>
#undef __noinline__
#define __noinline__
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __syncwarp
#define __syncwarp() ((void)__ballot_sync(0xffffffffu, true))
#define SHARED_POOL unsigned char* const pool = pool_end - pool_bytes
static unsigned char* pool_end;  // behind it lies a page that cannot be touched
static unsigned long long pool_bytes;
template <typename T> inline T add_to(T* at, T value) {
    const T old = *at;
    *at += value;
    return old;
}
#define atomicAdd add_to
"""
LAUNCHER = """
extern "C" void run_augment(int blocks, i64 shared, const i64* images, i64 n, int channels, const i64* codes,
                            const double* values, int slots, int bilinear, int kind, int planar,
                            float scale, const float* norm, u8* scratch, i64 pitch, u8* states,
                            i64 state_bytes, u32* counter, int grid, int capacity, int copies, int mode,
                            int turn, const int* tiles) {
    const size_t most = 256 << 10, page = 1 << 16;
    if (!pool_end) {
        void* const made = mmap(0, most + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        pool_end = (unsigned char*)made + most;
        mprotect(pool_end, page, PROT_NONE);
    }
    pool_bytes = shared;
    cuda_on_cpu::launch(blocks, BLOCK, [=] {
        augment(images, n, channels, codes, values, slots, bilinear, kind, planar, scale, norm, scratch,
                pitch, states, state_bytes, counter, grid, capacity, copies, mode, turn, tiles);
    });
}
"""
FINITE_LAUNCHER = """
extern "C" void run_not_finite(int blocks, const i64* images, i64 n, int parts, u32* flags) {
    cuda_on_cpu::launch(blocks, BLOCK, [=] { not_finite(images, n, parts, flags); });
}
"""
DRAW_LAUNCHER = """
extern "C" void run_draw(int blocks, const u64* ids, i64 n, u32 seed_low, u32 seed_high, u32 epoch, int draws,
                         int length, int subpolicies, const double* edges, const Choice* choices,
                         const i64* row_codes, const double* row_values, double width, double height,
                         i64* codes, double* values) {
    cuda_on_cpu::launch(blocks, BLOCK, [=] {
        draw(ids, n, seed_low, seed_high, epoch, draws, length, subpolicies, edges, choices, row_codes,
             row_values, width, height, codes, values);
    });
}
"""
TWIN_LAUNCHER = """
extern "C" void run_op(int blocks, const T* src, T* dst, int n, int h, int w, int c, const double* parameters,
                       const unsigned int* keys) {
    cuda_on_cpu::launch(blocks, 256, [=] { op(src, dst, n, h, w, c, parameters, keys); });
}
"""


LAUNCHERS = {
    "augment": (SOURCE, LAUNCHER),
    "draw": (DRAW, DRAW_LAUNCHER),
    "not_finite": (FINITE, FINITE_LAUNCHER),
}


class Array:
    """A CuPy array, in the host's memory."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self.values = values

    shape = property(lambda self: self.values.shape)
    dtype = property(lambda self: self.values.dtype)
    ndim = property(lambda self: self.values.ndim)
    size = property(lambda self: self.values.size)
    nbytes = property(lambda self: self.values.nbytes)
    device = SimpleNamespace(id=0)
    data = property(lambda self: SimpleNamespace(ptr=self.values.ctypes.data))
    __cuda_array_interface__ = property(lambda self: self.values.__array_interface__)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Array:
        return Array(self.values[plain(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.values[plain(index)] = plain(value)

    def view(self, dtype: Any) -> Array:
        return Array(self.values.view(dtype))

    def reshape(self, *shape: int) -> Array:
        return Array(self.values.reshape(shape if len(shape) > 1 else shape[0]))

    def copy(self) -> Array:
        return Array(self.values.copy())

    def set(self, host: npt.NDArray[Any], stream: object = None) -> None:
        self.values[...] = host

    def get(self, stream: object = None, out: Any = None, blocking: bool = True) -> npt.NDArray[Any]:
        if out is None:
            return self.values.copy()
        out[...] = self.values
        return out


def plain(value: Any) -> Any:
    return value.values if isinstance(value, Array) else value


class OutOfMemoryError(Exception):
    pass


class Stream(nullcontext[None]):
    def __init__(self, non_blocking: bool = False) -> None:
        super().__init__()

    def synchronize(self) -> None:
        pass


@cache
def library(path: Path, launcher: str, **macros: int) -> ctypes.CDLL:
    """The source for the CPU; kept for the next run, since the compiler takes seconds for each."""
    text = PRELUDE + path.read_text("utf-8")
    digest = blake2b((HEADER.read_text("utf-8") + text + launcher).encode(), digest_size=8).hexdigest()
    name = "-".join([path.stem, digest, *(f"{key}{value}" for key, value in sorted(macros.items()))])
    kept = Path(tempfile.gettempdir()) / f"gristmill-{os.getuid()}-{name}.so"
    if kept.exists():
        return ctypes.CDLL(str(kept))
    with tempfile.TemporaryDirectory() as into:
        source = Path(into) / path.name
        source.write_text(text)
        made = shared_library(source, launcher, Path(into), **macros)
        part = kept.with_suffix(f".{os.getpid()}")
        shutil.copyfile(made._name, part)
        part.replace(kept)
        return made


@cache
def twin_library(code: str) -> Any:
    with tempfile.TemporaryDirectory() as into:
        source = Path(into) / "twin.cu"
        source.write_text(code)
        return shared_library(source, TWIN_LAUNCHER, Path(into)).run_op


class Kernel:
    num_regs = 128

    def __init__(self, name: str, code: str, options: tuple[str, ...]) -> None:
        assert "--fmad=false" in options
        self.name = name
        self.macros = {key: int(value) for key, value in re.findall(r"-D(\w+)=(\d+)", " ".join(options))}
        if name == "op":
            self.run = twin_library(code)
        else:
            source, launcher = LAUNCHERS[name]
            assert code == source.read_text("utf-8")
            self.run = getattr(library(source, launcher, **self.macros), f"run_{name}")
        self.max_dynamic_shared_size_bytes = 48 << 10

    def __call__(
        self, grid: tuple[int], block: tuple[int], given: tuple[Any, ...], shared_mem: int = 0
    ) -> None:
        assert block == (self.macros.get("BLOCK", 256),)
        assert shared_mem <= min(self.max_dynamic_shared_size_bytes, 256 << 10)
        kinds = {
            "i4": ctypes.c_int32, "u4": ctypes.c_uint32, "i8": ctypes.c_int64, "f4": ctypes.c_float,
            "f8": ctypes.c_double,
        }  # fmt: skip
        arguments = [
            pointer(each.values) if isinstance(each, Array) else kinds[each.dtype.str[1:]](each)
            for each in given
        ]
        shared = [ctypes.c_int64(shared_mem)] if self.name == "augment" else []
        self.run(grid[0], *shared, *arguments)


CARD = {
    "MultiProcessorCount": 3,
    "MaxSharedMemoryPerBlockOptin": 227 << 10,
    "MaxSharedMemoryPerMultiprocessor": 228 << 10,
    "MaxRegistersPerMultiprocessor": 1 << 16,
    "MaxThreadsPerMultiProcessor": 2048,
}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    device = SimpleNamespace(id=0, attributes=CARD, synchronize=lambda: None)
    cupy = SimpleNamespace(
        asarray=lambda data, dtype=None: (
            Array(np.array(plain(data), dtype)) if not isinstance(data, Array) else data
        ),
        ascontiguousarray=lambda data: data if data.values.flags.c_contiguous else Array(data.values.copy()),
        from_dlpack=lambda data: Array(np.from_dlpack(data)),
        stack=lambda arrays: Array(np.stack([each.values for each in arrays])),
        empty=lambda shape, dtype: Array(np.full(shape, 77, dtype)),
        zeros=lambda shape, dtype: Array(np.zeros(shape, dtype)),
        get_default_memory_pool=lambda: SimpleNamespace(free_all_blocks=lambda: None),
        cuda=SimpleNamespace(
            Device=lambda _=0: device,
            Stream=Stream,
            get_current_stream=Stream,
            alloc_pinned_memory=lambda count: bytearray(max(count, 1)),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        ),
        RawModule=lambda code, options: SimpleNamespace(get_function=lambda name: Kernel(name, code, options)),
    )
    for module in (cuda, cuda_draw, _cuda_calls, _launch):  # the doors
        monkeypatch.setattr(module, "_cupy", lambda: cupy)
    # What they hold must not outlive the stand-in.
    for module, name in (
        (_launch, "_card"),
        (_launch, "_kernel"),
        (_launch, "_finite"),
        (cuda, "_streams"),
        (cuda_draw, "_kernel"),
        (_cuda_calls, "_kernel"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name).__wrapped__)
    monkeypatch.setattr(cuda_draw, "_tables", {})
    monkeypatch.setattr(_launch, "_BLOCK", 64)  # fibers are slow, and so is the compiler
    monkeypatch.setattr(_launch, "_SMALL_BLOCK", 64)
    monkeypatch.setattr(_launch, "_FINITE", 64)
    return cupy


@pytest.fixture(params=["source on the CPU", "GPU"])
def device(request: pytest.FixtureRequest) -> Any:
    """CuPy: a stand-in, and where there is a GPU the real one."""
    if request.param == "GPU":
        return gpu() or pytest.skip("there is no GPU, or no CuPy")
    return request.getfixturevalue("stand_in")
