"""A prefix in an object store: what S3, GCS and Azure share.

Reads and writes go through pyarrow, Delta's log through delta-rs. Both repeat a request of their own accord
where the store is busy or the connection breaks. What they leave is done here: to repeat a whole call, to
look for new credentials after a refusal, and to find out whether a conditional put whose answer was lost
went through.
"""

# ruff: noqa: D102  (the methods are documented in the base class)

from __future__ import annotations

import ctypes
import errno
import json
import logging
import os
import random
import shutil
import tempfile
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pyarrow as pa
from pyarrow import fs

from lake.errors import StorageError
from lake.storage.base import TEMPORARY, Storage
from lake.storage.refusals import Refusal, is_gone, kind_of
from lake.storage.urls import scheme_of

__all__ = ["ATTEMPTS", "PATIENCE", "ObjectStorage"]

ATTEMPTS = 8
"""How often a client sends one request before it gives up; with its pauses about half a minute."""
PATIENCE = 60.0
"""Seconds from the first attempt after which a call is not repeated any more."""

_LONGEST_PAUSE = 8.0  # seconds
_BLOCK = 8 << 20
_AGED = 6 * 86400.0  # seconds after which an object is not young; less than the week of a vacuum
_FIRST = "_delta_log/00000000000000000000.json"
_CREDENTIALS = {Refusal.EXPIRED, Refusal.UNKNOWN_KEY, Refusal.DENIED, Refusal.OTHER}
_SILENT = "No response body"  # an answer to HEAD, which cannot say why

_log = logging.getLogger(__name__)
T = TypeVar("T")


class ObjectStorage(Storage):
    """A prefix in a bucket (Azure: a container).

    pyarrow has no conditional put, delta-rs has: a claim is the first log entry of a tiny Delta table at
    its path, with the data in the table's description.
    """

    local = False

    def __init__(self, uri: str, options: Mapping[str, str]) -> None:
        super().__init__(uri, options)
        self._filesystem: fs.FileSystem | None = None
        self._made_of = 0

    def __getstate__(self) -> dict[str, object]:
        return {"uri": self.uri, "options": self.options, "_filesystem": None, "_made_of": 0}

    @abstractmethod
    def _connect(self) -> fs.FileSystem:
        """A new client, with the credentials of this moment."""

    @abstractmethod
    def _sources(self) -> int:
        """A number that changes when the places that credentials come from do."""

    @property
    def filesystem(self) -> fs.FileSystem:
        # A profile that was renewed takes effect at once: a client itself would look at it after minutes.
        sources = self._sources()
        found = self._filesystem
        if found is None or sources != self._made_of:
            found = self._connect()
            self._filesystem, self._made_of = found, sources
        return found

    def inner(self, path: str) -> str:
        return self.address(path)[len(scheme_of(self.uri)) + len("://") :]

    @property
    def bucket(self) -> str:
        """The bucket's or container's name."""
        return self.inner("").partition("/")[0]

    # Asking

    def ask(self, path: str, work: Callable[[], T]) -> T:
        again = False
        for pause in _pauses():
            try:
                return work()
            except (FileNotFoundError, FileExistsError, NotADirectoryError):
                raise
            except Exception as error:
                if not _of_storage(error):
                    raise
                if is_gone(error):
                    raise FileNotFoundError(errno.ENOENT, "the object is gone", self.address(path)) from error
                kind = kind_of(error)
                if kind.passing and pause is not None:
                    _log.info("%s: %s; again in %.1f s", self.address(path), kind.value[0], pause)
                    time.sleep(pause)
                elif kind in _CREDENTIALS and not again and self.renewed():
                    again = True
                else:
                    with self.guard(path):
                        raise self._reason(error) from None
        raise AssertionError  # pragma: no cover  (the last pause is None)

    def renewed(self) -> bool:
        """Whether there are other credentials or settings than before, which the next call uses."""
        return self._filesystem is not None and self._sources() != self._made_of

    def _reason(self, error: Exception) -> Exception:
        """The error itself, or what the store says to the same credentials when it may answer in words."""
        if _SILENT in str(error):
            nothing = fs.FileSelector(self.inner(f"{TEMPORARY}none"), allow_not_found=True)
            try:
                self.filesystem.get_file_info(nothing)
            except OSError as other:
                return other
        return error

    def _select(self, folder: str, *, recursive: bool) -> list[Any]:
        found = super()._select(folder, recursive=recursive)
        if not found and not folder:
            self.check_bucket()
        return found

    def check_bucket(self) -> None:
        """Raise :class:`StorageError` if it is certain that there is no such bucket."""
        with suppress(OSError):  # some keys may list below a prefix only
            if self.filesystem.get_file_info(self.bucket).type == fs.FileType.NotFound:
                raise self._no_bucket()

    def _no_bucket(self) -> StorageError:
        what, hint = Refusal.NO_BUCKET.value
        return StorageError(what, where=self.uri, why=f"there is no {self.bucket!r}", hint=hint)

    # Writing

    def write(self, path: str, data: bytes) -> None:
        self._put(path, lambda stream: stream.write(data))

    @contextmanager
    def staging(self, path: str) -> Iterator[str]:
        # By way of a local file: its size and content are known to be whole before the upload begins.
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY)
        os.close(handle)

        def fill(stream: pa.NativeFile) -> None:
            with open(temporary, "rb") as source:  # noqa: PTH123  (copyfileobj wants the plain object)
                shutil.copyfileobj(source, stream, _BLOCK)

        try:
            yield temporary
            self._put(path, fill)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def renew(self, path: str) -> int | None:
        info = self._info(path)
        if info.type != fs.FileType.File:
            return None
        if info.mtime and time.time() - info.mtime.timestamp() > _AGED:
            try:
                self._write_again(path)
            except FileNotFoundError:
                return None
        return int(info.size)

    def _write_again(self, path: str) -> None:
        """An object's age is that of its content."""
        with self.staging(path) as temporary:

            def fetch() -> None:
                with self._open(path) as source, open(temporary, "wb") as sink:  # noqa: PTH123  (as in staging)
                    shutil.copyfileobj(source, sink, _BLOCK)

            self.ask(path, fetch)

    def _put(self, path: str, fill: Callable[[pa.NativeFile], object]) -> None:
        def work() -> None:
            stream = self.filesystem.open_output_stream(self.inner(path))
            try:
                fill(stream)
                stream.close()
            except BaseException:
                _abandon(stream)
                raise

        try:
            self.ask(path, work)
        except FileNotFoundError as error:  # GCS's way to say it
            raise self._no_bucket() from error

    # Claims

    def claim(self, path: str, data: bytes) -> bool:
        from deltalake import CommitProperties, DeltaTable
        from deltalake.exceptions import CommitFailedError, DeltaError

        mine = uuid4().hex

        def work() -> bool:
            try:
                # Without `max_commit_retries=0` a racing second create lands as version 1, and both succeed.
                DeltaTable.create(
                    self.address(path),
                    pa.schema([("_", pa.bool_())]),
                    name=mine,
                    description=data.decode(),
                    storage_options=self.delta_options,
                    commit_properties=CommitProperties(max_commit_retries=0),
                )
            except (DeltaError, OSError) as error:
                # The answer may have been lost on its way, and the claim be ours all the same.
                found = self._claim(path)
                if found is None and not isinstance(error, CommitFailedError):
                    raise
                return found is not None and found.get("name") == mine
            return True

        return self.ask(path, work)

    def claimed(self, path: str) -> bytes | None:
        found = self._claim(path)
        return None if found is None else str(found["description"]).encode()

    def _claim(self, path: str) -> dict[str, Any] | None:
        try:
            log = self.read(f"{path}/{_FIRST}")
        except FileNotFoundError:
            return None
        actions = map(json.loads, log.splitlines())
        return next((action["metaData"] for action in actions if "metaData" in action), None)

    def unclaim(self, path: str) -> None:
        self.delete(f"{path}/{_FIRST}")
        self.delete_folder(path)

    def claims(self, folder: str) -> list[str]:
        found = (entry.path for entry in self.entries(folder))
        return [path.removesuffix(f"/{_FIRST}") for path in found if path.endswith(f"/{_FIRST}")]


def _pauses() -> Iterator[float | None]:
    """Growing random pauses between attempts; None when patience has ended."""
    deadline = time.monotonic() + PATIENCE
    longest = 0.5
    while time.monotonic() < deadline:
        yield random.uniform(longest / 2, longest)  # noqa: S311  (spreads clients out; no secret)
        longest = min(2 * longest, _LONGEST_PAUSE)
    while True:  # a caller may still want one attempt, with other credentials
        yield None


def _of_storage(error: Exception) -> bool:
    from deltalake.exceptions import CommitFailedError, DeltaError

    return isinstance(error, OSError | DeltaError) and not isinstance(error, CommitFailedError)


def _abandon(stream: pa.NativeFile) -> None:
    """Leave an upload unfinished for ever.

    Closing it would make an object of the half that is there, and so would its destructor; pyarrow has no
    way to abort one. So it is kept alive to the end of the process. The store forgets such uploads by a rule
    of the bucket, see docs/object-stores.md.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream))
