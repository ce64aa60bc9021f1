"""What an audit holds a match to: all pairs, the theory of its keys, and each drop compared once more.

Brute force takes the exact comparison of the match itself. So what was dropped is compared again by plain NumPy
and Python's sets, without the kernels that decided.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.image.hashes import SIDE, describe
from dedup.image.phash import PHash
from dedup.match import Match
from dedup.select import Edges
from dedup.sketch import Corpus
from dedup.text import bands
from dedup.text.match import TextMatch
from dedup.text.minhash import MinHash
from dedup.text.shingle import shingle_sets
from dedup.vector import planes, vectors
from dedup.vector.cosine import Cosine
from lake.images import decode
from lake.machine import cores

__all__ = ["brute", "chances", "similarities"]

_BLOCK = 1 << 20  # pairs that are compared at a time


def brute(match: Match, corpus: Corpus, floor: float) -> Edges:
    """Compare all pairs by the exact comparison of the match, and give those that are similar to ``floor``."""
    # The hyperplanes that a sketch has are those of the threshold that it was made for.
    shape = {"bands": match.shape} if isinstance(match, Cosine) and not match.exact else {}
    match = match.model_copy(update={"threshold": floor, **shape})
    count = len(corpus)
    found = Edges.none()
    step = max(1, _BLOCK // max(1, count))
    for start in range(0, count, step):
        rows = np.arange(start, min(start + step, count), dtype=np.int32)
        after = count - 1 - rows
        left = np.repeat(rows, after)
        right = np.arange(len(left), dtype=np.int32) - np.repeat(np.cumsum(after) - after, after) + left + 1
        found = found.join(match.verify(corpus, left, right.astype(np.int32), cores()))
    return found


def chances(match: Match, similarities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Give the probability of sharing a key, by similarity; NaN where theory has nothing to say."""
    if isinstance(match, MinHash):
        return np.array([bands.probability(each, *match.shape) for each in similarities.tolist()])
    if isinstance(match, Cosine) and not match.exact:
        return np.array([planes.probability(each, *match.shape) for each in similarities.tolist()])
    # These find every pair that they drop for; what they make of others is nobody's concern.
    return np.where(similarities >= match.threshold, 1.0, np.nan)


def similarities(
    match: Match, table: pa.Table, left: Sequence[str], right: Sequence[str]
) -> npt.NDArray[np.float64] | None:
    """Compute the similarity of pairs anew, without a kernel; None for a kind of match that has no such way.

    Args:
        match: the step.
        table: rows with ``_id``.
        left: ids in the table.
        right: the same number of them.
    """
    ids = table.column("_id").cast(pa.string())
    x, y = (pc.index_in(pa.array(side, pa.string()), value_set=ids).to_numpy() for side in (left, right))
    if not len(x):
        return np.empty(0)
    if isinstance(match, TextMatch):
        return _jaccards(match, table, x, y)
    if isinstance(match, PHash):
        plain = match.hash == "phash" and not match.crops and len(match.turns) == 1
        return _likenesses(match, table, x, y) if plain else None  # shifted and turned: its own word has to do
    if isinstance(match, Cosine):
        return _cosines(match, table, x, y)
    return None


def _jaccards(
    match: TextMatch, table: pa.Table, x: npt.NDArray[np.int64], y: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    offsets, hashes = shingle_sets(table.column("text"), match.ngram, match.unit)
    out = []
    for i, j in zip(x.tolist(), y.tolist(), strict=True):
        a, b = (set(hashes[offsets[k] : offsets[k + 1]].tolist()) for k in (i, j))
        out.append(len(a & b) / len(a | b) if a or b else 0.0)
    return np.array(out)


def _likenesses(
    match: PHash, table: pa.Table, x: npt.NDArray[np.int64], y: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    column = table.column("image")
    out = []
    for i, j in zip(x.tolist(), y.tolist(), strict=True):
        described = [describe(decode(column[k].as_py())) for k in (i, j)]
        (code, one), (other_code, other) = (each or (0, np.zeros(SIDE * SIDE, np.uint8)) for each in described)
        if (code ^ other_code).bit_count() > match.radius:
            out.append(0.0)
            continue
        a, b = (
            np.split(one.astype(np.float64), [SIDE * SIDE]),
            np.split(other.astype(np.float64), [SIDE * SIDE]),
        )
        contrast = np.sqrt(b[0].std() / a[0].std())  # each is brought halfway to that of the other
        colour = 1.0 - np.abs((a[1] - 128.0) * contrast - (b[1] - 128.0) / contrast).mean() / 255.0
        out.append(min(float(np.corrcoef(a[0], b[0])[0, 1]), float(colour)))
    return np.array(out)


def _cosines(
    match: Cosine, table: pa.Table, x: npt.NDArray[np.int64], y: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    found = vectors.read(table.column(match.column), table.column("_id").cast(pa.string()), "Cosine")
    place = np.full(table.num_rows, -1, np.int64)
    place[found.rows] = np.arange(len(found.rows))
    values = found.values.astype(np.float64)
    a, b = values[place[x]], values[place[y]]
    return np.asarray((a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1)), np.float64)
