"""Sketches: what a match remembers of rows, how it is labelled, and how many of them are looked at as one.

A sketch is a table with ``_id``, the keys (``band_00`` ...: int64, null for a row that is compared with none),
the columns of the keep order (``keep_...``) and *wide* columns (shingle sets, signatures, thumbnails). It may
be a memory-mapped file, a part of an index in a lake, or rows that are sketched only in part: so a
:class:`Piece` holds the narrow columns of all its rows and gives the wide ones of those that are asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup import keep as keeping
from lake.errors import SchemaError
from lake.native import kernels

__all__ = [
    "BAND",
    "Corpus",
    "Piece",
    "addresses",
    "band_columns",
    "check",
    "label",
    "near",
    "piece",
    "settings_of",
    "together",
]

_pair_kernels = kernels("dedup._pair_kernels")

BAND = "band_{:02}"
"""The name of a key's column."""
_LABEL = b"gristmill.sketch"
_MOST_BYTES = (1 << 31) - 1  # of an array of strings, whose offsets have 32 bits

Rows = npt.NDArray[np.int64]
Wide = Callable[[Rows], tuple[pa.Table, Rows]]
"""Of some rows of a piece: a table with the wide columns, and at which row of it each of them stands."""


@dataclass(frozen=True)
class Piece:
    """Sketches of some rows."""

    head: pa.Table
    wide: Wide


def piece(sketch: pa.Table) -> Piece:
    """Take a sketch that is all there; its wide columns are reached where they are, not copied."""
    return Piece(sketch, lambda rows: (sketch, rows))


def together(pieces: Sequence[Piece], threads: int = 1) -> Piece:
    """Take pieces as one; the wide columns of several are made on threads.

    Args:
        pieces: one or more, with the same columns.
        threads: how many to use.
    """
    starts = np.cumsum([0, *(each.head.num_rows for each in pieces)])

    def wide(rows: Rows) -> tuple[pa.Table, Rows]:
        which = np.searchsorted(starts, rows, side="right") - 1
        used = np.unique(which).tolist()
        mine = [np.flatnonzero(which == at) for at in used]
        jobs = [(pieces[at].wide, rows[own] - starts[at]) for at, own in zip(used, mine, strict=True)]
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(lambda job: job[0](job[1]), jobs))
        places, begin = np.empty(len(rows), np.int64), 0
        for own, (table, place) in zip(mine, found, strict=True):
            places[own] = begin + place
            begin += table.num_rows
        tables = [table for table, _ in found] or [pieces[0].wide(rows)[0]]
        return pa.concat_tables(tables, promote_options="permissive"), places

    if len(pieces) == 1:
        return pieces[0]
    return Piece(pa.concat_tables([each.head for each in pieces]), wide)


def label(table: pa.Table, settings: Mapping[str, object]) -> pa.Table:
    """Note in the schema how a sketch was made.

    >>> label(pa.table({"_id": ["a"]}), {"spec": 1}).schema.metadata
    {b'gristmill.sketch': b'{"spec": 1}'}
    """
    return table.replace_schema_metadata({_LABEL: json.dumps(settings, sort_keys=True).encode()})


def settings_of(table: pa.Table) -> str:
    """What :func:`label` noted; ``no label`` where it did not."""
    found: bytes = (table.schema.metadata or {}).get(_LABEL, b"no label")
    return found.decode()


def check(sketches: Iterable[pa.Table], settings: Mapping[str, object]) -> None:
    """Refuse sketches that were made in another way: their hashes do not compare.

    Raises:
        SchemaError: a sketch has no label or another one.
    """
    wanted = json.dumps(settings, sort_keys=True)
    for sketch in sketches:
        if (found := settings_of(sketch)) != wanted:
            raise SchemaError(
                "a sketch was made with other settings or by another version",
                why=f"it says {found}, this step says {wanted}",
                hint="make the sketch anew from its rows",
            )


def band_columns(keys: npt.NDArray[np.uint64], valid: npt.NDArray[np.bool_]) -> dict[str, pa.Array]:
    """Lay out keys as columns.

    Args:
        keys: uint64 of shape (bands, n).
        valid: False for a row that is compared with none; shape (n,).
    """
    mask = None if valid.all() else ~valid  # without one nothing is copied
    return {BAND.format(band): pa.array(key.view(np.int64), mask=mask) for band, key in enumerate(keys)}


def addresses(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.uint64], Rows]:
    """Tell where in memory each value of a column of bytes starts, and how many bytes it has."""
    places, sizes = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for chunk in column.chunks:
        kind, buffers = chunk.type, chunk.buffers()
        first = np.uint64(buffers[-1].address if buffers[-1] else 0)
        if pa.types.is_fixed_size_binary(kind):
            width = kind.byte_width
            start = (chunk.offset + np.arange(len(chunk), dtype=np.int64)) * width
            size = np.full(len(chunk), width, np.int64)
        else:
            form = np.int64 if pa.types.is_large_binary(kind) else np.int32
            place = chunk.offset * np.dtype(form).itemsize
            offsets = np.frombuffer(buffers[1], form, len(chunk) + 1, place).astype(np.int64)
            start, size = offsets[:-1], np.diff(offsets)
        places.append(first + start.astype(np.uint64))
        sizes.append(size)
    return np.concatenate(places), np.concatenate(sizes)


def near(places: npt.NDArray[np.uint64], sizes: Rows) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """Copy values from where they lie, in the order in which they lie: a file is read once, and forwards.

    Args:
        places: their addresses.
        sizes: their sizes in bytes.

    Returns:
        Their new addresses; and what has to be held for these to stay good.
    """
    order = np.argsort(places)
    ends = np.cumsum(sizes[order])
    starts = ends - sizes[order]
    out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    _pair_kernels.copy(places[order], sizes[order], starts, out)
    found = np.empty(len(places), np.uint64)
    found[order] = np.uint64(out.ctypes.data) + starts.astype(np.uint64)
    return found, out


class Corpus:
    """All rows that are compared, numbered in keep order.

    Args:
        pieces: their sketches.
        keep: the order.
        rows: of each piece the rows that take part; all unless given.
        order: the numbers of the rows in keep order where it is known; otherwise it is worked out.
        far: their wide columns are mapped files, perhaps larger than the memory: see :func:`near`.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        keep: Sequence[str],
        rows: Sequence[Rows] | None = None,
        *,
        order: Rows | None = None,
        far: bool = False,
    ) -> None:
        self.pieces, self.far = pieces, far
        heads = [each.head for each in pieces]
        counts = [head.num_rows for head in heads] if rows is None else [len(each) for each in rows]
        self._rows = rows
        self._starts = np.cumsum([0, *counts])
        names = ["_id", *keeping.names(keep)]
        narrow = pa.concat_tables(
            [
                head.select(names) if rows is None else head.select(names).take(pa.array(rows[at]))
                for at, head in enumerate(heads)
            ],
            promote_options="permissive",
        )
        self.order: Rows = keeping.rank(narrow, keep) if order is None else order
        """The numbers of the rows, of all pieces one after the other, in keep order; each ``_id`` once."""
        self._ids = narrow.column("_id")

    @classmethod
    def of(cls, pieces: Sequence[Piece], rows: Rows, *, far: bool = False) -> Corpus:
        """Take some rows whose order is known.

        Args:
            pieces: of all rows.
            rows: their numbers, of all pieces one after the other, in keep order.
            far: as above.
        """
        return cls(pieces, (), order=rows, far=far)

    def __len__(self) -> int:
        return len(self.order)

    @cached_property
    def ids(self) -> pa.Array:
        """The ids in keep order: strings, or large ones where there are more than 2 GiB of them."""
        wide = self._ids.nbytes > _MOST_BYTES and pa.types.is_string(self._ids.type)
        ids = self._ids.cast(pa.large_string()) if wide else self._ids
        taken = ids.take(pa.array(self.order))
        return pa.concat_arrays(taken.chunks) if taken.num_chunks else pa.array([], pa.string())

    @cached_property
    def position(self) -> npt.NDArray[np.int32]:
        """Of each row its place in keep order, -1 for one that came before."""
        place = np.full(int(self._starts[-1]), -1, np.int32)
        place[self.order] = np.arange(len(self.order), dtype=np.int32)
        return place

    def column(self, name: str) -> pa.ChunkedArray:
        """A narrow column, of all pieces one after the other."""
        found = []
        for at, each in enumerate(self.pieces):
            column = each.head.column(name)
            found.append(column if self._rows is None else column.take(pa.array(self._rows[at])))
        return pa.chunked_array([chunk for column in found for chunk in column.chunks], found[0].type)

    def keys(self, band: int) -> tuple[npt.NDArray[np.uint64], Rows]:
        """The keys of a band and the rows that have one, as :func:`dedup.pairs.banded` takes them."""
        column = self.column(BAND.format(band))
        if column.null_count:
            valid = column.is_valid().to_numpy()
            values, position = column.drop_null().to_numpy(), self.position[valid]
        else:
            values, position = column.to_numpy(), self.position
        there = position >= 0
        if not there.all():
            values, position = values[there], position[there]
        return values.view(np.uint64), position.astype(np.int64)

    def wide(self, positions: Rows, *names: str) -> tuple[list[tuple[npt.NDArray[np.uint64], Rows]], object]:
        """Where the wide columns of some rows stand in memory.

        Args:
            positions: in keep order.
            names: columns.

        Returns:
            For each column addresses and sizes in bytes, shape (positions,); and what keeps them in place.
        """
        rows = self.order[positions]
        which = np.searchsorted(self._starts, rows, side="right") - 1
        found = [(np.zeros(len(rows), np.uint64), np.zeros(len(rows), np.int64)) for _ in names]
        held = []
        for at in np.unique(which).tolist():
            mine = which == at
            local = rows[mine] - self._starts[at]
            table, place = self.pieces[at].wide(local if self._rows is None else self._rows[at][local])
            held.append(table)
            for (places, sizes), name in zip(found, names, strict=True):
                start, size = addresses(table.column(name))
                places[mine], sizes[mine] = start[place], size[place]
        return found, held
