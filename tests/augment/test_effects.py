"""Noise, blur, artefacts, local contrast and scanners' faults, against independent implementations."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from augment import rng
from augment.effects import blur, clahe, elastic, jpeg, medical, noise
from augment.effects._random import normal_table

Array = npt.NDArray[Any]
DTYPES = [np.uint8, np.uint16]
KEY = np.array([11, 22, 33, 44], np.uint32)


def values(*numbers: float) -> npt.NDArray[np.float64]:
    made = np.zeros(12)
    made[: len(numbers)] = numbers
    return made


def photograph(shape: tuple[int, int, int] = (61, 83, 3), dtype: type[np.generic] = np.uint8) -> Array:
    """Smooth shapes and some texture, over the whole range."""
    h, w, c = shape
    y, x = np.mgrid[:h, :w]
    draw = np.random.default_rng(3)
    layers = [np.sin(x / (7 + k)) * np.cos(y / (5 + 2 * k)) + 0.02 * draw.normal(size=(h, w)) for k in range(c)]
    stack = np.stack(layers, axis=2)
    top = np.iinfo(dtype).max  # type: ignore[type-var]  # both are integers
    return ((stack - stack.min()) / (stack.max() - stack.min()) * top).astype(dtype)


# --- noise ----------------------------------------------------------------------------------------------


def words(blocks: int) -> npt.NDArray[np.uint32]:
    counter = np.zeros((blocks, 4), np.uint32)
    counter[:, 0] = np.arange(blocks)
    counter[:, 2:] = KEY[2:]
    return rng.philox4x32(counter, KEY[:2])


def test_the_table_is_normal() -> None:
    table = normal_table().astype(float)
    assert table.mean() == pytest.approx(0, abs=1e-7)
    assert table.var() == pytest.approx(1, abs=3e-4)
    assert (np.diff(table) > 0).all()
    assert np.interp(1.0, table, np.arange(65536) / 65536) == pytest.approx(0.841345, abs=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gaussian_noise_by_hand(dtype: type[np.generic]) -> None:
    image = photograph((13, 11, 3), dtype)
    top = np.iinfo(dtype).max  # type: ignore[type-var]
    lanes = words(54).view(np.uint16).ravel()[: image.size]
    z = normal_table()[lanes].reshape(image.shape)
    exact = image.astype(np.float32) + np.float32(0.1 * top) * z
    expected = np.floor(np.clip(exact, 0, top) + np.float32(0.5))
    assert np.array_equal(noise.gaussian(image, values(0.1), KEY), expected.astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rician_noise_by_hand(dtype: type[np.generic]) -> None:
    image = photograph((9, 10, 1), dtype)
    top = np.iinfo(dtype).max  # type: ignore[type-var]
    bits = words(23).ravel()[: image.size]
    sigma = np.float32(0.2 * top)
    real = image.ravel().astype(np.float32) + sigma * normal_table()[bits & 0xFFFF]
    exact = np.sqrt(real * real + (sigma * normal_table()[bits >> 16]) ** 2)
    expected = np.floor(np.clip(exact, 0, top) + np.float32(0.5)).astype(dtype).reshape(image.shape)
    assert np.array_equal(noise.rician(image, values(0.2), KEY), expected)


@pytest.mark.parametrize(("p", "level"), [(0.3, 0.02), (0.3, 0.9), (0.05, 0.05), (0.05, 0.5)])
def test_poisson_noise_has_the_mean_and_the_variance_of_photons(p: float, level: float) -> None:
    image = np.full((400, 400, 1), level, np.float32)
    made = noise.poisson(image, values(p), KEY).astype(float)
    assert made.mean() == pytest.approx(level, abs=4 * p * np.sqrt(level) / 400)
    assert made.std() == pytest.approx(p * np.sqrt(level), rel=0.01)
    counts = made / p**2
    assert np.allclose(counts, np.rint(counts), atol=1e-3)


def test_poisson_counts_follow_the_distribution() -> None:
    image = np.full((500, 500, 1), 0.03, np.float32)  # three photons
    counts = np.rint(noise.poisson(image, values(0.1), KEY).astype(float).ravel() / 0.01).astype(int)
    share = np.bincount(counts, minlength=12)[:12] / counts.size
    expected = np.exp(-3) * np.array([3.0**k / np.prod(np.arange(1.0, k + 1)) for k in range(12)])
    assert np.abs(share - expected).max() < 0.004


def test_no_noise_at_nothing_and_another_key_is_other_noise() -> None:
    image = photograph()
    for op in (noise.gaussian, noise.poisson, noise.rician):
        assert np.array_equal(op(image, values(0.0), KEY), image)
        assert not np.array_equal(op(image, values(0.1), KEY), op(image, values(0.1), KEY + np.uint32(1)))


def test_noise_leaves_floats_unclipped() -> None:
    image = np.zeros((50, 50, 1), np.float32)
    made = noise.gaussian(image, values(0.1), KEY)
    assert made.dtype == np.float32
    assert made.min() < -0.1


# --- blur -----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(sigma=st.floats(0.05, 6), height=st.integers(1, 40), width=st.integers(1, 40), wide=st.booleans())
def test_blur_is_the_gaussian_of_scipy(sigma: float, height: int, width: int, wide: bool) -> None:
    image = (
        photograph((height, width, 2), np.uint16 if wide else np.uint8)
        if height * width > 1
        else np.full((1, 1, 2), 7, np.uint8)
    )
    radius = len(blur.weights(sigma)) - 1
    exact = ndimage.gaussian_filter(
        image.astype(float), (sigma, sigma, 0), mode="nearest", radius=(radius, radius, 0)
    )
    found = blur.gaussian(image, values(sigma), KEY)
    assert np.abs(found - exact).max() <= 0.5 + np.iinfo(image.dtype).max * 2.0 * (2 * radius + 1) * 2**-15
    taps = np.concatenate([blur.weights(sigma)[:0:-1], blur.weights(sigma)])
    assert taps.sum() == 32768
    rows = ndimage.correlate1d(image.astype(np.int64), taps, axis=0, mode="nearest")
    both = ndimage.correlate1d(rows, taps, axis=1, mode="nearest")
    assert np.array_equal(found, (both + 2**29) // 2**30)


# --- JPEG -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [5, 30, 50, 75, 95])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_artefacts_are_those_of_libjpeg(quality: int, channels: int) -> None:
    image = photograph((64, 80, channels))
    out = io.BytesIO()
    Image.fromarray(image[..., 0] if channels == 1 else image).save(out, "JPEG", quality=quality, subsampling=0)
    expected = np.asarray(Image.open(out)).reshape(image.shape).astype(int)
    found = jpeg.artefacts(image, values(quality), KEY).astype(int)
    done = np.abs(found - image.astype(int)).mean()
    apart = np.abs(found - expected).mean()
    assert apart < 0.35 * done + 0.35
    assert apart < 1.0


def test_jpeg_of_16_bits_is_the_same_picture() -> None:
    image = photograph((33, 41, 3))
    low = jpeg.artefacts(image, values(40), KEY).astype(float)
    high = jpeg.artefacts(image.astype(np.uint16) * 257, values(40), KEY) / 257
    assert np.abs(low - high).max() < 4
    assert np.abs(low - high).mean() < 0.6


def test_the_transform_is_orthonormal() -> None:
    assert np.allclose(jpeg.basis() @ jpeg.basis().T, np.eye(8), atol=1e-14)


# --- CLAHE ----------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    clip=st.sampled_from([1.0, 1.5, 2.0, 4.0, 8.0, 40.0]),
    height=st.integers(8, 70),
    width=st.integers(8, 70),
    wide=st.booleans(),
)
def test_clahe_equals_opencv(clip: float, height: int, width: int, wide: bool) -> None:
    image = photograph((height, width, 1), np.uint16 if wide else np.uint8)
    expected = cv2.createCLAHE(clip, (8, 8)).apply(image[..., 0])
    assert np.array_equal(clahe.clahe(image, values(clip), KEY)[..., 0], expected)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 3), (3, 3, 1), (5, 200, 2)])
def test_clahe_of_small_images(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    made = clahe.clahe(image, values(2.0), KEY)
    assert made.shape == shape
    floats = clahe.clahe((image / 255).astype(np.float32), values(2.0), KEY)
    assert floats.dtype == np.float32


# --- elastic --------------------------------------------------------------------------------------------


def test_the_field_is_a_cubic_spline_of_the_nodes() -> None:
    grid, side = elastic.nodes(values(0.5), KEY, 60, 90)
    assert side == 10
    assert grid.shape == (9, 12, 2)
    assert np.abs(grid).max() <= 5
    points = np.random.default_rng(0).uniform([0, 0], [90, 60], (200, 2))
    found = elastic.field(values(0.5), KEY, 60, 90, points)
    for axis in range(2):
        # scipy's spline with the nodes as coefficients; the first node stands one cell before the image.
        expected = ndimage.map_coordinates(
            grid[..., axis], [points[:, 1] / side + 1, points[:, 0] / side + 1], order=3, prefilter=False
        )
        assert np.allclose(found[:, axis], expected, atol=1e-12)


def test_elastic_samples_at_the_displaced_places() -> None:
    image = photograph((40, 50, 3))
    y, x = np.mgrid[:40, :50]
    points = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1)
    u, v = (points + elastic.field(values(0.9), KEY, 40, 50, points)).T
    inside = (u >= 0) & (v >= 0) & (u < 50) & (v < 40)
    assert 0.5 < inside.mean() < 1
    expected = np.where(inside[:, None], image[np.clip(v, 0, 39).astype(int), np.clip(u, 0, 49).astype(int)], 0)
    found = elastic.deform(image, values(0.9), KEY)
    assert np.array_equal(found.reshape(-1, 3), expected)
    smooth = elastic.deform(image, values(*[0.9] + [0.0] * 10, 1.0), KEY)
    exact = ndimage.map_coordinates(image[..., 0].astype(float), [v - 0.5, u - 0.5], order=1, mode="nearest")
    assert np.array_equal(smooth[..., 0].ravel()[inside], np.floor(exact + 1e-9)[inside])


# --- scanners -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_downscale_averages_and_repeats(dtype: type[np.generic]) -> None:
    image = photograph((24, 36, 2), dtype)
    mean = image.reshape(8, 3, 12, 3, 2).mean(axis=(1, 3))
    expected = np.floor(mean + 0.5).repeat(3, axis=0).repeat(3, axis=1)
    assert np.array_equal(medical.downscale(image, values(3, 3), KEY), expected)
    rows = np.floor(image.reshape(8, 3, 36, 2).mean(axis=1) + 0.5).repeat(3, axis=0)
    assert np.array_equal(medical.downscale(image, values(3, 1), KEY), rows)
    assert np.array_equal(medical.downscale(image, values(1, 1), KEY), image)
    assert len(np.unique(medical.downscale(image, values(100, 100), KEY)[..., 0])) == 1


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_ghosts_are_weaker_lines_of_k_space(axis: int, count: int) -> None:
    image = photograph((60, 90, 1)).astype(np.float32) / 255
    space = np.fft.fft2(image[..., 0])
    lines = np.ones(60 if axis == 0 else 90)
    lines[::count] -= 0.7
    space = space * (lines[:, None] if axis == 0 else lines[None])
    expected = np.abs(np.fft.ifft2(space))
    found = medical.ghosts(image, values(0.7, count, 1 - axis == 1), KEY)[..., 0]
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bias_field_is_a_cubic_polynomial(dtype: type[np.generic]) -> None:
    image = photograph((30, 20, 2), dtype)
    a = (2 * rng.of_keys(KEY[None], 9)[0] - 1) * 0.4
    y, x = (2 * np.arange(30)[:, None] + 1) / 30 - 1, (2 * np.arange(20)[None] + 1) / 20 - 1
    powers = [
        x + 0 * y,
        y + 0 * x,
        x * x + 0 * y,
        x * y,
        y * y + 0 * x,
        x**3 + 0 * y,
        x * x * y,
        x * y * y,
        y**3 + 0 * x,
    ]
    factor = np.maximum(1 + sum(c * p for c, p in zip(a, powers, strict=True)), 0)
    top = np.iinfo(dtype).max  # type: ignore[type-var]
    expected = np.floor(np.clip(image * factor[..., None], 0, top) + 0.5)
    found = medical.bias_field(image, values(0.4), KEY)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found == expected).mean() > 0.999
    assert found.std() > 0


# --- all ------------------------------------------------------------------------------------------------

ALL = [
    (noise.gaussian, (0.1,)),
    (noise.poisson, (0.2,)),
    (noise.rician, (0.1,)),
    (blur.gaussian, (1.3,)),
    (jpeg.artefacts, (30,)),
    (clahe.clahe, (3.0,)),
    (elastic.deform, (0.7,)),
    (medical.downscale, (2.5, 1.7)),
    (medical.ghosts, (0.6, 3, 1)),
    (medical.bias_field, (0.3,)),
]


@pytest.mark.parametrize(("op", "numbers"), ALL)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 3), (7, 1, 2), (9, 14, 5)])
def test_any_image_comes_back_in_kind(
    op: Any, numbers: tuple[float, ...], dtype: type[np.generic], shape: Any
) -> None:
    draw = np.random.default_rng(0)
    image = (
        draw.random(shape, np.float32)
        if dtype is np.float32
        else draw.integers(0, np.iinfo(dtype).max + 1, shape, dtype)
    )  # type: ignore[type-var]
    before = image.copy()
    made = op(image, values(*numbers), KEY)
    assert made.shape == shape
    assert made.dtype == dtype
    assert np.array_equal(image, before)
    assert not np.shares_memory(made, image)
    assert np.array_equal(op(image, values(*numbers), KEY), made)
