"""The CUDA kernels: their sources run on the CPU, against Numba's bits, and NVRTC compiles them."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cuda_on_cpu import ARCHITECTURES, NEEDS_COMPILER, compiled, gpu, ptx
from cupy_on_cpu import CARD, DRAW, FINITE, SOURCE, Array, Kernel, OutOfMemoryError, Stream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import augment
from augment.effects import cuda as effects
from augment.engine import _cuda_work, _kernels, _launch, cuda, cuda_draw
from augment.engine.compile import Compiled, compile_programs
from augment.engine.output import Output
from augment.engine.programs import Programs
from augment.ops import OPS, Applied, Shape
from augment.policy import Policy
from augment.presets import preset
from lake.errors import DeviceError

SIZES = [(1, 1), (1, 9), (9, 1), (2, 5), (3, 3), (7, 13), (16, 16), (19, 33), (24, 32)]
CORE = [op.name for op in OPS.values() if op.kind not in {"call", "mix", "text"}]


# ---------------------------------------------------------------- the bits


def pictures(rng: np.random.Generator, n: int, size: tuple[int, ...], bits: int) -> npt.NDArray[Any]:
    """Noise, some of it in a part of the range, some in few values."""
    top = (1 << bits) - 1
    made = rng.integers(0, top + 1, (n, *size))
    made[1::4] = made[1::4] // 3 + top // 4
    made[2::4] = made[2::4] // (top // 3) * (top // 3)
    return made.astype(f"uint{bits}")


def by_numba(one: Compiled, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    wanted = np.empty_like(images)
    _kernels.run(
        images, wanted, np.ascontiguousarray(one.codes), np.ascontiguousarray(one.values), int(one.shape.top),
        one.resampling == "bilinear",
    )  # fmt: skip
    return wanted


def drawn(names: list[str], draws: int, resampling: str = "nearest") -> Policy:
    return Policy(
        subpolicies=[[{"op": name, "magnitude": (0, 1)}] for name in names], draws=draws, resampling=resampling
    )


@NEEDS_COMPILER
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.sampled_from(SIZES),
    bits=st.sampled_from([8, 16]),
    channels=st.sampled_from([1, 3, 3, 4, 5]),
    resampling=st.sampled_from(["nearest", "bilinear"]),
    draws=st.integers(1, 12),
    seed=st.integers(0, 2**32),
    way=st.sampled_from(["staged", "from memory", "in turns"]),
)
def test_any_program_has_the_bits_of_the_cpu(  # noqa: PLR0917  (drawn, all of them)
    device: Any, size: tuple[int, int], bits: int, channels: int, resampling: str, draws: int, seed: int,
    way: str,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    images = pictures(rng, 9, (*size, channels), bits)
    one = drawn(CORE, draws, resampling).compile(range(9), size=(*size, channels), seed=seed, bits=bits)
    with pytest.MonkeyPatch.context() as patch:
        if way == "in turns":
            patch.setattr(_launch, "_LARGE", 0)
            patch.setattr(_launch, "_TILE", 40)
        if way == "from memory":
            patch.setitem(CARD, "MaxSharedMemoryPerBlockOptin", 40 << 10)
            patch.setattr(_launch._Shared, "_pool", lambda self, block, _: no_room(self, block))
        found = cuda.run(one, device.asarray(images))
    assert np.array_equal(found.get(), by_numba(one, images))


def no_room(shared: Any, block: int) -> tuple[int, int, int]:
    area = max(4 * block * 8, 1024 * shared.channels * 2)
    held = _launch.state_bytes(8, shared.channels) if shared.bits == 8 else 0
    return 0, 2, held + area


@NEEDS_COMPILER
@pytest.mark.parametrize("bits", [8, 16])
def test_each_op_alone(device: Any, bits: int) -> None:
    rng = np.random.default_rng(1)
    images = pictures(rng, 4, (20, 31, 3), bits)
    for name in CORE:
        for resampling in ("nearest", "bilinear"):
            one = drawn([name], 1, resampling).compile(range(4), size=(20, 31, 3), seed=3, bits=bits)
            found = cuda.run(one, device.asarray(images))
            assert np.array_equal(found.get(), by_numba(one, images)), (name, resampling)


@NEEDS_COMPILER
def test_equalize_of_sixteen_bits_has_a_step(device: Any) -> None:
    """An image must have more than 65,535 pixels for that; here it is also cut into tiles, and not."""
    rng = np.random.default_rng(4)
    images = pictures(rng, 2, (300, 301, 1), 16) // 2
    programs = [[Applied("Equalize", 0.0), Applied("AutoContrast", 0.0), Applied("Equalize", 0.0)]] * 2
    one = compile_programs(Programs.of(programs), Shape(300, 301, 1, 65535.0))
    wanted = by_numba(one, images)
    assert not np.array_equal(wanted, images)
    for large in (0, 1 << 30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_launch, "_LARGE", large)
            patch.setattr(_launch, "_FEW", large)
            assert np.array_equal(cuda.run(one, device.asarray(images)).get(), wanted)


@NEEDS_COMPILER
@pytest.mark.parametrize("large", [False, True])
def test_coordinates_beyond_16_bits_run_along_the_rows(
    device: Any, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(_launch, "_LARGE", 0)
        monkeypatch.setattr(_launch, "_TILE", 40)
    rng = np.random.default_rng(5)
    images = pictures(rng, 3, (70, 11, 3), 8)
    m = np.array([0.37, -0.21, 3.2, 0.11, 0.93, 1.7, 0.0, 0.0, 1.0])
    far = m.copy()
    far[[0, 2]] = 7000.3, -7000.3 * 4  # passes through the image on its way out
    codes = np.array([[8, 1, 13, 7], [1, 12, -1, -1], [1, 15, -1, -1]], np.int64)
    values = np.zeros((3, 4, 12))
    values[0, 0, 0], values[0, 3, 0] = 1.7, 0.3
    values[0, 1, :9] = values[1, 0, :9] = values[2, 0, :9] = far
    values[2, 1, :4] = 3, 10, 9, 50
    programs = Programs.empty(3, 4)
    one = Compiled(Shape(70, 11, 3, 255.0), "wide", "nearest", codes, values, programs.keys, programs)
    assert np.array_equal(cuda.run(one, device.asarray(images)).get(), by_numba(one, images))


@NEEDS_COMPILER
@pytest.mark.parametrize("name", ["trivial_augment_wide", "autoaugment_imagenet", "randaugment"])
def test_presets(device: Any, name: str) -> None:
    rng = np.random.default_rng(6)
    images = pictures(rng, 40, (32, 32, 3), 8)
    one = preset(name).compile(range(40), size=(32, 32, 3), seed=9)
    assert np.array_equal(cuda.run(one, device.asarray(images)).get(), by_numba(one, images))


# ---------------------------------------------------------------- the output


@NEEDS_COMPILER
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("bits", [8, 16])
def test_outputs(device: Any, bits: int, dtype: Any, layout: Any) -> None:
    rng = np.random.default_rng(7)
    for size in [(8, 8, 3), (5, 7, 3), (9, 4, 1), (6, 6, 4), (3, 5, 2)]:
        several = (
            {} if dtype.startswith("u") else {"mean": rng.random(size[2]), "std": 0.1 + rng.random(size[2])}
        )
        output = Output(dtype, layout, **several)
        images = pictures(rng, 5, size, bits)
        one = drawn(["Rotate", "Equalize", "Sharpness"], 3).compile(range(5), size=size, seed=1, bits=bits)
        wanted = output.convert(by_numba(one, images))
        for large in (0, 1 << 30):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_launch, "_LARGE", large)
                patch.setattr(_launch, "_FEW", large)
                found = cuda.run(one, device.asarray(images), output=output).get()
            assert found.dtype == wanted.dtype
            assert np.array_equal(found, wanted), (size, large)


# ---------------------------------------------------------------- the host side


@NEEDS_COMPILER
def test_lists_of_any_shapes_are_one_batch(device: Any) -> None:
    rng = np.random.default_rng(8)
    policy = preset("randaugment")
    sizes = [(9, 7, 3), (16, 16, 3), (9, 7, 3), (5, 5), (30, 8, 4), (16, 16, 3)]
    images = [pictures(rng, 1, size, 8)[0] for size in sizes] + [pictures(rng, 1, (9, 7, 3), 16)[0]]
    wanted = policy.apply(images, range(7), seed=2)
    found = cuda.apply(policy, [device.asarray(image) for image in images], range(7), seed=2)
    for a, b in zip(found, wanted, strict=True):
        assert np.array_equal(a.get(), b)
    on_host = cuda.apply(policy, images, range(7), seed=2)
    assert all(isinstance(a, np.ndarray) and np.array_equal(a, b) for a, b in zip(on_host, wanted, strict=True))


@NEEDS_COMPILER
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("piece", [1, 2000, 1 << 25])
def test_host_images_go_over_in_pieces(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_PIECE", piece)
    rng = np.random.default_rng(9)
    images = pictures(rng, 13, (12, 10, 3), 8)
    output = Output("float16", "NCHW", mean=0.4, std=0.2)
    policy = preset("autoaugment_cifar10")
    wanted = output.convert(policy.apply(images, range(13), seed=1))
    assert np.array_equal(cuda.apply(policy, images, range(13), seed=1, output=output), wanted)
    grey = images[..., 0]
    assert np.array_equal(cuda.apply(policy, grey, range(13)), policy.apply(grey, range(13)))


@NEEDS_COMPILER
def test_arrays_of_others_come_in_by_their_protocols(device: Any) -> None:
    class ByDlpack:
        def __init__(self, values: npt.NDArray[Any]) -> None:
            self.values = values
            self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

        def __len__(self) -> int:
            return len(self.values)

        def __dlpack__(self, **settings: Any) -> Any:
            return self.values.__dlpack__(**settings)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.values.__dlpack_device__()

    images = pictures(np.random.default_rng(3), 3, (8, 8, 3), 8)
    policy = preset("trivial_augment_wide")
    found = cuda.apply(policy, ByDlpack(images), range(3))
    assert np.array_equal(found, policy.apply(images, range(3)))
    assert np.array_equal(np.from_dlpack(found), found)
    strided = device.asarray(np.repeat(images, 2, axis=2))[:, :, ::2]
    assert np.array_equal(cuda.apply(policy, strided, range(3)).get(), found)


@NEEDS_COMPILER
def test_too_little_memory_is_tried_in_halves_once(
    stand_in: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pictures(np.random.default_rng(3), 8, (8, 8, 3), 8)
    policy = preset("trivial_augment_wide")
    seen: list[int] = []

    def tight(most: int) -> Callable[..., None]:
        def launch(cupy: Any, jobs: Any, output: Any) -> None:
            seen.append(sum(len(job.sources) for job in jobs))
            if seen[-1] > most:
                raise OutOfMemoryError("tried to allocate")
            _launch.launch(cupy, jobs, output)

        return launch

    monkeypatch.setattr(_cuda_work, "launch", tight(4))
    assert np.array_equal(
        cuda.apply(policy, stand_in.asarray(images), range(8)).get(), policy.apply(images, range(8))
    )
    assert seen == [8, 4, 4]
    monkeypatch.setattr(_cuda_work, "launch", tight(3))
    with pytest.raises(DeviceError, match="smaller batches"):
        cuda.apply(policy, stand_in.asarray(images), range(8))


TWIN = """
extern "C" __global__ void op(const T* src, T* dst, int n, int h, int w, int c, const double* parameters,
                              const unsigned int* keys) {
    const long long i = (long long)blockIdx.x * 256 + threadIdx.x, size = (long long)h * w * c;
    if (i < n * size) dst[i] = src[i] ^ (T)(keys[4 * (i / size)] + (unsigned int)parameters[i / size]);
}
"""


def scrambled(image: npt.NDArray[Any], parameter: float, rng: np.random.Generator) -> npt.NDArray[Any]:
    key = int(rng.bit_generator.state["state"]["key"][0] >> np.uint64(32))
    return image ^ image.dtype.type((key + int(parameter)) & np.iinfo(image.dtype).max)


def plain_copy(image: npt.NDArray[Any], _parameter: float, _rng: np.random.Generator) -> npt.NDArray[Any]:
    return image[::-1].copy()


with_twin = augment.op(scrambled, magnitude=(0, 40), cuda=TWIN)
without_twin = augment.op(plain_copy)


@NEEDS_COMPILER
@pytest.mark.parametrize("bits", [8, 16])
def test_calls_go_to_their_twins_or_to_the_host_or_are_refused(device: Any, bits: int) -> None:
    rng = np.random.default_rng(3)
    images = pictures(rng, 12, (11, 9, 3), bits)
    output = Output(layout="NCHW")
    policy = drawn([with_twin.name, "Rotate", "Invert", "Equalize"], 4)
    found = cuda.apply(policy, device.asarray(images), range(12), output=output)
    assert np.array_equal(found.get(), output.convert(policy.apply(images, range(12))))
    policy = drawn([with_twin.name, "Rotate", without_twin.name, "Equalize"], 4)
    found = cuda.apply(policy, device.asarray(images), range(12), output=output, calls="host")
    assert np.array_equal(found.get(), output.convert(policy.apply(images, range(12))))
    with pytest.raises(DeviceError, match="plain_copy has no function for a GPU"):
        cuda.apply(policy, device.asarray(images), range(12))


@NEEDS_COMPILER
def test_effects_go_to_their_kernels(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those are tested in test_effects_cuda.py; the stand-in has the CPU's functions in their place."""
    images = pictures(np.random.default_rng(3), 12, (11, 9, 3), 8)
    policy = drawn(["Blur", "Rotate", "GaussianNoise", "Invert"], 3)
    if not hasattr(device, "__version__"):

        def run(name: str, some: Any, values: Any, keys: Any) -> Any:
            rows = zip(some.get(), values, keys, strict=True)
            return device.asarray(np.stack([OPS[name].call(*row) for row in rows]))

        monkeypatch.setattr(effects, "run", run)
    found = cuda.apply(policy, device.asarray(images), range(12))
    assert np.array_equal(found.get(), policy.apply(images, range(12)))


def test_what_does_not_fit_is_refused(device: Any) -> None:
    one = preset("randaugment").compile(range(2), size=(8, 8, 3))
    images = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="compiled for 2 images"):
        cuda.run(one, images[:1])
    with pytest.raises(ValueError, match="compiled for 2 images"):
        cuda.run(one, images.astype(np.uint16))
    with pytest.raises(ValueError, match="on the host"):
        cuda.run([one, one], [images, device.asarray(images)])
    with pytest.raises(ValueError, match="33 channels"):
        cuda.apply(preset("randaugment"), np.zeros((1, 2, 2, 33), np.uint8), [1])


@NEEDS_COMPILER
def test_what_a_kernel_may_have_is_never_lowered(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may be about to start it with more shared memory."""
    allowed: list[int] = []

    class Watched(Kernel):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "max_dynamic_shared_size_bytes":
                allowed.append(value)
            super().__setattr__(name, value)

    stand_in.RawModule = lambda code, options: SimpleNamespace(
        get_function=lambda name: Watched(name, code, options)
    )
    for side, large in ((24, 1 << 30), (8, 1 << 30), (8, 0)):
        monkeypatch.setattr(_launch, "_LARGE", large)
        monkeypatch.setattr(_launch, "_FEW", large)
        images = pictures(np.random.default_rng(3), 3, (side, side, 3), 8)
        one = preset("trivial_augment_wide").compile(range(3), size=images.shape[1:])
        assert np.array_equal(cuda.run(one, stand_in.asarray(images)).get(), by_numba(one, images))
    usual = 48 << 10
    assert set(allowed) - {usual} == {CARD["MaxSharedMemoryPerBlockOptin"] - _launch._STATIC}


def test_a_small_gpu_says_what_it_lacks(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CARD, "MaxSharedMemoryPerBlockOptin", 64 << 10)
    images = stand_in.asarray(np.zeros((2, 8, 8, 32), np.uint8))
    with pytest.raises(DeviceError, match=r"32 channels need .* bytes of shared memory"):
        cuda.apply(drawn(["Invert"], 1), images, range(2))


def test_images_on_another_gpu_are_refused(stand_in: Any) -> None:
    images = stand_in.asarray(np.zeros((2, 8, 8, 3), np.uint8))
    images.device = SimpleNamespace(id=1)
    ids = stand_in.asarray(np.zeros((2, 2), np.uint64))
    ids.device = images.device
    policy = preset("trivial_augment_wide")
    for several, names in ((images, range(2)), ([images], range(1)), (stand_in.asarray(images.get()), ids)):
        with pytest.raises(ValueError, match=r"on GPU 1, but the current one is GPU 0"):
            cuda.apply(policy, several, names)


@NEEDS_COMPILER
def test_pieces_go_over_on_the_same_streams_each_time(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or CuPy would keep memory for each stream that ever was."""
    made: list[Stream] = []
    stand_in.cuda.Stream = lambda non_blocking: made.append(Stream()) or made[-1]
    monkeypatch.setattr(cuda, "_streams", cache(cuda._streams))
    images = pictures(np.random.default_rng(3), 3, (8, 8, 3), 8)
    for _ in range(3):
        cuda.apply(preset("trivial_augment_wide"), images, range(3))
    assert len(made) == 2


# ---------------------------------------------------------------- draws on the device


@NEEDS_COMPILER
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.lists(st.sampled_from(sorted(cuda_draw._BY_LEVEL)), min_size=1, max_size=3), min_size=1, max_size=5
    ),
    draws=st.integers(0, 4),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**32 - 1),
    space=st.sampled_from(["wide", "autoaugment"]),
    size=st.sampled_from([(32, 32, 3), (20, 31, 3), (9, 8, 1)]),
    bins=st.sampled_from([2, 10, 31]),
)
def test_draws_on_the_device_are_those_of_the_host(  # noqa: PLR0917  (drawn, all of them)
    device: Any,
    names: list[list[str]],
    draws: int,
    seed: int,
    epoch: int,
    space: Any,
    size: Any,
    bins: int,
) -> None:
    rng = np.random.default_rng(seed % 1000)
    subpolicies = [
        {
            "choices": [
                {
                    "op": name,
                    "probability": rng.random(),
                    "magnitude": sorted(rng.random(2)) if rng.random() < 0.7 else 0.4,
                }
                for name in each
            ],
            "weight": rng.random() + 0.1,
        }
        for each in names
    ]
    policy = Policy(subpolicies=subpolicies, draws=draws, bins=bins, space=space)
    ids = rng.integers(0, 2**63, (50, 2)).astype(np.uint64)
    images = Array(np.zeros((50, *size), np.uint8))
    made = cuda_draw.compiled_on_device(device, policy, images, ids, seed, epoch, None)
    assert made is not None
    wanted = policy.compile(ids, size=size, seed=seed, epoch=epoch)
    codes, k = made.codes.get(), wanted.codes.shape[1]
    assert np.array_equal(codes[:, :k], wanted.codes)
    assert (codes[:, k:] < 0).all()
    there = wanted.codes > 0
    assert np.array_equal(made.values.get()[:, :k][there], wanted.values[there])


@NEEDS_COMPILER
@pytest.mark.parametrize("name", ["trivial_augment_wide", "autoaugment_cifar10", "randaugment"])
def test_presets_are_drawn_on_the_device(device: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(np.random.default_rng(2), 30, (24, 24, 3), 8)
    policy = preset(name)
    wanted = policy.apply(images, range(30), seed=5, epoch=2)
    monkeypatch.setattr(Policy, "draw", None)  # not on the host
    found = cuda.apply(policy, device.asarray(images), range(30), seed=5, epoch=2)
    assert np.array_equal(found.get(), wanted)


@NEEDS_COMPILER
def test_policies_that_are_no_table_are_drawn_on_the_host(device: Any) -> None:
    choice = {"op": "Rotate", "magnitude": (0, 1)}
    for policy in (
        Policy(subpolicies=[[choice]], bins=None),
        Policy(subpolicies=[[choice], [{"op": "Invert"}]], draws=2, distinct=True),
        Policy(subpolicies=[[{"op": "Rotate", "magnitude": {"mean": 0.5, "std": 0.1}}]]),
        drawn(["Crop"], 1),
    ):
        images = pictures(np.random.default_rng(2), 4, (8, 8, 3), 8)
        assert (
            cuda_draw.compiled_on_device(device, policy, device.asarray(images), range(4), 0, 0, None) is None
        )
        assert np.array_equal(
            cuda.apply(policy, device.asarray(images), range(4)).get(), policy.apply(images, range(4))
        )


@NEEDS_COMPILER
def test_ids_on_the_device_are_read_as_the_host_reads_them(device: Any) -> None:
    """The kernel reads two halves of an id: plain numbers would be read beyond their end."""
    images = pictures(np.random.default_rng(2), 4, (8, 8, 3), 8)
    policy = preset("trivial_augment_wide")
    numbers = np.arange(4, dtype=np.int64)
    halves = np.random.default_rng(2).integers(0, 1 << 63, (4, 2)).astype(np.uint64)
    for ids in (numbers, halves, np.asfortranarray(halves)):
        found = cuda.apply(policy, device.asarray(images), device.asarray(ids))
        assert np.array_equal(found.get(), policy.apply(images, ids))
    with pytest.raises(ValueError, match="ids of shape"):
        cuda.apply(policy, device.asarray(images), device.asarray(halves.astype(np.float64)))


@NEEDS_COMPILER
def test_many_threads_share_the_tables_of_policies(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(dict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            super().__setitem__(key, value)
            sleep(0.001)  # another thread's turn

    monkeypatch.setattr(cuda_draw, "_tables", Slow())
    monkeypatch.setattr(cuda_draw, "_KEPT", 1)
    monkeypatch.setattr(cuda_draw, "rows_of", lambda *_: None)
    policies = [preset("trivial_augment_wide") for _ in range(4)]

    def look(turn: int) -> None:
        for i in range(20):
            assert cuda_draw._table(stand_in, policies[(turn + i) % 4], Shape(8, 8, 3, 255.0)) is None

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(look, range(4)))


# ---------------------------------------------------------------- the numbers of both sides; compiler, device


def test_the_numbers_are_those_of_the_source() -> None:
    source = SOURCE.read_text("utf-8")
    codes = dict(re.findall(r"^    ([A-Z]+) = (\d+)", source, re.MULTILINE))
    of_mixing = {"MIXUP": OPS["MixUp"].code, "CUTMIX": OPS["CutMix"].code}
    assert {name: int(code) for name, code in codes.items()} == {
        name: of_mixing.get(name) or getattr(_kernels, name) for name in codes
    }
    assert set(codes) == {"WARP", "MATRIX"} | {op.name.upper() for op in OPS.values() if op.kind == "lut"} | {
        "COLOR", "SHARPNESS", "CUTOUT", "MIXUP", "CUTMIX",
    }  # fmt: skip
    assert f"#define RUNS {_launch.RUNS} " in source
    assert f"#define MOST {_launch.MOST_CHANNELS}\n" in source
    kinds = re.search(r"enum Kind \{(.*)\}", source)
    assert kinds is not None
    assert [name.strip() for name in kinds[1].split(",")].index("HALF") == _launch.kind_of(Output("float16"), 8)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_the_source(architecture: int, tmp_path: Path) -> None:
    for bits, channels in [(8, 3), (32, 3)] if architecture != 90 else [(8, 3), (16, 1), (32, 0)]:
        source = tmp_path / "programs.cu"
        macros = f"#define BITS {bits}\n#define CHANNELS {channels}\n#define MIXING {int(bits != 8)}\n"
        source.write_text(macros + SOURCE.read_text("utf-8"))
        assert compiled(source, architecture) == {"augment"}
    assert compiled(DRAW, architecture) == {"draw"}
    assert compiled(FINITE, architecture) == {"not_finite"}


def test_the_smallest_floats_are_not_taken_for_zero() -> None:
    """CuPy asks for that by -ftz=true; nor are products and sums contracted."""
    code = "".join(ptx(SOURCE, 90, BITS=32, CHANNELS=3, MIXING=1).values())
    assert "cvt.rn.f32.f64" in code
    assert not re.findall(r"\S*\.ftz\S*|fma\.\S*", code)


@pytest.mark.skipif(gpu() is not None, reason="there is a GPU")
def test_without_a_gpu_the_device_is_refused() -> None:
    with pytest.raises(DeviceError, match="cuda"):
        cuda.apply(preset("randaugment"), np.zeros((1, 4, 4, 3), np.uint8), [1])
