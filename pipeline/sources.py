"""What a pipeline's files look like beside the manifest: new, late, grown, changed or gone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from lake import ledger
from lake.errors import ConfigError
from lake.files import Files, Taken
from lake.formats.splits import GONE, UNREADABLE, Piece
from lake.lake import Lake
from lake.op import Step
from pipeline.config import Config
from pipeline.stages.ingest import STAGE, Job

__all__ = ["Seen", "label_of", "look", "manifest_key", "noted"]

_COMMITS_READ = 16  # of a table's history: an ingest is among them, or what came since is compactions
_WRITES = frozenset({"RESTORE", "DELETE", "UPDATE", "MERGE", "WRITE"})
"""Operations of Delta that change rows."""

STATES = ("new", "late", "grown", "changed", "reread", "unreadable", "gone")


@dataclass(frozen=True)
class Seen:
    """The files of a configuration, as they are now.

    Attributes:
        jobs: what is to be read, in the order in which first occurrences count.
        known: what the manifest says, by uri.
        states: by uri, one of ``STATES``; a file that is as it was taken is not listed. A *late* one is new,
            and older than the newest file that was taken. One that is *reread* was taken with other settings
            of its source, or more than once while rows stayed.
        sources: by uri, the number of the source that reads the file.
        follow: whether rows leave with their files (``on_change: follow``).
        again: by uri, the first row that is read once more; rows before it stay as they are.
        unsettled: whether another place of a content may come first than when the last run followed its files:
            the sources are others or in another order, rows have stayed since, or somebody else has written
            into the table.
    """

    jobs: tuple[Job, ...] = ()
    known: Mapping[str, Taken] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)
    follow: bool = False
    again: Mapping[str, int] = field(default_factory=dict)
    unsettled: bool = False

    @property
    def gone(self) -> tuple[str, ...]:
        """The files that were taken and that no source names any more."""
        return tuple(sorted(uri for uri, state in self.states.items() if state == "gone"))

    @property
    def taken(self) -> int:
        """How many files were taken and, as far as the manifest knows, are there."""
        return sum(each.fingerprint != GONE for each in self.known.values())

    @property
    def work(self) -> bool:
        """Whether there is anything to read, to take out, or to put in order."""
        return bool(self.jobs or (self.follow and self.gone) or self.unsettled)

    def counts(self) -> dict[str, int]:
        """How many files there are of each state that means work, in the order of ``STATES``."""
        counted = Counter(self.states.values())
        return {
            state: counted[state] for state in STATES if counted[state] and (self.follow or state != "gone")
        }


def label_of(index: int, step: Step) -> str:
    """How a step is called in the ledger and the report: ``2 dedup.MinHash``."""
    from pipeline.config.catalog import key_of

    return f"{index} {key_of(type(step))}"


def manifest_key(config: Config) -> str:
    """Under what the files are listed: those that went into another table are still to be read."""
    return config.name if config.raw == "raw" else f"{config.name}/{config.raw}"


def look(config: Config, lake: Lake, again: Collection[str] = ()) -> Seen:
    """Compare the sources with the manifest.

    Args:
        config: whose sources.
        lake: where the manifest is.
        again: files that are to be read as if they had not been taken.

    Raises:
        ConfigError: sources that follow their files, beside one that does not or in one file.
        InputError: a pattern matches nothing, or something cannot be listed.
    """
    follow = _follow(config)
    before = _noted_before(config, lake) if follow else None
    unsettled = before is not None and before != noted(config)
    known = {uri: Taken.of(row) for uri, row in ledger.taken(lake, manifest_key(config)).items()}
    if before is not None and _changed_by_others(config, lake):
        unsettled, again = True, known
    elif unsettled and not (before or {}).get("follow"):
        again = {*again, *_taken_twice(config, lake)}
    jobs: list[Job] = []
    sources: dict[str, int] = {}
    readers: dict[str, str] = {}
    for number, source in enumerate(config.source, start=1):
        label = label_of(0, source) + (f" {number}" if len(config.source) > 1 else "")
        taken = _taken(config, lake, source, known, follow=follow)
        taken = {uri: each for uri, each in taken.items() if uri not in again}
        # A file that an earlier source of the same settings is about to take is not for this one.
        twin = [job.split for job in jobs if job.source.reader == source.reader]
        taken |= {each.uri: each for each in source.taken(twin)}
        splits, found = source.look(taken, base=Path(config.base))
        for uri in found:
            if follow and readers.get(uri, source.reader) != source.reader:
                raise ConfigError(
                    "two sources with on_change: follow read the same file",
                    where=uri,
                    why="nothing tells whose rows leave when it changes",
                    hint="set on_change: keep in both, or give the columns to two pipelines",
                )
            sources.setdefault(uri, number)
            readers.setdefault(uri, source.reader)
        jobs += [Job(label, source, split) for split in splits]
    states = _states(jobs, known, sources, again)
    return Seen(tuple(jobs), known, states, sources, follow, _again(jobs, known), unsettled)


def noted(config: Config) -> dict[str, Any]:
    """What an ingest writes down of its sources: whether rows leave with their files, and their order."""
    paths = [[each.paths] if isinstance(each.paths, str) else each.paths for each in config.source]
    order = [[mine, each.reader] for mine, each in zip(paths, config.source, strict=True)]
    return {"follow": _follow(config), "order": order}


def _noted_before(config: Config, lake: Lake) -> dict[str, Any] | None:
    """The same of the last ingest into this table; None where there was none."""
    runs = ledger.runs(lake, config.name)
    for report in reversed(runs.filter(pc.field("stage") == STAGE).column("report").to_pylist()):
        inputs = json.loads(report)["inputs"]
        if inputs["target"] == config.raw:
            found: dict[str, Any] = inputs.get("sources", {})
            return found
    return None


def _changed_by_others(config: Config, lake: Lake) -> bool:
    """Whether another hand wrote into the table since the last ingest: it may lack rows, or have some more."""
    table = lake.table(config.raw)
    for commit in table.history(_COMMITS_READ) if table.exists else ():
        if commit.app == f"{config.name}/{STAGE}":
            return False
        if not commit.app and commit.operation.upper() in _WRITES:
            return True
    return False


def _taken_twice(config: Config, lake: Lake) -> set[str]:
    """Files that were taken more than once: where rows stay, some may be of what such a file held before."""
    rows = lake.table(ledger.FILES_TABLE).to_table(
        columns=["uri"], filter=pc.field("pipeline") == manifest_key(config)
    )
    counted = rows.column("uri").combine_chunks().value_counts().to_pylist()
    return {each["values"] for each in counted if each["counts"] > 1}


def _taken(
    config: Config, lake: Lake, source: Files, known: Mapping[str, Taken], *, follow: bool
) -> dict[str, Taken]:
    """What a source has read of each file, with its settings of now."""
    if follow:  # rows that were read otherwise since have taken the place of those
        return {uri: each for uri, each in known.items() if each.reader == source.reader}
    rows = ledger.taken(lake, manifest_key(config), source.reader)
    return {uri: Taken.of(row) for uri, row in rows.items()}


def _follow(config: Config) -> bool:
    ways = {source.on_change for source in config.source}
    if len(ways) > 1:
        raise ConfigError(
            "some sources keep the rows of files that are gone, others do not",
            where=config.name,
            why="a content may stand in files of both",
            hint="set on_change to the same value in all sources",
        )
    return ways == {"follow"}


def _pieces(jobs: Collection[Job]) -> dict[str, list[Piece]]:
    found: dict[str, list[Piece]] = {}
    for job in jobs:
        for piece in job.split.pieces:
            found.setdefault(piece.file.uri, []).append(piece)
    return found


def _states(
    jobs: Collection[Job], known: Mapping[str, Taken], sources: Mapping[str, int], again: Collection[str]
) -> dict[str, str]:
    readers = {job.source.reader for job in jobs}
    watermark = max((each.modified for each in known.values()), default=0)
    states = {uri: "gone" for uri, each in known.items() if uri not in sources and each.fingerprint != GONE}
    for uri, pieces in _pieces(jobs).items():
        before = known.get(uri)
        if pieces[0].file.fingerprint == UNREADABLE:
            states[uri] = "unreadable"
        elif before is None or before.fingerprint in {GONE, UNREADABLE}:
            states[uri] = "late" if pieces[0].file.modified < watermark else "new"
        elif min(piece.start for piece in pieces) > 0:
            states[uri] = "grown"
        else:
            states[uri] = "changed" if before.reader in readers and uri not in again else "reread"
    return states


def _again(jobs: Collection[Job], known: Mapping[str, Taken]) -> dict[str, int]:
    """The first row that is read again of files that were taken before.

    One that cannot be opened just now is not read, and keeps its rows.
    """
    return {
        uri: min(piece.first_row for piece in pieces)
        for uri, pieces in _pieces(jobs).items()
        if uri in known and pieces[0].file.fingerprint != UNREADABLE
    }
