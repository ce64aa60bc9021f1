from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from augment.search import model


def blobs(n: int, side: int = 12, channels: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Class 0 is bright on the left, class 1 on the right."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.integers(0, 60, (n, side, side, channels), np.uint8)
    half = side // 2
    images[labels == 0, :, :half] += 150
    images[labels == 1, :, half:] += 150
    return images, labels.astype(np.int64)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 64), (48, 96)])
def test_shrink_is_the_mean_of_blocks_rounded_half_up(height: int, width: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    factor = max(height, width) // 16
    got = model.shrink(image, 16)
    blocks = image.reshape(height // factor, factor, width // factor, factor, 3).astype(int).sum(axis=(1, 3))
    assert np.array_equal(got, (2 * blocks + factor**2) // (2 * factor**2))
    # Pillow's reduce rounds ties of odd divisors the other way now and then.
    assert np.abs(got.astype(int) - np.asarray(Image.fromarray(image).reduce(factor))).max() <= (factor == 6)


@given(
    hnp.arrays(st.sampled_from([np.uint8, np.uint16]), hnp.array_shapes(min_dims=3, max_dims=3, max_side=40)),
    st.integers(1, 20),
)
@settings(max_examples=60, deadline=None)
def test_shrink_keeps_type_bounds_and_stays_within_the_values(image: np.ndarray, side: int) -> None:
    got = model.shrink(image, side)
    assert got.dtype == image.dtype
    assert max(got.shape[:2]) <= max(side, 1)
    assert got.shape[2] == image.shape[2]
    assert image.min() <= got.min()
    assert got.max() <= image.max()
    if max(image.shape[:2]) <= side:
        assert got is image


def test_shrink_of_a_flat_deep_image_is_flat() -> None:
    assert (model.shrink(np.full((300, 7, 1), 65535, np.uint16), 32) == 65535).all()


def test_square_gives_the_proportions_up_and_enlarges_by_repeating() -> None:
    image = np.arange(4, dtype=np.uint8).reshape(2, 2, 1)
    assert np.array_equal(model.square(image, 4)[..., 0], np.kron(image[..., 0], np.ones((2, 2), np.uint8)))


def test_responses_are_exact_in_any_order_of_summation() -> None:
    images, _ = blobs(8, side=32, channels=3)
    images[0] = 255
    images[1, ::2] = 255
    bank = model.fit_features(images, seed=3)
    assert np.array_equal(bank.filters, np.rint(bank.filters))
    # The sum over a cell of the largest responses that there can be.
    assert np.abs(bank.filters).sum(axis=0).max() * 255 * 9 <= 2**24
    other = model.Features(bank.side, bank.channels, bank.filters[::-1], bank.threshold)
    windows = np.lib.stride_tricks.sliding_window_view(images, (6, 6), axis=(1, 2))[:, 0, 0].reshape(8, -1)
    forwards = windows.astype(np.float32) @ bank.filters
    backwards = windows[:, ::-1].astype(np.float32) @ other.filters
    assert np.array_equal(forwards, backwards)
    assert np.array_equal(forwards, windows.astype(np.int64) @ bank.filters.astype(np.int64))


def test_features_do_not_depend_on_the_batch() -> None:
    images, _ = blobs(130)
    bank = model.fit_features(images, seed=0)
    whole = bank(images)
    assert whole.shape == (130, bank.width)
    assert np.array_equal(whole[65:70], bank(images[65:70]))
    assert bank(images[:0]).shape == (0, bank.width)


def test_features_refuse_another_shape() -> None:
    bank = model.fit_features(blobs(4)[0], seed=0)
    with pytest.raises(ValueError, match=r"not \(12, 12, 1\)"):
        bank(np.zeros((1, 13, 12, 1), np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_model_learns_and_repeats_itself(channels: int) -> None:
    images, labels = blobs(60, channels=channels)
    fresh, truth = blobs(60, channels=channels, seed=9)
    first, second = (model.fit(model.fit_features(images, 5), images, labels, 2) for _ in range(2))
    assert (first.predict(fresh) == truth).all()
    assert np.array_equal(first.scores(fresh), second.scores(fresh))


def test_many_rows_and_few_rows_solve_the_same_ridge() -> None:
    rng = np.random.default_rng(0)
    rows, targets = rng.normal(size=(30, 20)), rng.normal(size=(30, 3))
    primal = model._ridge(rows, targets)
    ridge = model._RIDGE * (rows**2).sum() / 30
    dual = rows.T @ np.linalg.solve(rows @ rows.T + ridge * np.eye(30), targets)
    assert np.allclose(primal, dual)
    assert np.allclose(model._ridge(rows.T, rng.normal(size=(20, 3))).shape, (30, 3))


def test_a_rare_class_is_heard() -> None:
    images, labels = blobs(200)
    rare = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:4]])
    fitted = model.fit(model.fit_features(images, 0), images[rare], labels[rare], 2)
    fresh, truth = blobs(40, seed=4)
    assert (fitted.predict(fresh) == truth).mean() > 0.95


def test_equal_images_are_no_error() -> None:
    images = np.full((10, 8, 8, 1), 77, np.uint8)
    fitted = model.fit(model.fit_features(images, 0), images, np.arange(10) % 2, 2)
    assert np.isfinite(fitted.scores(images)).all()


def test_deep_pixels_are_stretched_over_the_range_in_use() -> None:
    assert model.to_bytes(np.array([32768, 33000, 33768], np.uint16), 32768, 33768).tolist() == [0, 59, 255]
    assert model.to_bytes(np.array([5], np.uint8), 1, 2).tolist() == [5]
    assert model.to_bytes(np.array([5], np.uint16), 5, 5).tolist() == [0]
