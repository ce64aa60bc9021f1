"""What the barriers of a stage decide: the survey of its parts, and the decision from all sketches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from dedup.match import EDGES, Match
from dedup.sketch import Piece, piece
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
                    self._plain(at, step)
                    if index is None
                    else self._matched(at, index, [each.state for each in found.values()])
                )
                found[label] = replace(made, seconds=time.perf_counter() - started)
        return found

    def _plain(self, at: int, step: Barrier) -> Decision:
        """A barrier without an index: sketches of all parts, and one decision about them."""
        scratch, name, title = self._scratch(at)
        if not scratch.exists(name):
            todo = [Task(self.stage, self.context.lake, self.key, at, part) for part in self.parts]
            names = self._asking(at).gather(title, tasks.survey, todo, tasks.rows_of, tasks.size_of)
            with self.context.step(f"{title}, decision"):
                scratch.write_arrow(name, step.resolve([scratch.read_arrow(each) for each in names]))
        state = scratch.read_arrow(name)
        return Decision(state, digests=emitted.whole(state, len(self.parts)))

    def _matched(self, at: int, index: Index, earlier: Sequence[pa.Table]) -> Decision:
        """A match: the new parts are sketched, and compared with all."""
        self._countable(at)
        scratch, name, title = self._scratch(at)
        known = index.known(self.parts)
        new = [part for part in self.parts if part.path not in known.parts]
        todo = [Task(self.stage, self.context.lake, self.key, at, part, code=self.code) for part in new]
        sketched = self._asking(at).gather(title, tasks.sketch, todo, tasks.rows_of, tasks.size_of)
        names = [each for each, _ in sketched]
        fresh = {part.path: scratch.read_arrow(each) for part, each in zip(new, names, strict=True)}
        rows = sum(each.num_rows for each in fresh.values())
        if names and not known.parts and index.match.key_count and not fits(rows, index.match.key_count):
            return self._shuffled(at, index, sketched, known, earlier)
        with self.context.step(f"{title}, decision"):
            pieces = [
                piece(fresh[part.path]) if part.path in fresh else index.read(known.parts[part.path])
                for part in self.parts
            ]
            pairs, kept = self._pairs(at, index, pieces, known)
            gone = [state.column("_id") for state in earlier if "twin" in state.schema.names]
            state = index.decide(pieces, pairs, gone)
            scratch.write_arrow(name, state)
            changes = index.changes(
                [part for _, part in sketched], known, pairs, kept=kept, name=f"{self.key}-{at}"
            )
            digests = emitted.of_rows(state, pieces)
            return Decision(state, changes=tuple(changes), index=index.name, digests=digests)

    def _pairs(self, at: int, index: Index, pieces: Sequence[Piece], known: Known) -> tuple[pa.Table, bool]:
        """All verified pairs, and whether the stored ones are among them as they were."""
        scratch = self.context.lake.scratch(self.key)
        names = {True: f"{at}-pairs-more.arrow", False: f"{at}-pairs-all.arrow"}
        for kept, name in names.items():
            if scratch.exists(name):
                return scratch.read_arrow(name), kept
        pairs, kept = index.compare(pieces, [part.path not in known.parts for part in self.parts], known)
        scratch.write_arrow(names[kept], pairs)
        return pairs, kept

    def _shuffled(
        self,
        at: int,
        index: Index,
        sketched: Sequence[tuple[str, tuple[Part, Part]]],
        known: Known,
        earlier: Sequence[pa.Table],
    ) -> Decision:
        """A match over a corpus that is too large for one process, none of which is in the index."""
        scratch, name, title = self._scratch(at)
        names = tuple(each for each, _ in sketched)
        rows = sum(part.rows for _, (part, _) in sketched)
        work = Shuffle(self.context.lake, self.key, at, index.match, names, index.edges, rows)
        context = self.context.asking([self.stage.steps[at]])
        pairs = shuffled(context, work, title)
        gone = [chunk for each in earlier if "twin" in each.schema.names for chunk in each.column("_id").chunks]
        state = selected(context, work, title, pa.chunked_array(gone, pa.string()))
        scratch.write_arrow(name, state)
        table = self.context.lake.table(index.edges)
        old = tuple(table.parts()) if table.exists else ()
        none = EDGES.empty_table()
        changes = index.changes([parts for _, parts in sketched], known, none, kept=False, name=self.key)
        return Decision(
            state,
            changes=(
                *(change for change in changes if change.table != index.edges),
                Change(index.edges, EDGES, pairs, old),
            ),
            index=index.name,
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
