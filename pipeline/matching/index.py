"""The index of a match: its sketches and verified pairs, kept in the lake as Delta tables.

``_bands_<name>`` has the keys of the rows, ``_sketches_<name>`` their signatures and sets, with one part for
each part of the table that the stage reads; ``_edges_<name>`` has the verified pairs. The name is a hash of all
that a sketch depends on (the version of the shingles, the options, the ops before it, the code): those that do
not compare never meet. Since an index part belongs to a source part, it goes with it: when rows are deleted, or
the table is rolled back, so is the index, in the next commit.

A run sketches only the parts that are new. New rows are compared with all earlier ones that share a bucket with
them; earlier pairs are taken as they were found. The outcome is that of comparing everything anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup import keep as keeping
from dedup.match import EDGES, STATE, Match, name_edges, number_edges
from dedup.pairs import MOST
from dedup.reselect import reselect
from dedup.sketch import Corpus, Piece, check, label
from lake.delta.parts import ROW_GROUP_BYTES, read_footer
from lake.errors import LakeError, SchemaError
from lake.lake import Change, Lake, Part
from lake.machine import cores
from pipeline.matching.sieve import Sieve
from pipeline.matching.stored import Stored, keys_of, pick, some_of

if TYPE_CHECKING:
    from pipeline.config import Config

__all__ = ["FOLLOWING", "TABLES", "Index", "Known", "emptied", "part_name", "stored"]

Rows = npt.NDArray[np.int64]

_GROUP_BYTES = 1 << 20  # of a row group of sketches: a new row that resembles an old one reads that much
_NOTE = "sketch"


FOLLOWING = ("_bands_", "_sketches_")
"""What the names of tables begin with that have a part for each part of another table."""
TABLES = (*FOLLOWING, "_edges_")
"""What the names of the tables of an index begin with."""


def emptied(lake: Lake, name: str) -> list[Change]:
    """Take everything out of an index that is not used any more."""
    tables = (lake.table(f"{prefix}{name}") for prefix in TABLES)
    return [
        Change(table.name, table.schema(), (), parts)
        for table in tables
        if table.exists and (parts := tuple(table.parts()))
    ]


def part_name(source: Part) -> str:
    """The name of the index part that belongs to a source part."""
    return f"s-{hashlib.blake2b(source.path.encode(), digest_size=12).hexdigest()}"


@dataclass(frozen=True)
class Known:
    """Who is known already: the index part of each source part that has one, and those whose source is gone."""

    parts: dict[str, Part]
    stale: tuple[Part, ...]


@dataclass(frozen=True)
class Index:
    """Where the sketches and pairs of one match are kept.

    Args:
        lake: the lake.
        match: the step.
        about: all else that a sketch depends on, as a JSON value.
    """

    lake: Lake
    match: Match
    about: str

    @property
    def name(self) -> str:
        """Tells the index from those whose sketches do not compare with its own."""
        depends = [self.about, self.match.settings(), self.match.keep, self.match.threshold]
        if self.match.walks:  # what is stored are not all pairs
            depends.append("twins")
        return hashlib.blake2b(json.dumps(depends, sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def bands(self) -> str:
        """The name of the table of keys, with all else that is narrow."""
        return f"_bands_{self.name}"

    @property
    def sketches(self) -> str:
        """The name of the table of sketches."""
        return f"_sketches_{self.name}"

    @property
    def edges(self) -> str:
        """The name of the table of verified pairs."""
        return f"_edges_{self.name}"

    def known(self, sources: Sequence[Part]) -> Known:
        """Find what is indexed of the parts of a table."""
        table = self.lake.table(self.bands)
        there = {part.path.removesuffix(".parquet"): part for part in table.parts()} if table.exists else {}
        wanted = {part_name(source): source.path for source in sources}
        return Known(
            {path: there[name] for name, path in wanted.items() if name in there},
            tuple(part for name, part in there.items() if name not in wanted),
        )

    def find(self, source: Part) -> tuple[Part, Part] | None:
        """The parts that :meth:`write` staged for a source part, if it did."""
        found = [self.lake.find_part(table, part_name(source)) for table in (self.bands, self.sketches)]
        return (found[0], found[1]) if found[0] and found[1] else None

    def write(self, source: Part, sketch: pa.Table) -> tuple[Part, Part]:
        """Stage the sketch of a source part: its narrow columns and its wide ones."""
        narrow = sketch.select([name for name in sketch.schema.names if name not in self.match.wide_columns])
        wide = sketch.select(list(self.match.wide_columns))
        notes = {_NOTE: json.dumps(self.match.settings(), sort_keys=True)}
        # Hashes are random bits: compression would only cost time. Ids are looked through by every later run.
        plain = {name for name in sketch.schema.names if not name.startswith("keep_")}

        def staged(table: str, columns: pa.Table, group_bytes: int) -> Part:
            return self.lake.write_part(
                table,
                part_name(source),
                [columns],
                columns.schema.remove_metadata(),
                notes=notes,
                plain=plain & set(columns.schema.names),
                group_bytes=group_bytes,
            )

        return staged(self.bands, narrow, ROW_GROUP_BYTES), staged(self.sketches, wide, _GROUP_BYTES)

    def read(self, part: Part) -> Piece:
        """Reach for the sketches of a source part: they are read when they are needed, and as far.

        Raises:
            SchemaError: the part says that it was made otherwise; only a foreign hand can have put it there.
        """
        table, sketches = self.lake.table(self.bands), self.lake.table(self.sketches)
        staged = self.lake.find_part(self.bands, part.path.removesuffix(".parquet"))
        noted = json.loads(staged.notes.get(_NOTE, "null")) if staged else None
        empty = label(table.schema().empty_table(), noted or {})
        try:
            check([empty], self.match.settings())
        except SchemaError as error:
            hint = f"delete the tables {self.bands} and {self.sketches}; the next run makes them anew"
            where = f"{self.bands}/{part.path}"
            raise SchemaError(error.what, where=where, why=error.why, hint=hint) from error

        def read() -> Iterator[pa.Table]:
            yield empty
            for group in table.read_part(part):
                yield label(group, noted or {})

        def wide(rows: Rows) -> tuple[pa.Table, Rows]:
            twin = replace(part, table=self.sketches)
            return sketches.read_rows(twin, rows), np.arange(len(rows))

        return Stored(read, wide, part.rows)

    def whole(self, source: Part) -> pa.Table:
        """The sketches of a source part that is indexed, all of them, as :meth:`write` was given them.

        Raises:
            LakeError: they are gone.
            SchemaError: see :meth:`read`.
        """
        if (found := self.find(source)) is None:
            raise LakeError(
                "a part of the index is gone", where=f"{self.bands}: {source.path}", hint="run again"
            )
        head = self.read(found[0]).head
        wide = pa.concat_tables(self.lake.table(self.sketches).read_part(found[1]))
        for name in wide.schema.names:
            head = head.append_column(wide.schema.field(name), wide.column(name))
        return head

    def pairs(self) -> pa.Table:
        """The stored pairs."""
        table = self.lake.table(self.edges)
        return table.to_table().cast(EDGES) if table.exists else EDGES.empty_table()

    def stored(self) -> list[Part]:
        """The parts of the table of pairs."""
        table = self.lake.table(self.edges)
        return table.parts() if table.exists else []

    def compare(
        self, pieces: Sequence[Piece], new: Sequence[bool], known: Known, *, anew: bool = True
    ) -> tuple[pa.Table, bool] | None:
        """Find all verified pairs of the pieces, with as little comparing as will do, in this process.

        Args:
            pieces: of all source parts.
            new: which of them are not in the index yet.
            known: what is.
            anew: whether all may be compared with all, where the new ones alone will not do.

        Returns:
            A table of schema :data:`dedup.match.EDGES`, and whether the stored ones are among them unchanged;
            None where all have to be compared with all and may not.
        """
        match = self.match
        if not pieces:
            return EDGES.empty_table(), False
        if all(new):
            corpus = match.corpus(pieces)
            return name_edges(corpus, match.edges(corpus)), False
        before = self.pairs()
        if not any(new) and not known.stale:
            return before, True
        if not known.stale and (added := self.added(pieces, new, before)) is not None:
            return pa.concat_tables([before, added]), True
        if not anew:
            return None
        return self._anew(pieces, new, before, complete=not known.stale), False

    def added(
        self,
        pieces: Sequence[Piece],
        new: Sequence[bool],
        before: pa.Table,
        most: Callable[[int], bool] = lambda _: True,
    ) -> pa.Table | None:
        """The pairs with a new row; None where new rows are among the first of a crowded bucket.

        There they take the place of earlier ones, of whose pairs some are candidates no more.

        Args:
            pieces: of all source parts.
            new: which of them are not in the index yet.
            before: pairs whose rows are taken too, for :meth:`decide`.
            most: whether so many rows can be compared here; None is given where they cannot.
        """
        match = self.match
        if match.joins or not match.key_count:
            corpus = Corpus(pieces, match.keep)
            fresh = self._fresh(pieces, new)[corpus.order]
            if match.displaced(corpus, fresh):
                return None
            return name_edges(corpus, match.edges(corpus, fresh))
        heads = [each.head for each, fresh in zip(pieces, new, strict=True) if fresh]
        sieves = [Sieve(keys_of(heads, band)[0]) for band in range(match.key_count)]
        if not pick(pieces, sieves, _named(before), cores(), most):
            return None
        some = [each.touched() if isinstance(each, Stored) else each for each in pieces]
        corpus = Corpus(some, match.keep)
        fresh = self._fresh(some, new)[corpus.order]
        left, right, largest = match.candidates(corpus, fresh, cores())
        if largest > MOST and _displaced(corpus, fresh, match.key_count):
            return None
        return name_edges(corpus, match.verify(corpus, left, right, cores()))

    @staticmethod
    def _fresh(pieces: Sequence[Piece], new: Sequence[bool]) -> npt.NDArray[np.bool_]:
        """Of each row, of all pieces one after the other, whether it is new."""
        return np.repeat(np.array(new), [each.head.num_rows for each in pieces])

    def _anew(
        self, pieces: Sequence[Piece], new: Sequence[bool], before: pa.Table, *, complete: bool
    ) -> pa.Table:
        """All pairs again, of which those that were verified need not be verified again.

        ``complete``: no row has gone since, so that an old pair that is not stored is known to be dissimilar.
        """
        match = self.match
        corpus = match.corpus(pieces)
        if match.joins:
            return name_edges(corpus, match.edges(corpus))
        left, right, _ = match.candidates(corpus, None, cores())
        known = number_edges(corpus, before)
        asked, there = (
            x.astype(np.int64) * len(corpus) + y for x, y in ((left, right), (known.left, known.right))
        )
        order = np.argsort(there)
        place = np.searchsorted(there[order], asked)
        found = place < len(there)
        found[found] = there[order][place[found]] == asked[found]
        unknown = ~found
        if complete:
            fresh = self._fresh(pieces, new)[corpus.order]
            unknown &= fresh[left] | fresh[right]
        made = match.verify(corpus, left[unknown], right[unknown], cores())
        return name_edges(corpus, known.take(order[place[found]]).join(made))

    def decide(self, pieces: Sequence[Piece], pairs: pa.Table, gone: Sequence[pa.ChunkedArray]) -> pa.Table:
        """Select among the rows that earlier steps left.

        Args:
            pieces: of all source parts.
            pairs: all verified ones.
            gone: the ids of rows that earlier matches of the stage dropped.
        """
        if not pieces:
            return STATE.empty_table()
        if not all(each.picked for each in pieces if isinstance(each, Stored)):
            pick(pieces, (), _named(pairs), cores())
        names = ["_id", *keeping.names(self.match.keep)]
        nodes = pa.concat_tables([some_of(each).select(names) for each in pieces], promote_options="permissive")
        dead = pa.chunked_array([chunk for ids in gone for chunk in ids.chunks], pa.string())
        return reselect(pairs, nodes, self.match, gone=dead)

    def changes(
        self, added: Sequence[tuple[Part, Part]], known: Known, pairs: pa.Table, *, kept: bool, name: str
    ) -> list[Change]:
        """What a commit does to the two tables.

        Args:
            added: the new parts of keys and of sketches.
            known: what was there.
            pairs: all verified ones.
            kept: the stored ones are among them, first.
            name: of the part with pairs, if there are any to write.
        """
        found: list[Change] = []
        for at, name_of in enumerate((self.bands, self.sketches) if added or known.stale else ()):
            table = self.lake.table(name_of)
            new = tuple(each[at] for each in added)
            schema = table.schema() if table.exists else _schema_of(self.lake, new[0])
            paths = {part.path for part in known.stale}
            gone = tuple(part for part in table.parts() if part.path in paths) if table.exists else ()
            found.append(Change(name_of, schema, new, gone))
        table = self.lake.table(self.edges)
        old = tuple(table.parts()) if table.exists else ()
        stay = sum(part.rows for part in old) if kept else 0
        parts = []
        if pairs.num_rows > stay:
            parts.append(self.lake.write_part(self.edges, name, [pairs.slice(stay)], EDGES))
        if parts or (old and not kept) or not table.exists:
            found.append(Change(self.edges, EDGES, tuple(parts), () if kept else old))
        return found


def _displaced(corpus: Corpus, fresh: npt.NDArray[np.bool_], bands: int) -> bool:
    """Whether a new row is among the first of a bucket that has more: see :mod:`dedup.pairs`."""
    for band in range(bands):
        keys, rows = corpus.keys(band)
        order = np.lexsort((rows, keys))
        keys, rows = keys[order], rows[order]
        starts = np.flatnonzero(np.diff(keys, prepend=keys[:1] + np.uint64(1)))
        sizes = np.diff(starts, append=len(keys))
        place = np.arange(len(keys)) - np.repeat(starts, sizes)
        if (fresh[rows] & (place < MOST) & (np.repeat(sizes, sizes) > MOST)).any():
            return True
    return False


def _named(pairs: pa.Table) -> pa.ChunkedArray:
    """The ids of the rows of pairs."""
    ends = [chunk for name in ("left", "right") for chunk in pairs.column(name).chunks]
    return pa.chunked_array([pc.unique(pa.chunked_array(ends, pa.string()))])


def _schema_of(lake: Lake, part: Part) -> pa.Schema:
    """The schema of a staged part, as its file has it."""
    footer = read_footer(lake.storage, f"{part.table}/{part.path}")
    if footer is None:
        raise LakeError("a staged part of the index is gone", where=part.path, hint="run again")
    schema: pa.Schema = footer[0].schema.to_arrow_schema()
    return schema.remove_metadata()


def stored(config: Config, lake: Lake, step: str) -> tuple[pa.Table, pa.Table]:
    """Give the verified pairs of a step of a pipeline, and its rows with their keep columns.

    Args:
        config: the pipeline.
        lake: where it ran.
        step: the label, such as ``2 dedup.MinHash``.

    Returns:
        A table of schema :data:`dedup.match.EDGES`; a table of ``_id`` and ``keep_...``.

    Raises:
        LakeError: there is no index of the step as it is configured now.
    """
    from pipeline import __version__
    from pipeline.plan import stages_of

    for stage in stages_of(config):
        for at, (name, each) in enumerate(stage.steps):
            index = stage.index(lake, at, __version__) if name == step and isinstance(each, Match) else None
            if index is not None and lake.table(index.bands).exists:
                table = lake.table(index.bands)
                narrow = [name for name in table.schema().names if name == "_id" or name.startswith("keep_")]
                return index.pairs(), table.to_table(columns=narrow)
    raise LakeError(
        f"there is no index of step {step!r}", where=str(lake.uri), hint="run the pipeline first: gristmill run"
    )
