"""How good a match is on one's own data: measured on a sample, against brute force.

Half of the sample is uniform, half comes from groups of rows that are likely to be similar (``sampling.py``).
In it every pair is compared, by the exact comparison of the match and down to half its threshold. To that truth
are held the candidates, the drops, and the theory of the bands (``truth.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup import select
from dedup.audit.report import Audit, Bin, Level
from dedup.audit.sampling import Sampler
from dedup.audit.share import Share, share_of
from dedup.audit.truth import brute, chances, similarities
from dedup.cluster import components
from dedup.match import Match
from dedup.result import with_ids
from dedup.select import Edges
from dedup.sketch import Corpus, piece
from lake.ids import IdSet
from lake.machine import cores

__all__ = ["audit", "measure"]

_SWEEP = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
_HIGH = (0.97, 0.98, 0.99, 0.995)  # where the threshold itself is that high
_POINTS = 101  # of the theory's curve
_WIDTH = 0.02  # of a bar of the histogram, at most
_ROUNDING = 1e-9  # by which NumPy may differ from the integers of a kernel


def audit(table: pa.Table, match: Match, *, rows: int = 2000, seed: int = 0) -> Audit:
    """Measure a match on a sample of a table, against brute force.

    >>> from dedup import MinHash
    >>> words = [str(number) for number in range(60)]
    >>> table = pa.table({"text": [" ".join(words[:60 - cut]) for cut in range(8)] + ["else"]})
    >>> found = audit(table, MinHash(threshold=0.9))
    >>> found.compared_pairs, found.recall.hits, found.recall.of
    (36, 25, 25)

    Args:
        table: rows as the match would get them; ``_id`` is computed where it is missing, and each counts once.
        match: the step.
        rows: of the sample, at most. Time grows with the square.
        seed: of the sample, below 2**64. The sample depends on it, on the match and on the set of rows alone.

    Raises:
        ConfigError, SchemaError: the table is not one that the match takes.
        ValueError: an ``_id`` that was given is not 32 lower-case hex digits, or ``rows`` is below 2.
    """
    table = with_ids(table)
    first = IdSet(table.num_rows).add(table.column("_id").combine_chunks())
    table = table.filter(pa.array(first))
    sampler = Sampler(match, rows, seed)
    sampler.add(table)
    return measure(table.filter(pc.is_in(table.column("_id"), value_set=sampler.draw())), match, sampler)


def measure(sample: pa.Table, match: Match, sampler: Sampler) -> Audit:
    """Measure a match on the rows that a sampler drew.

    Args:
        sample: those rows.
        match: the step.
        sampler: that drew them.
    """
    corpus = match.corpus([piece(match.sketch(sample))])
    count = len(corpus)
    floor = match.threshold / 2
    truth = brute(match, corpus, floor)
    true = truth.take(truth.exact >= match.threshold)
    edges = match.edges(corpus, threads=cores())
    state = match.decide(corpus, edges)
    chosen = _walk(match, edges, count)
    return Audit(
        step=f"dedup.{type(match).__name__}",
        explained=str(match.explain()) if hasattr(match, "explain") else "",
        threshold=float(match.threshold),
        floor=floor,
        rows=sampler.count,
        sampled=sample.num_rows,
        uniform=sampler.uniform,
        compared=count,
        compared_pairs=count * (count - 1) // 2,
        recall=share_of(_met(match, true, edges, count), true),
        expected=_mean(chances(match, true.exact)),
        complete=_complete(true, chosen, count),
        precision=_precision(match, sample, state),
        curve=_curve(match, corpus, truth, edges),
        theory=_theory(match, floor),
        histogram=_histogram(truth.exact, floor, match.threshold),
        sweep=tuple(_levels(match, truth, edges, count)),
        drawn=sampler.words(),
        limits=sampler.limits(),
    )


def _walk(match: Match, edges: Edges, count: int) -> select.Selection:
    return select.first(edges, count, edges.exact == 1.0 if match.copies else None)


def _met(match: Match, pairs: Edges, edges: Edges, count: int) -> npt.NDArray[np.bool_]:
    """Tell which pairs are edges, themselves or as copies of rows that are."""
    lead = np.arange(count)
    if match.copies:
        same = edges.exact == 1.0
        lead = components(edges.left[same], edges.right[same], count)
    x, y = lead[pairs.left], lead[pairs.right]
    first, second = lead[edges.left], lead[edges.right]
    codes = np.minimum(first, second) * count + np.maximum(first, second)
    return np.isin(np.minimum(x, y) * count + np.maximum(x, y), codes)


def _complete(true: Edges, chosen: select.Selection, count: int) -> Share:
    """Of the rows that should have gone, given who was kept, those that went."""
    kept = np.ones(count, np.bool_)
    kept[chosen.dropped] = False
    missed, at = np.unique(true.right[kept[true.left] & kept[true.right]], return_index=True)
    earlier = true.left[kept[true.left] & kept[true.right]][at]
    rows, twins = np.concatenate([chosen.dropped, missed]), np.concatenate([chosen.twin, earlier])
    went = np.arange(len(rows)) < len(chosen.dropped)
    return share_of(went, Edges(twins, rows, np.ones(len(rows)), np.ones(len(rows))))


def _precision(match: Match, sample: pa.Table, state: pa.Table) -> Share:
    """Of the drops, those whose twin stays and is similar, computed without the match's kernels."""
    ids, twins = state.column("_id"), state.column("twin")
    similar = similarities(match, sample, ids.to_pylist(), twins.to_pylist())
    if similar is None:
        similar = state.column("exact").to_numpy()
    stays = pc.invert(pc.is_in(twins, value_set=ids)).to_numpy()
    return Share(int((stays & (similar >= match.threshold - _ROUNDING)).sum()), state.num_rows)


def _sharing(match: Match, corpus: Corpus, pairs: Edges) -> npt.NDArray[np.bool_]:
    """Tell which pairs share a key."""
    shared = np.zeros(len(pairs), np.bool_)
    for band in range(match.key_count):
        values, rows = corpus.keys(band)
        key, there = np.zeros(len(corpus), np.uint64), np.zeros(len(corpus), np.bool_)
        key[rows], there[rows] = values, True
        x, y = pairs.left, pairs.right
        shared |= there[x] & there[y] & (key[x] == key[y])
    return shared


def _curve(match: Match, corpus: Corpus, truth: Edges, edges: Edges) -> tuple[Bin, ...]:
    """The share of pairs that share a key, by similarity."""
    if match.key_count:
        shared = _sharing(match, corpus, truth)
    else:  # nothing is known of pairs that are not edges
        truth = truth.take(truth.exact >= match.threshold)
        shared = _met(match, truth, edges, len(corpus))
    theory = chances(match, truth.exact)
    lowest = match.threshold / 2 if match.key_count else match.threshold
    steps = {*(round(0.05 * k, 2) for k in range(20)), match.threshold}
    ends = [*sorted(each for each in steps if lowest <= each < 1.0), 1.0] if lowest < 1.0 else [1.0, 1.0]
    place = np.searchsorted(ends, truth.exact, side="right") - 1
    place = np.minimum(place, len(ends) - 2)
    return tuple(
        Bin(
            low,
            high,
            _mean(truth.exact[place == at]),
            share_of(shared[place == at], truth.take(place == at)),
            _mean(theory[place == at]),
        )
        for at, (low, high) in enumerate(pairwise(ends))
    )


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) and not np.isnan(values).any() else None


def _theory(match: Match, floor: float) -> tuple[tuple[float, float], ...]:
    """The S-curve as it should be."""
    x = np.linspace(floor, 1.0, _POINTS)
    y = chances(match, x)
    return tuple(zip(x[~np.isnan(y)].tolist(), y[~np.isnan(y)].tolist(), strict=True))


def _histogram(exact: npt.NDArray[np.float64], floor: float, threshold: float) -> tuple[tuple[float, int], ...]:
    """Bars of one width, with an edge at the threshold and one at 1."""
    above = math.ceil((1.0 - threshold) / _WIDTH - _ROUNDING)
    width = (1.0 - threshold) / above if above else _WIDTH
    below = int((threshold - floor) / width + _ROUNDING)
    lows = threshold + width * np.arange(-below, above)
    place = np.floor((exact - threshold) / width + _ROUNDING).astype(np.int64) + below
    counts = np.bincount(np.clip(place, -1, len(lows) - 1) + 1, minlength=len(lows) + 1)[1:]
    return tuple(zip(np.round(lows, 9).tolist(), counts.tolist(), strict=True))


def _levels(match: Match, truth: Edges, edges: Edges, count: int) -> Iterator[Level]:
    threshold = match.threshold
    shown = {*_SWEEP, threshold} | ({*_HIGH} if threshold > _SWEEP[-1] else set())
    for level in sorted(each for each in shown if each >= threshold / 2):
        pairs = truth.take(truth.exact >= level)
        rows = len(select.first(pairs, count).dropped)
        mine = None
        if level >= threshold:
            mine = len(_walk(match, edges.take(edges.exact >= level), count).dropped)
        yield Level(level, len(pairs), rows, mine)
