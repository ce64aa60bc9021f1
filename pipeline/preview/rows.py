"""Which rows a preview shows: those that are named, or one of each class by a hash of their ids."""

from __future__ import annotations

import difflib
import heapq
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from augment import rng
from lake.errors import InputError, MissingTableError
from lake.lake import Lake, Table
from pipeline.config import Config
from pipeline.plan import stages_of
from pipeline.report.samples import place
from pipeline.why import Fate, why

__all__ = ["first_rows", "rows_of"]

_KEY = 0x9E3779B97F4A7C15  # of the hash by which rows are chosen where none is named
_LOOKED_AT = 2_000  # rows of a source that was not ingested yet
_HELD = 256 << 20  # bytes of them held at once
_MOST_LABELS = 1_000
_AT_A_TIME = 32  # candidates read at once, until enough of them have an image (or a text)
_SPARE = 8  # candidates of a class beyond those that are to be shown
_LEAST = 4  # digits of an id that must agree before it is held for the one that was meant
_ID = re.compile(r"[0-9a-f]+")


def rows_of(
    config: Config, lake: Lake, payload: str, ids: Sequence[str], count: int
) -> tuple[Iterator[dict[str, Any]], str]:
    """The rows, and where they come from in words."""
    stage = stages_of(config)[-1]
    for name in dict.fromkeys((stage.source, config.raw)):
        table = lake.table(name)
        if table.exists and table.count():
            where = f"{name}, version {table.version}"
            if name != stage.source:
                where += f" (there is no {stage.source} yet)"
            if ids:
                return iter(_named(lake, name, ids, payload)), where
            return _chosen(table, payload, count), where
    if ids:
        raise MissingTableError(
            "nothing was ingested yet, so no row has a name", where=config.lake,
            hint="start `gristmill run`, or leave out --id: the first rows of the sources are shown then",
        )  # fmt: skip
    return _unread(config, payload, count), "the sources (nothing was ingested yet)"


class _Place(NamedTuple):
    """A row that may be shown: ordered by its turn in its class, then by its hash."""

    turn: int
    score: float
    id: str
    part: int
    row: int


def _scores(ids: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return rng.uniform(ids, _KEY, 0, 0)


def _chosen(table: Table, payload: str, count: int) -> Iterator[dict[str, Any]]:
    """The first row of each class by the keyed hash, then the second of each; labelled ones before others."""
    parts = table.parts()
    best: dict[str | None, list[tuple[float, str, int, int]]] = {}
    for number, part in enumerate(parts):
        start = 0
        for rows in table.read_part(part, ["_id", "label"]):
            _enter(best, rows, number, start, count + _SPARE)
            start += rows.num_rows
    for chunk in _in_chunks(_in_turn(best)):
        found: dict[str, dict[str, Any]] = {}
        for number in sorted({each.part for each in chunk}):
            numbers = np.array(sorted(each.row for each in chunk if each.part == number), np.int64)
            found |= {row["_id"]: row for row in table.read_rows(parts[number], numbers).to_pylist()}
        yield from (row for each in chunk if (row := found[each.id])[payload] is not None)


def _enter(
    best: dict[str | None, list[tuple[float, str, int, int]]], rows: pa.Table, part: int, start: int, most: int
) -> None:
    if not rows.num_rows:
        return
    scores, ids, labels = _scores(rows.column("_id")), rows.column("_id"), rows.column("label")
    codes = labels.combine_chunks().dictionary_encode(null_encoding="encode")
    numbers = codes.indices.to_numpy(zero_copy_only=False)
    for code, label in enumerate(codes.dictionary.to_pylist()):
        mine = np.flatnonzero(numbers == code)
        mine = mine[np.argsort(scores[mine], kind="stable")[:most]]
        new = [(float(scores[row]), ids[int(row)].as_py(), part, start + int(row)) for row in mine]
        best[label] = heapq.nsmallest(most, [*best.get(label, []), *new])
    if len(best) > _MOST_LABELS:  # free text in the label column: any of them will do
        kept = heapq.nsmallest(_MOST_LABELS, best.items(), key=lambda item: item[1][0])
        best.clear()
        best.update(kept)


def _in_turn(best: dict[str | None, list[tuple[float, str, int, int]]]) -> list[_Place]:
    labelled = [
        _Place(turn, *each)
        for label, places in best.items()
        if label is not None
        for turn, each in enumerate(places)
    ]
    return [*sorted(labelled), *(_Place(0, *each) for each in sorted(best.get(None, [])))]


def _in_chunks(places: list[_Place]) -> Iterator[list[_Place]]:
    return (places[at : at + _AT_A_TIME] for at in range(0, len(places), _AT_A_TIME))


def _unread(config: Config, payload: str, count: int) -> Iterator[dict[str, Any]]:
    """Rows of sources that were not ingested yet: of the first ones, in the same order."""
    held: dict[str, dict[str, Any]] = {}
    best: dict[str | None, list[tuple[float, str, int, int]]] = {}
    for table in first_rows(config):
        rows = table.filter(pc.field(payload).is_valid())
        _enter(best, rows.select(["_id", "label"]), 0, 0, count + 1)
        kept = {id_ for places in best.values() for _, id_, _, _ in places}
        new = rows.filter(pc.is_in(rows["_id"], value_set=pa.array(sorted(kept), pa.string())))
        held = {id_: row for id_, row in held.items() if id_ in kept}
        held |= {row["_id"]: row for row in new.to_pylist()}
        if sum(len(row[payload]) for row in held.values()) > _HELD:
            break
    return (held[id_] for id_ in dict.fromkeys(each.id for each in _in_turn(best)) if id_ in held)


def first_rows(config: Config) -> Iterator[pa.Table]:
    """The first rows of each source, as they are read."""
    for source in config.source:
        left = _LOOKED_AT
        for split in source.discover({}, base=Path(config.base)):
            for outcome in source.read(split):
                yield outcome.table.slice(0, left)
                left -= outcome.table.num_rows
                if left <= 0:
                    break
            if left <= 0:
                break


def _named(lake: Lake, name: str, ids: Sequence[str], payload: str) -> list[dict[str, Any]]:
    """The rows that are named.

    Raises:
        MissingTableError: there is no such row, or it did not get as far as this table.
        InputError: it has no image (or text).
    """
    table, found = lake.table(name), []
    wanted: dict[str, str] = {}
    for given in ids:
        for fate in _fates(lake, table, given):
            if fate.id is None:
                raise InputError(f"the row {given!r} could not be read", why=fate.render())
            if name not in fate.tables:
                raise MissingTableError(
                    f"the row {fate.id} is not in {name}", where=str(lake.uri), why=fate.render(),
                    hint="only rows that reach the augment step can be shown",
                )  # fmt: skip
            wanted.setdefault(fate.id, given)
    members = pa.array(list(wanted), pa.string())
    for part in table.parts():
        masks = [pc.is_in(rows["_id"], value_set=members).to_numpy() for rows in table.read_part(part, ["_id"])]
        rows = np.flatnonzero(np.concatenate([np.empty(0, np.bool_), *masks]))
        if len(rows):
            found += table.read_rows(part, rows).to_pylist()
    by_id = {row["_id"]: row for row in found}
    for id_, given in wanted.items():
        if by_id[id_][payload] is None:
            raise InputError(f"the row {given!r} has no {payload}", where=place(by_id[id_]["_source"]))
    return [by_id[id_] for id_ in wanted]


def _fates(lake: Lake, table: Table, given: str) -> list[Fate]:
    try:
        return why(lake, given)
    except MissingTableError as error:
        hint = _meant(table, given)
        raise MissingTableError(error.what, where=error.where, hint=hint or error.hint) from error


def _meant(table: Table, given: str) -> str | None:
    """The id whose first digits agree the longest, or the file whose name is the closest."""
    if _ID.fullmatch(given):
        best, agreed = None, _LEAST - 1
        for rows in table.scan(["_id"]):
            for length in range(len(given), agreed, -1):
                near = rows.column("_id").filter(pc.starts_with(rows.column("_id"), given[:length]))
                if len(near):
                    best, agreed = near[0].as_py(), length
                    break
        return None if best is None else f"did you mean {best}?"
    uris: set[str] = set()
    for rows in table.scan(["_source"]):
        uris |= set(pc.unique(pc.struct_field(rows.column("_source"), "uri")).to_pylist())
    file, _, _ = given.rpartition(":")
    known = {each.rpartition("/")[2]: each for each in sorted(filter(None, uris))}
    close = difflib.get_close_matches(file.rpartition("/")[2] or given, known, n=1)
    return f"did you mean {known[close[0]]}:ROW?" if close else None
