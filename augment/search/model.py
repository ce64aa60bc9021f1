"""The small model behind the screen: random-patch features and a ridge classifier.

Features after Coates, Lee and Ng (AISTATS 2011) and Coates and Ng (ICML 2011): whitened patches, drawn from
the images themselves, are the filters; responses are rectified on both sides, summed over a 4 x 4 grid, and
the square root of each sum is taken. The mean intensity of 7 x 7 cells is added, so that a class can be told
by its shade.
The head is a class-weighted ridge regression onto one-hot targets, in closed form.

Why the decisions do not depend on the machine's BLAS: filters are rounded to integers and scaled so that
no partial sum of a response or of a pooled cell passes 2**24. Products of float32 matrices are then exact
in any order of summation. Only the ridge is rounded arithmetic, in float64; scores are cut to six
decimals before they are compared, far above its error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["CELLS", "Features", "Model", "fit", "fit_features", "shrink", "square", "to_bytes"]

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

# Chosen on Fashion-MNIST with 500 labels; benchmarks/results/screen.md has the figures.
_FILTERS = 128
_PATCH = 6
_GRID = 4
_PER_CELL = 3
_PLACES = _GRID * _PER_CELL
_SAMPLE = 20_000  # patches from which the whitening is estimated
_WHITEN = 1.0  # regularisation of the whitening, in mean eigenvalues
_THRESHOLD = 0.5  # of the rectifier, in standard deviations of the response
_RIDGE = 0.2  # in mean diagonal entries of the Gram matrix
_DECIMALS = 6
_EXACT = float(1 << 24)  # whole numbers up to here are exact in float32
_BATCH = 64
CELLS = 7  # cells a side of the mean intensities
_CELL_WEIGHT = 3.0  # so that 49 shades are heard beside 4,096 responses


def shrink(image: Array, side: int) -> Array:
    """Reduce an image to at most ``side`` x ``side`` by averaging areas (a box filter), in exact integers.

    The sides keep their proportion; a smaller image is returned as it is.

    Args:
        image: uint8 or uint16 (h, w, c).
        side: the longest side wanted.

    >>> shrink(np.full((64, 32, 1), 7, np.uint8), 16).shape
    (16, 8, 1)
    """
    height, width = image.shape[:2]
    longest = max(height, width)
    if longest <= side:
        return image
    return _box(image, max(1, round(height * side / longest)), max(1, round(width * side / longest)))


def square(image: Array, side: int) -> Array:
    """The image at exactly ``side`` x ``side``: areas averaged, proportions given up."""
    return image if image.shape[:2] == (side, side) else _box(image, side, side)


def _box(image: Array, height: int, width: int) -> Array:
    down, across = _overlaps(image.shape[0], height), _overlaps(image.shape[1], width)
    area = image.shape[0] * image.shape[1]
    out = np.empty((height, width, image.shape[2]), image.dtype)
    for row, weights in enumerate(down):  # a slab at a time, or a large image would be held in float64
        part = np.flatnonzero(weights)
        slab = np.tensordot(weights[part], image[part[0] : part[-1] + 1].astype(np.float64), 1)
        # Whole numbers below 2**53 throughout: the float64 products are exact in any order.
        sums = np.rint(across @ slab).astype(np.int64)
        out[row] = (2 * sums + area) // (2 * area)
    return out


def _overlaps(old: int, new: int) -> F64:
    """How much of each old pixel lies in each new one, in units of 1 / (old * new): (new, old)."""
    start, end = np.arange(new)[:, None] * old, np.arange(1, new + 1)[:, None] * old
    left, right = np.arange(old)[None] * new, np.arange(1, old + 1)[None] * new
    shared: F64 = np.clip(np.minimum(end, right) - np.maximum(start, left), 0, None).astype(np.float64)
    return shared


def to_bytes(pixels: Array, low: int = 0, top: int = 65535) -> U8:
    """Pixels for the model: uint8 as they are; of uint16 the range ``low`` .. ``top`` stretched to 8 bits.

    >>> to_bytes(np.array([900, 1000, 3000, 5000], np.uint16), 1000, 3000).tolist()
    [0, 0, 255, 255]
    """
    if pixels.dtype == np.uint8:
        return pixels.view(np.uint8)
    stretched = (pixels.astype(np.int64) - low) * 255 // max(top - low, 1)
    return np.clip(stretched, 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Features:
    """A fitted filter bank.

    Attributes:
        side: of the square images it reads.
        channels: 1 or 3.
        filters: whole numbers in float32, (6 * 6 * channels, 128).
        threshold: whole numbers in float32, (128,).
    """

    side: int
    channels: int
    filters: F32
    threshold: F32

    def __call__(self, pixels: U8) -> F64:
        """Features of uint8 (n, side, side, channels): float64 (n, 2 * 128 * 16 + 49 * channels)."""
        parts = list(self.batches(pixels))
        return np.concatenate(parts) if parts else np.zeros((0, self.width))

    @property
    def width(self) -> int:
        """Number of features."""
        return int(2 * _GRID * _GRID * self.filters.shape[1] + CELLS * CELLS * self.channels)

    def batches(self, pixels: U8) -> Iterator[F64]:
        """The same, piece by piece."""
        if pixels.shape[1:] != (self.side, self.side, self.channels):
            raise ValueError(f"images of shape {pixels.shape[1:]}, not {(self.side, self.side, self.channels)}")
        for start in range(0, len(pixels), _BATCH):
            yield self._encode(pixels[start : start + _BATCH])

    def _encode(self, pixels: U8) -> F64:
        n, k = len(pixels), self.filters.shape[1]
        patches = _patches(pixels, _places(self.side))
        response = (patches.reshape(-1, patches.shape[-1]) @ self.filters).reshape(-1, _PER_CELL**2, k)
        positive = response - self.threshold
        np.maximum(positive, 0, out=positive)
        negative = np.negative(response, out=response)
        negative -= self.threshold
        np.maximum(negative, 0, out=negative)
        pooled = np.concatenate(
            [positive.sum(axis=1).reshape(n, -1), negative.sum(axis=1).reshape(n, -1)], axis=1
        )
        return np.concatenate([np.sqrt(pooled.astype(np.float64)), _shades(pixels)], axis=1)


def _places(side: int) -> I64:
    """Where the patches start along one side: 12 places from edge to edge, whatever the side."""
    return np.arange(_PLACES, dtype=np.int64) * (side - _PATCH) // (_PLACES - 1)


def _patches(pixels: U8, places: I64) -> F32:
    """float32 (n, cells, places in a cell, values of a patch)."""
    n, _, _, channels = pixels.shape
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (_PATCH, _PATCH), axis=(1, 2))
    taken = windows[:, places][:, :, places]
    taken = taken.reshape(n, _GRID, _PER_CELL, _GRID, _PER_CELL, -1)
    ordered = taken.transpose(0, 1, 3, 2, 4, 5)
    return ordered.reshape(n, _GRID * _GRID, _PER_CELL**2, channels * _PATCH**2).astype(np.float32)


def _shades(pixels: U8) -> F64:
    """Mean intensities of 7 x 7 cells: float64 (n, 49 * channels)."""
    side = pixels.shape[1]
    starts = np.arange(CELLS) * side // CELLS
    sums = np.add.reduceat(np.add.reduceat(pixels.astype(np.int64), starts, axis=1), starts, axis=2)
    sizes = np.diff(np.append(starts, side))
    means: F64 = sums / (sizes[:, None, None] * sizes[None, :, None])
    return means.reshape(len(pixels), -1)


def fit_features(pixels: U8, seed: int) -> Features:
    """Draw and whiten the filters.

    Args:
        pixels: uint8 (n, side, side, c), n >= 1, side >= 8.
        seed: of the draw of patches.
    """
    n, side, _, channels = pixels.shape
    rng = np.random.Generator(np.random.Philox(key=seed))
    which = rng.integers(0, n, _SAMPLE)
    y, x = rng.integers(0, side - _PATCH + 1, (2, _SAMPLE))
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (_PATCH, _PATCH), axis=(1, 2))
    sample = windows[which, y, x].reshape(_SAMPLE, -1).astype(np.float64)
    sample -= sample.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(sample.T @ sample / _SAMPLE)
    ridge = _WHITEN * max(float(values.mean()), 1e-6)
    whiten = (vectors / np.sqrt(np.maximum(values, 0) + ridge)) @ vectors.T
    filters = _choose(sample) @ whiten @ whiten
    filters -= filters.mean(axis=1, keepdims=True)
    # The largest L1 norm that keeps every partial sum over a cell exact in float32.
    budget = _EXACT / (255 * _PER_CELL**2) - filters.shape[1]
    norm = np.abs(filters).sum(axis=1, keepdims=True)
    filters = np.rint(np.divide(filters * budget, norm, out=np.zeros_like(filters), where=norm > 0))
    spread = np.rint((sample[: _SAMPLE // 4] @ filters.T).std(axis=0) * _THRESHOLD)
    return Features(side, channels, filters.T.astype(np.float32), spread.astype(np.float32))


def _choose(sample: F64) -> F64:
    """The first patches that show something: at least half of the median contrast."""
    contrast = np.abs(sample).sum(axis=1)
    middle = float(np.median(contrast[contrast > 0])) if contrast.any() else 0.0
    shown = np.flatnonzero(contrast >= max(middle / 2, 1.0))
    chosen = sample[shown[:_FILTERS]]
    if len(chosen) < _FILTERS:  # flat images: fill up with what there is
        chosen = np.concatenate([chosen, sample[: _FILTERS - len(chosen)]])
    return chosen


@dataclass(frozen=True, slots=True)
class Model:
    """Features, their standardisation and a linear head.

    Attributes:
        features: the filter bank.
        mean: float64 (width,).
        scale: float64 (width,).
        weights: float64 (width, classes).
    """

    features: Features
    mean: F64
    scale: F64
    weights: F64

    def scores(self, pixels: U8) -> F64:
        """float64 (n, classes), rounded to six decimals."""
        parts = [(part - self.mean) / self.scale @ self.weights for part in self.features.batches(pixels)]
        found = np.concatenate(parts) if parts else np.zeros((0, self.weights.shape[1]))
        return np.round(found, _DECIMALS)

    def predict(self, pixels: U8) -> I64:
        """The class of the highest score, the first of equals: int64 (n,)."""
        best: I64 = self.scores(pixels).argmax(axis=1).astype(np.int64)
        return best


def fit(features: Features, pixels: U8, labels: I64, classes: int) -> Model:
    """Fit the head: ridge regression onto one-hot targets, each class with the same total weight.

    Args:
        features: fitted on these images or others like them.
        pixels: uint8 (n, side, side, c).
        labels: int64 (n,), 0 .. classes - 1, each class at least once.
        classes: how many there are.

    >>> images = np.zeros((8, 8, 8, 1), np.uint8)
    >>> images[4:] = 200
    >>> labels = np.repeat([0, 1], 4)
    >>> model = fit(fit_features(images, seed=0), images, labels, classes=2)
    >>> model.predict(images).tolist()
    [0, 0, 0, 0, 1, 1, 1, 1]
    """
    found = features(pixels)
    counts = np.bincount(labels, minlength=classes)
    weight = len(labels) / (classes * counts[labels])
    mean = (found * weight[:, None]).sum(axis=0) / weight.sum()
    found -= mean
    scale = np.sqrt((found**2 * weight[:, None]).sum(axis=0) / weight.sum())
    shades = CELLS * CELLS * features.channels
    for block in (slice(None, -shades), slice(-shades, None)):  # their units differ
        scale[block] += 0.05 * scale[block].mean() + 1e-9
    scale[-shades:] /= _CELL_WEIGHT
    found /= scale
    targets = np.eye(classes)[labels] - 1 / classes
    root = np.sqrt(weight)[:, None]
    return Model(features, mean, scale, _ridge(found * root, targets * root))


def _ridge(rows: F64, targets: F64) -> F64:
    n, width = rows.shape
    ridge = _RIDGE * max(float((rows**2).sum()), 1e-9) / n
    if n <= width:
        gram = rows @ rows.T
        gram[np.diag_indices(n)] += ridge
        return np.asarray(rows.T @ np.linalg.solve(gram, targets))
    gram = rows.T @ rows
    gram[np.diag_indices(width)] += ridge
    return np.asarray(np.linalg.solve(gram, rows.T @ targets))
