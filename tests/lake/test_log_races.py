"""A log that maintenance cuts in the very moment in which it is read: the reading is asked for again."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest
from deltalake.exceptions import DeltaError

from lake.delta import commit, pending
from lake.lake import Change, Lake
from lake.maintenance import verify
from lake.maintenance.logs import checkpoint, cut, expired, log_of

SCHEMA = pa.schema([("x", pa.int64())])
WIDE = pa.schema([("x", pa.int64()), ("y", pa.int64())])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Versions 0 to 18, the next one gets a checkpoint. Of app "first" the checkpoint at 9 tells alone."""
    made = Lake(tmp_path / "lake")
    add(made, 0, app="first")
    for version in range(1, 18):
        add(made, version)
    assert sorted(log_of(made, "t").checkpoints) == [9]
    return made


def add(lake: Lake, version: int, schema: pa.Schema = SCHEMA, app: str = "me") -> dict[str, int]:
    rows = pa.table({name: [version] for name in schema.names}, schema=schema)
    part = lake.write_part("t", f"{app}-{version}", [rows], schema)
    return lake.commit([Change("t", schema, add=(part,))], app=app, version=version)


def numbers(lake: Lake) -> list[int]:
    return sorted(lake.table("t").to_table()["x"].to_pylist())


def supersede(lake: Lake) -> None:
    """A checkpoint of the newest version, in place of all that came before it."""
    checkpoint(lake, "t")
    now = time.time() + 3600
    cut(lake, "t", expired(lake, "t", now, now))
    assert list(log_of(lake, "t").checkpoints) == [log_of(lake, "t").newest]


def hooked(monkeypatch: pytest.MonkeyPatch, name: str, before: Callable[[int], None]) -> list[int]:
    """Call ``before`` with a growing number ahead of each call of a method of DeltaTable; gives the numbers."""
    real, calls = getattr(deltalake.DeltaTable, name), []

    def called(self: deltalake.DeltaTable, *given: Any, **named: Any) -> Any:
        calls.append(len(calls))
        before(calls[-1])
        return real(self, *given, **named)

    monkeypatch.setattr(deltalake.DeltaTable, name, called)
    return calls


def hidden(monkeypatch: pytest.MonkeyPatch, lake: Lake, owner: Any, name: str, times: int) -> list[str]:
    """Have the first calls of a method find the checkpoint gone; gives what delta-rs said to that."""
    real, said = getattr(owner, name), []
    file = Path(lake.uri, "t", "_delta_log", f"{9:020}.checkpoint.parquet")

    def called(*given: Any, **named: Any) -> Any:
        if len(said) == times:
            return real(*given, **named)
        file.rename(file.with_suffix(".away"))
        try:
            return real(*given, **named)
        except DeltaError as error:
            said.append(str(error))
            raise
        finally:
            file.with_suffix(".away").rename(file)

    monkeypatch.setattr(owner, name, called)
    return said


def test_a_snapshot_that_is_held_while_its_log_is_cut_still_tells_of_transactions(lake: Lake) -> None:
    table = lake.table("t")
    held = table.snapshot()
    supersede(lake)
    with pytest.raises(DeltaError, match="not found"):
        held.delta.transaction_version("first")
    assert table.snapshot() is held  # it is the newest, and its parts are right
    assert table.transaction_version("first") == 0
    assert numbers(lake) == [*range(18)]


@pytest.mark.parametrize("what", ["again", "next", "recover"])
def test_a_commit_after_a_cut_that_another_process_made(lake: Lake, what: str) -> None:
    held = lake.table("t").snapshot()
    part = lake.write_part("t", "new-18", [pa.table({"x": [18]}, schema=SCHEMA)], SCHEMA)
    left = pending.Pending("new", 18, {}, (Change("t", SCHEMA, add=(part,)),))
    supersede(lake)
    assert lake.table("t").snapshot() is held
    if what == "again":
        assert add(lake, 0, app="first") == {"t": 18}  # which has it; the entry that brought it is gone
        assert numbers(lake) == [*range(18)]
    elif what == "next":
        assert add(lake, 18, app="new") == {"t": 19}
        assert numbers(lake) == [*range(19)]
    else:
        assert lake.storage.claim(left.path, left.dump())
        assert lake.recover() == ["new 18"]
        assert numbers(lake) == [*range(19)]
    assert pending.pending(lake.storage) == []


def test_a_log_that_is_cut_at_any_look_at_transactions_takes_the_commit_once(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        asked = hooked(patched, "transaction_version", lambda _: None)
        add(lake, 18, app="new")
    looks = len(asked)
    assert looks > 4
    for look in range(looks):
        # An app that nobody knows is looked for down to the checkpoint.
        with monkeypatch.context() as patched:
            hooked(patched, "transaction_version", lambda call, look=look: call == look and supersede(lake))
            assert add(lake, 19 + look, app=f"new{look}") == {"t": 20 + look}
    assert numbers(lake) == [*range(19 + looks)]
    assert pending.pending(lake.storage) == []
    assert verify(lake) == []


def test_a_commit_whose_checkpoint_fails_because_the_log_was_cut_has_happened_once(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = hidden(monkeypatch, lake, deltalake.DeltaTable, "create_write_transaction", 1)
    assert add(lake, 18) == {"t": 19}
    assert len(said) == 1
    assert lake.table("t").version == 19
    assert numbers(lake) == [*range(19)]
    assert pending.pending(lake.storage) == []


def test_columns_whose_checkpoint_fails_because_the_log_was_cut_are_added_once(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = hidden(monkeypatch, lake, deltalake.table.TableAlterer, "add_columns", 1)
    assert add(lake, 18, WIDE) == {"t": 20}
    assert len(said) == 1
    assert [each.operation for each in lake.table("t").history(2)] == ["WRITE", "ADD COLUMN"]
    assert lake.table("t").schema() == WIDE
    assert numbers(lake) == [*range(19)]


@pytest.mark.parametrize("error", [DeltaError, FileNotFoundError])
def test_a_commit_that_never_succeeds_says_why_and_is_not_done(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refuse(call: int) -> None:
        raise error(f"attempt {call}")

    calls = hooked(monkeypatch, "create_write_transaction", refuse)
    with pytest.raises(error, match=f"attempt {commit._UNANSWERED - 1}"):
        add(lake, 18)
    assert len(calls) == commit._UNANSWERED
    monkeypatch.undo()
    assert numbers(lake) == [*range(18)]
    assert lake.recover() == ["me 18"]  # the change stands, and whoever comes next carries it through
    assert numbers(lake) == [*range(19)]


def test_a_checkpoint_is_written_although_the_one_before_goes_meanwhile(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = hidden(monkeypatch, lake, deltalake.DeltaTable, "create_checkpoint", 2)
    assert checkpoint(lake, "t") == 18
    assert len(said) == 2
    assert sorted(log_of(lake, "t").checkpoints) == [9, 18]


def test_a_table_opens_although_its_checkpoint_was_looked_for_too_early(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = hidden(monkeypatch, lake, deltalake.DeltaTable, "__init__", 3)
    assert lake.table("t").snapshot(15).version == 15
    assert len(said) == 3
