"""Pages of a table make up the table; what takes a while is made once."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake import Lake
from lake.errors import ConfigError, InputError, MissingPartError, MissingTableError
from lake.lake import Change
from pipeline.ui.paging import Deadline, Place, newest_first, page
from pipeline.ui.site import Memory

SCHEMA = pa.schema([pa.field("n", pa.int64()), pa.field("kind", pa.string())])
PAST = Deadline(0.0)


# ------------------------------------------------------------------------------------------- paging


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Lake:
    """A table of five parts, one of them empty, one with several row groups."""
    lake = Lake(tmp_path_factory.mktemp("parts") / "lake")
    sizes, start = [3, 0, 40, 1, 7], 0
    for number, size in enumerate(sizes):
        numbers = list(range(start, start + size))
        rows = pa.table({"n": numbers, "kind": [f"k{n % 3}" for n in numbers]}, SCHEMA)
        part = lake.write_part("t", f"p{number}", [rows], SCHEMA, group_bytes=64)
        lake.commit([Change("t", SCHEMA, (part,))], app="test", version=number + 1)
        start += size
    return lake


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(1, 60),
    kind=st.sampled_from([None, "k0", "k2", "none"]),
    hurried=st.booleans(),
    newest=st.booleans(),
)
def test_pages_make_up_the_table(parts: Lake, size: int, kind: str | None, hurried: bool, newest: bool) -> None:
    table = parts.table("t")
    keep = {"kind": kind} if kind else {}
    order = newest_first if newest else list
    found, at, searched = [], None, 0
    while True:
        # A deadline that has passed still gives a part's worth, so that looking further ends.
        deadline = PAST if hurried else None
        one = page(table, at, ["n", "kind"], keep=keep, size=size, order=order, deadline=deadline)
        assert len(one.rows) <= size
        assert one.searched >= searched
        assert one.whole or hurried
        searched = one.searched
        found += one.rows
        if one.next is None:
            break
        at = Place.read(one.next)
    want = [
        row for part in order(table.parts()) for group in table.read_part(part) for row in group.to_pylist()
    ]
    assert found == [row for row in want if kind in {None, row["kind"]}]
    assert searched == one.total == 51


def test_pages_stay_at_their_version(parts: Lake, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    rows = pa.table({"n": list(range(10)), "kind": ["a"] * 10}, SCHEMA)
    old = lake.write_part("t", "one", [rows], SCHEMA)
    lake.commit([Change("t", SCHEMA, (old,))], app="test", version=1)
    first = page(lake.table("t"), None, ["n"], size=4)
    new = lake.write_part("t", "two", [rows.slice(0, 1)], SCHEMA)
    lake.commit([Change("t", SCHEMA, (new,), tuple(lake.table("t").parts()))], app="test", version=2)
    second = page(lake.table("t"), Place.read(first.next), ["n"], size=100)
    assert [row["n"] for row in first.rows + second.rows] == list(range(10))
    assert page(lake.table("t"), None, ["n"]).total == 1
    # What was vacuumed is told, and never replaced by other rows.
    (Path(lake.uri) / "t" / old.path).unlink()
    with pytest.raises((MissingPartError, MissingTableError)):
        page(lake.table("t"), Place.read(first.next), ["n"], size=100)


@pytest.mark.parametrize("text", ["", "1", "1.2", "1.2.3.4", "-1.0.0", "a.b.c", "1.2.99999999999999999999"])
def test_a_place_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError):
        Place.read(text)


def test_places_beyond_the_end_are_empty(parts: Lake) -> None:
    for place in ("5.99.0", "5.4.99"):
        found = page(parts.table("t"), Place.read(place), ["n"])
        assert (found.rows, found.next) == ([], None)


# ------------------------------------------------------------------------------------------- memory


def test_memory_makes_once_for_many() -> None:
    made, memory, go = [], Memory(), threading.Event()

    def make() -> int:
        made.append(1)
        go.wait(10)
        return 7

    answers: list[int | None] = []
    threads = [threading.Thread(target=lambda: answers.append(memory.soon("k", make, 20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert memory.soon("k", make, 0.01) is None
    go.set()
    for thread in threads:
        thread.join()
    assert (answers, made) == ([7] * 8, [1])


def test_memory_raises_what_went_wrong_and_tries_again() -> None:
    memory = Memory()
    with pytest.raises(InputError):
        memory.soon("k", lambda: (_ for _ in ()).throw(InputError("no")), 20)
    with pytest.raises(TimeoutError):
        memory.soon("k", lambda: (_ for _ in ()).throw(TimeoutError("slow storage")), 20)
    while (found := memory.soon("k", lambda: 1)) is None:  # the thread before may still be ending
        time.sleep(0.001)
    assert found == 1


def test_memory_is_bounded() -> None:
    memory, go = Memory(most=2, at_once=1), threading.Event()
    assert memory.soon("slow", go.wait, 0.01) is None
    assert memory.soon("other", lambda: 1) is None  # its turn has not come
    go.set()
    assert memory.soon("slow", go.wait, 10) is True
    for number in range(20):
        while memory.soon(number, lambda number=number: number) is None:
            time.sleep(0.001)
    assert len(memory._found) <= 3
