"""Taking files in: rows stay whatever becomes of their files, or leave with them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lake.formats.splits import GONE, Taken
from pipeline.config import Config
from pipeline.sources import Seen, look
from pipeline.stages.context import Context
from pipeline.stages.emitted import Emitted
from pipeline.stages.follow import NOTHING, Leaving, Replaced, follow, promoted
from pipeline.stages.ingest import Job, ingest

__all__ = ["Ingested", "take_in"]


@dataclass(frozen=True)
class Ingested:
    """What an ingest staged.

    Attributes:
        jobs: what was read.
        reads: of each job its rows and drops.
        gone: for the manifest: the files that are no more.
        raw: parts of the rows' table that others take the place of.
        ledger: of ``_drops`` the same.
        left: places that are no more, by rule.
    """

    jobs: tuple[Job, ...]
    reads: list[Emitted]
    gone: tuple[Taken, ...] = ()
    raw: Replaced = NOTHING
    ledger: Replaced = NOTHING
    left: dict[str, int] = field(default_factory=dict)


def take_in(
    context: Context, config: Config, jobs: tuple[Job, ...], seen: Seen | None, key: str, *, limit: int | None
) -> Ingested:
    """Stage the rows of files; nothing is committed yet.

    Args:
        context: the lake, and who reads.
        config: the pipeline.
        jobs: what is to be read.
        seen: the files as they are; none where rows stay in any case.
        key: names what is staged.
        limit: at most so many rows of each source.
    """
    if seen is None or not seen.follow:
        return Ingested(jobs, ingest(context, config.name, config.raw, jobs, key, limit=limit))
    while more := promoted(context.lake, config.name, config.raw, _leaving(seen)):
        again, now = look(config, context.lake, again=more), look(config, context.lake)
        if _places(now) == _places(seen):
            seen = again
            break
        seen = now  # files changed or went meanwhile: what was promoted takes no account of them
    done = follow(
        context, seen.jobs, _leaving(seen), pipeline=config.name, table=config.raw, key=key, limit=limit
    )
    gone = tuple(replace(seen.known[uri], fingerprint=GONE) for uri in seen.gone)
    return Ingested(seen.jobs, done.reads, gone, done.raw, done.ledger, done.left)


def _leaving(seen: Seen) -> Leaving:
    return Leaving.of(seen.gone, seen.again, seen.sources)


def _places(seen: Seen) -> tuple[object, ...]:
    """Which places are no more."""
    leaving = _leaving(seen)
    return leaving.first, leaving.gone
