"""`dedup.reselect`: from stored pairs the same rows go as if everything had been compared anew."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from dedup import MinHash, deduplicate
from dedup.match import EDGES, STATE, Match, name_edges
from dedup.reselect import reselect
from dedup.result import with_ids
from dedup.text.jaccard import Jaccard

ALL = MinHash(threshold=0.5, bands=(128, 1), ngram=1)
"""Finds every pair that matters here."""


def families(seed: int) -> pa.Table:
    """Families of texts that lost and gained words here and there: chains of every similarity, and copies."""
    draw = np.random.default_rng(seed)
    made = []
    for family in range(12):
        words = [f"f{family}w{k}" for k in range(40)]
        for version in range(6):
            for place in draw.integers(0, 40, int(draw.integers(1, 5))).tolist():
                words[place] = f"f{family}v{version}p{place}"
            made.append(" ".join(words))
            if draw.random() < 0.3:
                made.append(" ".join(words).upper())  # the same shingles, another content
    table = with_ids(pa.table({"text": made}))
    assert len(set(table.column("_id").to_pylist())) == table.num_rows
    return table


def stored(table: pa.Table, match: Match) -> tuple[pa.Table, pa.Table]:
    """What an index holds of a table, with ids."""
    piece = match.piece(table)
    corpus = match.corpus([piece])
    narrow = [name for name in piece.head.schema.names if name == "_id" or name.startswith("keep_")]
    return name_edges(corpus, match.edges(corpus)), piece.head.select(narrow)


def gone(state: pa.Table) -> list[tuple[str, str]]:
    return list(zip(state.column("_id").to_pylist(), state.column("twin").to_pylist(), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_as_rethreshold_and_as_deduplicating_anew(seed: int) -> None:
    table = families(seed)
    result = deduplicate(table, ALL)
    edges, nodes = stored(table, ALL)
    numbers = set()
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        state = reselect(edges, nodes, ALL, threshold)
        assert state.schema.equals(STATE)
        again = result.rethreshold(threshold).dropped.sort_by("_id")
        anew = deduplicate(table, ALL.model_copy(update={"threshold": threshold})).dropped.sort_by("_id")
        assert gone(state) == gone(again) == gone(anew)
        assert state.column("exact").to_pylist() == anew.column("exact").to_pylist()
        assert set(state.column("threshold").to_pylist()) <= {threshold}
        numbers.add(state.num_rows)
    assert len(numbers) > 3


@pytest.mark.parametrize("match", [ALL, Jaccard(threshold=0.5, ngram=1)], ids=["MinHash", "Jaccard"])
@pytest.mark.parametrize("seed", range(3))
def test_rows_that_earlier_steps_dropped_take_no_part(seed: int, match: Match) -> None:
    table = families(seed)
    draw = np.random.default_rng(seed)
    away = table.column("_id").filter(pa.array(draw.random(table.num_rows) < 0.3))
    left = table.filter(
        pa.array([each not in set(away.to_pylist()) for each in table.column("_id").to_pylist()])
    )
    edges, nodes = stored(table, match)
    for threshold in (0.5, 0.75):
        state = reselect(edges, nodes, match, threshold, gone=away)
        anew = deduplicate(left, match.model_copy(update={"threshold": threshold})).dropped.sort_by("_id")
        assert gone(state) == gone(anew)


def test_any_order_of_what_is_stored() -> None:
    edges, nodes = stored(families(0), ALL)
    wanted = reselect(edges, nodes, ALL, 0.7)
    assert wanted.num_rows
    draw = np.random.default_rng(1)
    mixed = [each.take(pa.array(draw.permutation(each.num_rows))) for each in (edges, nodes)]
    assert reselect(mixed[0], mixed[1], ALL, 0.7).equals(wanted)


def test_a_lower_threshold_is_refused() -> None:
    nodes = pa.table({"_id": pa.array([], pa.string()), "keep_length": pa.array([], pa.int64())})
    for threshold in (0.49, 1.01):
        with pytest.raises(ValueError, match=r"from 0\.5 on"):
            reselect(EDGES.empty_table(), nodes, ALL, threshold)
    assert reselect(EDGES.empty_table(), nodes, ALL, 0.5).equals(STATE.empty_table())
