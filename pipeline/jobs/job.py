"""A job on a cluster: what it does, what it prints, how it ends."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lake.errors import EngineError, ExitCode
from pipeline.jobs.client import Cluster, Record, UnreachableError
from pipeline.jobs.websocket import NoSocketError

__all__ = ["Job", "exit_code", "explained"]

_POLL = 1.0  # seconds
_POLL_LOG = 5.0  # seconds between two looks at a whole log
_SILENCE = 60.0  # seconds without an answer after which the cluster counts as gone
_OURS = frozenset(ExitCode)
_NOT_FOUND = 127  # of a shell


@dataclass(frozen=True)
class Job:
    """A submitted job.

    Args:
        cluster: where it runs.
        id: its submission id.
        attached: whether it was there before this submit.
    """

    cluster: Cluster
    id: str
    attached: bool = False

    def record(self) -> Record:
        """What the cluster says of it.

        Raises:
            EngineError: the cluster does not know it.
        """
        found = self.cluster.job(self.id)
        if found is None:
            raise EngineError(
                f"the cluster knows no job {self.id!r}",
                where=self.cluster.address,
                why="it was never submitted there, or the head was restarted and has lost it",
                hint="`gristmill jobs list` shows those it knows; submitted anew, it goes on where it stopped",
            )
        return found

    def status(self) -> str:
        """``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED`` or ``STOPPED``."""
        return self.record().status

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """What it prints: so far, or with ``follow`` until it ends, as it comes.

        A connection that breaks is made again, and what was told already is not told twice. Where no WebSocket
        comes through, the log is asked for now and then.
        """
        if not follow:
            yield self.cluster.log(self.id)
            return
        told, patience = 0, _Patience(self)
        while True:
            pause = _POLL
            try:
                over = self.record().over
                patience.renew()
                try:
                    for fresh in _beyond(told, self.cluster.tail(self.id)):
                        told += len(fresh)
                        yield fresh
                    over = over or self.record().over
                except ConnectionError as error:
                    if not over and not isinstance(error, NoSocketError):
                        raise
                    pause = _POLL_LOG
                    for fresh in _beyond(told, [self.cluster.log(self.id)]):
                        told += len(fresh)
                        yield fresh
                if over:
                    return
            except (ConnectionError, UnreachableError) as error:
                patience.bear(error)
            time.sleep(pause)

    def wait(self) -> int:
        """Wait until it has ended; gives the exit code that ``gristmill run`` would have given here."""
        patience = _Patience(self)
        while True:
            try:
                record = self.record()
            except UnreachableError as error:
                patience.bear(error)
            else:
                patience.renew()
                if record.over:
                    return exit_code(record)
            time.sleep(_POLL)

    def stop(self) -> bool:
        """Ask it to end; false where it has ended already. The run can be taken up again."""
        self.record()
        return self.cluster.stop(self.id)


def _beyond(told: int, pieces: Iterable[str]) -> Iterator[str]:
    """A log without its first ``told`` characters."""
    for piece in pieces:
        if len(piece) > told:
            yield piece[told:]
        told = max(0, told - len(piece))


class _Patience:
    """Lets a cluster be silent for a while."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.since: float | None = None

    def renew(self) -> None:
        """It has answered."""
        self.since = None

    def bear(self, error: ConnectionError | UnreachableError) -> None:
        """It has not; the error is raised when that has gone on for too long."""
        self.since = time.monotonic() if self.since is None else self.since
        if time.monotonic() - self.since > _SILENCE:
            raise self.job.cluster.unreachable(error) if isinstance(error, ConnectionError) else error


def exit_code(record: Record) -> int:
    """The exit code of ``gristmill submit`` for a job that has ended."""
    if record.status == "SUCCEEDED":
        return ExitCode.OK
    if record.status == "STOPPED":
        return ExitCode.INTERRUPTED
    # A driver that was killed, or that never started, has no code of ours.
    return record.exit_code if record.exit_code in _OURS and record.exit_code else ExitCode.FAILED


def explained(record: Record) -> str | None:
    """Why a job that did not end by an exit code of ours ended, and what to do; none where its log says it."""
    if record.status != "FAILED" or (record.exit_code and record.exit_code in _OURS):
        return None
    if record.exit_code == _NOT_FOUND:
        return "the head has no such Python on its PATH: name it with --python, for example --python python3"
    why = record.message or "the cluster does not say why"
    return f"{why}\n  do:  the same command again goes on where the run stopped"
