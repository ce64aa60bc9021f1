"""What the matches of texts share: which rows have a text, and the exact comparison of two."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from dedup import keep as keeping
from dedup.keep import Keep
from dedup.match import Match, some
from dedup.pairs import renumbered
from dedup.select import Edges
from dedup.sketch import Corpus, near
from dedup.text.shingle import Unit, texts
from lake.errors import SchemaError
from lake.native import kernels
from lake.parallel import in_chunks

__all__ = ["TextMatch", "shingle_column"]

_kernels = kernels("dedup.text._kernels")
_verify_kernels = kernels("dedup.text._verify_kernels")

_CHUNK = 1 << 14  # pairs that a thread verifies at a time


class TextMatch(Match):
    """A match that compares the shingle sets of texts exactly."""

    copies: ClassVar[bool] = True
    wide_columns: ClassVar[tuple[str, ...]] = ("shingles",)
    """Of a sketch: the shingle sets, and what :meth:`estimate` needs."""

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The least Jaccard similarity of two texts of which one goes."""
    ngram: Annotated[int, Field(ge=1, le=64)] = 5
    """Units in a shingle."""
    unit: Unit = "word"
    """``word``, or ``char`` for characters."""
    keep: Keep = ("-length", "_id")
    """The keep order. ``length`` is the number of characters where no column has that name."""

    @abstractmethod
    def seconds(self, size: float) -> float:
        """About how long it takes to find and verify the pairs of ``size`` bytes of text, on one core."""

    @abstractmethod
    def advise(self, size: float) -> str:
        """Compare the two ways to find pairs, for ``size`` bytes of text."""

    def reads(self, schema: pa.Schema) -> list[str] | None:
        """See :meth:`dedup.match.Match.reads`; a dictionary is hashed as a whole, each entry once."""
        order = {key.removeprefix("-") for key in self.keep} - {"_id"}
        wanted = {"text", *order} if "length" in schema.names else {"text", *order} - {"length"}
        if not wanted <= set(schema.names) or not _is_plain(schema.field("text").type):
            return None
        return [name for name in schema.names if name in wanted]

    def rows(
        self, table: pa.Table, rows: npt.NDArray[np.int64] | None = None
    ) -> tuple[pa.ChunkedArray, npt.NDArray[np.int64] | None, dict[str, pa.ChunkedArray]]:
        """Take the rows that have a text, and the columns of their keep order.

        Args:
            table: records.
            rows: which of them; all unless given.

        Returns:
            The column of texts; which of them have part, None for all; ``_id`` and the keep columns of those.

        Raises:
            ConfigError: a column of the keep order is missing or has no order.
            SchemaError: the table has no column ``text``, or it holds no text.
        """
        step = type(self).__name__
        if "text" in table.schema.names and pa.types.is_dictionary(table.schema.field("text").type):
            table, rows = some(table, rows), None  # of a million rows there may be one text
        if "text" not in table.schema.names:
            raise SchemaError(f"{step} needs a column text", hint="name it by `text:` at the source")
        kind = table.schema.field("text").type
        if pa.types.is_null(kind) or pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
            place = table.schema.get_field_index("text")  # Arrow cannot take rows from these
            plain = pa.large_binary() if pa.types.is_binary_view(kind) else pa.large_string()
            table = table.set_column(place, "text", table.column("text").cast(plain))
        text = table.column("text")
        if not _is_text(text.type):
            raise SchemaError(
                f"a column of type {kind} holds no text", hint="give a column of strings, or cast this one"
            )
        derived: dict[str, Callable[[], pa.Array]] = {"length": lambda: _length(text)}
        columns = {"_id": table.column("_id").cast(pa.string()), **keeping.columns(table, self.keep, derived)}
        if text.null_count:
            there = np.flatnonzero(text.is_valid().to_numpy())
            rows = there if rows is None else np.intersect1d(rows, there, assume_unique=True)
        if rows is not None and len(rows) < len(text):  # the texts stay where they are
            chosen = pa.array(rows)
            columns = {name: column.take(chosen) for name, column in columns.items()}
        return text, rows, columns

    def verify(
        self, corpus: Corpus, left: npt.NDArray[np.int32], right: npt.NDArray[np.int32], threads: int = 1
    ) -> Edges:
        """See :meth:`dedup.match.Match.verify`."""
        used, x, y = renumbered(left, right, len(corpus))
        [(places, sizes), *more], held = corpus.wide(used, *self.wide_columns)
        places, sets = near(places, sizes) if corpus.far else (places, None)
        exact = np.empty(len(left), np.float64)
        in_chunks(
            threads,
            len(left),
            _CHUNK,
            lambda a, b: _verify_kernels.verify(
                x[a:b], y[a:b], places, sizes // 4, float(self.threshold), exact[a:b]
            ),
        )
        del sets
        found = np.flatnonzero(exact >= self.threshold)
        similar, x, y = renumbered(x[found], y[found], len(used))
        columns = [(place[similar], size[similar]) for place, size in more]
        others = [near(*column) if corpus.far else column for column in columns]
        estimated = self.estimate(x, y, exact[found], *(place for place, _ in others))
        del held, others  # until here the addresses had to stay good
        return Edges(left[found].astype(np.int64), right[found].astype(np.int64), exact[found], estimated)

    def estimate(
        self,
        x: npt.NDArray[np.int32],  # noqa: ARG002  (for those that do estimate)
        y: npt.NDArray[np.int32],  # noqa: ARG002
        exact: npt.NDArray[np.float64],
        *places: npt.NDArray[np.uint64],  # noqa: ARG002
    ) -> npt.NDArray[np.float64]:
        """What the sketch makes of the similarity of pairs; the exact one where it makes nothing."""
        return exact


def shingle_column(offsets: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint32]) -> pa.LargeBinaryArray:
    """Shingle sets as bytes: sorted distinct uint32 in the machine's order."""
    buffers = [None, pa.py_buffer(4 * offsets), pa.py_buffer(hashes)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return _is_plain(kind)


def _is_plain(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def _length(text: pa.ChunkedArray) -> pa.Array:
    """Characters; of bytes, which need not be UTF-8, their number."""
    if pa.types.is_dictionary(text.type):  # of each entry once: all texts together may have more than 2 GiB
        found = [_length(pa.chunked_array([chunk.dictionary])).take(chunk.indices) for chunk in text.chunks]
        return pa.chunked_array(found, pa.int64()).combine_chunks()
    if pa.types.is_binary(text.type) or pa.types.is_large_binary(text.type):
        return pc.binary_length(text).combine_chunks().cast(pa.int64())
    counts, start = np.zeros(len(text), np.int64), 0
    for chunk in texts(text):
        _kernels.characters(chunk.data, chunk.offsets, counts[start : start + len(chunk.valid)])
        start += len(chunk.valid)
    return pa.array(counts, mask=text.is_null().to_numpy() if text.null_count else None)
