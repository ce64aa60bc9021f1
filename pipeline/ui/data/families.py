"""Families of near-duplicates, as ``gristmill dedup clusters`` lists them, the largest first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from dedup.match import Match
from dedup.result import CLUSTERS
from lake.errors import InputError, LakeError
from lake.ledger import DROPS_TABLE, RUNS_TABLE
from pipeline.matching.index import TABLES
from pipeline.report import words
from pipeline.report.pictures import Picture, picture
from pipeline.report.samples import place
from pipeline.ui.paging import Deadline, newest_first, page
from pipeline.ui.site import Site

if TYPE_CHECKING:
    from pipeline.stages.stage import Stage

__all__ = ["Families", "Family", "Matching", "Member", "families", "family", "matchings"]

MOST_PAIRS = 5_000_000
"""Pairs from which on families are not worked out for a page: that would take a minute, and a GiB."""

MEMBERS = 24
"""Rows of a family that are shown."""

_RUNS = 60  # rows of `_runs` among which the last run of each stage is looked for


@dataclass(frozen=True, slots=True)
class Matching:
    """A step that finds repeats, as the last run of its stage had it."""

    pipeline: str
    stage: str
    step: str
    at: int
    key: str


@dataclass(frozen=True, slots=True)
class Member:
    """A row of a family.

    Attributes:
        id: it.
        kept: whether it stays.
        twin: the kept row that it went for.
        exact: their similarity.
        source: where it was read; empty where it was not found within the time of a page.
        label: only where content may be shown, as are ``text`` and ``image``.
        found: whether the record was found.
    """

    id: str
    kept: bool
    twin: str | None
    exact: float | None
    source: str = ""
    label: str | None = None
    text: str | None = None
    image: Picture | None = None
    found: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """A family: its rows, and how many there are in all; ``pending`` while it is being worked out."""

    name: str
    rows: int
    kept: int
    members: list[Member]
    pending: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Families:
    """A page of the families of one step.

    Attributes:
        matchings: the steps that there are.
        chosen: which one this is of; None where there is none.
        families: of this page, with no more than a few rows each.
        first: number of the first of them, from 0.
        total: of families.
        rows: in all of them.
        why: there are none to show.
        pending: they are being worked out.
    """

    matchings: list[Matching]
    chosen: Matching | None
    families: list[Family]
    first: int
    total: int
    rows: int
    why: str = ""
    pending: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Worked:
    """All families of a step: rows in order of family, and where each family begins, the largest first."""

    rows: pa.Table
    starts: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]


def matchings(site: Site) -> list[Matching]:
    """The steps that found repeats in the last run of their stage."""
    return [
        Matching(row["pipeline"], row["stage"], label, at, row["key"])
        for row in _last_rows(site)
        for at, (label, _) in enumerate(_steps_of(row))
        if _is_match(label)
    ]


def families(site: Site, step: str | None = None, first: int = 0, size: int = 20) -> Families:
    """A page of families.

    Args:
        site: whose.
        step: ``pipeline/label`` of the step; the first unless given.
        first: number of the first family of the page, by size.
        size: so many families.

    Raises:
        InputError: there is no such step.
    """
    steps = matchings(site)
    if not steps:
        return Families([], None, [], 0, 0, 0, "No step of the last runs looks for repeats.")
    chosen = _choose(steps, step)
    try:
        worked = _worked(site, chosen)
    except (LakeError, _TooManyError) as error:
        return Families(steps, chosen, [], 0, 0, 0, str(error.args[0]))
    if worked is None:
        return Families(steps, chosen, [], 0, 0, 0, _PENDING, pending=True)
    shown = [_family(worked, number, 3) for number in range(first, min(first + size, len(worked.starts)))]
    return Families(steps, chosen, shown, first, len(worked.starts), worked.rows.num_rows)


def family(site: Site, step: str | None, name: str) -> Family:
    """One family, with records beside each other where content may be shown.

    Raises:
        InputError: there is none of that name.
    """
    steps = matchings(site)
    if not steps:
        raise InputError("no step of the last runs looks for repeats", where=str(site.lake.uri))
    try:
        worked = _worked(site, _choose(steps, step))
    except _TooManyError as error:
        raise InputError(str(error), where=str(site.lake.uri)) from error
    if worked is None:
        return Family(words.cut(name, 40), 0, 0, [], pending=True)
    column = worked.rows.column("family")
    at = pc.index(column, pa.scalar(name, column.type)).as_py()
    number = np.flatnonzero(worked.starts == at)
    if at < 0 or not len(number):
        raise InputError(
            "there is no such family", where=words.cut(name, 40), hint="choose one from the list of clusters"
        )
    return _with_records(site, _family(worked, int(number[0]), MEMBERS))


_PENDING = "The families are being worked out. This page comes back by itself."


class _TooManyError(Exception):
    """More pairs than a page can work with."""


def _choose(steps: Sequence[Matching], step: str | None) -> Matching:
    for each in steps:
        if step in {None, "", f"{each.pipeline}/{each.step}"}:
            return each
    raise InputError(
        "no such step looks for repeats",
        where=words.cut(str(step), 100),
        hint="these do: " + ", ".join(f"{each.pipeline}/{each.step}" for each in steps),
    )


# ------------------------------------------------------------------------------------ what ran last


def _last_rows(site: Site) -> list[dict[str, Any]]:
    """The row of ``_runs`` of the last run of each stage."""
    table = site.lake.table(RUNS_TABLE)
    if not table.exists:
        return []
    columns = ("pipeline", "stage", "version", "key", "report")
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in page(table, None, columns, size=_RUNS, order=newest_first).rows:
        last = found.setdefault((row["pipeline"], row["stage"]), row)
        if row["version"] > last["version"]:
            found[row["pipeline"], row["stage"]] = row
    return list(found.values())


def _steps_of(row: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(label, value) for label, value in json.loads(row["report"])["inputs"]["steps"]]


def _is_match(label: str) -> bool:
    from pipeline.config.catalog import UnknownNameError, resolve

    try:
        return issubclass(resolve(_path(label)), Match)
    except UnknownNameError:
        return False


def _path(label: str) -> str:
    """The import path in a label such as ``2 dedup.MinHash``."""
    return label.split(" ")[1] if " " in label else label


def _stage(site: Site, chosen: Matching) -> tuple[Stage, str]:
    """The stage as its last run had it, and the code that ran. Only our own steps: a page imports no plugin."""
    from pipeline.config.catalog import UnknownNameError, resolve
    from pipeline.stages.stage import Stage

    rows = {(row["pipeline"], row["stage"]): row for row in _last_rows(site)}
    row = rows[chosen.pipeline, chosen.stage]
    inputs = json.loads(row["report"])["inputs"]
    try:
        steps = tuple((label, resolve(_path(label)).model_validate(value)) for label, value in _steps_of(row))
    except (UnknownNameError, ValidationError) as error:
        raise LakeError(
            "a step of this stage is not one of Gristmill's own: `gristmill dedup clusters` lists its families"
        ) from error
    above = rows.get((chosen.pipeline, "clean" if chosen.stage == "train" else "ingest"))
    above = above or rows.get((chosen.pipeline, "ingest"))
    source = json.loads(above["report"])["inputs"]["target"] if above else "raw"
    return Stage(chosen.pipeline, chosen.stage, source, inputs["target"], steps), inputs["code"]


# ------------------------------------------------------------------------------------------ families


def _worked(site: Site, chosen: Matching) -> _Worked | None:
    """All families of a step; None while they are being worked out."""
    lake = site.lake
    versions = [
        (name, lake.table(name).version)
        for name in lake.tables()
        if name == DROPS_TABLE or name.startswith(TABLES[-1])
    ]
    return site.memory.soon(("families", chosen, tuple(versions)), lambda: _work(site, chosen))


def _work(site: Site, chosen: Matching) -> _Worked:
    from pipeline.matching.families import stored_clusters

    stage, code = _stage(site, chosen)
    index = stage.index(site.lake, chosen.at, code)
    edges = site.lake.table(index.edges) if index is not None else None
    if edges is not None and edges.exists and (pairs := edges.count()) > MOST_PAIRS:
        raise _TooManyError(
            f"This step has {pairs:,} pairs, too many to work out within a page: "
            "`gristmill dedup clusters --output FILE` lists their families."
        )
    tables = list(stored_clusters(site.lake, stage, chosen.at, code))
    rows = pa.concat_tables(tables).combine_chunks() if tables else CLUSTERS.empty_table()
    if not rows.num_rows:
        return _Worked(rows, np.empty(0, np.int64), np.empty(0, np.int64))
    name = rows.column("family").combine_chunks()
    new = np.asarray(pc.not_equal(name.slice(1), name.slice(0, len(name) - 1)))
    starts = np.concatenate([[0], np.flatnonzero(new) + 1]).astype(np.int64)
    sizes = np.diff(np.append(starts, len(name)))
    order = np.argsort(-sizes, kind="stable")
    return _Worked(rows, starts[order], sizes[order])


def _family(worked: _Worked, number: int, most: int) -> Family:
    start, size = int(worked.starts[number]), int(worked.sizes[number])
    rows = worked.rows.slice(start, size)
    # Those that stay first, then the most similar ones.
    order = rows.append_column("like", pc.fill_null(rows.column("exact"), 0.0)).sort_by(
        [("kept", "descending"), ("like", "descending"), ("_id", "ascending")]
    )
    members = [
        Member(row["_id"], row["kept"], row["twin"], row["exact"]) for row in order.slice(0, most).to_pylist()
    ]
    kept = int(pc.sum(rows.column("kept")).as_py() or 0)
    return Family(rows.column("family")[0].as_py(), size, kept, members)


# ------------------------------------------------------------------------------------------- records


def _with_records(site: Site, found: Family) -> Family:
    names = [name for name in site.lake.tables() if not name.startswith("_")]
    columns = ["_id", "_source", *(("text", "image", "label") if site.show_content else ())]
    records: dict[str, dict[str, Any]] = {}
    deadline = Deadline()
    # `raw` has the dropped ones too; where it goes by another name, it is the largest that has no copies.
    for name in sorted(names, key=lambda name: name != "raw"):
        if {member.id for member in found.members} <= set(records) or deadline.over:
            break
        if set(columns) <= set(site.lake.table(name).schema().names):
            records |= _look_up(site, name, {m.id for m in found.members} - set(records), columns, deadline)
    members = [_member(member, records.get(member.id)) for member in found.members]
    return Family(found.name, found.rows, found.kept, members)


def _look_up(
    site: Site, name: str, ids: set[str], columns: list[str], deadline: Deadline
) -> dict[str, dict[str, Any]]:
    table, wanted = site.lake.table(name), pa.array(sorted(ids), pa.string())
    records: dict[str, dict[str, Any]] = {}
    for part in table.parts():
        if deadline.over or len(records) == len(ids):
            break
        masks = [
            np.asarray(pc.is_in(group.column("_id"), value_set=wanted))
            for group in table.read_part(part, ["_id"])
        ]
        rows = np.flatnonzero(np.concatenate(masks)) if masks else np.empty(0, np.int64)
        if len(rows):
            for row in table.read_rows(part, rows, columns).to_pylist():
                records.setdefault(row["_id"], row)
    return records


def _member(member: Member, row: dict[str, Any] | None) -> Member:
    if row is None:
        return member
    text = row.get("text")
    return Member(
        member.id,
        member.kept,
        member.twin,
        member.exact,
        place(row["_source"]),
        row.get("label"),
        None if text is None else words.cut(text, 2_000),
        None if row.get("image") is None else picture(row["image"]),
        found=True,
    )
