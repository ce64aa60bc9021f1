"""`dedup.audit`: what it says must be what brute force in plain Python says."""

from __future__ import annotations

import dataclasses
import io
import json
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from dedup import MinHash, PHash
from dedup.audit import Audit, Sampler, Share, audit, sampling
from dedup.match import Match
from dedup.result import with_ids
from dedup.select import Edges
from dedup.sketch import Corpus
from dedup.text.jaccard import Jaccard
from dedup.text.signatures import signatures
from dedup.vector.cosine import Cosine
from lake.errors import SchemaError
from lake.images import encode

WEAK = MinHash(threshold=0.7, bands=(3, 20))
"""Bands that miss a good part."""


def texts(count: int, seed: int = 0, *, words: int = 60, most: int = 24) -> pa.Table:
    """Pairs of texts, each with a tail of up to ``most`` words of its own; no two pairs share a word."""
    draw = np.random.default_rng(seed)
    made = []
    for number in range(count // 2):
        whole = [f"w{number}x{k}" for k in range(words)]
        cut = int(draw.integers(1, most))
        made += [" ".join(whole), " ".join([*whole[: words - cut], *(f"t{number}x{k}" for k in range(cut))])]
    return with_ids(pa.table({"text": made}))


def sets(table: pa.Table) -> list[set[tuple[str, ...]]]:
    """Word 5-grams, by Python alone."""
    split = [text.split() for text in table.column("text").to_pylist()]
    return [{tuple(each[k : k + 5]) for k in range(len(each) - 4)} for each in split]


def truth(table: pa.Table, least: float) -> dict[tuple[int, int], float]:
    of = sets(table)
    near = {}
    for i, j in combinations(range(len(of)), 2):
        common = len(of[i] & of[j])
        if common and common / len(of[i] | of[j]) >= least:
            near[i, j] = common / len(of[i] | of[j])
    return near


def sharing(table: pa.Table, match: MinHash) -> npt.NDArray[np.bool_]:
    """Of each pair of rows whether a band of their signatures is equal."""
    count, rows = match.shape
    signed = signatures(table.column("text"), match.num_perm, match.seed)
    bands = signed[:, : count * rows].reshape(len(signed), count, rows)
    return (bands[:, None] == bands[None]).all(axis=-1).any(axis=-1)


# ---------------------------------------------------------------- the numbers


def test_every_number_is_that_of_brute_force() -> None:
    table = texts(120)
    found = audit(table, WEAK)
    near, shared = truth(table, 0.35), sharing(table, WEAK)
    similar = {pair: value for pair, value in near.items() if value >= 0.7}
    met = [pair for pair in similar if shared[pair]]
    assert 0 < len(met) < len(similar)
    assert (found.recall.hits, found.recall.of) == (len(met), len(similar))
    # Pairs are families here: a pair that is found drops one row.
    assert (found.complete.hits, found.complete.of) == (len(met), len(similar))
    assert (found.precision.hits, found.precision.of) == (len(met), len(met))
    assert found.recall.independent == pytest.approx(len(similar))
    assert found.compared_pairs == 120 * 119 // 2
    for each in found.curve:
        inside = [
            pair for pair, v in near.items() if each.low <= v < each.high or (v == 1.0 and each.high == 1.0)
        ]
        assert each.share.of == len(inside)
        assert each.share.hits == sum(shared[pair] for pair in inside)
        if inside:
            wanted = np.mean([1 - (1 - near[pair] ** 20) ** 3 for pair in inside])
            assert each.theory == pytest.approx(wanted)
    for level in found.sweep:
        over = [pair for pair, value in near.items() if value >= level.threshold]
        assert level.pairs == level.rows == len(over)
        wanted = sum(shared[pair] for pair in over) if level.threshold >= 0.7 else None
        assert level.found == wanted
    assert sum(pairs for _, pairs in found.histogram) == sum(
        value >= found.histogram[0][0] - 1e-9 for value in near.values()
    )
    assert sum(pairs for low, pairs in found.histogram if low >= 0.7 - 1e-6) == len(similar)


def test_a_row_counts_as_missed_only_if_a_kept_row_is_similar() -> None:
    # A chain a ~ b ~ c of which a and c are not similar: b goes, c stays, and nothing is missed.
    words = [f"w{k}" for k in range(120)]
    chain = pa.table({"text": [" ".join(words[start : start + 100]) for start in (0, 10, 20)]})
    found = audit(chain, MinHash(threshold=0.8, bands=(128, 1), keep=("-length", "_id")))
    assert (found.recall.hits, found.recall.of) == (2, 2)
    assert (found.complete.hits, found.complete.of) in {(1, 1), (2, 2)}


def test_the_curve_is_that_of_theory_in_a_sample_of_more() -> None:
    filled = []
    for seed in range(4):
        found = audit(texts(1200, seed, words=80), WEAK, rows=600, seed=seed)
        assert found.recall.low <= found.expected <= found.recall.high
        filled += [each for each in found.curve if each.share.of >= 10]
    assert len(filled) >= 20
    assert min(each.theory for each in filled) < 0.1
    assert max(each.theory for each in filled) > 0.9
    assert sum(each.agrees for each in filled) >= 0.85 * len(filled)
    # The theory of other bands lies elsewhere.
    others = [dataclasses.replace(each, theory=1 - (1 - each.mean**10) ** 8) for each in filled]
    assert sum(each.agrees for each in others) < 0.7 * len(others)


@pytest.mark.parametrize("threshold", [0.05, 0.33, 0.99, 1.0])
def test_any_threshold(threshold: float) -> None:
    table = texts(40)
    for match in (MinHash(threshold=threshold), Jaccard(threshold=threshold)):
        found = audit(table, match)
        near = truth(table, threshold)
        assert found.recall.of == len(near)
        assert sum(each.share.of for each in found.curve if each.low >= threshold) == len(near)
        assert found.curve[-1].high == 1.0
        lows = [low for low, _ in found.histogram]
        assert np.allclose(np.diff(lows), (1.0 - lows[0]) / len(lows))


class Liar(MinHash):
    """Finds every candidate equal."""

    def verify(
        self, corpus: Corpus, left: npt.NDArray[np.int32], right: npt.NDArray[np.int32], threads: int = 1
    ) -> Edges:
        ones = np.ones(len(left))
        return Edges(left.astype(np.int64), right.astype(np.int64), ones, ones)


class Eraser(MinHash):
    """Drops both rows of each pair."""

    def decide(self, corpus: Corpus, edges: Edges, threshold: float | None = None) -> pa.Table:
        state = super().decide(corpus, edges, threshold)
        other = state.set_column(0, "_id", state.column("twin")).set_column(4, "twin", state.column("_id"))
        return pa.concat_tables([state, other.cast(state.schema)])


def test_drops_that_are_wrong_are_seen() -> None:
    lying = audit(texts(60), Liar(threshold=0.9, bands=(64, 2)))
    assert lying.precision.of > lying.precision.hits
    erasing = audit(texts(60, most=4), Eraser())
    assert erasing.precision.hits == 0 < erasing.precision.of


# ---------------------------------------------------------------- shares


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 60))
def test_wilson_as_scipy_has_it(hits: int, of: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    hits = min(hits, of)
    wanted = stats.binomtest(hits, of).proportion_ci(method="wilson")
    share = Share(hits, of)
    assert (share.low, share.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_pairs_of_one_family_are_not_independent() -> None:
    words = [f"w{k}" for k in range(200)]
    family = [" ".join([*words, f"end{k}"]) for k in range(30)]
    table = pa.table({"text": [*family, *texts(4, most=2).column("text").to_pylist()]})
    found = audit(table, MinHash(threshold=0.8))
    assert found.recall.of >= 435
    assert found.recall.independent < 1.1
    assert found.recall.low < 0.5


def test_shares_in_words() -> None:
    assert str(Share(0, 0)) == "none"
    assert str(Share(9999, 10000)).startswith(">99.9 % (9,999 of 10,000;")
    assert str(Share(1, 10000)).startswith("<0.1 %")
    assert Share(0, 0).value is None


# ---------------------------------------------------------------- the sample


def drawn(match: Match, tables: list[pa.Table], rows: int, seed: int = 0) -> list[str]:
    sampler = Sampler(match, rows, seed)
    for table in tables:
        sampler.add(table)
    ids = sampler.draw().to_pylist()
    assert len(ids) == sampler.drawn == min(rows, sampler.count)
    return sorted(ids)


def test_the_sample_depends_on_the_set_of_rows_alone() -> None:
    table = texts(400)
    wanted = drawn(MinHash(), [table], 100)
    order = np.random.default_rng(1).permutation(400)
    mixed = table.take(pa.array(order))
    assert drawn(MinHash(), [mixed.slice(0, 7), mixed.slice(7, 200), mixed.slice(207)], 100) == wanted
    assert drawn(MinHash(), [table], 100, seed=1) != wanted
    assert drawn(MinHash(), [table], 400) == sorted(table.column("_id").to_pylist())


def test_the_probe_has_another_seed_than_the_step() -> None:
    drawn_by = [sampling._other(7, used) for used in (1, sampling._other(7, 1))]
    assert drawn_by[0] != drawn_by[1]


def test_the_sample_is_rich_in_pairs() -> None:
    lone = [f"lone{i} " * 3 + " ".join(f"l{i}x{k}" for k in range(30)) for i in range(2000)]
    paired = texts(200, most=6)
    table = with_ids(pa.table({"text": [*lone, *paired.column("text").to_pylist()]}))
    ids = drawn(MinHash(), [table], 300)
    near = truth(table.filter(pc.is_in(table.column("_id"), value_set=pa.array(ids))), 0.6)
    assert len(near) >= 40  # a uniform sample of 300 of 2200 rows would hold 2


def test_a_crowd_has_its_share_of_the_sample() -> None:
    boilerplate = " ".join(f"b{k}" for k in range(300))
    crowd = [f"{boilerplate} end{i} of{i}" for i in range(300)]
    table = with_ids(pa.table({"text": [*crowd, *texts(200, most=6).column("text").to_pylist()]}))
    sampler = Sampler(MinHash(), 100)
    sampler.add(table)
    ids = set(sampler.draw().to_pylist())
    crowded = sum(each in ids for each in table.column("_id").to_pylist()[:300])
    assert 45 <= crowded <= 75  # it is 60 % of the rows


def test_rows_that_cannot_be_compared_do_no_harm() -> None:
    table = pa.table({"text": ["a b c d e f", None, "", "?!", "A b, c d e f"]})
    found = audit(table, MinHash())
    assert (found.rows, found.sampled, found.compared) == (5, 5, 4)
    assert (found.recall.hits, found.recall.of) == (1, 1)


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.large_binary())], ids=str
)
def test_bytes_that_are_not_utf8_are_texts_as_well(kind: pa.DataType) -> None:
    plain = pa.array([b"a b c d \xff e f", b"a b c d e f", b"\xff", None], pa.large_binary())
    column = plain.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else plain.cast(kind)
    for match in (MinHash(), Jaccard()):
        found = audit(pa.table({"text": column}), match)
        assert (found.recall.hits, found.recall.of) == (1, 1)
        assert (found.precision.hits, found.precision.of) == (1, 1)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rows(count: int) -> None:
    found = audit(pa.table({"text": pa.array(["a b c"][:count], pa.string())}), MinHash())
    assert (found.recall.of, found.precision.of, found.expected) == (0, 0, None)
    assert "recall of pairs     none" in found.render()
    json.dumps(found.to_dict())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no pair"):
        audit(texts(4), MinHash(), rows=1)
    with pytest.raises(SchemaError, match="needs a column text"):
        audit(pa.table({"image": pa.array([None], pa.binary())}), MinHash())
    with pytest.raises(ValueError, match="32 hex digits"):
        audit(pa.table({"_id": ["1"], "text": ["a"]}), MinHash())


# ---------------------------------------------------------------- other matches


def test_an_exact_join_misses_nothing_though_equal_texts_stand_for_each_other() -> None:
    table = texts(60)
    upper = [text.upper() for text in table.column("text").to_pylist()[:20]]
    table = pa.table({"text": [*table.column("text").to_pylist(), *upper]})
    found = audit(table, Jaccard(threshold=0.7))
    assert found.recall.of > 40
    assert found.recall.hits == found.recall.of
    assert found.complete.hits == found.complete.of
    assert found.precision.hits == found.precision.of > 0
    assert found.expected == 1.0
    assert found.curve[0].low == 0.7
    assert sum(each.share.hits for each in found.curve) == found.recall.of


def test_images() -> None:
    draw = np.random.default_rng(1)
    tiles = draw.integers(0, 256, (40, 6, 6), dtype=np.uint8)
    images = [encode(np.kron(tile, np.ones((size, size), np.uint8))) for tile in tiles for size in (8, 16)]
    found = audit(pa.table({"image": [*images, None, b"not an image"]}), PHash())
    assert found.compared == 80
    assert found.recall.hits == found.recall.of >= 40
    assert found.precision.hits == found.precision.of == found.complete.hits >= 40
    some = audit(pa.table({"image": images}), PHash(), rows=40)
    assert some.sampled == 40
    assert some.recall.hits == some.recall.of > 40 * 20 / 80


@pytest.mark.parametrize("exact", [True, False])
def test_embeddings(exact: bool) -> None:
    draw = np.random.default_rng(2)
    first = draw.normal(size=(60, 32))
    second = first + draw.normal(size=(60, 32)) * draw.uniform(0.05, 0.6, (60, 1))
    both = np.concatenate([first, second])
    table = pa.table({"_id": [f"{i:032x}" for i in range(120)], "embedding": both.tolist()})
    match = Cosine(threshold=0.9, exact=exact) if exact else Cosine(threshold=0.9, bands=(4, 16))
    found = audit(table, match)
    unit = both / np.linalg.norm(both, axis=1, keepdims=True)
    near = np.triu(unit @ unit.T >= 0.9, 1).sum()
    assert found.recall.of == near
    assert found.precision.hits == found.precision.of > 0
    assert (found.recall.hits == near) == exact
    assert 0 < len(drawn(match, [table], 30)) == 30


def test_embeddings_with_the_hyperplanes_that_the_step_chooses() -> None:
    """Those of half the threshold would be others than the sketch has."""
    draw = np.random.default_rng(2)
    first = draw.normal(size=(40, 32))
    both = np.concatenate([first, first + 0.01 * draw.normal(size=(40, 32))])
    table = pa.table({"_id": [f"{i:032x}" for i in range(80)], "embedding": both.tolist()})
    found = audit(table, Cosine())
    assert found.recall.of == found.recall.hits == found.precision.hits == 40


# ---------------------------------------------------------------- how it is told


@pytest.fixture(scope="module")
def told() -> Audit:
    return audit(texts(120), WEAK, rows=80)


def test_json_words_and_html_tell_the_same(told: Audit) -> None:
    value = json.loads(json.dumps(told.to_dict(), allow_nan=False))
    assert value["recall"]["hits"] == told.recall.hits
    assert value["recall"]["low"] == told.recall.low
    assert len(value["curve"]) == len(told.curve)
    assert value["curve"][-1]["share"]["of"] == told.curve[-1].share.of
    assert str(told.recall) in told.render()
    assert "the step's" in told.render()
    assert "Of 120 rows" in told.render()
    assert f"{told.recall.hits:,} of {told.recall.of:,}" in told._repr_html_()
    assert all(len(line) < 300 for line in told.render().splitlines())


def test_no_record_is_shown(told: Audit) -> None:
    for text in (told.render(), told._repr_html_(), repr(told), json.dumps(told.to_dict())):
        assert "w0x1" not in text


def test_what_is_dropped_for_its_colours_is_compared_as_the_match_compares_it() -> None:
    """JPEG moves the colours of small pictures; where the contrast is another, they are brought to one."""
    draw = np.random.default_rng(3)
    images = []
    for _ in range(12):
        small = Image.fromarray(draw.integers(40, 200, (6, 6, 3), dtype=np.uint8))
        picture = small.resize((40, 40), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=60)
        images += [picture, Image.open(file), ImageEnhance.Contrast(picture).enhance(0.7)]
    blobs = [encode(np.asarray(each)) for each in images]
    found = audit(pa.table({"image": blobs}), PHash(crops=False, threshold=0.97))
    assert found.precision.of > 12
    assert found.precision.hits == found.precision.of
