"""Hashes and thumbnails against their definition, written out in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.image.hashes import BYTES, SIDE, describe, describe_all

UNIT = 1 << 14
WEIGHTS = np.array([19595, 38470, 7471], np.int64)


def areas(values: npt.NDArray[Any], side: int) -> npt.NDArray[np.int64]:
    """``side`` sums over equal stretches of the first axis, in units of 1/side of a pixel."""
    size = values.shape[0]
    out = np.zeros((side, *values.shape[1:]), np.int64)
    for k in range(side):
        for at in range(k * size // side, -(-(k + 1) * size // side)):
            weight = min((at + 1) * side, (k + 1) * size) - max(at * side, k * size)
            out[k] += weight * values[at].astype(np.int64)
    return out


def means(image: npt.NDArray[Any], side: int) -> npt.NDArray[np.int64]:
    return areas(areas(image, side).transpose(1, 0, 2), side).transpose(1, 0, 2)


def fine_and_thumbnail(image: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]] | None:
    height, width, channels = image.shape
    sums = means(image, SIDE)
    grey, unit = (sums[:, :, 0], 1) if channels == 1 else (sums @ WEIGHTS, 65536)
    darkest, brightest = int(grey.min()), int(grey.max())
    scale = 255 if image.dtype == np.uint8 else max(1, int(image.max()) - int(image.min()))
    spread = brightest - darkest
    if spread == 0 or spread * 255 < scale * unit * height * width:
        return None
    shift = max(0, spread.bit_length() - 40)
    fine = ((grey - darkest) >> shift) * (1 << 20) // (spread >> shift)
    thumb = ((fine * 255 + (1 << 19)) >> 20).astype(np.uint8).ravel()
    colours = np.full(128, 128)
    if channels == 3:
        eighths = means(image, 8)
        differences = np.stack([eighths[:, :, 0] - eighths[:, :, 1], eighths[:, :, 2] - eighths[:, :, 1]])
        ends = [max(-spread, min(spread, each * 65536)) for each in differences.ravel().tolist()]
        halves = [(each >> shift) * 255 // (2 * (spread >> shift)) for each in ends]
        colours = np.clip(np.array(halves) + 128, 0, 255)
    return fine, np.concatenate([thumb, colours.astype(np.uint8)])


def as_number(bits: npt.NDArray[np.bool_]) -> int:
    return sum(1 << k for k in np.flatnonzero(bits.ravel()).tolist())


def phash(square: npt.NDArray[np.int64]) -> int:
    """Of a rectangle of any size: the frequencies are those of a DCT of just that size."""
    basis = [
        np.array(
            [[round(UNIT * math.cos(math.pi * u * (2 * x + 1) / (2 * n))) for x in range(n)] for u in range(8)]
        )
        for n in square.shape
    ]
    low = basis[0] @ square @ basis[1].T
    bits = low > np.sort(low.ravel()[1:])[31]
    bits[0, 0] = False
    return as_number(bits)


def dhash(square: npt.NDArray[np.int64]) -> int:
    rows = areas(areas(square, 8).T, 9).T
    return as_number(rows[:, :-1] < rows[:, 1:])


HASH = {"phash": phash, "dhash": dhash}


def window(fine: npt.NDArray[np.int64], number: int) -> npt.NDArray[np.int64]:
    cut = [slice(None), slice(2, None), slice(None, -2), slice(2, -2)]
    return fine[cut[number // 4], cut[number % 4]]


def turned(square: npt.NDArray[Any], turn: int) -> npt.NDArray[Any]:
    square = np.swapaxes(square, 0, 1) if turn & 4 else square
    square = square[::-1] if turn & 2 else square
    return square[:, ::-1] if turn & 1 else square


SIZES = [(1, 1), (1, 2), (2, 1), (1, 500), (3, 5), (31, 33), (32, 32), (64, 96), (200, 7), (100, 131)]


@pytest.mark.parametrize("kind", ["phash", "dhash"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_bit_is_that_of_the_definition(kind: Any, channels: int) -> None:
    rng = np.random.default_rng(channels)
    images = [rng.integers(0, 256, (*size, channels), dtype=np.uint8) for size in SIZES]
    images += [
        rng.integers(0, top, (*size, channels)).astype(np.uint16) for size in SIZES for top in (9, 65536)
    ]
    images += [np.full((5, 5, channels), 7, np.uint8), np.full((5, 5, channels), 7, np.uint16)]
    found = describe_all(images, kind, turns=range(8), windows=True, threads=2)
    flat = 0
    for k, image in enumerate(images):
        wanted = fine_and_thumbnail(image)
        assert found.good[k] == (wanted is not None)
        if wanted is None:
            flat += 1
            continue
        fine, thumbnail = wanted
        assert np.array_equal(found.thumbnails[k], thumbnail)
        whole = [HASH[kind](turned(fine, turn)) for turn in range(8)]
        windows = [HASH[kind](window(fine, number)) for number in range(1, 16)]
        assert found.hashes[k].tolist() == [*whole, *windows]
    assert 2 <= flat <= 5


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(st.integers(1, 80), st.integers(1, 80), st.sampled_from([1, 3])),
    st.integers(2, 65536),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_any_image(shape: tuple[int, int, int], top: int, wide: bool, seed: int) -> None:
    kind = np.uint16 if wide else np.uint8
    image = np.random.default_rng(seed).integers(0, min(top, np.iinfo(kind).max + 1), shape).astype(kind)
    wanted, found = fine_and_thumbnail(image), describe(image)
    assert (found is None) == (wanted is None)
    if found is not None and wanted is not None:
        assert found[0] == phash(wanted[0])
        assert np.array_equal(found[1], wanted[1])


def test_a_large_image_of_16_bits_does_not_overflow() -> None:
    image = np.zeros((2_000, 3_000, 3), np.uint16)
    image[:, 1500:, 0], image[500:, :, 2] = 65535, 65535
    wanted, found = fine_and_thumbnail(image), describe(image)
    assert found is not None
    assert wanted is not None
    assert found[0] == phash(wanted[0])
    assert np.array_equal(found[1], wanted[1])


def test_orientations_are_those_of_the_turned_image() -> None:
    image = np.random.default_rng(3).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    found = describe_all([image], turns=range(8))
    for turn in range(8):
        other = describe(np.ascontiguousarray(turned(image, turn)))
        assert other is not None
        assert other[0] == int(found.hashes[0, turn])


def test_results_do_not_depend_on_threads_or_company() -> None:
    rng = np.random.default_rng(4)
    images = [rng.integers(0, 256, (20, 30, 1 + 2 * (k % 2)), dtype=np.uint8) for k in range(200)]
    images[5] = images[5].astype(np.uint16)
    one, two = describe_all(images), describe_all(images, threads=2)
    for x, y in zip(one, two, strict=True):
        assert np.array_equal(x, y)
    alone = describe(images[7])
    assert alone is not None
    assert (alone[0], alone[1].tolist()) == (int(one.hashes[7, 0]), one.thumbnails[7].tolist())
    nothing = describe_all([])
    assert nothing.hashes.shape == (0, 1)
    assert nothing.thumbnails.shape == (0, BYTES)
    assert describe(np.zeros((0, 3, 1), np.uint8)) is None
