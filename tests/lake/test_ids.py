from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.ids import IdSet, content_ids, halves

VECTORS = json.loads(Path(__file__).with_name("ids.json").read_text(encoding="utf-8"))


def by_definition(text: str | None, image: bytes | None) -> str:
    state = hashlib.blake2b(digest_size=16, person=b"gristmill1")
    for tag, part in ((b"t", None if text is None else text.encode()), (b"i", image)):
        if part is not None:
            state.update(tag + len(part).to_bytes(8, "little") + part)
    return state.hexdigest()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["id"][:6])
def test_frozen_vectors(vector: dict[str, str | None]) -> None:
    image = None if vector["image"] is None else bytes.fromhex(vector["image"])
    got = content_ids(pa.array([vector["text"]], pa.string()), pa.array([image], pa.binary()))
    assert got.to_pylist() == [vector["id"]]


@given(st.lists(st.tuples(st.none() | st.text(), st.none() | st.binary()), max_size=20), st.integers(0, 3))
def test_equals_the_definition_on_slices_and_large_types(
    rows: list[tuple[str | None, bytes | None]], skip: int
) -> None:
    want = [by_definition(*row) for row in rows][skip:]
    text = pa.array([row[0] for row in rows], pa.string()).slice(skip)
    image = pa.array([row[1] for row in rows], pa.binary()).slice(skip)
    assert content_ids(text, image).to_pylist() == want
    assert content_ids(text.cast(pa.large_string()), image.cast(pa.large_binary())).to_pylist() == want
    assert content_ids(pa.chunked_array([text, text]), pa.chunked_array([image, image])).to_pylist() == want * 2


def test_a_text_never_stands_for_an_image() -> None:
    assert content_ids(pa.array(["ab"]), None) != content_ids(None, pa.array([b"ab"]))
    one = content_ids(pa.array(["a"]), pa.array([b"b"]))
    assert one != content_ids(pa.array(["ab"]), pa.array([b""]))


def test_no_column_and_unequal_columns_are_errors() -> None:
    with pytest.raises(ValueError, match="needs a text or an image"):
        content_ids(None, None)
    with pytest.raises(ValueError, match="differ in length"):
        content_ids(pa.array(["a"]), pa.array([b"a", b"b"]))


@given(st.lists(st.integers(0, 2**128 - 1), max_size=20))
def test_halves_are_big_endian(numbers: list[int]) -> None:
    got = halves([f"{n:032x}" for n in numbers])
    assert got.dtype == np.uint64
    assert got.tolist() == [[n >> 64, n & (2**64 - 1)] for n in numbers]


@pytest.mark.parametrize("bad", ["", "0" * 31, "0" * 33, "G" * 32, "A" * 32, None])
def test_halves_refuse_what_is_no_id(bad: str | None) -> None:
    with pytest.raises(ValueError, match="id"):
        halves(pa.array(["0" * 32, bad]))


@settings(deadline=None)  # the first call compiles the kernel
@given(st.lists(st.lists(st.integers(0, 40), max_size=60), max_size=8))
def test_id_set_tells_first_occurrences(batches: list[list[int]]) -> None:
    seen: set[int] = set()
    ids = IdSet()
    for batch in batches:
        want = []
        for number in batch:
            want.append(number not in seen)
            seen.add(number)
        assert ids.add([f"{n:032x}" for n in batch]).tolist() == want
        assert len(ids) == len(seen)


def test_id_set_grows_and_stays_small() -> None:
    draw = np.random.default_rng(1).integers(0, 2**63, (200_000, 2), dtype=np.uint64)
    ids = IdSet()
    assert ids.add(draw).all()
    assert not ids.add(draw[::-1]).any()
    assert len(ids) == 200_000
    assert ids.nbytes <= 43 * 200_000
    assert IdSet(capacity=200_000).nbytes == ids.nbytes


@given(st.lists(st.binary(max_size=400), min_size=64, max_size=80), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_the_kernel_is_hashlib(rows: list[bytes], offset: int) -> None:
    rows += [b"x" * size for size in (0, 1, 118, 119, 120, 127, 128, 129, 246, 247, 248, 5000)]  # 9 + 119 = 128
    for kind in (pa.binary(), pa.large_binary()):
        column = pa.array(rows, kind).slice(offset)
        wanted = [
            hashlib.blake2b(
                b"i" + len(row).to_bytes(8, "little") + row, digest_size=16, person=b"gristmill1"
            ).hexdigest()
            for row in rows[offset:]
        ]
        assert content_ids(None, column).to_pylist() == wanted
