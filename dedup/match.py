"""Near-duplicate texts: the step that drops them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, Field, model_validator

from dedup import bands, select
from dedup import keep as keeping
from dedup import sketch as sketching
from dedup.keep import Keep
from dedup.shingle import SPEC, Unit
from lake.errors import SchemaError
from lake.op import Barrier, Op, Outcome
from lake.schema import drops

__all__ = ["Drop", "MinHash"]

_SHOWN = (0.7, 0.8, 0.9)


class Drop(Op):
    """Drop the rows that a match decided on, each with its kept twin and both similarities."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    state: pa.Table
    """Of schema ``dedup.sketch.STATE``."""

    def apply(self, table: pa.Table) -> Outcome:
        """Keep the rows that the state does not name."""
        ids = table.column("_id").cast(pa.string())
        here = self.state.filter(pc.is_in(self.state.column("_id"), value_set=ids))
        place = pc.index_in(ids, value_set=here.column("_id"))
        goes = pc.is_valid(place)
        why = here.take(place.drop_null()).drop_columns("_id")
        columns = {name: why.column(name) for name in why.column_names}
        rule = columns.pop("rule")
        return Outcome(table.filter(pc.invert(goes)), drops(table.filter(goes), rule, **columns))


class MinHash(Barrier):
    """Drop a text where a kept one is similar: MinHash finds candidates, exact Jaccard decides.

    >>> MinHash(threshold=0.8).explain()  # doctest: +ELLIPSIS
    'Jaccard >= 0.8 of word 5-grams; 18 bands of 7 (128 permutations) find 78.7 % at 0.7, 98.6 % at 0.8, ...'

    The rule of who goes stands in :mod:`dedup.select`, the definition of the shingles in
    :mod:`dedup.shingle`. Rows whose text is null, or has no token, are never duplicates.
    """

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The least Jaccard similarity of two texts of which one goes."""
    num_perm: Annotated[int, Field(ge=1, le=4096)] = 128
    """Values in a signature."""
    ngram: Annotated[int, Field(ge=1, le=64)] = 5
    """Units in a shingle."""
    unit: Unit = "word"
    """``word``, or ``char`` for characters."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Of the permutations."""
    bands: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = None
    """Bands, and values in each. None: see :func:`dedup.bands.choose`."""
    keep: Keep = ("-length", "_id")
    """The keep order. ``length`` is the number of characters where no column has that name."""

    @model_validator(mode="after")
    def _bands_fit(self) -> Self:
        if self.bands is not None and self.bands[0] * self.bands[1] > self.num_perm:
            raise ValueError(
                f"{self.bands[0]} bands of {self.bands[1]} need more than {self.num_perm} permutations"
            )
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """The bands, and the values in each, that are used."""
        return self.bands or bands.choose(self.threshold, self.num_perm)

    def odds(self) -> dict[float, float]:
        """Give the probability that a pair is found, by its Jaccard similarity.

        >>> {j: round(p, 3) for j, p in MinHash(threshold=0.8).odds().items()}
        {0.7: 0.787, 0.8: 0.986, 0.9: 1.0}
        """
        return {similarity: bands.probability(similarity, *self.shape) for similarity in _SHOWN}

    def explain(self) -> str:
        """Say in one line what is found."""
        count, rows = self.shape
        found = ", ".join(f"{100 * p:.1f} % at {j:g}" for j, p in self.odds().items())
        return (
            f"Jaccard >= {self.threshold:g} of {self.unit} {self.ngram}-grams; {count} bands of {rows} "
            f"({self.num_perm} permutations) find {found}"
        )

    def sketch(self, table: pa.Table) -> pa.Table:
        """Give signature, shingle set and keep columns of each row that has a text.

        Returns:
            ``_id``; ``signature``: fixed_size_binary of num_perm uint32; ``shingles``: large_list<uint32>,
            sorted, distinct; the keep columns as ``keep.<name>``. How they were made stands in the metadata.

        Raises:
            ConfigError: a column of the keep order is missing or has no order.
            SchemaError: the table has no column ``text``, or it holds no text.
        """
        from dedup.minhash import sketches

        if "text" not in table.schema.names:
            raise SchemaError("MinHash needs a column text", hint="name it by `text:` at the source")
        kind = table.schema.field("text").type
        if pa.types.is_dictionary(kind) or pa.types.is_null(kind) or pa.types.is_string_view(kind):
            place = table.schema.get_field_index("text")
            table = table.set_column(place, "text", table.column("text").cast(pa.large_string()))
        rows = table.filter(pc.is_valid(table.column("text")))
        text = rows.column("text")
        signatures, offsets, hashes = sketches(text, self.num_perm, self.seed, self.ngram, self.unit)
        width = pa.binary(4 * self.num_perm)
        columns = {
            "_id": rows.column("_id").cast(pa.string()),
            "signature": pa.Array.from_buffers(width, len(rows), [None, pa.py_buffer(signatures)]),
            "shingles": pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(hashes)),
            **keeping.columns(
                rows, self.keep, {"length": pc.utf8_length(text).combine_chunks().cast(pa.int64())}
            ),
        }
        return sketching.label(pa.table(columns), self._settings())

    def resolve(self, sketches: Sequence[pa.Table]) -> pa.Table:
        """Decide who goes. See :mod:`dedup.select` for the rule.

        Args:
            sketches: of all rows, in any order and cut in any way; they may be memory-mapped files.

        Returns:
            A table of schema ``dedup.sketch.STATE``.

        Raises:
            SchemaError: a sketch was made with other settings or by another version.
        """
        sketching.check(sketches, self._settings())
        filled = [sketch for sketch in sketches if sketch.num_rows]
        if not filled:
            return sketching.STATE.empty_table()
        whole = pa.concat_tables(filled)  # by reference
        order = keeping.rank(whole.drop_columns(["signature", "shingles"]), self.keep)
        places, sizes = sketching.list_addresses(whole.column("shingles"))
        signatures = sketching.fixed(whole.column("signature"), np.uint32)
        count, rows = self.shape
        # One band at a time: all keys of ten million rows would be gigabytes.
        keys = (
            np.concatenate([bands.keys(part, band, rows) for part in signatures])[order]
            for band in range(count)
        )
        shared = select.buckets(keys, count, sizes[order] > 0)
        chosen = select.sets(shared, places[order], sizes[order], self.threshold)
        estimated = self._estimates(signatures, order[chosen.dropped], order[chosen.twin])
        return sketching.state(
            whole.column("_id"), order, chosen, threshold=self.threshold, estimated=estimated
        )

    def bind(self, state: pa.Table) -> Op:
        """Give the op that drops the rows of a decision."""
        return Drop(state=state)

    def _settings(self) -> dict[str, object]:
        return {
            "step": "dedup.MinHash",
            "spec": SPEC,
            "num_perm": self.num_perm,
            "ngram": self.ngram,
            "unit": self.unit,
            "seed": self.seed,
        }

    @staticmethod
    def _estimates(
        signatures: Sequence[npt.NDArray[np.generic]], left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        starts = np.cumsum([0, *(len(part) for part in signatures)])

        def rows(of: npt.NDArray[np.int64]) -> npt.NDArray[np.generic]:
            out = np.empty((len(of), signatures[0].shape[1]), np.uint32)
            part = np.searchsorted(starts, of, side="right") - 1
            for number in np.unique(part):
                mine = part == number
                out[mine] = signatures[number][of[mine] - starts[number]]
            return out

        estimates = np.empty(len(left), np.float64)
        for start in range(0, len(left), 65536):  # 64 MiB of signatures at a time
            stop = start + 65536
            estimates[start:stop] = (rows(left[start:stop]) == rows(right[start:stop])).mean(axis=1)
        return estimates
