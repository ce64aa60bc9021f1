"""Near-duplicate texts: MinHash finds candidates, exact Jaccard decides."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from dedup import sketch as sketching
from dedup.sketch import Piece
from dedup.text import bands
from dedup.text.match import TextMatch, shingle_column
from dedup.text.shingle import SPEC, shingle_sets
from dedup.text.signatures import signatures, sketches, sorted_sets
from lake.machine import cores
from lake.native import kernels

__all__ = ["MinHash"]

_verify_kernels = kernels("dedup.text._verify_kernels")

_SHOWN = (0.7, 0.8, 0.9)
_SECONDS = 0.30 / 221.7e6  # for a byte of text: signatures, pairs and verification (benchmarks/results/join.md)
_UNTOUCHED = np.uint32(0xFFFFFFFF)


class MinHash(TextMatch):
    """Drop a text where a kept one is similar: MinHash finds candidates, exact Jaccard decides.

    >>> MinHash(threshold=0.8).explain()  # doctest: +ELLIPSIS
    'Jaccard >= 0.8 of word 5-grams; 18 bands of 7 (128 permutations) find 78.7 % at 0.7, 98.6 % at 0.8, ...'

    The rule of who goes stands in :mod:`dedup.select`, the definition of the shingles in
    :mod:`dedup.text.shingle`. Rows whose text is null, or has no token, are never duplicates.
    """

    wide_columns: ClassVar[tuple[str, ...]] = ("shingles", "signature")

    num_perm: Annotated[int, Field(ge=1, le=4096)] = 128
    """Values in a signature."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Of the permutations."""
    bands: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = None
    """Bands, and values in each. None: see :func:`dedup.text.bands.choose`."""

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

    def seconds(self, size: float) -> float:
        """See :class:`dedup.text.match.TextMatch`."""
        return size * _SECONDS

    def advise(self, size: float) -> str:
        """See :class:`dedup.text.match.TextMatch`."""
        from dedup.text.jaccard import Jaccard

        exact = Jaccard(threshold=self.threshold)
        missed = 100 * (1 - bands.probability(self.threshold, *self.shape))
        size_of = f"{size / 1e6:,.0f} MB of text"
        return (
            f"pairs of {size_of} in about {self.seconds(size):,.1f} s, missing {missed:.1f} % of those at "
            f"{self.threshold:g}; dedup.Jaccard misses none, in about {exact.seconds(size):,.1f} s"
        )

    @property
    def key_count(self) -> int:
        """See :class:`dedup.match.Match`."""
        return self.shape[0]

    def settings(self) -> dict[str, object]:
        """See :class:`dedup.match.Match`."""
        return {
            "step": "dedup.MinHash",
            "spec": SPEC,
            "num_perm": self.num_perm,
            "ngram": self.ngram,
            "unit": self.unit,
            "seed": self.seed,
            "bands": list(self.shape),
        }

    def sketch(self, table: pa.Table) -> pa.Table:
        """Give signature, shingle set, keys and keep columns of each row that has a text.

        Returns:
            ``_id``; ``signature``: fixed_size_binary of num_perm uint32; ``shingles``: large_binary of uint32,
            sorted, distinct; the keys ``band_00`` ...; the keep columns as ``keep_<name>``. How they were made
            stands in the metadata.

        Raises:
            ConfigError: a column of the keep order is missing or has no order.
            SchemaError: the table has no column ``text``, or it holds no text.
        """
        text, rows, columns = self.rows(table)
        signed, offsets, hashes = sketches(text, self.num_perm, self.seed, self.ngram, self.unit, rows=rows)
        columns |= self._signed(signed, np.diff(offsets) > 0)
        columns["shingles"] = shingle_column(offsets, hashes)
        return sketching.label(pa.table(columns), self.settings())

    def piece(
        self,
        table: pa.Table,
        rows: npt.NDArray[np.int64] | None = None,
        threads: int | None = None,
        *,
        stays: bool = True,
    ) -> Piece:
        """Sign the rows; shingle sets are made later, of those rows only that have a candidate.

        They are made of the texts, or where those do not stay, of all hashes in the order of the text: two
        thirds of its size.
        """
        threads = threads or cores()
        text, rows, columns = self.rows(table, rows)
        scheme, grams = (self.num_perm, self.seed), (self.ngram, self.unit)
        if stays:
            signed = signatures(text, *scheme, *grams, rows=rows, threads=threads)
        else:
            signed, starts, hashed = sketches(text, *scheme, *grams, rows=rows, threads=threads, sets=False)
        # A text without a shingle has an untouched signature.
        columns |= self._signed(signed, ~(signed == _UNTOUCHED).all(axis=1))
        head = sketching.label(pa.table(columns), self.settings())
        if stays:

            def sets(chosen: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
                of = chosen if rows is None else rows[chosen]
                return shingle_sets(text, *grams, rows=of, threads=threads)

        else:
            sets = partial(sorted_sets, starts, hashed)

        def wide(chosen: npt.NDArray[np.int64]) -> tuple[pa.Table, npt.NDArray[np.int64]]:
            ascending = np.unique(chosen)  # in the order of the texts nothing has to be moved afterwards
            signature = head.column("signature").take(pa.array(ascending))
            taken = {"shingles": shingle_column(*sets(ascending)), "signature": signature}
            return pa.table(taken), np.searchsorted(ascending, chosen)

        return Piece(head, wide)

    def estimate(
        self,
        x: npt.NDArray[np.int32],
        y: npt.NDArray[np.int32],
        exact: npt.NDArray[np.float64],
        *places: npt.NDArray[np.uint64],
    ) -> npt.NDArray[np.float64]:
        """The share of equal values in the signatures."""
        out = np.empty(len(exact), np.float64)
        _verify_kernels.agreement(x, y, places[0], self.num_perm, out)
        return out

    def _signed(self, signed: npt.NDArray[np.uint32], valid: npt.NDArray[np.bool_]) -> dict[str, pa.Array]:
        keys = bands.keys(signed, *self.shape)
        width = pa.binary(4 * self.num_perm)
        column = pa.Array.from_buffers(width, len(signed), [None, pa.py_buffer(signed)])
        return {"signature": column, **sketching.band_columns(keys, valid)}
