"""Looking for forgotten ids in every file of a lake: what is to be deleted, and the proof that nothing is left.

Parquet files are decoded, since ids are compressed there; of all files the bytes are searched too: logs, pages,
checkpoints, sketches, scratch.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.lake import Lake
from lake.machine import cores
from lake.storage import Entry
from pipeline.forget.digits import DIGITS, ID_DIGITS, every_window, likely_windows, runs_in, words_at
from pipeline.forget.known import Known, digest
from pipeline.forget.scrub import named_in
from pipeline.matching.sieve import Ids

__all__ = ["Proof", "Search", "prove"]

_BLOCK = 4 << 20


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

    @cached_property
    def _others(self) -> frozenset[str]:
        """The digests of ids that nobody knows any more: each value that may be one has to be hashed."""
        return frozenset(self.known.digests) - {digest(each) for each in self.ids}

    @cached_property
    def _few(self) -> Ids:
        return Ids(pa.array(sorted(self.ids), pa.string()))

    @cached_property
    def _words(self) -> npt.NDArray[np.uint64]:
        """How the ids begin."""
        long = [each.encode() for each in self.ids if len(each) == ID_DIGITS]
        return words_at(b"".join(long), np.arange(0, ID_DIGITS * len(long), ID_DIGITS))

    def holds(self, entry: Entry) -> bool:
        """Whether a file of the lake names a forgotten id."""
        return self.lake.storage.ask(entry.path, lambda: self._holds(entry))

    def _holds(self, entry: Entry) -> bool:
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
                    if any(self._is_one(rows.column(name)) for name in names):
                        return True
                    if any(self._named(text) for name in other for text in _texts(rows.column(name))):
                        return True
        except pa.ArrowInvalid:
            return False  # half a file: its bytes are searched
        return False

    def _is_one(self, ids: pa.ChunkedArray) -> bool:
        """Whether a column of ids has one."""
        if len(self._few.find(ids)):
            return True
        return bool(self._others) and any(
            digest(each) in self._others for each in ids.unique().to_pylist() if each is not None
        )

    def _in_bytes(self, entry: Entry) -> bool:
        with self.lake.storage.open(entry.path) as source:
            tail = b""
            while block := source.read(_BLOCK):
                data = tail + block
                if self._named(data):
                    return True
                tail = _tail(data)
        return False

    def _named(self, data: bytes) -> bool:
        """Whether an id stands in bytes: those that are known at any place, the others at a likely one."""
        runs = runs_in(data)
        if not len(runs.starts):
            return False
        places = every_window(runs)
        for at in places[np.isin(words_at(data, places), self._words)].tolist():
            if data[at : at + ID_DIGITS].decode() in self.ids:
                return True
        return bool(self._others) and any(
            digest(data[at : at + ID_DIGITS].decode()) in self._others for at in likely_windows(runs).tolist()
        )


def _tail(data: bytes) -> bytes:
    """What of a block has to be seen with the next one: an id may be cut in two.

    Of a run of digits that goes on so much that the ids in it lie in the rest as they did.
    """
    run = len(data) - len(data.rstrip(DIGITS))
    if run < ID_DIGITS:
        return data[1 - ID_DIGITS :]
    return data[-(run - (run - ID_DIGITS + 1) // ID_DIGITS * ID_DIGITS) :]


def _writes(kind: pa.DataType) -> bool:
    """Whether values of a type may hold words: a column of numbers names nobody."""
    if kind.num_fields:
        return any(_writes(kind.field(number).type) for number in range(kind.num_fields))
    if pa.types.is_dictionary(kind):
        return _writes(kind.value_type)
    return not (pa.types.is_primitive(kind) or pa.types.is_null(kind))


def _texts(values: pa.Array | pa.ChunkedArray) -> Iterator[bytes]:
    """The words of a column, however nested: those of one column and level together, a line each."""
    for chunk in values.chunks if isinstance(values, pa.ChunkedArray) else [values]:
        kind = chunk.type
        if not len(chunk) or not _writes(kind):
            continue
        if pa.types.is_string(kind) or pa.types.is_binary(kind):
            there = chunk.drop_null()
            lines = pa.ListArray.from_arrays(pa.array([0, len(there)], pa.int32()), there)
            text = pc.binary_join(lines, "\n" if pa.types.is_string(kind) else b"\n")
            yield text.cast(pa.binary())[0].as_py()
        elif pa.types.is_struct(kind):
            for each in chunk.flatten():
                yield from _texts(each)
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            yield from _texts(chunk.flatten())
        elif pa.types.is_map(kind):
            yield from _texts(chunk.keys)
            yield from _texts(chunk.items)
        else:
            yield repr(chunk.to_pylist()).encode()


def prove(search: Search) -> Proof:
    """Search every file of the lake."""
    entries = search.lake.storage.entries()
    with ThreadPoolExecutor(cores()) as pool:
        held = list(pool.map(search.holds, entries))
    found = tuple(entry.path for entry, holds in zip(entries, held, strict=True) if holds)
    digests = {digest(each) for each in search.ids} | set(search.known.digests)
    return Proof(len(entries), sum(entry.size for entry in entries), len(digests), found)
