"""Records that a report shows: duplicates beside the rows they repeat, copies beside their originals.

Which ones is decided by their ids alone, so that the same lake gives the same report, however it was filled.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake.machine import cores
from lake.schema import DROPS
from pipeline.matching.sieve import Ids

if TYPE_CHECKING:
    from lake.lake import Lake, Part
    from pipeline.report.pictures import Picture

__all__ = ["Cluster", "Copy", "Example", "Family", "Samples", "Shown", "Twin", "collect"]

MOST_TEXT = 200_000  # characters of a text that are kept for the page
TWINS = 3  # dropped rows shown beside a kept one
COPIES = 6  # training copies shown of a row
_ROWS = 1 << 16  # dropped rows that are looked at together
_BINS = 5  # of similarity, between the threshold and 1
_BIN_ORDER = (2, 1, 3, 0, 4)  # the middle first: neither the obvious pairs nor those at the threshold


@dataclass(frozen=True, slots=True)
class Shown:
    """A record as the page shows it."""

    id: str | None
    source: str
    label: str | None = None
    text: str | None = None
    image: Picture | None = None


@dataclass(frozen=True, slots=True)
class Twin:
    """A dropped row, and how similar it is to the kept one."""

    row: Shown
    step: str
    rule: str
    exact: float | None = None
    estimated: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A kept row and rows that were dropped for it."""

    kept: Shown
    twins: tuple[Twin, ...]
    more: int = 0

    @property
    def conflict(self) -> bool:
        """Whether a dropped row had another label than the kept one."""
        label = self.kept.label
        return any(label and twin.row.label and twin.row.label != label for twin in self.twins)


@dataclass(frozen=True, slots=True)
class Copy:
    """A training copy: its number, and what was done to it."""

    number: int
    words: str
    row: Shown


@dataclass(frozen=True, slots=True)
class Family:
    """An original and its training copies."""

    original: Shown
    copies: tuple[Copy, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """Where a dropped row stood, and the number that the rule weighed; no content."""

    stage: str
    step: str
    rule: str
    source: str
    value: float | None = None
    threshold: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Samples:
    """What a report shows of the records; empty unless collected.

    Attributes:
        clusters: kept rows with their dropped twins.
        families: originals with their training copies.
        examples: a few rows for each reason, by place.
        private: whether contents were withheld on purpose.
    """

    clusters: tuple[Cluster, ...] = ()
    families: tuple[Family, ...] = ()
    examples: tuple[Example, ...] = ()
    private: bool = False

    @classmethod
    def withheld(cls) -> Samples:
        """No record's content: the page says so."""
        return cls(private=True)


@dataclass
class _Ledger:
    """What one pass over the drops found."""

    # (similarity bin, step) -> (id, twin) pairs with the smallest ids
    near: dict[tuple[int, str], list[tuple[str, str]]] = field(default_factory=dict)
    # (stage, step, rule) -> the first places
    places: dict[tuple[str, str, str], list[Example]] = field(default_factory=dict)


def collect(
    lake: Lake, run: Mapping[str, Any], *, clusters: int = 12, families: int = 6, examples: int = 3
) -> Samples:
    """Choose records to show, and read them. Memory is bounded by the limits, not by the tables.

    Args:
        lake: the lake that the run filled.
        run: the run as ``run.json`` holds it.
        clusters: kept rows with dropped twins, spread over the steps and the similarities.
        families: originals with training copies, spread over the labels.
        examples: places given for each reason of dropping.
    """
    names = [name for name in run.get("tables") or {} if not name.startswith("_")]
    present = [name for name in names if lake.table(name).exists]
    ledger = _read_ledger(lake, str(run.get("pipeline", "")), clusters, examples)
    return Samples(
        clusters=_clusters(lake, present, ledger, str(run.get("pipeline", "")), clusters) if present else (),
        families=_families(lake, present[-1], families) if present else (),
        examples=tuple(one for key in sorted(ledger.places) for one in ledger.places[key]),
    )


# --------------------------------------------------------------------------------------------- drops

_DROP_COLUMNS = ["stage", "step", *(name for name in DROPS.names if name != "meta")]


def _read_ledger(lake: Lake, pipeline: str, clusters: int, examples: int) -> _Ledger:
    found = _Ledger()
    table = lake.table("_drops")
    if not table.exists:
        return found
    for rows in _gathered(table.scan(columns=_DROP_COLUMNS, filter=pc.field("pipeline") == pipeline)):
        _note_places(found, rows, examples)
        _note_twins(found, rows, clusters)
    return found


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Join the small batches of many parts."""
    waiting, rows = [], 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= _ROWS:
            yield pa.Table.from_batches(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _note_places(found: _Ledger, rows: pa.Table, examples: int) -> None:
    kinds = rows.select(["stage", "step", "rule"]).group_by(["stage", "step", "rule"]).aggregate([])
    for kind in kinds.to_pylist():
        key = (kind["stage"], kind["step"], kind["rule"])
        mine = rows.filter(
            (pc.field("stage") == key[0]) & (pc.field("step") == key[1]) & (pc.field("rule") == key[2])
        )
        uri, row = (pc.struct_field(mine.column("_source"), name) for name in ("uri", "row"))
        order = pa.table({"uri": uri, "row": row})
        first = pc.select_k_unstable(order, examples, sort_keys=[("uri", "ascending"), ("row", "ascending")])
        new = [
            Example(*key, place(one["_source"]), one["value"], one["threshold"], one["detail"] or "")
            for one in mine.take(first).to_pylist()
        ]
        found.places[key] = sorted(found.places.get(key, []) + new, key=lambda one: _natural(one.source))[
            :examples
        ]


def _note_twins(found: _Ledger, rows: pa.Table, clusters: int) -> None:
    # A twin with the row's own id is an exact repeat: there is nothing to compare.
    near = rows.filter(pc.is_valid(pc.field("twin")) & (pc.field("twin") != pc.field("_id")))
    if not near.num_rows:
        return
    likeness = pc.coalesce(near.column("exact"), near.column("estimated"), pa.scalar(1.0))
    least = pc.fill_null(near.column("threshold"), 0.0)
    span = pc.max_element_wise(pc.subtract(1.0, least), 1e-9)
    share = pc.multiply(pc.divide(pc.subtract(likeness, least), span), float(_BINS))
    bins = pc.min_element_wise(pc.max_element_wise(pc.floor(share), 0.0), _BINS - 1.0).cast(pa.int8())
    keys = pa.table({"bin": bins, "step": near.column("step")}).group_by(["bin", "step"]).aggregate([])
    for number, step in zip(keys["bin"].to_pylist(), keys["step"].to_pylist(), strict=True):
        here = pc.and_(pc.equal(bins, number), pc.equal(near.column("step"), step))
        mine = near.select(["_id", "twin"]).filter(here)
        first = mine.take(pc.select_k_unstable(mine, clusters, sort_keys=[("_id", "ascending")]))
        pairs = list(zip(*(first.column(name).to_pylist() for name in ("_id", "twin")), strict=True))
        found.near[number, step] = sorted(set(found.near.get((number, step), []) + pairs))[:clusters]


def _clusters(lake: Lake, tables: list[str], ledger: _Ledger, pipeline: str, most: int) -> tuple[Cluster, ...]:
    chosen = list(dict.fromkeys(twin for _, twin in _round_robin(ledger.near)))[:most]
    if not chosen:
        return ()
    lead = {twin: id_ for id_, twin in reversed(_round_robin(ledger.near))}
    condition = (pc.field("pipeline") == pipeline) & pc.field("twin").isin(chosen)
    dropped: dict[str, list[dict[str, Any]]] = {twin: [] for twin in chosen}
    more = dict.fromkeys(chosen, 0)
    for batch in lake.table("_drops").scan(columns=_DROP_COLUMNS, filter=condition):
        for row in batch.to_pylist():
            twin = row["twin"]
            if row["_id"] == twin or any(row["_id"] == other["_id"] for other in dropped[twin]):
                continue
            # The row that this cluster was chosen for stays in; the others by id.
            keep = sorted([*dropped[twin], row], key=lambda one: (one["_id"] != lead[one["twin"]], one["_id"]))
            dropped[twin] = keep[:TWINS]
            more[twin] += len(keep) > TWINS
    wanted = {row["_id"] for rows in dropped.values() for row in rows} | set(chosen)
    records = _records(lake.table(tables[0]), wanted)
    return tuple(
        Cluster(
            kept=records.get(twin, Shown(twin, "")),
            twins=tuple(
                Twin(
                    row=records.get(row["_id"], Shown(row["_id"], place(row["_source"]), row["label"])),
                    step=row["step"],
                    rule=row["rule"],
                    exact=row["exact"],
                    estimated=row["estimated"],
                    threshold=row["threshold"],
                )
                for row in dropped[twin]
            ),
            more=more[twin],
        )
        for twin in chosen
        if dropped[twin]
    )


def _round_robin(near: Mapping[tuple[int, str], list[tuple[str, str]]]) -> list[tuple[str, str]]:
    """Pairs from all steps and bins in turn, the middle bins first."""
    steps = sorted({step for _, step in near})
    rows = [near.get((number, step), []) for number in _BIN_ORDER for step in steps]
    longest = max(map(len, rows), default=0)
    return [row[at] for at in range(longest) for row in rows if at < len(row)]


# ------------------------------------------------------------------------------------------ families


def _families(lake: Lake, name: str, most: int) -> tuple[Family, ...]:
    table = lake.table(name)
    if "_copy" not in table.schema().names or most < 1:
        return ()
    smallest: dict[str, list[str]] = {}  # label -> ids
    for batch in table.scan(columns=["_id", "label"], filter=pc.field("_copy") == 1):
        rows = pa.table(batch)
        for label in pc.unique(rows.column("label")).to_pylist():
            mask = pc.is_null(rows.column("label")) if label is None else pc.equal(rows.column("label"), label)
            ids = pc.filter(rows.column("_id"), mask).to_pylist()
            smallest[label or ""] = heapq.nsmallest(most, {*ids, *smallest.get(label or "", [])})
        if len(smallest) > _MOST_LABELS:  # free text in the label column: any of them will do
            smallest = dict(heapq.nsmallest(_MOST_LABELS, smallest.items()))
    ranked = [(at, label, ids[at]) for label, ids in smallest.items() for at in range(len(ids))]
    chosen = [id_ for _, _, id_ in sorted(ranked)[:most]]
    rows = table.to_table(filter=pc.field("_id").isin(chosen)).to_pylist() if chosen else []
    return tuple(filter(None, (_family([row for row in rows if row["_id"] == id_]) for id_ in chosen)))


_MOST_LABELS = 1_000


def _family(rows: list[dict[str, Any]]) -> Family | None:
    rows = sorted(rows, key=lambda row: row["_copy"])
    originals = [row for row in rows if row["_copy"] == 0]
    if not originals:
        return None
    copies = [row for row in rows if row["_copy"] > 0][:COPIES]
    return Family(
        original=_shown(originals[0]),
        copies=tuple(Copy(row["_copy"], row.get("_augmented") or "", _shown(row)) for row in copies),
    )


# ------------------------------------------------------------------------------------------- records


def _records(table: Any, ids: Iterable[str]) -> dict[str, Shown]:
    columns = ["_id", "_source", "text", "image", "label"]
    few = Ids(pa.array(sorted(ids), pa.string()))

    def of(part: Part) -> list[dict[str, Any]]:  # the ids of all rows, the records of a few
        found, start = [np.empty(0, np.int64)], 0
        for batch in table.read_part(part, ["_id"]):
            found.append(start + few.find(batch.column("_id")))
            start += batch.num_rows
        rows = np.concatenate(found)
        return table.read_rows(part, rows, columns).to_pylist() if len(rows) else []

    with ThreadPoolExecutor(cores()) as pool:
        return {row["_id"]: _shown(row) for rows in pool.map(of, table.parts()) for row in rows}


def _shown(row: Mapping[str, Any]) -> Shown:
    from pipeline.report.pictures import picture  # Pillow: a run of texts needs none of it

    text = row.get("text")
    return Shown(
        id=row["_id"],
        source=place(row.get("_source")),
        label=row.get("label"),
        text=None if text is None else text[:MOST_TEXT],
        image=None if row.get("image") is None else picture(row["image"]),
    )


def place(source: Mapping[str, Any] | None) -> str:
    """``file:row`` of a source, the file by its last two parts.

    >>> place({"uri": "/data/in/reviews/part-3.jsonl", "row": 17})
    'reviews/part-3.jsonl:17'
    """
    if not source or not source.get("uri"):
        return ""
    file = "/".join(str(source["uri"]).split("/")[-2:])
    return file if source.get("row") is None else f"{file}:{source['row']}"


def _natural(source: str) -> tuple[str, int]:
    """Row 9 before row 10."""
    file, _, row = source.rpartition(":")
    return (file, int(row)) if row.isdigit() else (source, 0)
