"""Records one by one: what is common to every format that is not read by columns."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from lake.ids import content_ids
from lake.op import Outcome
from lake.schema import DROPS, RECORD, SOURCE

__all__ = [
    "BadRowError",
    "Reading",
    "Rows",
    "canonical",
    "cell_value",
    "label_text",
    "sources",
    "table",
    "value_of",
]

TYPES = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "json": pa.string(),  # any value, as JSON text: boxes, say
    "binary": pa.binary(),  # base64 where a format has text only
}


class BadRowError(Exception):
    """This row cannot be a record: the rule, and a detail without its contents."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(rule, detail)
        self.rule = rule
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Reading:
    """The settings of ``lake.Files`` that readers need."""

    text: str | None
    image: str | None
    label: str | None
    columns: tuple[tuple[str, str], ...]
    max_row_bytes: int
    verify_images: bool
    max_pixels: int
    batch_bytes: int

    @property
    def schema(self) -> pa.Schema:
        """Of the record batches."""
        return pa.schema([*RECORD, *(pa.field(name, TYPES[kind]) for name, kind in self.columns)])

    @property
    def taken(self) -> frozenset[str]:
        """Names of the source that do not go into ``meta``."""
        named = {name for name in (self.text, self.image, self.label) if name is not None}
        return frozenset(named | {name for name, _ in self.columns})

    def missing(self) -> str:
        """The rule for a row without payload."""
        if self.image is None:
            return "missing-text"
        return "missing-image" if self.text is None else "missing-payload"


def sources(uri: str | list[str], rows: Any) -> pa.StructArray:
    """The ``_source`` column."""
    numbers = pa.array(rows, pa.int64())
    uris = pa.repeat(pa.scalar(uri), len(numbers)) if isinstance(uri, str) else pa.array(uri, pa.string())
    return pa.StructArray.from_arrays([uris, numbers], fields=list(SOURCE))


def table(how: Reading, columns: Mapping[str, Any], source: pa.Array) -> pa.Table:
    """A batch of records; ids are computed here, columns that are not given are null."""
    n = len(source)
    text, image = columns.get("text"), columns.get("image")
    if text is None and image is None:
        text = pa.nulls(n, pa.string())
    arrays = []
    for field in how.schema:
        if field.name == "_id":
            arrays.append(content_ids(text, image))
        elif field.name == "_source":
            arrays.append(source)
        else:
            given = columns.get(field.name)
            arrays.append(pa.nulls(n, field.type) if given is None else given)
    return pa.table(arrays, schema=how.schema)


class Rows:
    """Collects records and drops, and gives them as one outcome."""

    def __init__(self, how: Reading) -> None:
        self.how = how
        self.nbytes = 0
        self._clear()

    def _clear(self) -> None:
        self._values: list[tuple[Any, ...]] = []
        self._where: list[tuple[str, int | None]] = []
        self._drops: list[tuple[str, int | None, str, str | None]] = []
        self.nbytes = 0

    def add(
        self, uri: str, row: int, *, text: str | None = None, image: bytes | None = None,
        label: str | None = None, meta: str | None = None, typed: tuple[Any, ...] = (),
    ) -> None:  # fmt: skip
        """One record."""
        self._values.append((text, image, label, meta, *typed))
        self._where.append((uri, row))
        # Strings take up to four times this once they are UTF-8; batches are bounded, not measured.
        self.nbytes += 256 + len(text or "") + len(image or b"") + len(meta or "")

    def drop(self, uri: str, row: int | None, rule: str, detail: str | None = None) -> None:
        """One row that is no record; ``row`` is None for a file as a whole."""
        self._drops.append((uri, row, rule, detail))
        self.nbytes += 128

    @property
    def full(self) -> bool:
        """Time to :meth:`finish`."""
        return self.nbytes >= self.how.batch_bytes

    def __bool__(self) -> bool:
        return bool(self._values or self._drops)

    def finish(self) -> Outcome:
        """What was collected since the last time."""
        how = self.how
        columns = list(zip(*self._values, strict=True)) or [()] * (4 + len(how.columns))
        names = ["text", "image", "label", "meta", *(name for name, _ in how.columns)]
        given: dict[str, Any] = {}
        for index, name in enumerate(names):
            values = columns[index] if index < len(columns) else (None,) * len(self._values)
            given[name] = pa.array(values, how.schema.field(name).type)
        if all(value[1] is None for value in self._values):
            given.pop("image")  # an absent column is cheaper to hash
        source = sources([uri for uri, _ in self._where], [row for _, row in self._where])
        outcome = Outcome(table(how, given, source), dropped(self._drops))
        self._clear()
        return outcome


def dropped(rows: list[tuple[str, int | None, str, str | None]]) -> pa.Table:
    """The drop rows for (uri, row, rule, detail)."""
    if not rows:
        return DROPS.empty_table()
    uris, numbers, rules, details = zip(*rows, strict=True)
    known = {
        "_source": sources(list(uris), list(numbers)),
        "rule": pa.array(rules, pa.string()),
        "detail": pa.array(details, pa.string()),
    }
    return pa.table([known.get(f.name, pa.nulls(len(rows), f.type)) for f in DROPS], schema=DROPS)


def _pruned(value: Any) -> Any:
    """Without the keys whose value is null, at every depth; nulls in lists are values."""
    if isinstance(value, dict):
        return {key: _pruned(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_pruned(item) for item in value]
    return value


def canonical(values: Mapping[str, Any]) -> str | None:
    """The ``meta`` of a record: JSON with sorted keys and no spaces, without nulls; None if nothing is left.

    >>> canonical({"b": 1.0, "a": {"x": None}, "c": None})
    '{"a":{},"b":1.0}'

    Raises:
        ValueError: a number is not finite.
    """
    kept = _pruned(dict(values))
    if not kept:
        return None
    return json.dumps(kept, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def _kind(value: object) -> str:
    names = {bool: "bool", int: "int", float: "float", str: "string", dict: "object", list: "array"}
    return names.get(type(value), type(value).__name__)


def label_text(value: object, name: str) -> str | None:
    """A label, or the value of a string column, as text: 3 is "3", true is "true"."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return repr(value)
    raise BadRowError("wrong-type", f"column {name!r}: expected a string or a number, found {_kind(value)}")


_INT64 = range(-(2**63), 2**63)


def value_of(value: object, kind: str, name: str) -> Any:
    """A JSON value as the declared type of its column; None stays None.

    Raises:
        BadRowError: it is of another type.
    """
    if value is None:
        return None
    if kind == "string":
        return label_text(value, name)
    found = _AS[kind](value)
    if found is None:
        raise BadRowError("wrong-type", f"column {name!r}: expected {kind}, found {_kind(value)}")
    return found


def _as_bool(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _as_int64(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _INT64 else None


def _as_float64(value: object) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _as_timestamp(value: object) -> datetime | None:
    return timestamp(value) if isinstance(value, str) else None


def _json_text(value: object) -> str:
    """A value as JSON; a text that is JSON already stays as it is."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return json.dumps(value, ensure_ascii=False)
        return value
    return json.dumps(value, ensure_ascii=False)


def _bytes_of(value: object) -> bytes | None:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except ValueError:
        return None


def timestamp(value: str) -> datetime | None:
    """ISO 8601; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


_AS: dict[str, Callable[[object], Any]] = {
    "bool": _as_bool,
    "int64": _as_int64,
    "float64": _as_float64,
    "timestamp": _as_timestamp,
    "json": _json_text,
    "binary": _bytes_of,
}

_CELLS = {
    "int64": re.compile(r"[+-]?[0-9]{1,19}"),
    "float64": re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"),
}
_WORDS = {"true": True, "false": False, "1": True, "0": False}


def cell_value(cell: str, kind: str, name: str) -> Any:
    """A CSV cell as the declared type of its column; an empty one is None.

    Raises:
        BadRowError: it does not read as that type.
    """
    if cell == "":
        return None
    if kind == "bool" and cell.lower() in _WORDS:
        return _WORDS[cell.lower()]
    if kind in _CELLS and _CELLS[kind].fullmatch(cell):
        return value_of(int(cell) if kind == "int64" else float(cell), kind, name)
    if kind in {"string", "timestamp", "json", "binary"}:
        return value_of(cell, kind, name)
    raise BadRowError("wrong-type", f"column {name!r}: expected {kind}, found other text")


def interleave(first: Outcome, second: Outcome) -> Outcome:
    """Two outcomes of one file as one, in the order of their row numbers."""
    return Outcome(_by_row([first.table, second.table]), _by_row([first.drops, second.drops]))


def _by_row(parts: list[pa.Table]) -> pa.Table:
    parts = [part for part in parts if part.num_rows] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    joined = pa.concat_tables(parts)
    numbers = np.concatenate([_row_numbers(part) for part in parts])
    return joined.take(pa.array(np.argsort(numbers, kind="stable")))


def _row_numbers(part: pa.Table) -> Any:
    return np.concatenate([np.asarray(chunk.field("row")) for chunk in part.column("_source").chunks])
