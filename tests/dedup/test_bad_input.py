"""What no corpus should hold and every corpus does."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

import dedup
from dedup import Jaccard, MinHash
from lake.errors import ConfigError, SchemaError

MATCHES = [MinHash(threshold=0.8), Jaccard(threshold=0.8)]
WORDS = [f"word{n}" for n in range(100)]


def ids(count: int) -> pa.Array:
    return pa.array([f"{n:032x}" for n in range(count)])


@pytest.mark.parametrize("match", MATCHES, ids=["minhash", "jaccard"])
def test_empty_and_blank_texts_and_nulls_are_no_duplicates_of_each_other(match) -> None:
    texts = ["", " ", "\t\n", "\u3000", "\u200b", "...", None, None]
    table = pa.table({"_id": ids(len(texts)), "text": pa.array(texts, pa.string())})
    result = dedup.deduplicate(table, match)
    assert result.kept.num_rows == len(texts)
    assert result.clusters.num_rows == result.edges.num_rows == 0


@pytest.mark.parametrize("match", MATCHES, ids=["minhash", "jaccard"])
def test_bytes_that_are_not_utf8_separate_words(match) -> None:
    good = " ".join(WORDS).encode()
    texts = [good, good.replace(b" ", b"\xff"), good.replace(b" ", b"\xe4\xbd"), b"\xff\xfe", b"\xff"]
    table = pa.table({"_id": ids(5), "text": pa.array(texts, pa.binary())})
    result = dedup.deduplicate(table, match)
    assert result.dropped.column("_id").to_pylist() == [f"{n:032x}" for n in (0, 1)]  # of the fewest bytes
    assert result.dropped.column("exact").to_pylist() == [1.0, 1.0]


@pytest.mark.parametrize("match", MATCHES, ids=["minhash", "jaccard"])
def test_one_document_of_a_hundred_megabytes(match) -> None:
    rng = np.random.default_rng(1)
    numbers = rng.integers(0, 10**9, 10_400_000).astype("U9")
    text = " ".join(numbers.tolist())
    assert len(text) > 100_000_000
    table = pa.table({"_id": ids(3), "text": pa.array([text, f"first {text}", "small"], pa.large_string())})
    result = dedup.deduplicate(table, match)
    assert result.dropped.column("twin").to_pylist() == [f"{1:032x}"]
    assert result.dropped.column("exact")[0].as_py() > 0.9999999


def test_ten_million_identical_rows() -> None:
    indices = pa.array(np.zeros(10_000_000, np.int32))
    table = pa.table({"text": pa.DictionaryArray.from_arrays(indices, pa.array([" ".join(WORDS)]))})
    result = dedup.deduplicate(table, MinHash())
    assert result.kept.num_rows == 1
    assert result.dropped.num_rows == 9_999_999


@pytest.mark.parametrize("match", MATCHES, ids=["minhash", "jaccard"])
def test_fifty_thousand_rows_that_differ_in_their_punctuation_alone(match) -> None:
    """Other bytes, so other ids; the same shingles, so one bucket in every band."""
    text = " ".join(WORDS)
    marks = [f"{text} {'!' * (n % 547)}{'?' * (n // 547)}" for n in range(50_000)]
    table = pa.table({"_id": ids(50_000), "text": marks})
    result = dedup.deduplicate(table, match)
    assert result.kept.num_rows == 1
    assert set(result.dropped.column("exact").to_pylist()) == {1.0}
    assert len(set(result.dropped.column("twin").to_pylist())) == 1


@pytest.mark.parametrize(
    "match", [MinHash(keep=("-score",)), Jaccard(keep=("-score",))], ids=["minhash", "jaccard"]
)
def test_nan_and_null_in_a_keep_column_come_last(match) -> None:
    text = " ".join(WORDS)
    table = pa.table({"_id": ids(4), "text": [text, text + "!", text + "?", text + "."]})
    scores = pa.array([math.nan, None, 0.1, -math.inf], pa.float64())
    result = dedup.deduplicate(table.append_column("score", scores), match)
    assert result.kept.column("_id").to_pylist() == [f"{2:032x}"]


def test_columns_that_are_missing_or_hold_something_else_are_named() -> None:
    with pytest.raises(SchemaError, match="Jaccard needs a column text"):
        Jaccard().sketch(pa.table({"_id": ids(1)}))
    with pytest.raises(SchemaError, match="a column of type int64 holds no text"):
        Jaccard().sketch(pa.table({"_id": ids(1), "text": [1]}))
    with pytest.raises(ConfigError, match="keep names the column 'quality'"):
        Jaccard(keep=("-quality",)).sketch(pa.table({"_id": ids(1), "text": ["a"]}))
