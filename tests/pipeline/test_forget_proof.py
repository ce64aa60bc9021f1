"""The proof of a purge finds each id that stands anywhere in a file of the lake."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.lake import Lake
from pipeline.forget import proof
from pipeline.forget.digits import every_window, likely_windows, runs_in
from pipeline.forget.known import Known, digest
from pipeline.forget.proof import Search, prove

KNOWN, OTHER = "0123456789abcdef" * 2, "ca5e" * 8
PIECES = st.sampled_from(
    [
        KNOWN.encode(),
        OTHER.encode(),
        KNOWN[1:].encode(),
        b"a",
        b"0f",
        b"0f" * 20,
        b" ",
        b"G",
        b"\xff",
        b"\n\x00",
    ]
)
BYTES = st.lists(PIECES, max_size=12).map(b"".join)


def search(lake: Lake, ids: set[str], others: set[str]) -> Search:
    return Search(lake, frozenset(ids), Known({digest(each): (datetime.now(UTC), None) for each in others}))


def likely(data: bytes) -> Iterator[bytes]:
    """What may be an id, as a regular expression finds it: in a long run those that end or begin with it."""
    for run in re.findall(rb"[0-9a-f]{32,}", data):
        if len(run) <= 64:
            yield from (run[at : at + 32] for at in range(len(run) - 31))
        else:
            for first in (0, len(run) % 32):
                yield from (run[at : at + 32] for at in range(first, len(run) - 31, 32))


@given(BYTES)
def test_runs_and_windows_are_those_of_a_regular_expression(data: bytes) -> None:
    runs = runs_in(data)
    spans = [each.span() for each in re.finditer(rb"[0-9a-f]{32,}", data)]
    assert list(zip(runs.starts.tolist(), runs.ends.tolist(), strict=True)) == spans
    assert every_window(runs).tolist() == [at for start, end in spans for at in range(start, end - 31)]
    assert {data[at : at + 32] for at in likely_windows(runs).tolist()} == set(likely(data))


@given(BYTES)
def test_an_id_is_found_at_any_place_and_a_digest_at_a_likely_one(data: bytes) -> None:
    lake = Lake("nowhere")
    assert search(lake, {KNOWN}, set())._named(data) == (KNOWN.encode() in data)
    assert search(lake, set(), {OTHER})._named(data) == (OTHER.encode() in set(likely(data)))


@pytest.mark.parametrize("ids", [{KNOWN}, set()], ids=["id", "digest"])
def test_ids_side_by_side_are_found_wherever_the_file_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: set[str]
) -> None:
    """As an Arrow file has them: a run of digits that is longer than what is read at once."""
    lake = Lake(tmp_path / "lake")
    lake.ensure()
    monkeypatch.setattr(proof, "_BLOCK", 100)
    looked = search(lake, ids, {KNOWN})
    for place in range(12):
        for before in range(0, 32, 5):
            side = [OTHER] * place + [KNOWN] + [OTHER] * (12 - place)
            (tmp_path / "lake" / "packed.arrow").write_bytes(b"\x01" * before + "".join(side).encode())
            assert prove(looked).found == ("packed.arrow",)


WORDS = st.sampled_from(["", "word", KNOWN, f"x{KNOWN}", OTHER, f"[{KNOWN[:-1]}", "0f" * 30]) | st.none()
COLUMNS: list[tuple[pa.DataType, st.SearchStrategy]] = [
    (pa.string(), WORDS),
    (pa.binary(), WORDS.map(lambda each: each if each is None else each.encode())),
    (pa.list_(pa.string()), st.lists(WORDS, max_size=3) | st.none()),
    (
        pa.struct([("n", pa.int64()), ("w", pa.string())]),
        st.fixed_dictionaries({"n": st.just(1), "w": WORDS}),
    ),
    (pa.map_(pa.string(), pa.string()), st.lists(st.tuples(WORDS.map(str), WORDS), max_size=2)),
    (pa.list_(pa.struct([("w", pa.string())])), st.lists(st.fixed_dictionaries({"w": WORDS}), max_size=2)),
    (pa.dictionary(pa.int32(), pa.string()), WORDS),
    (pa.large_string(), WORDS),
]


@settings(max_examples=60)
@given(st.data(), st.integers(0, len(COLUMNS) - 1), st.integers(0, 3))
def test_columns_are_searched_however_they_nest(data: st.DataObject, which: int, offset: int) -> None:
    kind, values = COLUMNS[which]
    rows = data.draw(st.lists(values, min_size=offset, max_size=6))
    # The keys of a map are those of the whole array; a file's columns are never slices.
    table = pa.table({"said": pa.array(rows, kind)}).slice(0 if pa.types.is_map(kind) else offset)
    text = repr(table.column("said").to_pylist())
    for ids, there in (({KNOWN}, KNOWN in text), (set(), KNOWN.encode() in set(likely(text.encode())))):
        looked = search(Lake("nowhere"), ids, {KNOWN})
        found = any(looked._named(each) for each in proof._texts(table.column("said")))
        assert found == there


@pytest.mark.parametrize("ids", [{KNOWN}, set()], ids=["id", "digest"])
@pytest.mark.parametrize("column", ["_id", "twin", "reason", "evidence"])
def test_a_compressed_file_is_decoded(tmp_path: Path, ids: set[str], column: str) -> None:
    lake = Lake(tmp_path / "lake")
    lake.ensure()
    (tmp_path / "lake" / "_own").mkdir()
    values = [OTHER, KNOWN if column in {"_id", "twin"} else f"because of {KNOWN}", None]
    table = pa.table({column: values, "number": [1, 2, 3]})
    pq.write_table(table, tmp_path / "lake" / "_own" / "x.parquet", compression="zstd")
    assert prove(search(lake, ids, {KNOWN})).found == ("_own/x.parquet",)
    assert prove(search(lake, {"f" * 32}, {"e" * 32})).found == ()
