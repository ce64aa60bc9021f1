"""Taking files in: rows stay whatever becomes of their files, or leave with them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lake.errors import InputError
from lake.formats.splits import GONE, Taken
from pipeline.config import Config
from pipeline.sources import Seen, look
from pipeline.stages.context import Context
from pipeline.stages.emitted import Emitted
from pipeline.stages.follow import NOTHING, Leaving, Replaced, follow, promoted
from pipeline.stages.ingest import Job, ingest

__all__ = ["Ingested", "check_leaving", "take_in"]


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
    closed: frozenset[str] = frozenset()
    while True:
        seen = _with_promoted(context, config, seen, closed)
        done = follow(
            context, seen.jobs, _leaving(seen), pipeline=config.name, table=config.raw, key=key, limit=limit
        )
        if done.refused <= closed:
            break
        # A content that one of these repeats has its row in the next file that does.
        closed, seen = closed | done.refused, look(config, context.lake)
    gone = tuple(replace(seen.known[uri], fingerprint=GONE) for uri in seen.gone)
    return Ingested(seen.jobs, done.reads, gone, done.raw, done.ledger, done.left)


def check_leaving(config: Config, done: Ingested, before: int) -> None:
    """Raise where more rows leave than may: a volume that is not mounted must not empty a table.

    Args:
        config: the pipeline.
        done: what is to be committed.
        before: rows of the table as it is.

    Raises:
        InputError: it is more than ``allowed_leaving``.
    """
    come = sum(part.rows for part in (*(read.rows for read in done.reads), *done.raw.new) if part)
    lost = sum(part.rows for part in done.raw.old) - come
    if lost > config.allowed_leaving * before:
        raise InputError(
            f"{lost:,} of the {before:,} rows of {config.raw} would leave with their files",
            where=config.name,
            why=f"allowed_leaving is {config.allowed_leaving:g}",
            hint="is everything mounted? If it is meant: gristmill run --set allowed_leaving=1",
        )


def _with_promoted(context: Context, config: Config, seen: Seen, closed: frozenset[str]) -> Seen:
    """The same, with the files that are to be read again for the sake of contents that are theirs now.

    Those that are closed are tried again too: who cannot be opened is noted, and read as soon as he can.
    """
    while more := promoted(context.lake, config.name, config.raw, _leaving(seen), closed) | closed:
        again, now = look(config, context.lake, again=more), look(config, context.lake)
        if _places(now) == _places(seen):
            return again
        seen = now  # files changed or went meanwhile: what was promoted takes no account of them
    return seen


def _leaving(seen: Seen) -> Leaving:
    return Leaving.of(seen.gone, seen.again, seen.sources)


def _places(seen: Seen) -> tuple[object, ...]:
    """Which places are no more."""
    leaving = _leaving(seen)
    return leaving.first, leaving.gone
