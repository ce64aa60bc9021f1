"""MinHash as a step, against exact Jaccard over all pairs."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dedup import MinHash
from dedup.match import STATE
from dedup.text.shingle import shingle_sets
from lake.errors import SchemaError
from lake.ids import content_ids
from lake.schema import DROPS

ALL_PAIRS: dict[str, Any] = {"bands": (128, 1)}
VOCABULARY = [f"word{i}" for i in range(5000)]


def table_of(texts: list[str | None], **more: object) -> pa.Table:
    column = pa.array(texts, pa.string())
    return pa.table({"_id": content_ids(column, None), "text": column, **more})


def edited(words: list[str], rng: random.Random, edits: int) -> list[str]:
    words = list(words)
    for _ in range(edits):
        at = rng.randrange(len(words))
        kind = rng.random()
        if kind < 0.4:
            words[at] = rng.choice(VOCABULARY)
        elif kind < 0.7:
            words.insert(at, rng.choice(VOCABULARY))
        elif len(words) > 5:
            del words[at]
    return words


def corpus(count: int, seed: int) -> list[str]:
    """Families of edited texts: an edit starts from an original or from an edited one."""
    rng = random.Random(seed)
    found: list[list[str]] = []
    while len(found) < count:
        if found and rng.random() < 0.65:
            found.append(edited(rng.choice(found[-30:]), rng, rng.choice([1, 1, 2, 3, 6])))
        else:
            found.append(rng.choices(VOCABULARY, k=rng.randint(3, 400)))
    return sorted({" ".join(words) for words in found}, key=lambda text: (len(text) * 7919) % 104729)


def shingles_of(texts: list[str], **settings_: Any) -> list[set[int]]:
    offsets, hashes = shingle_sets(pa.array(texts), **settings_)
    return [set(hashes[a:b].tolist()) for a, b in pairwise(offsets)]


def true_jaccard(x: set[int], y: set[int]) -> float:
    return len(x & y) / len(x | y) if x | y else -1.0


def resolve(match: MinHash, table: pa.Table) -> pa.Table:
    return match.resolve([match.sketch(table)])


# ---------------------------------------------------------------- the oracle


@pytest.mark.parametrize(("threshold", "seed"), [(0.8, 1), (0.5, 2), (0.9, 3)])
def test_the_kept_rows_are_the_first_maximal_independent_set(threshold: float, seed: int) -> None:
    texts = corpus(300, seed)
    table = table_of(list(texts))
    ids = table.column("_id").to_pylist()
    sets = shingles_of(texts)
    order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), ids[i]))
    kept: list[int] = []
    wanted: dict[str, tuple[str, float]] = {}
    for row in order:
        similar = [other for other in kept if true_jaccard(sets[row], sets[other]) >= threshold]
        if similar:
            wanted[ids[row]] = ids[similar[0]], true_jaccard(sets[row], sets[similar[0]])
        else:
            kept.append(row)
    # One value per band: a pair at 0.5 shares none of 128 with a probability of 2**-128.
    state = resolve(MinHash(threshold=threshold, **ALL_PAIRS), table)
    found = {row["_id"]: (row["twin"], row["exact"]) for row in state.to_pylist()}
    assert found == wanted
    assert len(wanted) > 60
    assert state.column("_id").to_pylist() == sorted(wanted)


def test_with_ordinary_bands_every_drop_has_a_kept_twin_that_is_that_similar() -> None:
    texts = corpus(300, 4)
    table = table_of(list(texts))
    sets = dict(zip(table.column("_id").to_pylist(), shingles_of(texts), strict=True))
    match = MinHash(threshold=0.8)
    state = resolve(match, table)
    gone = set(state.column("_id").to_pylist())
    assert len(gone) > 40
    for row in state.to_pylist():
        assert row["twin"] not in gone
        assert row["exact"] == row["value"] == true_jaccard(sets[row["_id"]], sets[row["twin"]])
        assert row["exact"] >= row["threshold"] == 0.8
        assert abs(row["estimated"] - row["exact"]) < 0.2
        assert row["rule"] == "near-duplicate"


def test_the_estimate_is_the_share_of_equal_values_across_sketches() -> None:
    words = VOCABULARY[:80]
    tables = [table_of([" ".join(words)]), table_of(["else entirely"]), table_of([" ".join(words[1:])])]
    match = MinHash()
    sketches = [match.sketch(table) for table in tables]
    (row,) = match.resolve(sketches).to_pylist()
    x, y = (np.frombuffer(sketches[i].column("signature")[0].as_py(), np.uint32) for i in (0, 2))
    assert row["estimated"] == (x == y).mean()


# ---------------------------------------------------------------- order and partitions

LAWS = MinHash(threshold=0.6)
LAWS_TABLE = table_of(list(corpus(120, 5)))
LAWS_STATE = resolve(LAWS, LAWS_TABLE)


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 120), max_size=6))
def test_neither_order_nor_partitioning_matters(rng: random.Random, cuts: list[int]) -> None:
    order = list(range(LAWS_TABLE.num_rows))
    rng.shuffle(order)
    shuffled = LAWS_TABLE.take(order)
    edges = [0, *sorted(cuts), shuffled.num_rows]
    parts = [shuffled.slice(low, high - low) for low, high in pairwise(edges)]
    sketches = [LAWS.sketch(part) for part in parts]
    rng.shuffle(sketches)
    assert LAWS.resolve(sketches).equals(LAWS_STATE)
    whole = LAWS.sketch(shuffled)
    assert LAWS.resolve([whole.slice(low, high - low) for low, high in pairwise(edges)]).equals(LAWS_STATE)
    assert LAWS.resolve([whole, whole]).equals(LAWS_STATE)  # a row that comes twice is one row
    assert len(LAWS_STATE) > 20


def test_binding_on_parts_drops_the_same_rows_as_binding_on_the_whole() -> None:
    op = LAWS.bind(LAWS_STATE)
    whole = op.apply(LAWS_TABLE)
    parts = [op.apply(LAWS_TABLE.slice(start, 17)) for start in range(0, LAWS_TABLE.num_rows, 17)]
    assert pa.concat_tables([part.table for part in parts]).equals(whole.table)
    assert pa.concat_tables([part.drops for part in parts]).equals(whole.drops)
    assert whole.table.num_rows + whole.drops.num_rows == LAWS_TABLE.num_rows
    assert whole.drops.schema.equals(DROPS)
    state = {row["_id"]: row for row in LAWS_STATE.to_pylist()}
    for row in whole.drops.to_pylist():
        assert all(row[name] == value for name, value in state[row["_id"]].items())


def test_sketches_in_memory_mapped_files_give_the_same(tmp_path: Path) -> None:
    paths = []
    for start in range(0, LAWS_TABLE.num_rows, 50):
        sketch = LAWS.sketch(LAWS_TABLE.slice(start, 50))
        paths.append(tmp_path / f"{start}.arrow")
        with pa.OSFile(str(paths[-1]), "wb") as sink, pa.ipc.new_file(sink, sketch.schema) as writer:
            writer.write_table(sketch, max_chunksize=7)
    empty = LAWS.sketch(LAWS_TABLE.slice(0, 0))
    paths.append(tmp_path / "empty.arrow")
    with pa.OSFile(str(paths[-1]), "wb") as sink, pa.ipc.new_file(sink, empty.schema):
        pass
    mapped = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in paths]
    assert mapped[-1].column("signature").num_chunks == 0
    assert LAWS.resolve(mapped[::-1]).equals(LAWS_STATE)


def test_partitions_of_other_layouts_go_together() -> None:
    texts = [" ".join(VOCABULARY[:40]), " ".join(VOCABULARY[:39]), "else", None]
    plain = pa.array(texts)
    ids = content_ids(plain, None).to_pylist()
    match = MinHash()
    layouts = [
        pa.table({"_id": ids[:1], "text": plain[:1]}),
        pa.table({"_id": ids[1:2], "text": plain[1:2].dictionary_encode()}),
        pa.table({"_id": pa.array(ids[2:3], pa.large_string()), "text": plain[2:3].cast(pa.large_string())}),
        pa.table({"_id": ids[3:], "text": pa.nulls(1)}),
        pa.table({"_id": ids[1:3], "text": plain[1:3].cast(pa.string_view())}),
    ]
    state = match.resolve([match.sketch(table) for table in layouts])
    assert [(row["_id"], row["twin"]) for row in state.to_pylist()] == [(ids[1], ids[0])]
    large = pa.table({"_id": pa.array(ids, pa.large_string()), "text": plain})
    assert match.bind(state).apply(large).drops.column("_id").to_pylist() == [ids[1]]


# ---------------------------------------------------------------- nothing to do


def test_zero_sketches_and_empty_tables() -> None:
    match = MinHash()
    assert match.resolve([]).equals(STATE.empty_table())
    empty = table_of([])
    assert match.resolve([match.sketch(empty)]).equals(STATE.empty_table())
    no_chunk = pa.table({"_id": pa.chunked_array([], pa.string()), "text": pa.chunked_array([], pa.string())})
    assert match.resolve([match.sketch(no_chunk), match.sketch(empty)]).equals(STATE.empty_table())
    outcome = match.bind(STATE.empty_table()).apply(empty)
    assert (outcome.table.num_rows, outcome.drops.num_rows) == (0, 0)


def test_texts_that_are_all_null_or_without_a_token_are_never_duplicates() -> None:
    for texts in ([None, None, None], ["", " ", "?!", "..."]):
        table = pa.table(
            {"_id": [f"{i:032x}" for i in range(len(texts))], "text": pa.array(texts, pa.string())}
        )
        match = MinHash(threshold=0.01, **ALL_PAIRS)
        state = resolve(match, table)
        assert state.num_rows == 0
        assert match.bind(state).apply(table).table.equals(table)


def test_an_empty_table_among_full_ones() -> None:
    match = MinHash()
    words = VOCABULARY[:30]
    tables = [table_of([]), table_of([" ".join(words)]), table_of([None]), table_of([" ".join(words[:-1])])]
    assert match.resolve([match.sketch(table) for table in tables]).num_rows == 1


# ---------------------------------------------------------------- recall


@pytest.mark.parametrize(
    ("size", "edit", "at"),
    [(size, edit, at) for size in (50, 300, 1000) for edit, at in (("insert", 0), ("insert", size))]
    # Deleted in the very middle of 50 words, one takes 5 of 46 shingles along: that is 0.82.
    + [(50, "delete", 1), (300, "delete", 150), (1000, "delete", 500)],
)
def test_one_word_inserted_or_deleted_is_always_found(size: int, edit: str, at: int) -> None:
    rng = random.Random(size + at)
    match = MinHash(threshold=0.8)
    sketches = []
    for _ in range(40):
        words = rng.choices(VOCABULARY, k=size)
        other = [*words[:at], "novel", *words[at:]] if edit == "insert" else [*words[:at], *words[at + 1 :]]
        x, y = shingles_of([" ".join(words), " ".join(other)])
        assert true_jaccard(x, y) >= 0.9
        sketches.append(match.sketch(table_of([" ".join(words), " ".join(other)])))
    assert match.resolve(sketches).num_rows == 40


def test_pairs_at_the_threshold_are_found_as_often_as_is_said() -> None:
    """J from 0.8 to 0.85: the promise is 98.6 % at 0.8."""
    rng = random.Random(11)
    match = MinHash(threshold=0.8)
    tables = []
    while len(tables) < 200:
        words = rng.choices(VOCABULARY, k=100)
        other = list(words)
        for at in rng.sample(range(6, 94), 2):
            other[at] = rng.choice(VOCABULARY)
        x, y = shingles_of([" ".join(words), " ".join(other)])
        if 0.8 <= true_jaccard(x, y) < 0.85:
            tables.append(table_of([" ".join(words), " ".join(other)]))
    assert match.resolve([match.sketch(table) for table in tables]).num_rows >= 190


def test_chinese_documents() -> None:
    rng = random.Random(6)
    letters = [chr(point) for point in range(0x4E00, 0x5600)]
    texts: list[str | None] = []
    for _ in range(20):
        text = "".join(rng.choices(letters, k=400))
        texts += [text, text[:200] + "新" + text[200:]]
    table = table_of(texts)
    pair_of = {id_: row // 2 for row, id_ in enumerate(table.column("_id").to_pylist())}
    state = resolve(MinHash(threshold=0.9), table)
    assert state.num_rows == 20
    assert all(pair_of[row["_id"]] == pair_of[row["twin"]] for row in state.to_pylist())


def test_short_documents_do_not_collapse_into_one() -> None:
    texts: list[str | None] = [
        f"{a} {b}" for a in ("good", "bad", "fine") for b in ("film", "book", "day", "?")
    ]
    table = table_of([*texts, "Good, film!"])
    state = resolve(MinHash(threshold=0.5), table)
    ids = dict(zip(table.column("_id").to_pylist(), [*texts, "Good, film!"], strict=True))
    assert [(ids[row["_id"]], ids[row["twin"]]) for row in state.to_pylist()] == [("good film", "Good, film!")]


def test_a_chain_keeps_its_dissimilar_ends() -> None:
    words = VOCABULARY[:200]
    a, b, c = (" ".join(words[start : start + 100]) for start in (0, 12, 24))
    x, y, z = shingles_of([a, b, c])
    assert true_jaccard(x, y) >= 0.7 <= true_jaccard(y, z)
    assert true_jaccard(x, z) < 0.7
    table = table_of([a, b, c], rank=pa.array([0, 1, 2]))
    match = MinHash(threshold=0.7, keep=("rank",), **ALL_PAIRS)
    outcome = match.bind(resolve(match, table)).apply(table)
    assert outcome.table.column("text").to_pylist() == [a, c]
    middle_first = MinHash(threshold=0.7, keep=("-middle",), **ALL_PAIRS)
    table = table.append_column("middle", pa.array([False, True, False]))
    assert middle_first.bind(resolve(middle_first, table)).apply(table).table.column("text").to_pylist() == [b]


# ---------------------------------------------------------------- size


def test_a_bucket_of_20_000_nearly_identical_texts() -> None:
    words = " ".join(VOCABULARY[:60])
    texts: list[str | None] = [f"{words} {number}" for number in range(20_000)]
    state = resolve(MinHash(threshold=0.9), table_of(texts))
    assert state.num_rows == 19_999
    assert len(set(state.column("twin").to_pylist())) == 1


def test_one_document_of_20_megabytes() -> None:
    rng = np.random.default_rng(8)
    words = np.array(VOCABULARY)[rng.integers(0, 5000, 2_200_000)].tolist()
    text = " ".join(words)
    assert len(text) > 19_000_000
    state = resolve(MinHash(), table_of([text, f"first {text}", "a small one"]))
    assert state.num_rows == 1
    assert state.column("exact")[0].as_py() > 0.999999


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "other",
    [MinHash(seed=2), MinHash(ngram=4), MinHash(unit="char"), MinHash(num_perm=64)],
    ids=["seed", "ngram", "unit", "num_perm"],
)
def test_sketches_of_other_settings_are_refused(other: MinHash) -> None:
    table = table_of(["a b c"])
    with pytest.raises(SchemaError, match="other settings or by another version"):
        MinHash().resolve([MinHash().sketch(table), other.sketch(table)])


def test_a_sketch_of_another_version_or_without_a_label_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sketch = MinHash().sketch(table_of(["a b c"]))
    with pytest.raises(SchemaError, match="it says no label"):
        MinHash().resolve([sketch.replace_schema_metadata(None)])
    monkeypatch.setattr("dedup.text.minhash.SPEC", 99)
    with pytest.raises(SchemaError, match=r'"spec": 2.*"spec": 99'):
        MinHash().resolve([sketch])


def test_the_threshold_may_change_after_sketching_and_the_bands_may_not() -> None:
    table = table_of([" ".join(VOCABULARY[:40]), " ".join(VOCABULARY[:36])])
    sketch = MinHash(threshold=0.99, bands=(18, 7)).sketch(table)
    assert MinHash(threshold=0.99, bands=(18, 7)).resolve([sketch]).num_rows == 0
    assert MinHash(threshold=0.8).resolve([sketch]).num_rows == 1
    with pytest.raises(SchemaError, match="other settings"):
        MinHash(threshold=0.8, bands=(128, 1)).resolve([sketch])


def test_a_table_without_text_is_refused() -> None:
    with pytest.raises(SchemaError, match="needs a column text"):
        MinHash().sketch(pa.table({"_id": ["a"]}))
    with pytest.raises(SchemaError, match="holds no text"):
        MinHash().sketch(pa.table({"_id": ["a"], "text": [1]}))


@pytest.mark.parametrize(
    "bad",
    [
        {"threshold": 0.0},
        {"threshold": 1.01},
        {"threshold": float("nan")},
        {"num_perm": 0},
        {"ngram": 0},
        {"unit": "line"},
        {"seed": -1},
        {"bands": (20, 7)},
        {"bands": (0, 7)},
        {"keep": ("length", "-length")},
        {"tresh": 0.5},
    ],
    ids=str,
)
def test_bad_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MinHash(**bad)


def test_a_step_is_a_value() -> None:
    match = MinHash(threshold=0.7, bands=(30, 4), keep=("-stars",))
    again = MinHash.model_validate_json(match.model_dump_json())
    assert again == match
    assert MinHash.model_validate({"keep": ["-stars"]}).keep == ("-stars", "_id")
    assert MinHash(threshold=0.7, bands=(30, 4)).odds()[0.7] == pytest.approx(1 - (1 - 0.7**4) ** 30)
