"""What the barriers of a stage decide: the survey of its parts, and the decision from all sketches."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

import pyarrow as pa

from dedup.match import EDGES, Match
from dedup.sketch import Piece, piece
from lake.delta.scan import part_tables
from lake.errors import ConfigError
from lake.lake import Change, Part, Scratch
from lake.op import Barrier
from pipeline.matching.index import Index, Known
from pipeline.matching.select import selected
from pipeline.matching.shuffle import Shuffle, fits, shuffled
from pipeline.stages import emitted, tasks
from pipeline.stages.context import Context
from pipeline.stages.tasks import Task

if TYPE_CHECKING:
    from dedup.spreading import Spread
    from pipeline.stages.stage import Stage

__all__ = ["Decider", "Decision"]

_MOST_ROWS = 2**31 - 1
"""Of one match: pairs name rows by their numbers, in four bytes."""


@dataclass(frozen=True)
class Decision:
    """What a barrier decided, how long the survey and the decision took, and what becomes of its index."""

    state: pa.Table
    seconds: float = 0.0
    changes: tuple[Change, ...] = ()
    index: str = ""
    """The name of its index, if it has one."""
    digests: tuple[str, ...] = ()
    """Of each input part: a hash of what was decided of its rows."""


@dataclass(frozen=True)
class _Due:
    """A match that is to decide.

    Args:
        at: its place among the steps.
        index: its index.
        sketched: of each new part the name of its sketch in the scratch, and the staged parts of the index.
        known: the others.
        earlier: what earlier barriers decided.
    """

    at: int
    index: Index
    sketched: Sequence[tuple[str, tuple[Part, Part]]]
    known: Known
    earlier: Sequence[pa.Table]

    @cached_property
    def stored(self) -> int:
        """How many pairs of earlier runs there are."""
        return sum(part.rows for part in self.index.stored())

    def of_sketches(self) -> tuple[Change, ...]:
        """What becomes of the tables of keys and of sketches."""
        added, none = [parts for _, parts in self.sketched], EDGES.empty_table()
        changes = self.index.changes(added, self.known, none, kept=False, name="")
        return tuple(change for change in changes if change.table != self.index.edges)


@dataclass(frozen=True)
class Decider:
    """Decides for the barriers of a stage, one after the other.

    Args:
        stage: the stage.
        context: where, and who does it.
        key: names what is staged.
        code: version of the code.
        parts: of the table that the stage reads.
    """

    stage: Stage
    context: Context
    key: str
    code: str
    parts: Sequence[Part]

    def all(self) -> dict[str, Decision]:
        """The decisions by step label; one that a killed run had staged is taken as it is."""
        found: dict[str, Decision] = {}
        for at, (label, step) in enumerate(self.stage.steps):
            if isinstance(step, Barrier):
                started = time.perf_counter()
                index = self.stage.index(self.context.lake, at, self.code)
                made = (
                    self._plain(at, step, found)
                    if index is None
                    else self._matched(at, index, [each.state for each in found.values()])
                )
                found[label] = replace(made, seconds=time.perf_counter() - started)
        return found

    def _plain(self, at: int, step: Barrier, found: Mapping[str, Decision]) -> Decision:
        """A barrier without an index: sketches of all parts, and one decision about them."""
        scratch, name, title = self._scratch(at)
        if not scratch.exists(name):
            todo = [Task(self.stage, self.context.lake, self.key, at, part) for part in self.parts]
            names = self._asking(at).gather(title, tasks.survey, todo, tasks.rows_of, tasks.size_of)
            with self.context.step(f"{title}, decision"):
                sketches = [scratch.read_arrow(each) for each in names]
                known = self._verified(at, step, found)
                state = (
                    step.resolve(sketches) if known is None else cast("Spread", step).resolve(sketches, known)
                )
                scratch.write_arrow(name, state)
        state = scratch.read_arrow(name)
        return Decision(state, digests=emitted.whole(state, len(self.parts)))

    def _verified(self, at: int, step: Barrier, found: Mapping[str, Decision]) -> pa.Table | None:
        """The pairs that an earlier match has verified among the rows of a step that spreads along such pairs.

        None if there is no such match. Between the two rows may only be dropped by matches: these the step is
        shown all the same.
        """
        if not getattr(step, "sees_repeats", False):
            return None
        match = cast("Spread", step).match
        for number in reversed(range(at)):
            label, earlier = self.stage.steps[number]
            if not isinstance(earlier, Match):
                return None
            index = self.stage.index(self.context.lake, number, self.code)
            if index is not None and earlier == match and (match.key_count or match.joins):
                storage, parts = self.context.lake.storage, _pairs_after(index, found[label].changes)
                tables = [each for part in parts for each in part_tables(storage, part, EDGES)]
                return pa.concat_tables([EDGES.empty_table(), *tables])
        return None

    def _matched(self, at: int, index: Index, earlier: Sequence[pa.Table]) -> Decision:
        """A match: the new parts are sketched, and compared with all."""
        self._countable(at)
        scratch, _, title = self._scratch(at)
        known = index.known(self.parts)
        new = [part for part in self.parts if part.path not in known.parts]
        threads = self.context.threads(len(new))
        todo = [
            Task(self.stage, self.context.lake, self.key, at, part, code=self.code, threads=threads)
            for part in new
        ]
        sketched = self._asking(at).gather(title, tasks.sketch, todo, tasks.rows_of, tasks.size_of)
        names = [each for each, _ in sketched]
        fresh = {part.path: scratch.read_arrow(each) for part, each in zip(new, names, strict=True)}
        due = _Due(at, index, sketched, known, earlier)
        if index.match.walks and self.parts:
            return self._shuffled(due)
        if (made := self._by_many(due)) is not None:
            return made
        if (made := self._alone(due, fresh)) is not None:
            return made
        return self._shuffled(due)

    def _alone(self, due: _Due, fresh: Mapping[str, pa.Table]) -> Decision | None:
        """A match that one process decides; None if that turns out to be too much for it.

        Args:
            due: the match.
            fresh: the sketches of the new parts.
        """
        at, index, known = due.at, due.index, due.known
        scratch, name, title = self._scratch(at)
        with self.context.step(f"{title}, decision"):
            pieces = [
                piece(fresh[part.path]) if part.path in fresh else index.read(known.parts[part.path])
                for part in self.parts
            ]
            if (found := self._pairs(due, pieces)) is None:
                return None
            pairs, kept = found
            state = index.decide(pieces, pairs, [_gone(due.earlier)])
            scratch.write_arrow(name, state)
            changes = index.changes(
                [part for _, part in due.sketched], known, pairs, kept=kept, name=f"{self.key}-{at}"
            )
            digests = emitted.of_rows(state, pieces)
            return Decision(state, changes=tuple(changes), index=index.name, digests=digests)

    def _pairs(self, due: _Due, pieces: Sequence[Piece]) -> tuple[pa.Table, bool] | None:
        """All verified pairs, and whether the stored ones are among them as they were: see `Index.compare`."""
        scratch, known = self.context.lake.scratch(self.key), due.known
        names = {True: f"{due.at}-pairs-more.arrow", False: f"{due.at}-pairs-all.arrow"}
        for kept, name in names.items():
            if scratch.exists(name):
                return scratch.read_arrow(name), kept
        new, bands = [part.path not in known.parts for part in self.parts], due.index.match.key_count
        anew = all(new) or not bands or fits(sum(part.rows for part in self.parts), bands, due.stored)
        if (found := due.index.compare(pieces, new, known, anew=anew)) is not None:
            scratch.write_arrow(names[found[1]], found[0])
        return found

    def _by_many(self, due: _Due) -> Decision | None:
        """The same by many workers, over files, where one process is too small; None where it is not."""
        match, rows = due.index.match, sum(part.rows for _, (part, _) in due.sketched)
        if not self.parts:
            return None
        every = sum(part.rows for part in self.parts)
        if match.joins and not fits(every, 0, sets=self._bytes(due)):
            return self._shuffled(due)
        if due.known.stale or not due.known.parts:
            small = fits(every, match.key_count, due.stored) if due.known.parts else fits(rows, match.key_count)
            # Without keys all candidates are found in one process.
            return None if small or not (match.key_count or match.joins) else self._shuffled(due)
        if fits(rows, match.key_count, due.stored):
            return None
        added = self._added(due)
        if added is None:
            return self._shuffled(due) if match.key_count or match.joins else None
        return self._laid(due, added)

    def _bytes(self, due: _Due) -> int:
        """The size of the wide columns of all rows."""
        table = self.context.lake.table(due.index.sketches)
        return (table.size_bytes if table.exists else 0) + sum(part.bytes for _, (_, part) in due.sketched)

    def _added(self, due: _Due) -> tuple[Part, ...] | None:
        """The pairs with a new row, staged; None where all have to be found anew, or too many rows compared."""
        if not due.sketched:
            return ()
        scratch, _, title = self._scratch(due.at)
        name = f"{due.at}-added.arrow"
        if not scratch.exists(name):
            with self.context.step(f"{title}, pairs with new rows"):
                new = iter(due.sketched)
                pieces = [
                    due.index.read(due.known.parts[part.path])
                    if part.path in due.known.parts
                    else piece(scratch.read_arrow(next(new)[0]))
                    for part in self.parts
                ]
                which = [part.path not in due.known.parts for part in self.parts]
                bands = due.index.match.key_count
                found = due.index.added(pieces, which, EDGES.empty_table(), lambda rows: fits(rows, bands))
                if found is None:
                    return None
                scratch.write_arrow(name, found)
        found = scratch.read_arrow(name)
        if not found.num_rows:
            return ()
        staged = f"{self.key}-{due.at}-more"
        lake = self.context.lake
        return (
            lake.find_part(due.index.edges, staged) or lake.write_part(due.index.edges, staged, [found], EDGES),
        )

    def _laid(self, due: _Due, added: tuple[Part, ...]) -> Decision:
        """A match whose stored pairs are more than one process holds; with them those of new rows."""
        from pipeline.matching.earlier import laid

        scratch, name, title = self._scratch(due.at)
        new = iter(due.sketched)
        rows = [due.known.parts.get(part.path) or next(new)[1][0] for part in self.parts]
        context = self.context.asking([self.stage.steps[due.at]])
        work = Shuffle(self.context.lake, self.key, due.at, due.index.match, (), due.index.edges, 0)
        work = laid(context, work, title, rows, [*due.index.stored(), *added])
        state = selected(context, work, title, _gone(due.earlier))
        scratch.write_arrow(name, state)
        changes = due.of_sketches()
        if added:
            changes = (*changes, Change(due.index.edges, EDGES, added))
        return Decision(
            state, changes=changes, index=due.index.name, digests=emitted.of_rows(state, work.pieces)
        )

    def _shuffled(self, due: _Due) -> Decision:
        """A match that compares all rows with all: these are too many for one process, or it keeps no pairs."""
        scratch, name, title = self._scratch(due.at)
        new = iter(due.sketched)
        todo = [
            Task(self.stage, self.context.lake, self.key, due.at, part, code=self.code)
            for part in self.parts
            if part.path in due.known.parts
        ]
        unpacked = (
            self.context.gather(f"{title}, index", tasks.unpack, todo, tasks.rows_of, tasks.size_of)
            if todo
            else ()
        )
        old = iter(unpacked)
        names = tuple(next(old) if part.path in due.known.parts else next(new)[0] for part in self.parts)
        rows = sum(scratch.read_arrow(each).num_rows for each in names)
        work = Shuffle(self.context.lake, self.key, due.at, due.index.match, names, due.index.edges, rows)
        context = self.context.asking([self.stage.steps[due.at]])
        state, pairs = _found(context, work, title, _gone(due.earlier))
        scratch.write_arrow(name, state)
        changes = due.of_sketches()
        return Decision(
            state,
            changes=(*changes, Change(due.index.edges, EDGES, pairs, tuple(due.index.stored()))),
            index=due.index.name,
            digests=emitted.of_rows(state, work.pieces),
        )

    def _countable(self, at: int) -> None:
        """Raise where a match has more rows than it can number: some would be taken for others."""
        rows = sum(part.rows for part in self.parts)
        if rows > _MOST_ROWS:
            raise ConfigError(
                f"{rows:,} rows are more than one match numbers, which is {_MOST_ROWS:,}",
                where=f"{self.stage.source}: step {self.stage.steps[at][0]}",
                hint="split the sources over several pipelines, each with tables of its own",
            )

    def _asking(self, at: int) -> Context:
        """The context for tasks that sketch: they do the ops before the barrier too."""
        before = [(label, step) for label, step in self.stage.steps[:at] if not isinstance(step, Match)]
        return self.context.asking([*before, self.stage.steps[at]])

    def _scratch(self, at: int) -> tuple[Scratch, str, str]:
        """Where it is staged, under which name the decision, and what the progress calls it."""
        scratch = self.context.lake.scratch(self.key)
        return scratch, f"{at}-state.arrow", f"{self.stage.name}: {self.stage.steps[at][0]}"


def _found(
    context: Context, work: Shuffle, title: str, gone: pa.ChunkedArray
) -> tuple[pa.Table, tuple[Part, ...]]:
    """Decide, and find the pairs to store, in the way of the match."""
    if work.match.walks:
        from pipeline.matching.walked import walked

        return walked(context, work, title, gone)
    if work.match.joins:
        from pipeline.matching.joined import joined

        pairs = joined(context, work, title)
    else:
        pairs = shuffled(context, work, title)
    return selected(context, work, title, gone), pairs


def _pairs_after(index: Index, changes: Sequence[Change]) -> tuple[Part, ...]:
    """The parts of the table of pairs once the changes are committed."""
    parts = {part.path: part for part in index.stored()}
    for change in changes:
        if change.table == index.edges:
            parts = {path: part for path, part in parts.items() if path not in {p.path for p in change.remove}}
            parts |= {part.path: part for part in change.add}
    return tuple(parts.values())


def _gone(earlier: Sequence[pa.Table]) -> pa.ChunkedArray:
    """The ids of the rows that earlier matches of the stage dropped."""
    chunks = [
        chunk for state in earlier if "twin" in state.schema.names for chunk in state.column("_id").chunks
    ]
    return pa.chunked_array(chunks, pa.string())
