"""The keep order: alone, and through a match."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

from dedup import MinHash
from dedup.keep import Keep, columns, rank
from dedup.text.match import _length
from lake.errors import ConfigError, SchemaError

WORDS = [f"word{i}" for i in range(100)]


def ordered(keep: list[str], **given_columns: object) -> list[str]:
    table = pa.table(given_columns)
    order: tuple[str, ...] = TypeAdapter(Keep).validate_python(keep)
    picked = pa.table({"_id": table.column("_id"), **columns(table, order, {})})
    return picked.column("_id").take(pa.array(rank(picked, order))).to_pylist()  # type: ignore[no-any-return]


NAN = float("nan")


@pytest.mark.parametrize(
    ("keep", "wanted"), [(["stars"], "cafbde"), (["-stars"], "bafcde"), (["stars", "-_id"], "cfabde")]
)
def test_nulls_and_nan_come_last_either_way(keep: list[str], wanted: str) -> None:
    stars = pa.array([2.0, 3.0, 1.0, NAN, None, 2.0])
    assert "".join(ordered(keep, _id=list("abcdef"), stars=stars)) == wanted


def test_ties_are_broken_by_the_next_column_and_at_last_by_the_id() -> None:
    found = ordered(["-stars", "length"], _id=["d", "c", "b", "a"], stars=[5, 5, 5, 1], length=[9, 8, 8, 1])
    assert found == ["b", "c", "d", "a"]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([False, True]),
        pa.array([1, 2], pa.int8()),
        pa.array([1, 2**63], pa.uint64()),
        pa.array(np.array([1.5, 2.5], np.float16)),
        pa.array(["a", "b"]),
        pa.array(["a", "b"], pa.large_string()),
        pa.array(["a", "b"]).cast(pa.string_view()),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array(["b", "a"]).dictionary_encode().take(pa.array([1, 0])),  # the codes are in another order
        pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", "b"]).cast(pa.string_view())),
        pa.array([b"a", b"b"]),
        pa.array([b"a", b"b"]).cast(pa.binary_view()),
        pa.array([1, 2], pa.timestamp("us", "UTC")),
        pa.array([1, 2], pa.date32()),
        pa.array([1, 2], pa.duration("s")),
        pa.array([Decimal("1.10"), Decimal("1.20")]),
        pa.array([Decimal("1.10"), Decimal("1.20")], pa.decimal32(5, 2)),
        pa.array([Decimal("1.10"), Decimal("1.20")], pa.decimal64(5, 2)),
    ],
    ids=lambda values: str(values.type),
)
def test_a_column_of_any_type_that_has_an_order(values: pa.Array) -> None:
    assert ordered(["score"], _id=["x", "a"], score=values) == ["x", "a"]
    assert ordered(["-score"], _id=["x", "a"], score=values) == ["a", "x"]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1], [2]]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.nulls(2),
        pa.nulls(2, pa.month_day_nano_interval()),
        pa.DictionaryArray.from_arrays(pa.array([0, 0]), pa.array([[1]])),
        pa.array([b"a" * 16, b"b" * 16], pa.uuid()),
    ],
    ids=lambda values: str(values.type),
)
def test_a_column_without_an_order_is_refused(values: pa.Array) -> None:
    with pytest.raises(ConfigError, match=r"'score', whose type .* has no order"):
        ordered(["score"], _id=["x", "a"], score=values)


def test_a_missing_column_is_named_and_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"(?s)'stras', which the table does not have.*_id, stars"):
        ordered(["-stras"], _id=["a"], stars=[1])


@pytest.mark.parametrize(
    ("keep", "why"), [(["-stars", "stars"], "stands twice"), ([""], "is empty"), (["-"], "is empty")]
)
def test_a_keep_order_that_makes_no_sense_is_refused(keep: list[str], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        TypeAdapter(Keep).validate_python(keep)


def test_an_order_always_ends_in_the_id() -> None:
    assert TypeAdapter(Keep).validate_python(["-stars"]) == ("-stars", "_id")
    assert TypeAdapter(Keep).validate_python(["-_id"]) == ("-_id",)
    assert TypeAdapter(Keep).validate_python([]) == ("_id",)


def test_each_id_stands_once_in_the_order() -> None:
    assert ordered(["-length"], _id=["b", "a", "b", "a"], length=[1, 2, 3, 2]) == ["b", "a"]


def test_each_id_that_is_a_hash_of_content_stands_once_in_the_order() -> None:
    """Ids of another form are looked at in another way: the order is the same."""
    rng = np.random.default_rng(3)
    numbers, stars = rng.integers(0, 2**64, 300, np.uint64)[rng.integers(0, 300, 900)], rng.integers(0, 5, 900)
    for form in ("{:032x}", "id-{:029x}"):
        chunks = [[form.format(number) for number in part.tolist()] for part in np.array_split(numbers, 7)]
        table = pa.table({"_id": pa.chunked_array(chunks), "keep_stars": stars})
        wanted: dict[str, int] = {}
        rows = sorted(range(900), key=lambda row: (-stars[row], table["_id"][row].as_py(), row))
        for row in rows:
            wanted.setdefault(table["_id"][row].as_py(), row)
        assert rank(table, ["-stars", "_id"]).tolist() == list(wanted.values())


def test_ids_may_be_more_bytes_than_a_column_of_strings_can_address() -> None:
    """As 67 million ids of 32 characters are; here one that is long and stands in many chunks."""
    long = pa.array(["x" * (1 << 26)])
    ids = pa.chunked_array([*[long] * 33, pa.array(["a"])])
    table = pa.table({"_id": ids, "keep_n": list(range(34))})
    assert rank(table, ("-n", "_id")).tolist() == [33, 32]


def test_a_row_without_an_id_is_refused() -> None:
    with pytest.raises(SchemaError, match="has no _id"):
        rank(pa.table({"_id": ["a", None]}), ("_id",))


# ---------------------------------------------------------------- through MinHash


def keep_of(keep: list[str], **more: object) -> str:
    """Which of three near-identical texts stays: a, b or c."""
    texts = [" ".join([*WORDS, extra]) for extra in ("x", "yy", "zzz")]
    names = [f"{digit * 32}" for digit in "abc"]
    table = pa.table({"_id": names, "text": texts, **more})
    match = MinHash(keep=tuple(keep))
    kept = match.bind(match.resolve([match.sketch(table)])).apply(table).table
    return "".join(name[0] for name in kept.column("_id").to_pylist())


def test_the_longest_text_stays_by_default() -> None:
    assert MinHash().keep == ("-length", "_id")
    assert keep_of(["-length", "_id"]) == "c"
    assert keep_of(["length"]) == "a"


def test_any_column_may_decide() -> None:
    assert keep_of(["-stars"], stars=[1.0, 3.0, 2.0]) == "b"
    assert keep_of(["-stars"], stars=[float("nan"), None, -1.0]) == "c"
    assert keep_of(["stars"], stars=[float("nan"), -1.0, None]) == "b"
    assert keep_of(["-stars"], stars=[3, 3, 3]) == "a"
    assert keep_of(["-stars", "-_id"], stars=[3, 3, 3]) == "c"
    assert keep_of(["when", "-length"], when=pa.array([5, 4, 4], pa.timestamp("s"))) == "c"


def test_the_length_of_many_texts_that_are_few() -> None:
    entry = pa.array(["é" * 300_000, "x", None])
    few = pa.DictionaryArray.from_arrays(pa.array([0] * 9000 + [1, None, 2], pa.int32()), entry)
    text = pa.chunked_array([few.slice(1), few.slice(8999)])  # 5 GB of them, written out
    found = _length(text)
    assert found.type == pa.int64()
    assert found.slice(8998).to_pylist() == [300_000, 1, None, None, 300_000, 1, None, None]
    assert _length(text.slice(0, 0)).to_pylist() == []


def test_a_column_named_length_goes_before_the_derived_one() -> None:
    assert keep_of(["-length"], length=[9, 8, 7]) == "a"


def test_the_derived_length_counts_characters() -> None:
    table = pa.table(
        {"_id": ["a" * 32, "b" * 32], "text": [" ".join([*WORDS, "漢字"]), " ".join([*WORDS, "abc"])]}
    )
    match = MinHash()
    assert match.resolve([match.sketch(table)]).column("_id").to_pylist() == ["a" * 32]


def test_a_missing_keep_column_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="'stars', which the table does not have"):
        keep_of(["-stars"])
