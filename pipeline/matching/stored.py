"""Sketches that stay in the lake, of which a run takes the rows that matter to it.

New rows have to be held against the keys of all earlier ones, and the pairs that are stored against their ids:
one look at each, a row group at a time, on all cores. What is taken is those rows that share a bucket with a
new one and those that a pair names; of the others nothing is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.sketch import BAND, Piece, Wide
from pipeline.matching.sieve import Ids, Keys, Rows, Sieve

__all__ = ["Stored", "keys_of", "pick", "some_of"]


class Stored(Piece):
    """The sketches of a source part as the index has them.

    Args:
        read: gives the narrow columns, a table for each row group.
        wide: see :class:`dedup.sketch.Piece`.
        rows: how many there are.
    """

    def __init__(self, read: Callable[[], Iterator[pa.Table]], wide: Wide, rows: int) -> None:
        self.__dict__.update(wide=wide, count=rows, _read=read)

    _read: Callable[[], Iterator[pa.Table]]
    count: int
    _some: tuple[pa.Table, Rows, npt.NDArray[np.bool_]]

    @cached_property
    def head(self) -> pa.Table:
        """The narrow columns of all rows."""
        return pa.concat_tables(self._read())

    def pick(self, sieves: Sequence[Sieve], named: Ids) -> None:
        """Take the rows that a sieve finds by their key of its band, and those that are named."""
        tables, rows, touched, start = [], [np.empty(0, np.int64)], [np.empty(0, np.bool_)], 0
        for group in self._read():
            shares = np.zeros(group.num_rows, np.bool_)
            for band, sieve in enumerate(sieves):
                keys, has = keys_of([group], band)
                shares[has[sieve.find(keys)]] = True
            takes = shares.copy()
            takes[named.find(group.column("_id"))] = True
            mine = np.flatnonzero(takes)
            tables.append(group.take(pa.array(mine)))
            rows.append(start + mine)
            touched.append(shares[mine])
            start += group.num_rows
        self.__dict__["_some"] = pa.concat_tables(tables), np.concatenate(rows), np.concatenate(touched)

    @property
    def picked(self) -> bool:
        """Whether the rows that matter are at hand."""
        return "_some" in self.__dict__ or "head" in self.__dict__

    @property
    def some(self) -> pa.Table:
        """The narrow columns of the rows that were taken; of all where all were read."""
        return self.head if "head" in self.__dict__ else self._some[0]

    def touched(self) -> Piece:
        """Of the rows that were taken those that share a bucket."""
        table, rows, shares = self._some
        mine = rows[shares]
        return Piece(table.filter(pa.array(shares)), lambda chosen: self.wide(mine[chosen]))


def keys_of(heads: Sequence[pa.Table], band: int) -> tuple[Keys, Rows]:
    """The keys of a band, and the rows (of all tables, one after the other) that have one."""
    name = BAND.format(band)
    column = pa.chunked_array([chunk for head in heads for chunk in head.column(name).chunks], pa.int64())
    if column.null_count:
        valid = np.flatnonzero(column.is_valid().to_numpy())
        return column.drop_null().to_numpy().view(np.uint64), valid
    return column.to_numpy().view(np.uint64), np.arange(len(column))


def some_of(piece: Piece) -> pa.Table:
    """The narrow columns of the rows that matter."""
    return piece.some if isinstance(piece, Stored) else piece.head


def pick(
    pieces: Sequence[Piece],
    sieves: Sequence[Sieve],
    named: pa.ChunkedArray,
    threads: int,
    most: Callable[[int], bool] = lambda _: True,
) -> bool:
    """Take from all pieces that lie in the lake.

    Args:
        pieces: those that are at hand are left as they are, and count.
        sieves: for the keys of each band.
        named: ids of rows that are taken too.
        threads: how many to use.
        most: whether so many rows may be held.

    Returns:
        Whether they may; otherwise not all were taken.
    """
    few = Ids(named)
    stored = [each for each in pieces if isinstance(each, Stored)]
    held = [each.head.num_rows for each in pieces if not isinstance(each, Stored)]

    def take(each: Stored) -> None:
        if most(sum(held)):
            each.pick(sieves, few)
            held.append(each.some.num_rows)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(take, stored))
    return most(sum(held))
