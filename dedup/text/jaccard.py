"""Near-duplicate texts, all of them: an exact similarity join."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup import sketch as sketching
from dedup.select import Edges
from dedup.sketch import Corpus, Piece
from dedup.text.join import Pairs, cost, join, twins
from dedup.text.match import TextMatch, shingle_column
from dedup.text.shingle import SPEC, shingle_sets
from lake.machine import cores

__all__ = ["Jaccard"]


class Jaccard(TextMatch):
    """Drop a text where a kept one is similar; every pair of similar texts is found.

    >>> Jaccard(threshold=0.8).explain()
    'Jaccard >= 0.8 of word 5-grams: every such pair is found'

    The same rows, the same similarity and the same rule as :class:`dedup.MinHash`, without its misses: a prefix
    filter (:mod:`dedup.text.join`) leaves out only pairs that cannot be similar. It needs the shingle sets of
    all texts at hand, in memory or in mapped files: about two thirds of the size of the texts. Of rows with
    equal sets the edges name the first in keep order only. To decide takes fewer pairs: see :meth:`twins`.
    """

    joins: ClassVar[bool] = True
    wide_columns: ClassVar[tuple[str, ...]] = ("shingles",)

    pairs: Literal["all", "twins"] = "all"
    """What a pipeline finds and stores: ``all`` pairs of similar texts; or ``twins``, of each text that goes
    the pair with its kept twin, for where all pairs would be too many. The same texts go. With ``twins`` a run
    walks over all texts anew, and ``gristmill dedup rethreshold`` has nothing to work with."""

    @property
    def walks(self) -> bool:
        """See :class:`dedup.match.Match`."""
        return self.pairs == "twins"

    @property
    def key_count(self) -> int:
        """None: candidates come of the join."""
        return 0

    def explain(self) -> str:
        """Say in one line what is found."""
        found = "every such pair is found"
        if self.walks:
            found = "every text with a kept twin is found and stored with it, no other pair (pairs: twins)"
        return f"Jaccard >= {self.threshold:g} of {self.unit} {self.ngram}-grams: {found}"

    def seconds(self, size: float) -> float:
        """See :class:`dedup.text.match.TextMatch`."""
        return cost(size, self.threshold)

    def advise(self, size: float) -> str:
        """See :class:`dedup.text.match.TextMatch`."""
        from dedup.text.minhash import MinHash

        banded = MinHash(threshold=self.threshold, ngram=self.ngram, unit=self.unit)
        what = "in each run who goes, for" if self.walks else "pairs of"
        return (
            f"{what} {size / 1e6:,.0f} MB of text in about {self.seconds(size):,.1f} s, none missed; "
            f"dedup.MinHash takes about {banded.seconds(size):,.1f} s: {banded.explain()}"
        )

    def settings(self) -> dict[str, object]:
        """See :class:`dedup.match.Match`."""
        return {"step": "dedup.Jaccard", "spec": SPEC, "ngram": self.ngram, "unit": self.unit}

    def sketch(self, table: pa.Table) -> pa.Table:
        """Give shingle set and keep columns of each row that has a text.

        Returns:
            ``_id``; ``shingles``: large_binary of uint32, sorted, distinct; the keep columns as
            ``keep_<name>``. How they were made stands in the metadata.

        Raises:
            ConfigError: a column of the keep order is missing or has no order.
            SchemaError: the table has no column ``text``, or it holds no text.
        """
        return self._sketch(table, None, cores())

    def piece(
        self,
        table: pa.Table,
        rows: npt.NDArray[np.int64] | None = None,
        threads: int | None = None,
        *,
        stays: bool = True,  # noqa: ARG002  (all sets are made at once)
    ) -> Piece:
        """See :meth:`dedup.match.Match.piece`."""
        return sketching.piece(self._sketch(table, rows, threads or cores()))

    def _sketch(self, table: pa.Table, rows: npt.NDArray[np.int64] | None, threads: int) -> pa.Table:
        text, rows, columns = self.rows(table, rows)
        offsets, hashes = shingle_sets(text, self.ngram, self.unit, rows=rows, threads=threads)
        columns["shingles"] = shingle_column(offsets, hashes)
        return sketching.label(pa.table(columns), self.settings())

    def edges(
        self, corpus: Corpus, fresh: npt.NDArray[np.bool_] | None = None, threads: int | None = None
    ) -> Edges:
        """See :meth:`dedup.match.Match.edges`."""
        return _joined(
            corpus,
            lambda places, sizes: join(places, sizes, self.threshold, new=fresh, threads=threads or cores()),
        )

    def twins(self, corpus: Corpus, threads: int | None = None) -> Edges:
        """See :meth:`dedup.match.Match.twins`: by a walk that makes no pair of two rows that go."""
        return _joined(
            corpus, lambda places, sizes: twins(places, sizes, self.threshold, threads=threads or cores())
        )


def _joined(corpus: Corpus, how: Callable[[npt.NDArray[np.uint64], npt.NDArray[np.int64]], Pairs]) -> Edges:
    """Find pairs among the shingle sets of all rows."""
    [(places, sizes)], held = corpus.wide(np.arange(len(corpus), dtype=np.int64), "shingles")
    found = how(places, sizes // 4)
    del held  # until here the addresses had to stay good
    return Edges(found.left, found.right, found.similarity, found.similarity)
