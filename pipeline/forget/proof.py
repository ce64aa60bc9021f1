"""Looking for forgotten ids in every file of a lake: what is to be deleted, and the proof that nothing is left.

Parquet files are decoded, since ids are compressed there; of all files the bytes are searched too: logs, pages,
checkpoints, sketches, scratch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lake.lake import Lake
from lake.storage import Entry
from pipeline.forget.known import Known, digest
from pipeline.forget.scrub import named_in

__all__ = ["Proof", "Search", "prove"]

_DIGITS = 32
_BLOCK = 4 << 20
_HEX = np.zeros(256, np.bool_)
_HEX[list(b"0123456789abcdef")] = True


@dataclass(frozen=True)
class Proof:
    """What was searched, and where a forgotten id still stands.

    Attributes:
        files: of the lake, all of them.
        bytes: of these files.
        ids: that were looked for: those of this call and all that the lake has forgotten before.
        found: paths in the lake; none is what was to be proved.
    """

    files: int
    bytes: int
    ids: int
    found: tuple[str, ...] = field(default=())

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.found

    def __str__(self) -> str:
        what = f"searched {self.files:,} files, {self.bytes / 1e6:,.1f} MB, for {self.ids:,} ids"
        return f"{what}: {'none is there' if self.clean else 'still in ' + ', '.join(self.found)}"


@dataclass(frozen=True)
class Search:
    """What is looked for.

    Args:
        lake: where.
        ids: that are known.
        known: those of which the lake has only the digests.
    """

    lake: Lake
    ids: frozenset[str]
    known: Known

    def holds(self, entry: Entry) -> bool:
        """Whether a file of the lake names a forgotten id."""
        if entry.path.endswith(".parquet") and self._in_columns(entry):
            return True
        return self._in_bytes(entry)

    def _in_columns(self, entry: Entry) -> bool:
        try:
            with self.lake.storage.open(entry.path) as source, pq.ParquetFile(source) as file:
                schema = file.schema_arrow
                names = named_in(schema)
                own = entry.path.startswith("_") or "/_delta_log/" in entry.path
                other = [each.name for each in schema if own and each.name not in names and _writes(each.type)]
                for group in range(file.num_row_groups):
                    rows = file.read_row_group(group, columns=[*names, *other])
                    if any(self._any(rows.column(name).unique().to_pylist()) for name in names):
                        return True
                    if other and self._named(repr(rows.select(other).to_pylist()).encode()):
                        return True
        except pa.ArrowInvalid:
            return False  # half a file: its bytes are searched
        return False

    def _any(self, ids: Collection[str | None]) -> bool:
        return not self.ids.isdisjoint(ids) or bool(self.known.among(ids))

    def _in_bytes(self, entry: Entry) -> bool:
        with self.lake.storage.open(entry.path) as source:
            tail = b""
            while block := source.read(_BLOCK):
                if self._named(tail + block):
                    return True
                tail = (tail + block)[1 - _DIGITS :]
        return False

    def _named(self, data: bytes) -> bool:
        return any(self._any({*_windows(run)}) for run in _runs(data))


def _writes(kind: pa.DataType) -> bool:
    """Whether values of a type may hold words: a column of numbers names nobody."""
    if kind.num_fields:
        return any(_writes(kind.field(number).type) for number in range(kind.num_fields))
    if pa.types.is_dictionary(kind):
        return _writes(kind.value_type)
    return not (pa.types.is_primitive(kind) or pa.types.is_null(kind))


def _runs(data: bytes) -> Iterator[bytes]:
    """The longest runs of hexadecimal digits, those that are long enough for an id."""
    others = np.flatnonzero(~_HEX[np.frombuffer(data, np.uint8)])
    ends = np.append(others, len(data))
    starts = np.concatenate([[0], others + 1])
    for number in np.flatnonzero(ends - starts >= _DIGITS):
        yield data[starts[number] : ends[number]]


def _windows(run: bytes) -> Iterator[str]:
    """What may be an id in a run of hexadecimal digits: several stand side by side in an Arrow file."""
    text = run.decode()
    if len(text) <= 2 * _DIGITS:
        yield from (text[at : at + _DIGITS] for at in range(len(text) - _DIGITS + 1))
        return
    for first in (0, len(text) % _DIGITS):
        yield from (text[at : at + _DIGITS] for at in range(first, len(text) - _DIGITS + 1, _DIGITS))


def prove(search: Search) -> Proof:
    """Search every file of the lake."""
    entries = search.lake.storage.entries()
    found = tuple(entry.path for entry in entries if search.holds(entry))
    digests = {digest(each) for each in search.ids} | set(search.known.digests)
    return Proof(len(entries), sum(entry.size for entry in entries), len(digests), found)
