"""One tree of errors; every one says what, where, why and what to do next.

::

    GristmillError            exit 1
    ├── ConfigError           exit 2   the configuration or the command line is wrong
    ├── InputError            exit 1   a source as a whole cannot be read (no such path, no permission)
    ├── LakeError             exit 1   the lake refuses
    │   ├── NotALakeError              the folder holds something else
    │   ├── MissingTableError          no such table, or no such version of it
    │   ├── SchemaError                a part does not fit its table
    │   ├── MissingPartError           a staged part is gone or has another size
    │   ├── ConcurrentRunError         another run holds the lock, or committed first
    │   └── StorageError               the disk is full, the object store refuses
    │       └── (lake.storage.BusyError)   it is busy or out of reach: the same again may work
    ├── DeviceError           exit 1   the device that was asked for is not there
    └── EngineError           exit 1   a worker failed; carries step, part and the cause

A bad *row* is never an error: it becomes a row of the ``_drops`` table, and the run goes on.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "ConcurrentRunError",
    "ConfigError",
    "DeviceError",
    "EngineError",
    "ExitCode",
    "GristmillError",
    "InputError",
    "LakeError",
    "MissingPartError",
    "MissingTableError",
    "NotALakeError",
    "SchemaError",
    "StorageError",
]


class ExitCode(IntEnum):
    """What the ``gristmill`` process answers."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REJECTS = 3
    INTERRUPTED = 130


class GristmillError(Exception):
    """An error that a user can act on.

    Args:
        what: what happened, one sentence, without record contents.
        where: ``file:line:col``, or step, part and ``_id``.
        why: the cause, as the layer below put it.
        hint: what to do next.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(
        self, what: str, *, where: str | None = None, why: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(what, where, why, hint)
        self.what = what
        self.where = where
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        lines = [head]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.hint:
            lines.append(f"  do:  {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (Ray); keyword-only arguments need help to be pickled.
        return _rebuild, (type(self), self.what, self.where, self.why, self.hint)


def _rebuild(
    kind: type[GristmillError], what: str, where: str | None, why: str | None, hint: str | None
) -> GristmillError:
    return kind(what, where=where, why=why, hint=hint)


class ConfigError(GristmillError):
    """The configuration or the command line is wrong."""

    exit_code = ExitCode.USAGE


class InputError(GristmillError):
    """A source as a whole cannot be read."""


class LakeError(GristmillError):
    """The lake refuses."""


class NotALakeError(LakeError):
    """The folder exists, is not empty, and is not a lake."""


class MissingTableError(LakeError):
    """There is no such table, or no such version of it."""


class SchemaError(LakeError):
    """A part does not fit the schema of its table."""


class MissingPartError(LakeError):
    """A staged part is gone, or is not the size it had when it was staged."""


class ConcurrentRunError(LakeError):
    """Another run of the same pipeline holds the lock, or committed first."""


class StorageError(LakeError):
    """The disk is full, or the object store refuses."""


class DeviceError(GristmillError):
    """The device that was asked for is not there."""


class EngineError(GristmillError):
    """A worker failed at a part, for a reason that is not the data's."""
