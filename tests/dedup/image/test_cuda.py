"""The CUDA kernel without a GPU: its source runs on the CPU, against Numba's, and NVRTC compiles it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from cuda_on_cpu import ARCHITECTURES, NEEDS_COMPILER, compiled, gpu, pointer, shared_library
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dedup.image import cuda
from dedup.image.hashes import BYTES, Described, Hash, Image, describe_all, tables
from dedup.image.phash import PHash
from lake.errors import DeviceError
from lake.images import encode

SOURCE = Path(str(files("dedup.image").joinpath("hashes.cu")))
LAUNCHER = """
extern "C" void run(int blocks, const u8* data, const i64* places, const i64* shapes, const i64* rows,
                    const i64* columns, int gradient, const int* turns, int turned, int windows, u8* good,
                    u32* hashes, u8* thumbs) {
    cuda_on_cpu::launch(blocks, BLOCK, [=] {
        describe(data, places, shapes, rows, columns, gradient, turns, turned, windows, good, hashes, thumbs);
    });
}
"""
Run = Callable[..., Described]


@pytest.fixture(scope="module", params=[64, 128])
def on_cpu(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    library = shared_library(SOURCE, LAUNCHER, tmp_path_factory.mktemp("cuda"), BLOCK=request.param)

    def run(images: Sequence[Image], kind: Hash, turns: Sequence[int], *, windows: bool) -> Described:
        packed = cuda.pack(images)
        rows, columns = tables(kind)
        several = len(turns) + 15 * windows
        good = np.zeros(len(images), np.uint8)
        hashes, thumbs = np.zeros((len(images), several), np.uint64), np.zeros((len(images), BYTES), np.uint8)
        asked = np.array(turns, np.int32)
        library.run(
            len(images), pointer(packed.data), pointer(packed.places), pointer(packed.shapes), pointer(rows),
            pointer(columns), int(kind == "dhash"), pointer(asked), len(turns), 15 * windows, pointer(good),
            pointer(hashes), pointer(thumbs),
        )  # fmt: skip
        return Described(good != 0, hashes, thumbs)

    return run


def noise(rng: np.random.Generator, shape: tuple[int, ...], *, wide: bool) -> Image:
    top = int(rng.choice([2, 40, 65_536 if wide else 256]))
    return rng.integers(0, top, shape).astype(np.uint16 if wide else np.uint8)


def same(found: Described, wanted: Described) -> None:
    assert np.array_equal(found.good, wanted.good)
    good = wanted.good
    assert np.array_equal(found.hashes[good], wanted.hashes[good])
    assert np.array_equal(found.thumbnails[good], wanted.thumbnails[good])


@NEEDS_COMPILER
@pytest.mark.parametrize("kind", ["phash", "dhash"])
def test_the_source_has_the_bits_of_the_cpu(on_cpu: Run, kind: Hash) -> None:
    rng = np.random.default_rng(1)
    sizes = [(1, 1), (2, 1), (7, 5), (31, 33), (32, 32), (64, 96), (1, 300)]
    images = [noise(rng, (*size, c), wide=wide) for size in sizes for c in (1, 3) for wide in (False, True)]
    images += [np.full((9, 9, 3), 7, np.uint8), np.zeros((0, 5, 1), np.uint8), np.full((9, 9, 1), 7, np.uint16)]
    extreme = np.zeros((40, 40, 3), np.uint8)
    extreme[:, :20], extreme[:, 20:] = (255, 0, 0), (0, 128, 20)
    images += [extreme, extreme.astype(np.uint16) * 257]
    for turns, windows in (((0,), False), (range(8), True)):
        wanted = describe_all(images, kind, turns=turns, windows=windows)
        same(on_cpu(images, kind, turns, windows=windows), wanted)
    assert wanted.good.sum() > 20


@NEEDS_COMPILER
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3])),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_any_image(on_cpu: Run, shape: tuple[int, int, int], wide: bool, seed: int) -> None:
    image = noise(np.random.default_rng(seed), shape, wide=wide)
    same(on_cpu([image], "phash", (0, 5), windows=False), describe_all([image], "phash", turns=(0, 5)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_the_source(architecture: int) -> None:
    assert compiled(SOURCE, architecture) == {"describe"}


@pytest.mark.skipif(gpu() is not None, reason="there is a GPU")
def test_without_a_gpu_the_device_is_refused() -> None:
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    with pytest.raises(DeviceError, match="cuda"):
        describe_all([ramp], device="cuda")
    with pytest.raises(DeviceError, match="cuda"):
        PHash(device="cuda").sketch(pa.table({"_id": ["0" * 32], "image": [encode(ramp)]}))


def test_with_a_gpu_the_bits_are_those_of_the_cpu() -> None:
    if gpu() is None:
        pytest.skip("there is no GPU, or no CuPy")
    rng = np.random.default_rng(2)
    shapes = [
        (int(rng.integers(1, 300)), int(rng.integers(1, 300)), int(rng.choice([1, 3]))) for _ in range(300)
    ]
    images = [noise(rng, shape, wide=bool(k % 3 == 0)) for k, shape in enumerate(shapes)]
    for kind in ("phash", "dhash"):
        asked = {"turns": range(8), "windows": True}
        same(describe_all(images, kind, device="cuda", **asked), describe_all(images, kind, **asked))  # type: ignore[arg-type]
