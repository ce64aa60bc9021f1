"""The CUDA kernel without a GPU: its source runs on the CPU, against Numba's bits, and NVRTC compiles it."""

# ruff: noqa: RUF001  letters of many scripts, some of which look alike, are what is tested

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import nullcontext
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from cuda_on_cpu import ARCHITECTURES, NEEDS_COMPILER, compiled, gpu, pointer, shared_library
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dedup.text import cuda
from dedup.text.shingle import tables, texts
from dedup.text.signatures import permutations, signatures
from lake.errors import DeviceError

SOURCE = Path(str(files("dedup.text").joinpath("signatures.cu")))
LAUNCHER = """
#define RUN(NAME)                                                                                           \\
    extern "C" void run_##NAME(int blocks, const u8* data, const i64* offsets, const i64* ends, i64 rows,   \\
                               const u8* classes, const int* folds, int limit, int ngram, const u32* a,     \\
                               const u32* b, int perms, u32* out) {                                         \\
        cuda_on_cpu::launch(blocks, BLOCK, [=] {                                                            \\
            NAME(data, offsets, ends, rows, classes, folds, limit, ngram, a, b, perms, out);                \\
        });                                                                                                 \\
    }
RUN(sign_words)
RUN(sign_characters)
"""
ALPHABET = (
    list("abcXYZ019 .-'\t") + list("éßẞİςÅΩȺ") + list("漢字中あｱﾞไม่ั한")
    + ["\u0301", "\u3099", "\u200d", "\u00ad"]
    + ["🦜", "𠀀", "𝒜", "𞤀", "\x00", "\ufffd", "   ", "abcdefgh"]
)  # fmt: skip
Sign = Callable[..., npt.NDArray[np.uint32]]


@pytest.fixture(scope="module", params=[(64, 128), (128, 2048)], ids=["small tiles", "tiles as used"])
def on_cpu(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sign:
    block, tile = request.param
    library = shared_library(SOURCE, LAUNCHER, tmp_path_factory.mktemp("cuda"), BLOCK=block, TILE=tile)

    def sign(column: pa.Array, num_perm: int, seed: int, ngram: int, unit: str) -> npt.NDArray[np.uint32]:
        out = np.full((len(column), num_perm), 2**32 - 1, np.uint32)
        for chunk in texts(column):
            offsets = chunk.offsets.astype(np.int64)
            ends = cuda.tile_ends(np, offsets, chunk.valid, unit)
            classes, folds = tables()
            a, b = permutations(num_perm, seed)
            run = library.run_sign_words if unit == "word" else library.run_sign_characters
            run(
                int(ends[-1]), pointer(chunk.data), pointer(offsets), pointer(ends), ctypes.c_int64(len(ends)),
                pointer(classes), pointer(folds), len(folds), ngram, pointer(a), pointer(b), num_perm,
                pointer(out),
            )  # fmt: skip
        return out

    def patched(*arguments: object) -> npt.NDArray[np.uint32]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cuda, "TILE", {"word": tile, "char": tile // 2})
            return sign(*arguments)  # type: ignore[arg-type]

    return patched


def mixed(rng: np.random.Generator, size: int) -> str:
    """Runs of one kind each, so that tiles begin and end in the middle of every kind."""
    found: list[str] = []
    while sum(map(len, found)) < size:
        found.append(ALPHABET[rng.integers(len(ALPHABET))] * int(rng.choice([1, 1, 1, 2, 5, 40])))
    return "".join(found)


@NEEDS_COMPILER
@pytest.mark.parametrize("unit", ["word", "char"])
@pytest.mark.parametrize(("ngram", "num_perm"), [(1, 1), (5, 128), (64, 130)])
def test_the_source_has_the_bits_of_the_cpu(on_cpu: Sign, ngram: int, num_perm: int, unit: str) -> None:
    rng = np.random.default_rng(ngram)
    column = [mixed(rng, int(size)) for size in (0, 1, 3, 10, 60, 127, 128, 129, 300, 1200)]
    column += [
        " ".join(["word"] * 700),
        "x" * 2100,
        "漢" * 700,
        "a b " * 99 + "." * 2100 + "c",
        "." * 2100 + "a b",
        "a " + "b漢" * 700,  # in the first 2048 bytes 1025 tokens, more than which no tile can hold
        "x" * 1023 + " " + "y" * 1100,  # in the second 1024 bytes 1025 characters, with the space
    ]
    array = pa.array([*column[:5], None, *column[5:], None, "", "?!"])
    for each in (array, array[3:]):
        wanted = signatures(each, num_perm, 3, ngram, unit)
        assert np.array_equal(on_cpu(each, num_perm, 3, ngram, unit), wanted)


@NEEDS_COMPILER
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.sampled_from(ALPHABET), max_size=90).map("".join), max_size=4),
    st.integers(1, 6),
    st.sampled_from(["word", "char"]),
)
@example(["\u0301", "\u0301a", "\u00ada\u0301", " " * 130 + "a"], 2, "char")
def test_any_text(on_cpu: Sign, column: list[str], ngram: int, unit: str) -> None:
    array = pa.array(column, pa.string())
    assert np.array_equal(on_cpu(array, 8, 1, ngram, unit), signatures(array, 8, 1, ngram, unit))


@NEEDS_COMPILER
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            [
                *(b"\xff", b"\xc3", b"\xa9", b"\xe6\xbc", b"\xa2", b"\xf0\x9f", b"\xed\xa0\x80", b"a", b" "),
                *(b"\xe0\x81\x81", b"\xf0\x80\x81\x81", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\xcc\x81"),
            ]
        )
    ).map(b"".join),
    st.sampled_from(["word", "char"]),
)
def test_bytes_that_are_not_utf8(on_cpu: Sign, data: bytes, unit: str) -> None:
    array = pa.array([data, b"x" + data, data * 20], pa.binary())
    assert np.array_equal(on_cpu(array, 8, 1, 2, unit), signatures(array, 8, 1, 2, unit))


# ---------------------------------------------------------------- the host side, with a stand-in for CuPy


class Array(np.ndarray[Any, Any]):
    device = SimpleNamespace(id=0)

    def set(self, host: npt.NDArray[Any], stream: object = None) -> None:
        assert stream is not None
        self[...] = host

    def get(self, stream: object = None, out: npt.NDArray[Any] | None = None, blocking: bool = True) -> None:
        assert stream is not None
        assert blocking
        assert out is not None
        out[...] = self


class Stream(nullcontext[None]):
    def __init__(self, non_blocking: bool = False) -> None:
        super().__init__()

    def synchronize(self) -> None:
        pass


def as_array(data: Any, dtype: Any = None) -> Array:
    return np.asarray(data, dtype).view(Array)


class Module:
    """CuPy's RawModule: launches on the CPU."""

    def __init__(self, library: ctypes.CDLL, code: str, options: tuple[str, ...]) -> None:
        assert code == SOURCE.read_text("utf-8")
        assert "-DTILE=2048" in options
        self.library = library

    def get_function(self, name: str) -> Callable[..., None]:
        def launch(grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
            assert block == (128,)
            kinds = {np.dtype(np.int32): ctypes.c_int32, np.dtype(np.int64): ctypes.c_int64}
            given = [pointer(each) if each.ndim else kinds[each.dtype](each) for each in arguments]
            getattr(self.library, f"run_{name}")(grid[0], *given)

        return launch


@pytest.fixture
def stand_in(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("cuda")
    library = shared_library(SOURCE, LAUNCHER, folder, BLOCK=128, TILE=2048)
    device = SimpleNamespace(id=0)
    cupy = SimpleNamespace(
        asarray=as_array,
        full=lambda *arguments: as_array(np.full(*arguments)),
        empty=lambda *arguments: as_array(np.empty(*arguments)),
        ascontiguousarray=lambda data, dtype=None: as_array(np.ascontiguousarray(data, dtype)),
        diff=np.diff,
        where=np.where,
        cumsum=np.cumsum,
        cuda=SimpleNamespace(Device=lambda: device, Stream=Stream, get_current_stream=Stream),
        RawModule=lambda code, options: Module(library, code, options),
    )
    monkeypatch.setattr(cuda, "_cupy", lambda: cupy)
    monkeypatch.setattr(
        cuda, "_streams", cuda._streams.__wrapped__
    )  # what it holds must not outlive the stand-in
    for cached in (cuda._module, cuda._constants):  # what they hold must not outlive the stand-in
        monkeypatch.setattr(cuda, cached.__name__, cached.__wrapped__)


@NEEDS_COMPILER
@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("piece", [1, 700, 2**28])
@pytest.mark.parametrize("unit", ["word", "char"])
def test_a_column_goes_over_in_pieces(piece: int, unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_PIECE", piece)
    rng = np.random.default_rng(8)
    plain = pa.array(
        [*(mixed(rng, int(size)) for size in rng.integers(0, 400, 9)), None, "", "漢字" * 900, "x"]
    )
    for column in (
        plain,
        pa.chunked_array([plain[2:5], plain[:0], plain.slice(4)]),
        pa.chunked_array([], pa.string()),
        plain.cast(pa.large_string()).dictionary_encode(),
        pa.nulls(3, pa.string()),
        pa.Array.from_buffers(pa.binary(), 2, [pa.py_buffer(b"\x02"), *plain.slice(0, 2).buffers()[1:]]),
    ):
        wanted = signatures(column, 40, 2, 3, unit)
        assert np.array_equal(signatures(column, 40, 2, 3, unit, device="cuda"), wanted)


@NEEDS_COMPILER
@pytest.mark.usefixtures("stand_in")
def test_arrays_with_gaps_and_of_any_integer_type() -> None:
    texts_of = ["alpha beta gamma delta", "", "epsilon zeta", "x"]
    data = np.frombuffer("".join(texts_of).encode(), np.uint8)
    offsets = np.cumsum([0, *map(len, texts_of)])
    wanted = signatures(pa.array(texts_of), 40, 2, 3)
    for kind in (np.uint8, np.int32, np.int64):
        spread = np.repeat(offsets, 2).astype(kind)[::2]
        found = cuda.signatures(np.repeat(data, 3)[::3], spread, 40, 2, 3, valid=np.ones(8, np.bool_)[::2])
        assert np.array_equal(found, wanted)


# ---------------------------------------------------------------- the compiler, the device


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_the_source(architecture: int) -> None:
    assert compiled(SOURCE, architecture) == {"sign_words", "sign_characters"}


@pytest.mark.skipif(gpu() is not None, reason="there is a GPU")
def test_without_a_gpu_the_device_is_refused() -> None:
    with pytest.raises(DeviceError, match="cuda"):
        signatures(pa.array(["a"]), device="cuda")


def test_with_a_gpu_the_bits_are_those_of_the_cpu() -> None:
    cupy = gpu()
    if cupy is None:
        pytest.skip("there is no GPU, or no CuPy")
    rng = np.random.default_rng(2)
    column = pa.array([*(mixed(rng, int(size)) for size in rng.integers(0, 9000, 300)), None, "漢字" * 10**5])
    for unit in ("word", "char"):
        wanted = signatures(column, 128, 1, 5, unit)
        assert np.array_equal(signatures(column, 128, 1, 5, unit, device="cuda"), wanted)
        (chunk,) = texts(column)
        data, offsets = cupy.asarray(chunk.data), cupy.asarray(chunk.offsets)
        signed = cuda.signatures(
            data, offsets, 128, 1, 5, unit=unit, valid=chunk.valid, stream=cupy.cuda.Stream()
        )
        cupy.cuda.Device().synchronize()
        assert np.array_equal(cupy.asnumpy(signed), wanted)


def test_settings_out_of_range_are_refused() -> None:
    for bad in ({"ngram": 65}, {"ngram": 0}, {"num_perm": 0}, {"unit": "line"}):
        with pytest.raises(ValueError, match="ngram 1 to 64"):
            cuda.signatures(np.zeros(1, np.uint8), np.array([0, 1]), **bad)  # type: ignore[arg-type]
