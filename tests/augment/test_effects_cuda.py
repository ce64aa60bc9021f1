"""The effects' CUDA source: on the CPU the bytes of Numba, compiled by NVRTC, run where there is a GPU."""

from __future__ import annotations

import ctypes
import re
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cuda_on_cpu
import numpy as np
import numpy.typing as npt
import pytest

from augment.effects import cuda
from augment.ops import OPS
from augment.ops.table import Placed, Shape
from lake.errors import DeviceError

SOURCE = Path(str(files("augment.effects").joinpath("effects.cu")))
NAMES = [name for name, op in OPS.items() if op.kind == "call"]
KINDS = {np.uint8: "u8", np.uint16: "u16", np.float32: "f32"}
N, SIDES, V = "i64 n,", "int h, int w, int c,", "const double* v,"
PARAMETERS = {
    "noise": f"{N} i64 size, const double* scale, const u32* keys, const float* table, float top",
    "blur_down": f"const T* src, Pixel<T>::Sum* sums, {N} {SIDES} const i64* taps, int reach",
    "blur_across": f"const Pixel<T>::Sum* sums, T* dst, {N} {SIDES} const i64* taps, int reach",
    "jpeg": f"const T* src, T* dst, {SIDES} const double* quantum, const double* m, double top",
    "clahe_tables": f"const T* src, {SIDES} {V} u32* counts, float* tables, int levels",
    "clahe_apply": f"const T* src, T* dst, {N} {SIDES} const float* tables, int levels",
    "elastic": f"const T* src, T* dst, {N} {SIDES} {V} const double* grid, int rows, int columns, double side",
    "shrink": f"const T* src, T* small, {N} {SIDES} const int* sides",
    "grow": f"const T* small, T* dst, {N} {SIDES} const int* sides",
    "ghosts": f"const T* src, T* dst, {N} {SIDES} {V} double top",
    "bias": f"const T* src, T* dst, {N} {SIDES} {V} double top",
}
NOISE = "const T* src, T* dst, " + PARAMETERS.pop("noise")
PARAMETERS |= dict.fromkeys(("gaussian", "rician", "poisson"), NOISE)

Array = npt.NDArray[Any]


def launcher() -> str:
    made = []
    for kind in KINDS.values():
        for name, parameters in PARAMETERS.items():
            called = ", ".join(part.split()[-1].lstrip("*") for part in parameters.split(","))
            typed = parameters.replace("T*", f"{kind}*").replace("<T>", f"<{kind}>")
            made.append(
                f'extern "C" void run_{name}_{kind}(int blocks, int threads, {typed}) '
                f"{{ cuda_on_cpu::launch(blocks, threads, [=] {{ {name}_{kind}({called}); }}); }}"
            )
    return "\n".join(made)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return cuda_on_cpu.shared_library(SOURCE, launcher(), tmp_path_factory.mktemp("cuda"), BLOCK=cuda.BLOCK)


def argument(value: Any, src: Array, dst: Array, held: dict[int, Array]) -> Any:
    if isinstance(value, str):
        return cuda_on_cpu.pointer(src if value == "src" else dst)
    if isinstance(value, cuda.Scratch):
        return cuda_on_cpu.pointer(held.setdefault(id(value), np.full(value.size + 8, 0xAB, np.uint8)))
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous
        return cuda_on_cpu.pointer(value)
    kinds = {
        "int64": ctypes.c_int64,
        "int32": ctypes.c_int,
        "float32": ctypes.c_float,
        "float64": ctypes.c_double,
    }
    return kinds[str(value.dtype)](value.item())


def on_cpu(library: ctypes.CDLL, name: str, images: Array, values: Array, keys: Array) -> Array:
    kind = KINDS[images.dtype.type]
    out, held = np.empty_like(images), {}
    for launch in cuda.launches(name, kind, images.shape, values, keys):
        run = getattr(library, f"run_{launch.name}_{kind}")
        run(launch.blocks, launch.threads, *(argument(each, images, out, held) for each in launch.arguments))
    return out


def case(name: str, shape: tuple[int, ...], dtype: type[np.generic], seed: int) -> tuple[Array, Array, Array]:
    draw = np.random.default_rng([seed, *shape])
    top = 1 if dtype is np.float32 else np.iinfo(dtype).max  # type: ignore[type-var]  # integers
    images = np.clip(draw.normal(top / 2, top / 3, shape), 0, top).astype(dtype)
    if dtype is np.float32:
        images = images * np.float32(1.2) - np.float32(0.1)  # a little beyond 0 .. 1
    n = shape[0]
    op = OPS[name]
    parameter = op.range("wide").parameter(draw.random(n))
    keys = draw.integers(0, 2**32, (n, 4), dtype=np.uint32)
    placed = Placed(parameter, draw.random(n), draw.random(n), keys, Shape(*shape[1:], top), "wide")  # type: ignore[call-arg]  # three sides
    values = np.zeros((n, 12))
    found = op.place(placed)
    values[:, : found.shape[1]] = found
    values[: n // 2, 11] = 1.0  # some bilinear
    return images, values, keys


@cuda_on_cpu.NEEDS_COMPILER
@pytest.mark.parametrize("dtype", list(KINDS))
@pytest.mark.parametrize("name", NAMES)
def test_the_source_has_the_bytes_of_the_cpu(library: ctypes.CDLL, name: str, dtype: type[np.generic]) -> None:
    shapes = [(2, 1, 1, 1), (2, 1, 9, 3), (3, 17, 8, 2), (4, 33, 41, 3)]
    if name == "Clahe" and dtype is not np.uint8:
        shapes = [(1, 1, 9, 1), (1, 33, 41, 1)]  # tables of 16 MB a channel
    for shape in shapes:
        images, values, keys = case(name, shape, dtype, 5)
        expected = np.stack([OPS[name].call(images[i], values[i], keys[i]) for i in range(shape[0])])
        found = on_cpu(library, name, images, values, keys)
        assert np.array_equal(found, expected), (shape, np.count_nonzero(found != expected))


@pytest.mark.parametrize("architecture", cuda_on_cpu.ARCHITECTURES)
def test_nvrtc_compiles_it(architecture: int) -> None:
    entries = cuda_on_cpu.compiled(SOURCE, architecture)
    assert entries == {f"{name}_{kind}" for name in PARAMETERS for kind in KINDS.values()}


def test_the_smallest_floats_are_not_taken_for_zero() -> None:
    """CuPy asks for that by -ftz=true; CLAHE rounds to levels. Nor are products and sums contracted."""
    for name, code in cuda_on_cpu.ptx(SOURCE, 90).items():
        assert not re.findall(r"fma\.\S*", code), name
        if name.endswith("f32") and not name.startswith("clahe"):
            assert not re.findall(r"\S*\.ftz\S*", code), name


@pytest.mark.parametrize("dtype", list(KINDS))
@pytest.mark.parametrize("name", NAMES)
def test_on_a_gpu(name: str, dtype: type[np.generic]) -> None:
    cupy = cuda_on_cpu.gpu()
    if cupy is None:
        pytest.skip("there is no GPU")
    images, values, keys = case(name, (6, 65, 79, 3), dtype, 7)
    expected = np.stack([OPS[name].call(images[i], values[i], keys[i]) for i in range(6)])
    assert np.array_equal(cupy.asnumpy(cuda.run(name, cupy.asarray(images), values, keys)), expected)


def test_scratch_is_had_once() -> None:
    """CLAHE's for 16 bits is 16 MiB a channel."""
    had: list[int] = []
    cupy = SimpleNamespace(empty=lambda size, dtype: had.append(size) or np.empty(size, dtype))
    scratch, held = cuda.Scratch(8), {}
    assert cuda._on_device(cupy, scratch, None, None, held) is cuda._on_device(cupy, scratch, None, None, held)
    assert had == [8]


def test_without_a_gpu_it_says_so() -> None:
    if cuda_on_cpu.gpu() is not None:
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError, match="cuda"):
        cuda.run("Blur", np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 12)), np.zeros((1, 4), np.uint32))
