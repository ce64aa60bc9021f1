"""How long what stays."""

from __future__ import annotations

from dataclasses import dataclass, fields

from lake.errors import ConfigError

__all__ = ["Retention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long a lake keeps what it does not need for its present tables.

    Args:
        files_hours: hours for which files stay that a table no longer consists of, or that were staged and not
            committed: so long a version can be read after the next one has come, and so long a killed run finds
            what it had done.
        log_days: days for which an earlier version stays in the history; at least as long as its files.
        runs_days: days for which the account of a run (its row in ``_runs``) stays. The last one of each
            stage always does.
        reports_days: days for which a report stays. That of the last run of each pipeline always does.
        trials_days: days for which the lake of trials (``run --limit``) stays.
        locks_days: days after which the file of a lock that nobody takes any more goes.
        small_files: so many small neighbouring files are worth a compaction.
        target_bytes: the size of file that a compaction aims at; files over half of it stay as they are.

    Raises:
        ConfigError: a number is negative, or the log is kept for less time than the files.

    >>> Retention(files_hours=48, log_days=7).small_files
    8
    """

    files_hours: float = 168.0
    log_days: float = 30.0
    runs_days: float = 365.0
    reports_days: float = 90.0
    trials_days: float = 7.0
    locks_days: float = 30.0
    small_files: int = 8
    target_bytes: int = 128 << 20

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) >= 0:
                raise ConfigError(f"{field.name} is not negative", why=f"it is {getattr(self, field.name)!r}")
        if self.small_files < 2 or self.target_bytes < 1:  # noqa: PLR2004  (of one file no larger one can be made)
            raise ConfigError("a compaction takes at least two files, and makes files of at least one byte")
        if self.log_days * 24 < self.files_hours * (1 - 1e-9):  # days and hours of one time differ by rounding
            raise ConfigError(
                "the history is kept for less time than the files of its versions",
                why=f"log_days is {self.log_days:g}, files_hours is {self.files_hours:g}",
                hint="raise log_days or lower files_hours",
            )
