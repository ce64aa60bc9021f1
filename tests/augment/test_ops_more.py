"""The ops that AutoAugment does not have, against Pillow and plain NumPy."""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from augment import rng
from augment.engine import cpu
from augment.engine.compile import compile_programs
from augment.engine.programs import Programs
from augment.ops import OPS, Applied, Shape, apply_op, find

Pixels = npt.NDArray[np.generic]
DTYPES = [np.uint8, np.uint16]
LEVELS = [0.0, 0.03, 0.5, 1.0]


def picture(shape: tuple[int, ...] = (23, 31, 3), dtype: type[np.generic] = np.uint8, seed: int = 0) -> Pixels:
    top = np.iinfo(dtype).max  # type: ignore[type-var]  # both are integers
    return np.random.default_rng(seed).integers(0, top + 1, shape, dtype=dtype)  # type: ignore[call-overload]  # as above


def one(name: str, p: float, image: Pixels, *, x: float = 0.5, y: float = 0.5, key: int = 0) -> Pixels:
    result: Pixels = cpu.execute(image[None], [[Applied(name, p, x, y, (key, 1, 2, 3))]])[0]
    return result


def matrix_of(name: str, p: float, shape: tuple[int, ...], key: int) -> npt.NDArray[np.float64]:
    made = compile_programs(Programs.of([[Applied(name, p, 0.3, 0.6, (key, 1, 2, 3))]]), Shape(*shape, 255))
    return made.values[0, 0, :9]


# --- geometry -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 3), (8, 5, 3), (31, 31, 2)])
def test_flips_and_turns_move_every_pixel(shape: tuple[int, int, int], dtype: type[np.generic]) -> None:
    image = picture(shape, dtype)
    assert np.array_equal(one("FlipX", 0, image), image[:, ::-1])
    assert np.array_equal(one("FlipY", 0, image), image[::-1])
    turned = [one("Turn", 0, image, x=x) for x in (0.1, 0.4, 0.9)]
    if shape[0] == shape[1]:
        found = {tuple(np.rot90(image, k).ravel().tolist()) for k in (1, 2, 3)}
        assert {tuple(each.ravel().tolist()) for each in turned} == found
    else:
        assert np.array_equal(turned[0], image)
        assert np.array_equal(turned[2], image[::-1, ::-1])


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["Zoom", "Crop", "Perspective"]),
    level=st.floats(0, 1),
    sign=st.sampled_from([-1, 1]),
    key=st.integers(0, 2**32 - 1),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_pillow_moves_pixels_the_same_way(  # noqa: PLR0917  (what is drawn)
    name: str, level: float, sign: int, key: int, height: int, width: int
) -> None:
    image = picture((height, width, 3))
    p = float(OPS[name].range("wide").parameter(level, sign))
    applied = Applied(name, p, 0.3, 0.6, (key, 1, 2, 3))
    made = compile_programs(Programs.of([[applied]]), Shape(height, width, 3, 255))
    m = made.values[0, 0, :9] if made.codes.size and made.codes[0, 0] >= 0 else np.eye(3).ravel()
    kind = Image.Transform.PERSPECTIVE if m[6] or m[7] else Image.Transform.AFFINE
    for bilinear, resample in enumerate((Image.Resampling.NEAREST, Image.Resampling.BILINEAR)):
        coefficients = tuple(m[:8]) if kind is Image.Transform.PERSPECTIVE else tuple(m[:6])
        expected = Image.fromarray(image).transform((width, height), kind, coefficients, resample)
        found = cpu.execute(image[None], [[applied]], resampling=("nearest", "bilinear")[bilinear])
        assert np.array_equal(found[0], np.asarray(expected)), bilinear


@pytest.mark.parametrize("name", ["Zoom", "Crop"])
def test_no_pixel_of_large_noise_differs_from_pillow(name: str) -> None:
    image = np.random.default_rng(5).integers(0, 256, (1500, 2000, 3), np.uint8)
    for level, sign, key in ((0.31, 1, 1), (0.77, -1, 2), (1.0, 1, 3)):
        p = float(OPS[name].range("wide").parameter(level, sign))
        applied = Applied(name, p, 0.3, 0.6, (key, 1, 2, 3))
        m = compile_programs(Programs.of([[applied]]), Shape(1500, 2000, 3, 255)).values[0, 0, :6]
        expected = Image.fromarray(image).transform(
            (2000, 1500), Image.Transform.AFFINE, tuple(m), Image.Resampling.NEAREST
        )
        assert np.array_equal(cpu.execute(image[None], [[applied]])[0], np.asarray(expected))


def test_a_crop_shows_only_what_is_there_and_as_much_as_said() -> None:
    shape = (40, 60, 1)
    for key in range(50):
        for p in (0.1, 0.5, 0.92):
            m = matrix_of("Crop", p, shape, key)
            assert m[0] * m[4] == pytest.approx(1 - p, rel=1e-4)
            assert 0.74 < m[0] / m[4] < 1.35
            grid = 2**-14  # numbers of 16.16, a few of them added up
            assert m[2] >= -grid
            assert m[5] >= -grid
            assert m[2] + 60 * m[0] <= 60 + 60 * grid
            assert m[5] + 40 * m[4] <= 40 + 60 * grid


def test_perspective_takes_corners_inside() -> None:
    w, h = 60, 40
    for key in range(50):
        m = matrix_of("Perspective", 0.6, (h, w, 1), key).reshape(3, 3)
        corners = m @ np.array([[0, w, w, 0], [0, 0, h, h], [1, 1, 1, 1]])
        u, v = corners[0] / corners[2], corners[1] / corners[2]
        inward = np.array([u[0], w - u[1], w - u[2], u[3]]), np.array([v[0], v[1], h - v[2], h - v[3]])
        share = 0.5 * 0.6 * rng.of_keys(np.array([[key, 1, 2, 3]], np.uint32), 8)[0]
        assert np.allclose(inward[0], share[:4] * w)
        assert np.allclose(inward[1], share[4:] * h)


def test_consecutive_warps_are_one_resampling() -> None:
    image = picture((33, 33, 3))
    back = [Applied("Rotate", 33.0), Applied("Rotate", -33.0)]
    assert np.array_equal(cpu.execute(image[None], [back])[0], image)
    assert not np.array_equal(cpu.execute(image[None], [back], fuse=False)[0], image)
    flips = [Applied("FlipX", 0), Applied("Perspective", 0.5, key=(7, 7, 7, 7)), Applied("FlipX", 0)]
    made = compile_programs(Programs.of([flips]), Shape(33, 33, 3, 255))
    assert made.codes.shape == (1, 1)


# --- tone -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_gamma_is_a_power_of_the_range(dtype: type[np.generic]) -> None:
    top = np.iinfo(dtype).max  # type: ignore[type-var]
    image = np.arange(top + 1, dtype=dtype).reshape(-1, 1, 1)
    for p in (-1.5, -0.5, -0.01, 0.0, 0.3, 1.0, 1.5):
        exponent = 1 + p if p >= 0 else 1 / (1 - p)
        exact = (np.arange(top + 1) / top) ** exponent * top
        found = one("Gamma", p, image).ravel().astype(np.int64)
        assert np.array_equal(found, np.floor(exact + 0.5)), p


@pytest.mark.parametrize("dtype", DTYPES)
def test_solarize_add(dtype: type[np.generic]) -> None:
    unit = np.iinfo(dtype).max // 255  # type: ignore[type-var]
    image = picture((50, 50, 1), dtype)
    wide = image.astype(np.int64)
    expected = np.where(wide < 128 * unit, np.minimum(wide + 110 * unit, 255 * unit), wide)
    assert np.array_equal(one("SolarizeAdd", 110, image), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_window_stretches_a_part(dtype: type[np.generic]) -> None:
    top = int(np.iinfo(dtype).max)  # type: ignore[type-var]
    image = np.arange(top + 1, dtype=dtype).reshape(-1, 1, 1)
    for x in (0.0, 0.4, 1.0):
        low, high = x * 0.6 * top, x * 0.6 * top + 0.4 * top
        expected = np.floor(np.clip((np.arange(top + 1) - low) / (high - low), 0, 1) * top + 0.5)
        assert np.array_equal(one("Window", 0.6, image, x=x).ravel(), expected)
    assert one("Window", 0.6, image, x=0.5)[[0, -1], 0, 0].tolist() == [0, top]


@pytest.mark.parametrize("dtype", DTYPES)
def test_tables_join_with_statistics_exactly(dtype: type[np.generic]) -> None:
    image = picture((300, 300, 3), dtype) // 3 + 20
    names = ["Gamma", "AutoContrast", "Window", "Equalize", "SolarizeAdd", "Contrast"]
    program = [
        Applied(name, {"Gamma": 0.7, "Window": 0.3, "SolarizeAdd": 40, "Contrast": 1.4}.get(name, 0))
        for name in names
    ]
    expected = image
    for step in program:
        expected = cpu.execute(expected[None], [[step]])[0]
    assert np.array_equal(cpu.execute(image[None], [program])[0], expected)


# --- colour ---------------------------------------------------------------------------------------------


def test_hue_turns_colours_and_leaves_grey() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    red = np.full((1, 1, 3), (200, 60, 60), np.uint8)
    for p in (-0.5, -0.2, 0.1, 0.33, 0.5):
        assert np.abs(one("Hue", p, grey).astype(int) - grey).max() <= 1
    assert np.array_equal(one("Hue", 0.0, red), red)
    green = one("Hue", 1 / 3, red)[0, 0]
    assert green.argmax() == 1 or green.argmax() == 2  # YIQ turns the other way than HSV
    hue = [colorsys.rgb_to_hsv(*(one("Hue", p, red)[0, 0] / 255))[0] for p in (0.05, 0.1, 0.15)]
    assert hue[0] != hue[1] != hue[2]


def test_grey_is_pillows_l() -> None:
    image = picture()
    expected = np.asarray(Image.fromarray(image).convert("L").convert("RGB"))
    assert np.array_equal(one("Grey", 0, image), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_channels_change_places_and_go(dtype: type[np.generic]) -> None:
    image = picture(dtype=dtype)
    orders = {
        tuple(
            int(np.flatnonzero([np.array_equal(made[..., k], image[..., j]) for j in range(3)])[0])
            for k in range(3)
        )
        for made in (one("ChannelShuffle", 0, image, x=x) for x in (0.0, 0.2, 0.4, 0.6, 0.8, 0.999))
    }
    assert len(orders) == 5
    assert (0, 1, 2) not in orders
    gone = [one("ChannelDrop", 0, image, x=x) for x in (0.0, 0.5, 0.999)]
    for k, made in enumerate(gone):
        assert not made[..., k].any()
        assert np.array_equal(np.delete(made, k, axis=2), np.delete(image, k, axis=2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_cast_and_composed_matrices(dtype: type[np.generic]) -> None:
    image = picture(dtype=dtype)
    top = int(np.iinfo(dtype).max)  # type: ignore[type-var]
    program = [Applied("Cast", 0.3, key=(1, 2, 3, 4)), Applied("ChannelShuffle", 0, x=0.0), Applied("Hue", 0.2)]
    single = [
        compile_programs(Programs.of([[step]]), Shape(*image.shape, top)).values[0, 0] for step in program
    ]
    product = np.eye(3)
    for values in single:
        product = values.reshape(3, 4)[:, :3] @ product
    expected = np.floor(np.clip(image.astype(float) @ product.T, 0, top) + 0.5)
    found = cpu.execute(image[None], [program])[0].astype(int)
    assert np.abs(found - expected).max() <= 1  # a sum in another order
    assert (found == expected).mean() > 0.999


def test_matrices_leave_other_channel_counts_alone() -> None:
    for channels in (1, 2, 4):
        image = picture((9, 8, channels))
        for name in ("Hue", "Cast", "ChannelShuffle", "ChannelDrop"):
            assert np.array_equal(one(name, 0.2, image), image)


# --- erase ----------------------------------------------------------------------------------------------


def test_erase_takes_a_rectangle_of_the_area() -> None:
    image = np.zeros((50, 80, 3), np.uint8)
    for key in range(40):
        made = one("Erase", 0.25, image, x=0.999, y=0.3, key=key)
        rows, columns = np.flatnonzero(made.any(axis=(1, 2))), np.flatnonzero(made.any(axis=(0, 2)))
        high, wide = len(rows), len(columns)
        assert (made[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 128).all()
        assert high * wide == (made != 0).all(axis=2).sum()
        assert high * wide <= 0.25 * 4000
        if high < 50 and wide < 80:
            assert (high + 1) * (wide + 1) >= 0.25 * 4000
        assert columns[-1] == 79


# --- every op -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(OPS))
def test_level_0_does_least_and_bytes_do_not_depend_on_the_batch(name: str) -> None:
    op = find(name)
    if op.kind in {"mix", "text"}:
        pytest.skip("does not work on single images")
    images = np.stack([picture((20, 20, 3), seed=k) for k in range(9)])
    if op.neutral is not None and op.range("wide").zero == op.neutral:
        assert np.array_equal(apply_op(name, images, 0.0, ids=range(9)), images)
    whole = apply_op(name, images, 0.7, ids=range(9), seed=5)
    order = [4, 0, 8, 2]
    assert np.array_equal(apply_op(name, images[order], 0.7, ids=order, seed=5), whole[order])
    assert np.array_equal(apply_op(name, list(images), 0.7, ids=range(9), seed=5), whole)
