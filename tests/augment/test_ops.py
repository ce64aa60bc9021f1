"""Every op against Pillow (uint8, 0 differing values) and against plain NumPy (uint16)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from augment.engine import cpu
from augment.engine.compile import CODES, MATRIX, WARP
from augment.ops import NAMES, OPS, Applied, apply_op, by_code, describe, find
from augment.ops.geometry import matrix

Pixels = npt.NDArray[np.uint8]
SHAPES = [(1, 1), (1, 9), (9, 1), (2, 2), (2, 7), (3, 3), (17, 23), (64, 48), (31, 31)]
PARAMETERS: dict[str, list[float]] = {
    "Identity": [0.0],
    "ShearX": [-0.99, -0.3, -1 / 3, 0.0, 1e-4, 0.033, 0.5, 0.99],
    "ShearY": [-0.99, -0.3, -1 / 3, 0.0, 1e-4, 0.033, 0.5, 0.99],
    "TranslateX": [-32, -7.9, -1, -0.5, 0, 0.9, 1, 8, 31.99999],
    "TranslateY": [-32, -7.9, -1, -0.5, 0, 0.9, 1, 8, 31.99999],
    "Rotate": [-180, -135, -90, -30, -4.5, -0.1, 0, 0.3, 12.4, 45, 60, 90, 117, 135, 180, 270, 360],
    "Brightness": [0.0, 0.01, 0.1, 0.4, 0.73, 1.0, 1.27, 1.9, 1.99, 3.7],
    "Color": [0.0, 0.01, 0.1, 0.4, 0.73, 1.0, 1.27, 1.9, 1.99, 3.7],
    "Contrast": [0.0, 0.01, 0.1, 0.4, 0.73, 1.0, 1.27, 1.9, 1.99, 3.7],
    "Sharpness": [0.0, 0.01, 0.1, 0.4, 0.73, 1.0, 1.27, 1.9, 1.99, 3.7],
    "Posterize": [1, 2, 3, 4, 5, 6, 7, 8],
    "Solarize": [0.0, 0.5, 1, 8.5, 127.5, 128, 200, 255, 256],
    "AutoContrast": [0.0],
    "Equalize": [0.0],
    "Invert": [0.0],
}


def affine(image: Image.Image, matrix: tuple[float, ...], resample: Image.Resampling) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample)


def by_pillow(
    name: str, p: float, array: Pixels, resample: Image.Resampling = Image.Resampling.NEAREST
) -> Pixels:
    """One op the way torchvision asks Pillow for it."""
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    todo: dict[str, Callable[[], Image.Image]] = {
        "Identity": lambda: image,
        "ShearX": lambda: affine(image, (1, p, 0, 0, 1, 0), resample),
        "ShearY": lambda: affine(image, (1, 0, 0, p, 1, 0), resample),
        "TranslateX": lambda: affine(image, (1, 0, -int(p), 0, 1, 0), resample),
        "TranslateY": lambda: affine(image, (1, 0, 0, 0, 1, -int(p)), resample),
        "Rotate": lambda: image.rotate(p, resample),
        "Brightness": lambda: ImageEnhance.Brightness(image).enhance(p),
        "Color": lambda: ImageEnhance.Color(image).enhance(p),
        "Contrast": lambda: ImageEnhance.Contrast(image).enhance(p),
        "Sharpness": lambda: ImageEnhance.Sharpness(image).enhance(p),
        "Posterize": lambda: ImageOps.posterize(image, int(p)),
        "Solarize": lambda: ImageOps.solarize(image, p),  # type: ignore[arg-type]  # torchvision passes a float
        "AutoContrast": lambda: ImageOps.autocontrast(image),
        "Equalize": lambda: ImageOps.equalize(image),
        "Invert": lambda: ImageOps.invert(image),
    }
    return np.asarray(todo[name]()).reshape(array.shape)


def one(name: str, p: float, array: npt.NDArray[np.generic], **options: str) -> npt.NDArray[np.generic]:
    result: npt.NDArray[np.generic] = cpu.execute(array[None], [[Applied(name, p)]], **options)[0]  # type: ignore[arg-type]  # options are two literals
    return result


def pictures(shape: tuple[int, int], channels: int) -> list[Pixels]:
    """Noise, a ramp of few values, one flat colour, and a dark, narrow histogram."""
    rng = np.random.default_rng([*shape, channels])
    size = (*shape, channels)
    ramp = np.add.outer(np.arange(shape[0]) * 3, np.arange(shape[1]) * 5)[..., None] + np.arange(channels) * 40
    narrow = np.clip(rng.normal(60, 12, size), 0, 255)
    kinds = [rng.integers(0, 256, size), ramp % 256, np.full(size, 77), narrow]
    return [kind.astype(np.uint8) for kind in kinds]


def test_the_parameters_cover_the_table() -> None:
    assert [*PARAMETERS, "Cutout"] == list(NAMES[:16])
    assert [OPS[name].code for name in NAMES[:16]] == list(range(16))
    codes = [op.code for op in OPS.values()]
    assert len(set(codes)) == len(codes)
    assert all(by_code(code) is op for code, op in zip(codes, OPS.values(), strict=True))


def test_the_kernels_know_the_codes_of_the_table() -> None:
    from augment.engine import _kernels

    for name, op in OPS.items():
        if op.kind == "lut":
            assert getattr(_kernels, name.upper()) == op.code
    for name in ("Color", "Sharpness", "Cutout"):
        assert getattr(_kernels, name.upper()) == CODES[OPS[name].kind] == OPS[name].code
    assert (_kernels.WARP, _kernels.MATRIX) == (WARP, MATRIX)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", list(PARAMETERS))
def test_equals_pillow(name: str, channels: int) -> None:
    for shape in SHAPES:
        for picture in pictures(shape, channels):
            for p in PARAMETERS[name]:
                differing = np.count_nonzero(one(name, p, picture) != by_pillow(name, p, picture))
                assert differing == 0, (name, p, picture.shape)


@pytest.mark.parametrize("name", list(PARAMETERS))
def test_equals_pillow_at_every_bin(name: str) -> None:
    picture = np.random.default_rng(5).integers(0, 256, (37, 52, 3), dtype=np.uint8)
    for space in ("autoaugment", "wide"):
        for level in np.linspace(0, 1, 31):
            for sign in (-1, 1):
                p = float(OPS[name].range(space).parameter(level, sign))
                if name.startswith("Translate") and space == "autoaugment":
                    side = picture.shape[1] if name == "TranslateX" else picture.shape[0]
                    expected = by_pillow(name, p * side, picture)
                else:
                    expected = by_pillow(name, p, picture)
                assert np.array_equal(one(name, p, picture, space=space), expected), (level, sign, space)


@pytest.mark.parametrize("name", ["AutoContrast", "Brightness", "Color", "Contrast", "Equalize", "Sharpness"])
def test_equals_pillow_on_a_million_values(name: str) -> None:
    picture = np.random.default_rng(11).integers(0, 256, (600, 601, 3), dtype=np.uint8)
    for p in (0.137, 1.613):
        assert np.array_equal(one(name, p, picture), by_pillow(name, p, picture))


@pytest.mark.parametrize("name", ["ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"])
@pytest.mark.parametrize("channels", [1, 3])
def test_bilinear_equals_pillow(name: str, channels: int) -> None:
    for shape in SHAPES:
        for picture in pictures(shape, channels):
            for p in PARAMETERS[name]:
                expected = by_pillow(name, p, picture, Image.Resampling.BILINEAR)
                assert np.array_equal(one(name, p, picture, resampling="bilinear"), expected), (shape, p)


@pytest.mark.parametrize(("name", "p"), [("ShearX", 0.3), ("Rotate", 0.2), ("Rotate", 180), ("TranslateX", -7)])
def test_bilinear_rows_longer_than_a_block_equal_pillow(name: str, p: float) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (9, 2500, 3), dtype=np.uint8)
    expected = by_pillow(name, p, picture, Image.Resampling.BILINEAR)
    assert np.array_equal(one(name, p, picture, resampling="bilinear"), expected)


@pytest.mark.parametrize("shape", [(1, 40_000), (40_000, 1), (3, 33_000)])
@pytest.mark.parametrize(("name", "p"), [("ShearX", 0.9), ("ShearY", 0.9), ("Rotate", 1e-3), ("Rotate", 180)])
def test_sides_beyond_fixed_point_equal_pillow(name: str, p: float, shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (*shape, 1), dtype=np.uint8)
    assert np.array_equal(one(name, p, picture), by_pillow(name, p, picture))


@settings(max_examples=150, deadline=None)
@given(
    angle=st.floats(-400, 400, allow_nan=False),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_any_rotation_equals_pillow(angle: float, width: int, height: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 1), dtype=np.uint8)
    assert np.array_equal(one("Rotate", angle, picture), by_pillow("Rotate", angle, picture))


@settings(max_examples=150, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99), channels=st.sampled_from([1, 3]))
def test_any_chain_equals_sequential_pillow(data: st.DataObject, seed: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    high = data.draw(st.sampled_from([30, 256]))
    picture = rng.integers(0, high, (19, 33, channels)).astype(np.uint8)
    names = data.draw(st.lists(st.sampled_from(list(PARAMETERS)), max_size=6))
    program = [Applied(name, data.draw(st.sampled_from(PARAMETERS[name]))) for name in names]
    expected = picture
    for step in program:
        expected = by_pillow(step.op, step.parameter, expected)
    assert np.array_equal(cpu.execute(picture[None], [program], fuse=False)[0], expected)
    assert np.array_equal(cpu.execute(picture[None], [program])[0], by_pillow_fused(program, picture))


def by_pillow_fused(program: list[Applied], picture: Pixels) -> Pixels:
    """One op after the other, but each run of geometric ops as one resampling by its product."""
    h, w, c = picture.shape
    run: list[npt.NDArray[np.float64]] = []

    def resampled(picture: Pixels) -> Pixels:
        if not run:
            return picture
        product = np.linalg.multi_dot([*run, np.eye(3)]) if len(run) > 1 else run[0]
        run.clear()
        image = affine(
            Image.fromarray(picture[..., 0] if c == 1 else picture),
            tuple(product.ravel()[:6]),
            Image.Resampling.NEAREST,
        )
        return np.asarray(image).reshape(picture.shape)

    for step in program:
        if OPS[step.op].kind == "warp":
            run.append(np.array([*matrix(step.op, step.parameter, w, h), 0.0, 0.0, 1.0]).reshape(3, 3))
        elif step.parameter != OPS[step.op].neutral and step.op != "Identity" and (step.op, c) != ("Color", 1):
            picture = by_pillow(step.op, step.parameter, resampled(picture))
    return resampled(picture)


# --- uint16: the same definitions, spelt out -----------------------------------------------------------


def luma16(array: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    if array.shape[2] == 1:
        return array[..., 0].astype(np.int64)
    total: npt.NDArray[np.int64] = array.astype(np.int64) @ np.array([19595, 38470, 7471]) + 32768
    return total >> 16


def blend16(base: npt.ArrayLike, array: npt.NDArray[np.uint16], factor: float) -> npt.NDArray[np.uint16]:
    d = np.broadcast_to(np.asarray(base, np.int64), array.shape)
    mixed = d.astype(np.float32) + np.float32(factor) * (array.astype(np.int64) - d).astype(np.float32)
    return np.asarray(np.trunc(np.clip(mixed, 0, 65535)), np.uint16)


def smooth16(array: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    a = array.astype(np.int64)
    total = 4 * a[1:-1, 1:-1]
    for dy in range(3):
        for dx in range(3):
            total = total + a[dy : dy + a.shape[0] - 2, dx : dx + a.shape[1] - 2]
    result = a.copy()
    result[1:-1, 1:-1] = np.floor(total / 13 + 0.5)
    return result


def autocontrast16(channel: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    low, high = int(channel.min()), int(channel.max())
    if high <= low:
        return channel
    scale = 65535 / (high - low)
    return np.asarray(np.clip(np.trunc(channel * scale - low * scale), 0, 65535), np.uint16)


def equalize16(channel: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    counts = np.bincount(channel.ravel(), minlength=65536)
    used = counts[counts > 0]
    step = int(used.sum() - used[-1]) // 65535
    if len(used) <= 1 or step == 0:
        return channel
    below = np.concatenate([[0], np.cumsum(counts)[:-1]])
    table = np.asarray(np.minimum((below + step // 2) // step, 65535), np.uint16)
    return np.asarray(table[channel], np.uint16)


def by_numpy(name: str, p: float, array: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    per_channel = {"AutoContrast": autocontrast16, "Equalize": equalize16}
    if name in per_channel:
        return np.stack([per_channel[name](array[..., k]) for k in range(array.shape[2])], axis=2)
    value = array.astype(np.int64)
    if name == "Posterize":
        return (value if p == 8 else value & (65536 - 2 ** (16 - int(p)))).astype(np.uint16)
    if name == "Solarize":
        return np.where(value < 257 * p, value, 65535 - value).astype(np.uint16)
    if name == "Invert":
        return (65535 - value).astype(np.uint16)
    bases: dict[str, Callable[[], npt.ArrayLike]] = {
        "Brightness": lambda: 0,
        "Color": lambda: luma16(array)[..., None],
        "Contrast": lambda: int(luma16(array).mean() + 0.5),
        "Sharpness": lambda: smooth16(array) if min(array.shape[:2]) > 2 else array,
    }
    return blend16(bases[name](), array, p)


def pictures16(channels: int) -> list[npt.NDArray[np.uint16]]:
    rng = np.random.default_rng(channels)
    spans = [(0, 65536), (0, 300), (65200, 65536), (1000, 5000)]  # both ends of the range, and a CT's
    images = [rng.integers(low, high, (40, 41, channels)) for low, high in spans]
    images += [np.full((5, 5, channels), 65535), rng.integers(0, 65536, (1, 2, channels))]
    return [image.astype(np.uint16) for image in images]


POINTWISE = [name for name in PARAMETERS if OPS[name].kind in ("lut", "colour", "stencil")]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", POINTWISE)
def test_uint16_pointwise(name: str, channels: int) -> None:
    for picture in pictures16(channels):
        for p in PARAMETERS[name][::2] + PARAMETERS[name][-1:]:
            result = one(name, p, picture)
            assert result.dtype == np.uint16
            assert np.array_equal(result, by_numpy(name, p, picture)), (name, p)


def test_uint16_equalize_of_a_large_image() -> None:
    picture = np.random.default_rng(0).normal(20_000, 2_000, (512, 400, 1)).astype(np.uint16)
    result = one("Equalize", 0.0, picture)
    assert not np.array_equal(result, picture)
    assert np.array_equal(result, by_numpy("Equalize", 0.0, picture))


@pytest.mark.parametrize("name", ["ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"])
def test_uint16_moves_pixels_where_uint8_does(name: str) -> None:
    picture = np.random.default_rng(3).integers(0, 65536, (23, 31, 3), dtype=np.uint16)
    low, high = (picture & 255).astype(np.uint8), (picture >> 8).astype(np.uint8)
    for p in PARAMETERS[name]:
        result = np.asarray(one(name, p, picture), np.uint16)
        assert np.array_equal(result & 255, by_pillow(name, p, low))
        assert np.array_equal(result >> 8, by_pillow(name, p, high))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_uint16_chains_equal_the_steps_one_by_one(data: st.DataObject) -> None:
    picture = data.draw(st.sampled_from(pictures16(3)))
    names = data.draw(st.lists(st.sampled_from(list(PARAMETERS)), max_size=4))
    program = [Applied(name, data.draw(st.sampled_from(PARAMETERS[name]))) for name in names]
    expected: npt.NDArray[np.generic] = picture
    for step in program:
        expected = one(step.op, step.parameter, expected)
    assert np.array_equal(cpu.execute(picture[None], [program], fuse=False)[0], expected)


# --- what Pillow does not have --------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "grey"), [(np.uint8, 128), (np.uint16, 32768)])
def test_cutout_erases_a_square_of_grey(dtype: type[np.generic], grey: int) -> None:
    picture = np.zeros((20, 30, 3), dtype)
    result = cpu.execute(picture[None], [[Applied("Cutout", 0.2, x=0.5, y=0.5)]])[0]
    assert (result == grey).all(axis=2).sum() == 16
    assert (result[8:12, 13:17] == grey).all()
    corner = cpu.execute(picture[None], [[Applied("Cutout", 0.2, x=0.0, y=0.999)]])[0]
    assert (corner[17:, :2] == grey).all()
    assert (corner == grey).sum() == 3 * 2 * 3


def test_posterize_to_no_bits_counts_as_one_bit() -> None:
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert np.array_equal(one("Posterize", 0, picture), one("Posterize", 1, picture))


def test_other_channel_counts() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 8, 5), dtype=np.uint8)
    mean = (2 * picture.astype(int).sum(axis=2) + 5) // 10
    assert np.array_equal(one("Color", 0.0, picture), np.repeat(mean[..., None], 5, axis=2))
    assert (one("Contrast", 0.0, picture) == int(mean.mean() + 0.5)).all()
    for name in ("ShearX", "Sharpness", "Equalize", "Rotate", "Invert", "AutoContrast"):
        parts = [one(name, 0.4, np.ascontiguousarray(picture[..., k : k + 1])) for k in range(5)]
        assert np.array_equal(one(name, 0.4, picture), np.concatenate(parts, axis=2))


# --- the table ------------------------------------------------------------------------------------------


def test_parameters_by_hand() -> None:
    def at(name: str, space: str, level: float, sign: int = 1) -> float:
        return float(OPS[name].range(space).parameter(level, sign))  # type: ignore[arg-type]  # two literals

    assert at("ShearX", "autoaugment", 5 / 9, -1) == pytest.approx(-1 / 6)
    assert at("ShearY", "wide", 1) == pytest.approx(0.99)
    assert at("TranslateX", "autoaugment", 1) == pytest.approx(150 / 331)
    assert at("TranslateY", "wide", 0.5, -1) == -16
    assert at("Rotate", "autoaugment", 9 / 9) == 30
    assert at("Rotate", "wide", 1 / 3) == pytest.approx(45)
    assert at("Brightness", "autoaugment", 1, -1) == pytest.approx(0.1)
    assert at("Color", "wide", 1) == pytest.approx(1.99)
    assert [at("Posterize", "autoaugment", k / 9) for k in range(10)] == [8, 8, 7, 7, 6, 6, 5, 5, 4, 4]
    wide = [at("Posterize", "wide", k / 30) for k in range(31)]
    assert wide == [8 - round(k / 5) for k in range(31)]
    assert at("Solarize", "autoaugment", 0) == 256
    assert at("Solarize", "wide", 1 / 3) == pytest.approx(170)
    assert at("Cutout", "autoaugment", 1) == pytest.approx(60 / 331)


def test_translations_of_331_pixels_are_whole() -> None:
    # 150/331 of 331 pixels at level k/9 is 50 k / 3 pixels, truncated.
    for k in range(10):
        share = float(OPS["TranslateX"].range("autoaugment").parameter(k / 9))
        assert matrix("TranslateX", share, 331, 331, "autoaugment")[2] == -(50 * k // 3)
        assert matrix("TranslateX", -share, 331, 331, "autoaugment")[2] == 50 * k // 3


def test_describe() -> None:
    program = [Applied("TranslateX", -0.25), Applied("Brightness", 1.5), Applied("Invert", 0.0)]
    assert describe(program, "autoaugment") == "TranslateX -25 % of the width · Brightness x1.50 · Invert"
    assert describe([Applied("TranslateX", -7.2)]) == "TranslateX -7 px"


def test_an_unknown_op_is_named() -> None:
    with pytest.raises(ValueError, match="no op is called 'rotate': did you mean 'Rotate'"):
        find("rotate")
    with pytest.raises(ValueError, match="known are Identity"):
        find("xyzzy")


# --- apply_op and execute -------------------------------------------------------------------------------


def test_apply_op_takes_signs_or_draws_them() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 1), dtype=np.uint8)
    right = apply_op("Rotate", images, 1 / 3, signs=1)
    left = apply_op("Rotate", images, 1 / 3, signs=np.full(40, -1))
    drawn = apply_op("Rotate", images, 1 / 3, ids=range(40), seed=3)
    rightward = (drawn == right).all(axis=(1, 2, 3))
    assert 5 < rightward.sum() < 35
    assert np.array_equal(drawn, np.where(rightward[:, None, None, None], right, left))
    assert np.array_equal(apply_op("Rotate", images, 1 / 3, seed=3), drawn)


def test_apply_op_refuses_levels_outside() -> None:
    with pytest.raises(ValueError, match=r"0 \.\. 1"):
        apply_op("Rotate", np.zeros((1, 2, 2, 1), np.uint8), 1.01)


def test_kinds_of_images() -> None:
    stack = np.random.default_rng(0).integers(0, 256, (4, 6, 5), dtype=np.uint8)
    expected = 255 - stack
    assert np.array_equal(apply_op("Invert", stack, 0), expected)
    assert np.array_equal(apply_op("Invert", stack[..., None], 0), expected[..., None])
    mixed = [stack[0], stack[1][..., None], stack[2, :3], stack[3].astype(np.uint16)]
    result = apply_op("Invert", mixed, 0)
    assert [r.shape for r in result] == [(6, 5), (6, 5, 1), (3, 5), (6, 5)]
    assert np.array_equal(result[2], expected[2, :3])
    assert np.array_equal(result[3], 65535 - stack[3].astype(int))
    assert apply_op("Invert", np.zeros((0, 4, 4, 3), np.uint8), 0).shape == (0, 4, 4, 3)
    assert apply_op("Invert", [], 0) == []


def test_inputs_are_left_alone_and_may_be_read_only_or_strided() -> None:
    stack = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    before = stack.copy()
    stack.flags.writeable = False
    for name in [name for name in NAMES if OPS[name].kind != "mix"]:
        result = apply_op(name, stack, 0.7)
        assert not np.shares_memory(result, stack)
        assert np.array_equal(apply_op(name, before[:, ::-1], 0.7), apply_op(name, before[:, ::-1].copy(), 0.7))
        result[:] = 0
    assert np.array_equal(stack, before)


def test_bad_images() -> None:
    with pytest.raises(TypeError, match="float64"):
        cpu.execute(np.zeros((1, 2, 2, 3)), [[]])
    with pytest.raises(ValueError, match="shape"):
        cpu.execute(np.zeros((1, 2), np.uint8), [[]])
    with pytest.raises(ValueError, match="2 images but 1"):
        cpu.execute(np.zeros((2, 2, 2, 3), np.uint8), [[]])


def test_a_matrix_of_another_op() -> None:
    with pytest.raises(ValueError, match="not an affine op"):
        matrix("Invert", 0.0, 3, 3)


def test_rotation_is_counter_clockwise_about_the_centre() -> None:
    picture = np.zeros((5, 5, 1), np.uint8)
    picture[2, 4] = 9  # east
    assert one("Rotate", 90, picture)[0, 2] == 9  # north
    assert math.isclose(matrix("Rotate", 90, 5, 5)[2], 5.0)
