"""Near-duplicates by meaning: the step that compares embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from dedup import keep as keeping
from dedup import sketch as sketching
from dedup.crossed import crossed, narrow
from dedup.keep import Keep
from dedup.match import Match
from dedup.pairs import Candidates, renumbered
from dedup.select import Edges
from dedup.sketch import Corpus, Piece
from dedup.vector import planes as hyperplanes
from dedup.vector import vectors
from dedup.vector.all_pairs import across, all_pairs
from lake.errors import SchemaError
from lake.native import kernels
from lake.parallel import in_chunks

__all__ = ["Cosine"]

_kernels = kernels("dedup.vector._kernels")

SPEC = 1
"""Version of the quantisation and of the hyperplanes; sketches of another one are refused."""

_SHOWN = (0.9, 0.95, 0.99)
_CHUNK = 1 << 13  # pairs that a thread verifies at a time


class Cosine(Match):
    """Drop a row where the embedding of a kept one is similar: hyperplanes find candidates, cosines decide.

    >>> Cosine().explain()  # doctest: +ELLIPSIS
    'cosine >= 0.95 of embedding; 44 bands of 23 (1024 hyperplanes) find 71.7 % at 0.9, 98.1 % at 0.95, ...'
    >>> Cosine(exact=True).explain()
    'cosine >= 0.95 of embedding; each row is compared with all others: every pair is found'

    The embeddings are a column that an earlier step, or whoever made the table, has computed. They are compared
    as integers, see :mod:`dedup.vector.vectors`; the hyperplanes are defined in :mod:`dedup.vector.planes`, the
    rule of who goes in :mod:`dedup.select`. Rows without a vector (null, empty, all zero, with a null, NaN or
    infinity in it) are never duplicates.
    """

    wide_columns: ClassVar[tuple[str, ...]] = ("vector",)

    column: Annotated[str, Field(min_length=1)] = "embedding"
    """The column with the embeddings: lists of float16, float32 or float64, all of one length."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.95
    """The least cosine of two embeddings of which one goes."""
    exact: bool = False
    """Compare each row with all others: time grows with the square of the rows, and nothing is missed."""
    planes: Annotated[int, Field(ge=1, le=1 << 14)] = 1024
    """Random hyperplanes."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Of the hyperplanes."""
    bands: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1, le=hyperplanes.LONGEST)]] | None = None
    """Bands, and hyperplanes in each. None: see :func:`dedup.vector.planes.choose`."""
    keep: Keep = ("_id",)
    """The keep order. ``length`` is the number of characters of ``text`` where no column has that name."""

    @model_validator(mode="after")
    def _bands_fit(self) -> Self:
        if self.bands is not None and self.bands[0] * self.bands[1] > self.planes:
            raise ValueError(f"{self.bands[0]} bands of {self.bands[1]} need more than {self.planes} planes")
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """The bands, and the hyperplanes in each, that are used; none for an exact search."""
        return (0, 0) if self.exact else self.bands or hyperplanes.choose(self.threshold, self.planes)

    def odds(self) -> dict[float, float]:
        """Give the probability that a pair is found, by its cosine.

        >>> {c: round(p, 3) for c, p in Cosine().odds().items()}
        {0.9: 0.717, 0.95: 0.981, 0.99: 1.0}
        """
        shown = sorted({*_SHOWN, self.threshold})
        return {each: 1.0 if self.exact else hyperplanes.probability(each, *self.shape) for each in shown}

    def explain(self) -> str:
        """Say in one line what is found."""
        start = f"cosine >= {self.threshold:g} of {self.column}; "
        if self.exact:
            return start + "each row is compared with all others: every pair is found"
        count, rows = self.shape
        found = ", ".join(f"{100 * p:.1f} % at {c:g}" for c, p in self.odds().items())
        return start + f"{count} bands of {rows} ({self.planes} hyperplanes) find {found}"

    @property
    def key_count(self) -> int:
        """See :class:`dedup.match.Match`; 0 for an exact search, whose sketches have no keys."""
        return self.shape[0]

    def settings(self) -> dict[str, object]:
        """See :class:`dedup.match.Match`."""
        return {
            "step": "dedup.Cosine",
            "spec": SPEC,
            "column": self.column,
            "bands": list(self.shape),
            "seed": self.seed,
        }

    def sketch(self, table: pa.Table) -> pa.Table:
        """Give vector, keys and keep columns of each row that has an embedding.

        Returns:
            ``_id``; ``size``: int32, the values in a vector; ``vector``: large_binary of int16; the keys
            ``band_00`` ...; the keep columns as ``keep_<name>``. How they were made stands in the metadata.

        Raises:
            ConfigError: a column of the keep order is missing or has no order.
            SchemaError: the table has no such column, it holds no vectors, or vectors of different lengths.
        """
        if self.column not in table.schema.names:
            raise SchemaError(
                f"Cosine needs a column {self.column}",
                hint="compute it in an earlier step, or name it by `column:`",
            )
        ids = table.column("_id").cast(pa.string())
        found = vectors.read(table.column(self.column), ids, "Cosine")
        count, width = found.values.shape
        chosen = pa.array(found.rows)
        rows = table if count == table.num_rows else table.take(chosen)
        keys = hyperplanes.keys(found.values, *self.shape, self.seed)
        columns = {
            "_id": ids.take(chosen),
            "size": pa.array(np.full(count, width, np.int32)),
            "vector": vectors.column(found.values),
            **sketching.band_columns(keys, np.ones(count, np.bool_)),
            **keeping.columns(rows, self.keep, _derived(rows)),
        }
        return sketching.label(pa.table(columns), self.settings())

    def corpus(self, pieces: Sequence[Piece]) -> Corpus:
        """See :meth:`dedup.match.Match.corpus`.

        Raises:
            SchemaError: the pieces have vectors of different lengths.
        """
        # Pieces of an index may hold it back; the comparison looks at the length of what it compares anyway.
        sizes = [each.head.select(["_id", "size"]) for each in pieces if "size" in each.head.column_names]
        if len({size for each in sizes for size in pc.unique(each.column("size")).to_pylist()}) > 1:
            together = pa.concat_tables(sizes)
            lengths = together.column("size").to_numpy().astype(np.int64)
            vectors.check_lengths(together.column("_id"), lengths, "Cosine")
        return super().corpus(pieces)

    def candidates(
        self, corpus: Corpus, fresh: npt.NDArray[np.bool_] | None = None, threads: int = 1
    ) -> Candidates:
        """See :meth:`dedup.match.Match.candidates`; an exact search gives no others than similar pairs."""
        if not self.exact:
            return Candidates(*super().candidates(corpus, fresh, threads))
        places, width, held = self._vectors(corpus, np.arange(len(corpus)))
        found = all_pairs(places, width, self.threshold, fresh)
        del held  # until here the addresses had to stay good
        return found

    def cross(self, corpus: Corpus, test: npt.NDArray[np.bool_], threads: int = 1) -> Edges:
        """Find and verify the pairs of a row of which ``test`` is true with one of which it is not.

        An exact search finds each of them, of equal vectors too; for the other see :mod:`dedup.crossed`.
        """
        if self.exact:
            places, width, held = self._vectors(corpus, np.arange(len(corpus)))
            left, right = across(places, width, self.threshold, test)
            del held  # until here the addresses had to stay good
        else:
            left, right = narrow(*crossed(corpus.keys, self.key_count, test))
        return self.verify(corpus, left, right, threads)

    def verify(
        self, corpus: Corpus, left: npt.NDArray[np.int32], right: npt.NDArray[np.int32], threads: int = 1
    ) -> Edges:
        """See :meth:`dedup.match.Match.verify`."""
        used, x, y = renumbered(left, right, len(corpus))
        places, width, held = self._vectors(corpus, used)
        norms, cosine = np.empty(len(used), np.int64), np.empty(len(left), np.float64)
        _kernels.squares(places, width, norms)
        in_chunks(
            threads,
            len(left),
            _CHUNK,
            lambda a, b: _kernels.verify(
                x[a:b], y[a:b], places, width, norms, float(self.threshold), cosine[a:b]
            ),
        )
        del held  # until here the addresses had to stay good
        found = np.flatnonzero(cosine >= self.threshold)
        left, right, cosine = left[found], right[found], cosine[found]
        estimated = cosine if self.exact else self._estimate(corpus, left, right)
        return Edges(left.astype(np.int64), right.astype(np.int64), cosine, estimated)

    def _vectors(
        self, corpus: Corpus, positions: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint64], int, object]:
        """Where the vectors of some rows stand, how many values they have, and what keeps them there."""
        [(places, sizes)], held = corpus.wide(positions, "vector")
        vectors.check_lengths(corpus.ids.take(pa.array(positions)), sizes // 2, "Cosine")
        return places, int(sizes[0]) // 2 if len(sizes) else 0, held

    def _estimate(
        self, corpus: Corpus, left: npt.NDArray[np.int32], right: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.float64]:
        """What the hyperplanes between two vectors say of their cosine."""
        bands, rows = self.shape
        apart = np.zeros(len(left), np.int64)
        for band in range(bands):
            values, positions = corpus.keys(band)
            by_position = np.zeros(len(corpus), np.uint64)
            by_position[positions] = values
            apart += np.bitwise_count(by_position[left] ^ by_position[right])
        return hyperplanes.estimate(apart, bands * rows)


def _derived(rows: pa.Table) -> dict[str, Callable[[], pa.Array]]:
    if "text" not in rows.schema.names:
        return {}
    return {
        "length": lambda: (
            pc.utf8_length(rows.column("text").cast(pa.large_string())).combine_chunks().cast(pa.int64())
        )
    }
