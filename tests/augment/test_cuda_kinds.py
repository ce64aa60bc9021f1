"""On a GPU: float32 images, partners and masks, against the CPU's bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cuda_on_cpu import NEEDS_COMPILER
from cupy_on_cpu import CARD, Array, Kernel, OutOfMemoryError, Stream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import augment
from augment import Targets
from augment.effects import cuda as effects
from augment.engine import _cuda_work, _launch, cpu, cuda
from augment.engine.compile import compile_programs
from augment.engine.output import Output
from augment.engine.programs import Programs
from augment.ops import OPS, Applied, Shape
from augment.policy import Policy
from lake.errors import DeviceError

CORE = [op.name for op in OPS.values() if op.kind not in {"call", "mix", "text"}]
MIX = ["MixUp", "CutMix"]
TOPS: dict[Any, Any] = {np.uint8: 255, np.uint16: 65535, np.float32: 1}


def pictures(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """Noise, some of it in a part of the range, some in few values; floats a little beyond 0 .. 1."""
    made = rng.random(shape)
    made[1::4] = made[1::4] / 3 + 0.25
    made[2::4] = np.floor(made[2::4] * 4) / 3
    if dtype is np.float32:
        return (made * 1.2 - 0.1).astype(np.float32)
    return np.floor(np.minimum(made, 1) * TOPS[dtype]).astype(dtype)


def drawn(names: list[str], draws: int, resampling: str = "nearest") -> Policy:
    return Policy(
        subpolicies=[[{"op": name, "magnitude": (0, 1)}] for name in names], draws=draws, resampling=resampling
    )


def ways(patch: pytest.MonkeyPatch, way: str) -> None:
    if way == "in turns":
        patch.setattr(_launch, "_LARGE", 0)
        patch.setattr(_launch, "_TILE", 40)
    if way == "from memory":
        patch.setitem(CARD, "MaxSharedMemoryPerBlockOptin", 40 << 10)


def same(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> bool:
    return found.dtype == wanted.dtype and np.array_equal(found, wanted)


FIXTURE = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@NEEDS_COMPILER
@FIXTURE
@given(
    size=st.sampled_from([(1, 1), (1, 9), (9, 1), (3, 3), (7, 13), (19, 33), (24, 32)]),
    kind=st.sampled_from([(3, False), (3, True), (5, False)]),  # channels, with partners
    resampling=st.sampled_from(["nearest", "bilinear"]),
    draws=st.integers(1, 12),
    seed=st.integers(0, 2**32),
    way=st.sampled_from(["staged", "from memory", "in turns"]),
)
def test_float_programs_have_the_bits_of_the_cpu(  # noqa: PLR0917  (drawn, all of them)
    device: Any, size: Any, kind: Any, resampling: str, draws: int, seed: int, way: str
) -> None:  # fmt: skip
    rng, (channels, mixed) = np.random.default_rng(seed), kind
    images, partners = pictures(rng, (2, 5, *size, channels), np.float32)
    policy = drawn(CORE + (MIX if mixed else []), draws, resampling)
    others = partners if mixed else None
    wanted = policy.apply(images, range(5), seed=seed, partners=others)
    with pytest.MonkeyPatch.context() as patch:
        ways(patch, way)
        others = device.asarray(partners) if mixed else None
        found = cuda.apply(policy, device.asarray(images), range(5), seed=seed, partners=others)
    if mixed:
        (found, shares), (wanted, expected) = found, wanted
        assert same(shares, expected)
    assert same(found.get(), wanted)


@NEEDS_COMPILER
@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
def test_each_op_on_floats_alone(device: Any, resampling: str) -> None:
    images = pictures(np.random.default_rng(1), (4, 40, 31, 3), np.float32)  # Equalize has a step
    for name in CORE:
        policy = drawn([name], 1, resampling)
        wanted = policy.apply(images, range(4), seed=3)
        assert same(cuda.apply(policy, device.asarray(images), range(4), seed=3).get(), wanted), name


@NEEDS_COMPILER
def test_more_ops_that_learn_than_a_segment_holds(device: Any) -> None:
    images = pictures(np.random.default_rng(2), (3, 40, 31, 3), np.float32)
    program = [Applied(name, p) for name, p in (("Contrast", 1.5), ("AutoContrast", 0.0), ("Equalize", 0.0))]
    turned_too = [program[1], Applied("Rotate", 20.0), *program]
    programs = Programs.of([program, [*program, *program[::-1]], turned_too])
    one = compile_programs(programs, Shape(40, 31, 3, 1.0))
    wanted = cpu.run(one, images)
    for large in (0, 1 << 30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_launch, "_LARGE", large)
            patch.setattr(_launch, "_FEW", large)
            assert same(cuda.run(one, device.asarray(images)).get(), wanted)


@NEEDS_COMPILER
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_floats_are_handed_over_as_on_the_cpu(device: Any, dtype: Any, layout: Any) -> None:
    images = pictures(np.random.default_rng(7), (4, 5, 7, 3), np.float32)
    policy = drawn(["Rotate", "Equalize", "Sharpness", "Invert"], 3)
    output = Output(dtype, layout, mean=(0.1, 0.2, 0.3), std=0.3)
    wanted = policy.apply(images, range(4), output=output)
    assert same(cuda.apply(policy, device.asarray(images), range(4), output=output).get(), wanted)
    assert same(cuda.apply(policy, images, range(4), output=output), wanted)
    with pytest.raises(TypeError, match="do not become uint8"):
        cuda.apply(policy, device.asarray(images), range(4), output=Output("uint8"))


@NEEDS_COMPILER
@pytest.mark.parametrize("where", ["device", "host"])
def test_nan_is_named(device: Any, where: str) -> None:
    images = pictures(np.random.default_rng(7), (4, 5, 7, 3), np.float32)
    images[2, 3, 4, 1] = np.nan
    there = device.asarray if where == "device" else np.asarray
    policy = drawn(["Invert"], 1)
    with pytest.raises(ValueError, match="1 of 4 images hold NaN or infinity, the first is number 2"):
        cuda.apply(policy, there(images), range(4))
    several = [there(np.zeros((3, 3), np.float32)), *(there(image) for image in images)]
    with pytest.raises(ValueError, match="the first is number 3"):
        cuda.apply(policy, several, range(5))
    images[2, 3, 4, 1] = 0.5
    bad = np.full_like(images, 0.5)
    bad[1, 0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="1 of 4 partners hold NaN or infinity, the first is number 1"):
        cuda.apply(drawn(MIX, 1), there(images), range(4), partners=there(bad))


# ---------------------------------------------------------------- partners


@NEEDS_COMPILER
@FIXTURE
@given(
    size=st.sampled_from([(1, 1), (9, 1), (7, 13), (19, 33)]),
    resampling=st.sampled_from(["nearest", "bilinear"]),
    draws=st.integers(1, 12),
    seed=st.integers(0, 2**32),
    way=st.sampled_from(["staged", "from memory", "in turns"]),
)
def test_mixing_among_other_ops_has_the_bits_of_the_cpu(  # noqa: PLR0917  (drawn, all of them)
    device: Any, size: Any, resampling: str, draws: int, seed: int, way: str
) -> None:
    images, partners = pictures(np.random.default_rng(seed), (2, 7, *size, 3), np.uint8)
    policy = drawn(CORE + 9 * MIX, draws, resampling)
    wanted, shares = policy.apply(images, range(7), seed=seed, partners=partners)
    with pytest.MonkeyPatch.context() as patch:
        ways(patch, way)
        found, own = cuda.apply(
            policy, device.asarray(images), range(7), seed=seed, partners=device.asarray(partners)
        )
    assert same(found.get(), wanted)
    assert same(own, shares)


@NEEDS_COMPILER
@pytest.mark.parametrize("piece", [1, 700, 1 << 25])
def test_partners_come_as_the_images_do(device: Any, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_PIECE", piece)
    rng = np.random.default_rng(3)
    images, partners = pictures(rng, (2, 7, 8, 9, 3), np.uint8)
    policy, output = drawn([*MIX, "Rotate", "Equalize"], 3), Output("float16", "NCHW")
    wanted, shares = policy.apply(images, range(7), partners=partners, output=output)
    found, own = cuda.apply(policy, images, range(7), partners=partners, output=output)
    assert same(found, wanted)
    assert same(own, shares)
    for there in (device.asarray, np.asarray):
        several, others = ([there(image) for image in some] for some in (images, partners))
        for given_images, given_partners in (
            (several, others), (several, there(partners)), (there(images), others),
        ):  # fmt: skip
            found, own = cuda.apply(policy, given_images, range(7), partners=given_partners, output=output)
            assert np.array_equal(np.stack([getattr(each, "values", each) for each in found]), wanted)
            assert same(own, shares)


@NEEDS_COMPILER
def test_partners_of_images_of_several_sizes(device: Any) -> None:
    rng = np.random.default_rng(8)
    sizes = [(9, 7, 3), (16, 16, 3), (9, 7, 3), (30, 8, 3)]
    images, partners = ([pictures(rng, (1, *size), np.uint8)[0] for size in sizes] for _ in range(2))
    policy = drawn(MIX, 2)
    wanted, shares = policy.apply(images, range(4), seed=2, partners=partners)
    some, others = ([device.asarray(image) for image in each] for each in (images, partners))
    found, own = cuda.apply(policy, some, range(4), seed=2, partners=others)
    assert all(same(a.get(), b) for a, b in zip(found, wanted, strict=True))
    assert same(own, shares)


def test_bad_partners_are_refused(device: Any) -> None:
    images = np.zeros((2, 4, 4, 3), np.uint8)
    there, policy = device.asarray(images), drawn(MIX, 1)
    with pytest.raises(ValueError, match="mixes an image with another one: give partners="):
        cuda.apply(policy, there, [1, 2])
    with pytest.raises(ValueError, match="2 images but 1 partners"):
        cuda.apply(policy, there, [1, 2], partners=there[:1])
    with pytest.raises(ValueError, match="they must be alike"):
        cuda.apply(policy, there, [1, 2], partners=device.asarray(images[:, :3]))
    with pytest.raises(ValueError, match="some images are on the host"):
        cuda.apply(policy, there, [1, 2], partners=images)
    with pytest.raises(ValueError, match="targets or partners, not both"):
        cuda.apply(policy, there, [1, 2], partners=there, targets=Targets())


# ---------------------------------------------------------------- masks


@NEEDS_COMPILER
@pytest.mark.parametrize("where", ["device", "host"])
def test_masks_move_as_on_the_cpu(device: Any, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    there = device.asarray if where == "device" else np.asarray
    images = pictures(rng, (6, 17, 23, 3), np.uint8)
    policy = drawn(["Rotate", "Zoom", "Perspective", "Elastic", "Invert", "Cutout", "Blur"], 4, "bilinear")
    monkeypatch.setattr(effects, "run", by_function(device))
    masks = rng.integers(0, 100, (6, 17, 23), np.uint8)
    targets = Targets(masks=masks, boxes=[[[1, 2, 9, 9]]] * 6, keypoints=[[[3.5, 4]]] * 6)
    wanted, beside = policy.apply(images, range(6), seed=4, targets=targets)
    found, moved = cuda.apply(
        policy, there(images), range(6), seed=4, targets=replace(targets, masks=there(masks))
    )
    assert np.array_equal(plain(found), wanted)
    assert same(plain(moved.masks), beside.masks)
    assert all(np.array_equal(a, b) for a, b in zip(moved.boxes, beside.boxes, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(moved.kept, beside.kept, strict=True))
    assert np.array_equal(moved.keypoints, beside.keypoints)


@NEEDS_COMPILER
@pytest.mark.parametrize(
    ("dtype", "planes"),
    [
        ("bool", ()), ("int16", (2,)), ("int32", (3,)), ("int64", ()), ("float16", ()), (">i4", (3,)),
        ("complex128", (2,)),
    ],
)  # fmt: skip
def test_masks_of_any_type_are_copied_bit_by_bit(device: Any, dtype: str, planes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    images = pictures(rng, (3, 7, 9, 3), np.uint8)
    policy = drawn(["Rotate", "FlipX", "Perspective"], 3)
    masks = rng.integers(0, 100, (3, 7, 9, *planes)).astype(dtype)
    if dtype == "int32":
        masks[0] = np.array([0x7F800001, -1, 0x7FC00000])[masks[0] % 3]  # NaNs, as floats
    _, beside = policy.apply(images, range(3), seed=4, targets=Targets(masks=masks))
    there = Targets(masks=device.asarray(masks))
    _, moved = cuda.apply(policy, device.asarray(images), range(3), seed=4, targets=there)
    assert moved.masks.dtype == masks.dtype
    assert np.array_equal(moved.masks.get(), beside.masks)


def by_function(device: Any) -> Any:
    """The CPU's effects in the place of the kernels, which test_effects_cuda.py looks at."""
    if hasattr(device, "__version__"):
        return effects.run

    def run(name: str, some: Any, values: Any, keys: Any) -> Any:
        rows = zip(some.get(), values, keys, strict=True)
        return device.asarray(np.stack([OPS[name].call(*row) for row in rows]))

    return run


def plain(values: Any) -> npt.NDArray[Any]:
    return values if isinstance(values, np.ndarray) else values.get()


@NEEDS_COMPILER
def test_masks_of_images_of_several_sizes(device: Any) -> None:
    rng = np.random.default_rng(8)
    sizes = [(9, 7), (16, 16), (9, 7), (30, 8), (9, 7)]
    images = [pictures(rng, (1, *size, 3), np.float32)[0] for size in sizes]
    masks: list[Any] = [rng.integers(0, 9, size).astype(np.int16) for size in sizes]
    masks[1], masks[2] = None, masks[2].astype(np.uint8)[..., None]
    policy = drawn(["Rotate", "ShearX", "FlipY"], 3)
    boxes = [[[1, 1, 5, 5]]] * 5
    wanted, beside = policy.apply(images, range(5), targets=Targets(masks=masks, boxes=boxes))
    theirs = [None if mask is None else device.asarray(mask) for mask in masks]
    some = [device.asarray(image) for image in images]
    found, moved = cuda.apply(policy, some, range(5), targets=Targets(masks=theirs, boxes=boxes))
    assert all(same(a.get(), b) for a, b in zip(found, wanted, strict=True))
    assert moved.masks[1] is None
    for a, b in zip(moved.masks, beside.masks, strict=True):
        assert b is None or same(a.get(), b)
    assert all(np.array_equal(a, b) for a, b in zip(moved.boxes, beside.boxes, strict=True))


def turned(image: npt.NDArray[Any], _parameter: float, _rng: np.random.Generator) -> npt.NDArray[Any]:
    return image[::-1].copy()


TURN = """
extern "C" __global__ void op(const T* src, T* dst, int n, int h, int w, int c, const double* parameters,
                              const unsigned int* keys) {
    const long long i = (long long)blockIdx.x * 256 + threadIdx.x, row = (long long)w * c, y = i / row % h;
    if (i < n * h * row) dst[i] = src[i + (h - 1 - 2 * y) * row];
}
"""
with_mask = augment.op(turned, mask=turned, cuda=TURN)


@NEEDS_COMPILER
def test_masks_that_a_function_of_the_cpu_moves(device: Any) -> None:
    images = pictures(np.random.default_rng(3), (3, 8, 9, 3), np.float32)
    masks = np.arange(3 * 72).reshape(3, 8, 9)
    policy = drawn([with_mask.name, "FlipX"], 3)
    wanted, beside = policy.apply(images, range(3), targets=Targets(masks=masks))
    there = Targets(masks=device.asarray(masks))
    with pytest.raises(DeviceError, match="turned moves masks by a function of the CPU"):
        cuda.apply(policy, device.asarray(images), range(3), targets=there)
    found, moved = cuda.apply(policy, device.asarray(images), range(3), targets=there, calls="host")
    assert same(found.get(), wanted)
    assert same(moved.masks.get(), beside.masks)


@NEEDS_COMPILER
def test_bad_masks_are_refused(device: Any) -> None:
    images, policy = device.asarray(np.zeros((2, 4, 5, 3), np.uint8)), drawn(["FlipX"], 1)
    with pytest.raises(ValueError, match="the mask of image 0 is 5 x 4, but the image 4 x 5"):
        cuda.apply(policy, images, [1, 2], targets=Targets(masks=np.zeros((2, 5, 4), np.uint8)))
    with pytest.raises(TypeError, match="the mask of image 0 holds objects"):
        cuda.apply(policy, images, [1, 2], targets=Targets(masks=[np.full((4, 5), None)] * 2))
    with pytest.raises(ValueError, match="planes of up to 32 bytes a pixel"):
        cuda.apply(policy, images, [1, 2], targets=Targets(masks=np.zeros((2, 4, 5, 33), np.uint8)))
    with pytest.raises(ValueError, match="2 images but 1 masks"):
        cuda.apply(policy, images, [1, 2], targets=Targets(masks=np.zeros((1, 4, 5), np.uint8)))


# ---------------------------------------------------------------- the host side


@NEEDS_COMPILER
def test_a_batch_takes_few_launches(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    call = Kernel.__call__

    def counted(kernel: Kernel, *arguments: Any, **more: Any) -> None:
        seen.append(kernel.name)
        call(kernel, *arguments, **more)

    monkeypatch.setattr(Kernel, "__call__", counted)
    rng = np.random.default_rng(1)
    images = pictures(rng, (5, 12, 13, 3), np.float32)
    masks = stand_in.asarray(rng.integers(0, 9, (5, 12, 13)).astype(np.uint8))
    cuda.apply(drawn(CORE, 4), stand_in.asarray(images), range(5), targets=Targets(masks=masks))
    assert sorted(seen) == ["augment", "augment", "not_finite"]
    seen.clear()
    partners = stand_in.asarray(images[::-1].copy())
    cuda.apply(drawn([*CORE, *MIX], 4), stand_in.asarray(images), range(5), partners=partners)
    assert sorted(seen) == ["augment", "not_finite"]
    seen.clear()
    several = [stand_in.asarray(images[0, : 5 + i]) for i in range(4)]
    theirs = [stand_in.asarray(np.zeros(image.shape[:2], np.uint8)) for image in several]
    cuda.apply(drawn(CORE, 4), several, range(4), targets=Targets(masks=theirs))
    assert sorted(seen) == ["augment", "augment", "not_finite"]


@NEEDS_COMPILER
@pytest.mark.parametrize("step", ["launch", "memory for a piece"])
def test_too_little_memory_says_so(stand_in: Any, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a piece of the host's images finds no place."""
    images = pictures(np.random.default_rng(3), (4, 8, 8, 3), np.uint8)

    def fails(*_: Any) -> None:
        raise OutOfMemoryError("tried to allocate")

    if step == "launch":
        monkeypatch.setattr(_cuda_work, "launch", fails)
    else:
        monkeypatch.setattr(stand_in, "empty", fails)
    with pytest.raises(DeviceError, match="4 images do not fit into the GPU's memory"):
        cuda.apply(drawn(["Invert"], 1), images, range(4))


@NEEDS_COMPILER
def test_halves_take_their_partners_along(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    images, partners = pictures(np.random.default_rng(3), (2, 8, 6, 5, 3), np.uint8)
    policy = drawn(MIX, 2)
    wanted, _ = policy.apply(images, range(8), partners=partners)

    def tight(cupy: Any, jobs: Any, output: Any) -> None:
        if sum(len(job.sources) for job in jobs) > 4:
            raise OutOfMemoryError("tried to allocate")
        _launch.launch(cupy, jobs, output)

    monkeypatch.setattr(_cuda_work, "launch", tight)
    found, _ = cuda.apply(policy, stand_in.asarray(images), range(8), partners=stand_in.asarray(partners))
    assert same(found.get(), wanted)


@NEEDS_COMPILER
def test_types_of_other_libraries_are_taken(device: Any) -> None:
    """Their arrays have dtypes that NumPy does not know, as ``torch.uint8``."""

    class Foreign:
        dtype, ndim = "torch.uint8", 4

        def __init__(self, values: Any) -> None:
            self.values, self.shape = values, values.shape

        def __len__(self) -> int:
            return len(self.values)

        def __dlpack__(self, **settings: Any) -> Any:
            return self.values.__dlpack__(**settings)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.values.__dlpack_device__()

    images = pictures(np.random.default_rng(3), (3, 8, 8, 3), np.uint8)
    policy = drawn(["Rotate"], 1)
    assert same(cuda.apply(policy, Foreign(images), range(3)), policy.apply(images, range(3)))


@NEEDS_COMPILER
def test_ids_on_the_device_are_taken_by_any_policy(device: Any) -> None:
    images = pictures(np.random.default_rng(3), (3, 8, 8, 3), np.uint8)
    ids = np.arange(6, dtype=np.uint64).reshape(3, 2)
    for names in (["Rotate"], ["Crop"]):  # drawn on the device, and on the host
        found = cuda.apply(drawn(names, 1), device.asarray(images), device.asarray(ids))
        assert same(found.get(), drawn(names, 1).apply(images, ids))


@NEEDS_COMPILER
def test_what_is_under_way_is_waited_for_when_a_piece_fails(
    stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pinned memory goes back to CuPy, which may give it away while the device still writes there."""
    waiting: set[Stream] = set()

    class Watched(Stream):
        def synchronize(self) -> None:
            waiting.discard(self)

    def get(self: Array, stream: Any, out: Any, blocking: bool) -> Any:
        assert not blocking
        waiting.add(stream)
        out[...] = self.values
        return out

    pieces = iter([None, OSError("in the second piece")])

    def launch(cupy: Any, jobs: Any, output: Any) -> None:
        error = next(pieces)
        if error is not None:
            raise error
        _launch.launch(cupy, jobs, output)

    monkeypatch.setattr(cuda, "_PIECE", 1)
    monkeypatch.setattr(stand_in.cuda, "Stream", Watched)
    monkeypatch.setattr(Array, "get", get)
    monkeypatch.setattr(_cuda_work, "launch", launch)
    images = pictures(np.random.default_rng(3), (4, 8, 8, 3), np.uint8)
    with pytest.raises(OSError, match="second piece"):
        cuda.apply(drawn(["Invert"], 1), images, range(4))
    assert not waiting


@NEEDS_COMPILER
def test_partners_before_between_and_behind_functions(device: Any) -> None:
    images, partners = pictures(np.random.default_rng(3), (2, 12, 8, 9, 3), np.float32)
    policy = drawn([*MIX, with_mask.name, "Invert"], 5)
    wanted, _ = policy.apply(images, range(12), partners=partners)
    found, _ = cuda.apply(policy, device.asarray(images), range(12), partners=device.asarray(partners))
    assert same(found.get(), wanted)
