"""The affinity screen: which ops destroy the label, and from which magnitude on.

A small model is trained without augmentation on part of the labelled images; each op is applied, level by
level, to the part that it has not seen, with the model frozen. What the accuracy loses is how far the op
moves the images out of their classes, as that model sees them: the *affinity* of Gontijo-Lopes et al.
("Tradeoffs in data augmentation", ICLR 2021), and the density matching of Fast AutoAugment (Lim et al., NeurIPS
2019) for one op at a time. It sees harm clearly and benefit hardly: it prunes, it does not rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from augment import rng
from augment.ops import Space, find
from augment.search import model
from augment.search.evidence import OpEvidence

__all__ = ["Sample", "Scores", "affinity", "folds_of", "judge", "levels_of", "measure", "perturb"]

Pixels = npt.NDArray[Any]
Resampling = Literal["nearest", "bilinear"]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Perturb = Callable[["Sample", str, float], Sequence[Pixels]]

Z = 1.645  # one-sided 95 %: a level is called harmful only where chance hardly explains the loss
_SMALLEST = 8  # the model's patches need that many pixels
_WIDEST = 256
_FOLD_DRAW, _SIGN_DRAW, _X_DRAW, _Y_DRAW = 0, 1, 2, 3  # indices into an id's random numbers
_FAIR = 0.5


@dataclass(frozen=True)
class Sample:
    """Labelled images in the order of their ids.

    Attributes:
        ids: n distinct ids, ascending.
        labels: int64 (n,), indices into ``classes``.
        classes: their names.
        images: n arrays (h, w, c), uint8 or uint16.
        sizes: (height, width) of the originals, of which the images may be reductions.
    """

    ids: tuple[str, ...]
    labels: I64
    classes: tuple[str, ...]
    images: tuple[Pixels, ...]
    sizes: tuple[tuple[int, int], ...]

    def take(self, rows: I64) -> Sample:
        """These rows, in this order."""
        return Sample(
            tuple(self.ids[i] for i in rows),
            self.labels[rows],
            self.classes,
            tuple(self.images[i] for i in rows),
            tuple(self.sizes[i] for i in rows),
        )


@dataclass(frozen=True)
class Scores:
    """What the frozen models got right.

    Attributes:
        weight: float64 (n,), mean 1: every class weighs the same.
        clean: bool (n,), on the images as they are.
        ops: per op, bool (levels, n).
    """

    weight: F64
    clean: npt.NDArray[np.bool_]
    ops: dict[str, npt.NDArray[np.bool_]]

    @property
    def clean_accuracy(self) -> float:
        """Mean recall of the classes."""
        return float((self.weight * self.clean).mean())

    @property
    def clean_stderr(self) -> float:
        """Its standard error; one more error is assumed than was seen."""
        spread = (self.weight**2 * (self.clean - self.clean_accuracy) ** 2).sum()
        return float(np.sqrt(spread + 1.0)) / len(self.weight)


def levels_of(count: int) -> tuple[float, ...]:
    """``count`` levels up to 1, denser below: wide ranges do most of their harm early.

    >>> levels_of(5)
    (0.04, 0.16, 0.36, 0.64, 1.0)
    """
    return tuple(round((i / count) ** 2, 6) for i in range(1, count + 1))


def folds_of(sample: Sample, folds: int, seed: int) -> I64:
    """The fold of each row: within a class, rows are dealt out in the order of a hash of their ids."""
    draw = rng.uniform(sample.ids, seed, 0, _FOLD_DRAW)
    found = np.empty(len(sample.ids), np.int64)
    for label in range(len(sample.classes)):
        rows = np.flatnonzero(sample.labels == label)
        order = rows[np.lexsort((rows, draw[rows]))]
        # Start elsewhere for each class, or fold 0 would get every odd one out.
        found[order] = (np.arange(len(order)) + label) % folds
    return found


def perturb(
    sample: Sample, op: str, level: float, *, space: Space, resampling: Resampling = "nearest", seed: int = 0
) -> Sequence[Pixels]:
    """One op at one level on each image; signs and places are drawn from the ids.

    A translation in pixels (the wide space) is reduced as its image was.

    >>> one = Sample(("0" * 32,), np.zeros(1, np.int64), ("a",), (np.zeros((2, 2, 1), np.uint8),), ((2, 2),))
    >>> int(perturb(one, "Invert", 1.0, space="wide")[0].min())
    255
    """
    from augment.engine import cpu
    from augment.engine.programs import Programs

    row = find(op)
    stream = rng.Stream(sample.ids, seed, 0)
    draws = stream.uniforms([_SIGN_DRAW, _X_DRAW, _Y_DRAW])
    sign = np.where(draws[:, 0] < _FAIR, 1.0, -1.0)
    parameters = np.broadcast_to(row.range(space).parameter(level, sign), sign.shape).copy()
    if space == "wide" and op in {"TranslateX", "TranslateY"}:
        axis = 1 if op == "TranslateX" else 0
        now = np.array([image.shape[axis] for image in sample.images])
        parameters *= now / np.array([size[axis] for size in sample.sizes])
    programs = Programs(
        codes=np.full((len(sign), 1), row.code, np.int64),
        parameters=parameters[:, None],
        x=draws[:, 1:2],
        y=draws[:, 2:3],
        keys=stream.keys([0]),
    )
    images: Sequence[Pixels] = cpu.execute(list(sample.images), programs, space=space, resampling=resampling)
    return images


class _Eye:
    """How images become the model's input: one size, one number of channels, 8 bits."""

    def __init__(self, sample: Sample, resolution: int) -> None:
        longest = max(max(image.shape[:2]) for image in sample.images)
        self.side = min(max(longest, _SMALLEST), max(resolution, _SMALLEST), _WIDEST)
        self.channels = max(image.shape[2] for image in sample.images)
        deep = [image for image in sample.images if image.dtype == np.uint16]
        # The range that is used, but for one image in a hundred: 12-bit CT fills a sixteenth of 16 bits.
        spare = len(deep) // 100
        self.low = sorted(int(image.min()) for image in deep)[spare] if deep else 0
        self.top = sorted(int(image.max()) for image in deep)[-1 - spare] if deep else 0

    def __call__(self, images: Sequence[Pixels]) -> npt.NDArray[np.uint8]:
        out = np.empty((len(images), self.side, self.side, self.channels), np.uint8)
        for row, image in enumerate(images):
            out[row] = model.to_bytes(
                model.square(image, self.side), self.low, self.top
            )  # one channel fills three
        return out


def measure(
    sample: Sample,
    ops: Sequence[str],
    levels: Sequence[float],
    apply: Perturb,
    *,
    folds: int = 4,
    seed: int = 0,
    resolution: int = 32,
) -> Scores:
    """Train one model per fold and try every op at every level on the rows that it has not seen.

    Every row is held out once. Ops without magnitude are tried once, and repeated over the levels.

    Args:
        sample: each class at least twice.
        ops: names.
        levels: 0 .. 1, ascending.
        apply: what carries an op out, as :func:`perturb` does.
        folds: how many models.
        seed: of the folds and the patches.
        resolution: the longest side that the model sees.
    """
    eye = _Eye(sample, resolution)
    pixels = eye(sample.images)
    fold = folds_of(sample, folds, seed)
    n, classes = len(fold), len(sample.classes)
    clean = np.zeros(n, np.bool_)
    right = {op: np.zeros((len(levels), n), np.bool_) for op in ops}
    # The filters use no labels: one bank for all folds.
    bank = model.fit_features(pixels, seed)
    for k in range(folds):
        train, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        fitted = model.fit(bank, pixels[train], sample.labels[train], classes)
        truth = sample.labels[held]
        clean[held] = fitted.predict(pixels[held]) == truth
        rest = sample.take(held)
        for op in ops:
            tried = levels if find(op).has_magnitude else levels[:1]
            for i, level in enumerate(tried):
                hit = fitted.predict(eye(apply(rest, op, level))) == truth
                right[op][i if len(tried) > 1 else slice(None), held] = hit
    counts = np.bincount(sample.labels, minlength=classes)
    return Scores(n / (classes * counts[sample.labels]), clean, right)


def affinity(scores: Scores, op: str) -> tuple[F64, F64, F64]:
    """Accuracy, loss against the clean images, and standard error of the loss, per level.

    The comparison is paired, as in McNemar's test: only images judged differently count towards the
    error. One more such image is assumed than was seen, so that a small sample is never certain.
    """
    weight, right = scores.weight, scores.ops[op]
    n = len(weight)
    change = scores.clean.astype(np.float64) - right
    loss = (weight * change).mean(axis=1)
    spread = (weight**2 * (change - loss[:, None]) ** 2).sum(axis=1)
    return (weight * right).mean(axis=1), loss, np.sqrt(spread + 1.0) / n


def judge(scores: Scores, op: str, levels: Sequence[float], tolerance: float) -> OpEvidence:
    """Keep an op up to the last level before one whose loss is beyond the tolerance, chance allowed for.

    A level is harmful where ``loss - 1.645 standard errors > tolerance`` (a share of all images).
    """
    accuracy, loss, stderr = (np.round(part, 6) for part in affinity(scores, op))
    harmful = loss - Z * stderr > tolerance
    first = int(np.argmax(harmful)) if harmful.any() else len(levels)
    magnitude = find(op).has_magnitude
    kept = first > 0
    ceiling = float(levels[first - 1]) if kept else 0.0
    if first == len(levels):
        why = f"costs at most {max(float(loss.max()), 0.0):.3f} of the accuracy at any level"
    else:
        at = f"at level {levels[first]:g}" if magnitude else "where applied"
        why = f"costs {loss[first]:.3f} ± {stderr[first]:.3f} of the accuracy {at}, more than {tolerance:.3f}"
    return OpEvidence(
        op=op,
        accuracy=tuple(accuracy.tolist()),
        loss=tuple(loss.tolist()),
        stderr=tuple(stderr.tolist()),
        magnitude=magnitude,
        ceiling=ceiling,
        kept=kept,
        why=why,
    )
