"""Which places leave with their files, and in which order the others count."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.stages.ingest import Mask

__all__ = ["CHANGED", "GONE", "LEFT", "Leaving", "in_files", "split_source"]

GONE, CHANGED = "source-gone", "source-changed"
LEFT = (GONE, CHANGED)
"""The rules of rows that left with their file: history, and no account of what is there."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Leaving:
    """Which places are no more, and in which order the others count.

    Args:
        first: by uri, the first row that leaves; 1 for all of them.
        gone: the files among these that are gone; the others are read again.
        sources: by uri, the number of the source that reads the file.
        refused: files that were to be read and could not be opened; none of their places leaves.
    """

    first: Mapping[str, int]
    gone: frozenset[str]
    sources: Mapping[str, int]
    refused: frozenset[str] = frozenset()

    @classmethod
    def of(cls, gone: Iterable[str], again: Mapping[str, int], sources: Mapping[str, int]) -> Leaving:
        """From what was seen of the files: see :class:`pipeline.sources.Seen`."""
        left = frozenset(gone)
        return cls({**again, **dict.fromkeys(left, 1)}, left, sources)

    def without(self, refused: Iterable[str]) -> Leaving:
        """The same without files that could not be opened after all: what was read of them before stays."""
        shut = frozenset(refused)
        first = {uri: row for uri, row in self.first.items() if uri not in shut}
        return replace(self, first=first, refused=shut)

    def mask(self, source: pa.ChunkedArray) -> Mask:
        """Of each place whether it leaves; shape (n,)."""
        uris, rows = split_source(source)
        if not self.first or not len(uris):
            return np.zeros(len(uris), np.bool_)
        which = pc.fill_null(
            pc.index_in(uris, value_set=pa.array(list(self.first), pa.string())), -1
        ).to_numpy()
        limits = np.array([*self.first.values(), np.iinfo(np.int64).max])
        left: Mask = np.maximum(rows, 1) >= limits[which]
        return left

    def places(self, table: pa.Table) -> pa.Table:
        """``_id``, source, uri and row of each place: sorted by these, the first of an id is its row."""
        uris, rows = split_source(table.column("_source"))
        number = pa.array(list(self.sources.values()), pa.int64())
        which = pc.index_in(uris, value_set=pa.array(list(self.sources), pa.string()))
        # A file that no source names any more is not there; what is said of it does not matter.
        source = pc.fill_null(pc.take(number, which), -1) if len(number) else pa.repeat(-1, len(uris))
        return pa.table({"_id": table.column("_id"), "source": source, "uri": uris, "row": pa.array(rows)})


def in_files(source: pa.ChunkedArray, uris: Collection[str]) -> Mask:
    """Of each place whether it is in one of the files; shape (n,)."""
    found = pc.is_in(split_source(source)[0], value_set=pa.array(sorted(uris), pa.string()))
    mask: Mask = found.to_numpy(zero_copy_only=False)
    return mask


def split_source(source: pa.ChunkedArray) -> tuple[pa.Array, Rows]:
    """The uris of places, and their rows; 0 for a file that is a row as a whole."""
    if not len(source):
        return pa.array([], pa.string()), np.empty(0, np.int64)
    uris = pc.struct_field(source, "uri").combine_chunks()
    rows: Rows = pc.fill_null(pc.struct_field(source, "row"), 0).combine_chunks().to_numpy()
    return uris, rows
