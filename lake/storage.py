"""Files of a lake, on a local disk or in an object store, behind one small interface.

Paths are relative to the lake's root and use ``/``. Two kinds of write exist: :meth:`Storage.write`
and :meth:`Storage.staging` replace a file atomically, and :meth:`Storage.claim` creates one only
if it is not there yet (a hard link locally, a conditional put in an object store), which is the one
primitive that commits and leases are built on.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pyarrow as pa
from pyarrow import fs

from lake.errors import StorageError

__all__ = ["TEMPORARY", "Entry", "Storage", "guard", "open_storage"]

TEMPORARY = ".gristmill-tmp-"
"""Prefix of half-written files; everything else under its final name is whole."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_BLOCK = 8 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A file: path below the root, size in bytes, last change in seconds since the epoch."""

    path: str
    size: int
    modified: float


@contextmanager
def guard(where: str) -> Iterator[None]:
    """Turn what the disk or the object store refuses into a :class:`StorageError` that says what to do."""
    try:
        yield
    except (FileNotFoundError, FileExistsError, NotADirectoryError, BlockingIOError):
        raise
    except OSError as error:
        if error.errno in _FULL:
            what, hint = "no space is left to write to", "free some space or raise the quota, then run again"
        elif error.errno in _DENIED:
            what, hint = "writing or reading is not permitted", "check the owner and the mode of the folder"
        else:
            what, hint = (
                "the storage refuses",
                "check the path, the network and the AWS_* credentials, then retry",
            )
        raise StorageError(what, where=where, why=str(error), hint=hint) from error


class Storage(ABC):
    """Files below one root."""

    uri: str
    """The root, as a local absolute path or ``s3://bucket/prefix``."""
    local: bool
    """True where files can be mapped into memory and locked by the kernel."""

    def __init__(self, uri: str, options: Mapping[str, str]) -> None:
        self.uri = uri
        self.options = dict(options)

    def address(self, path: str = "") -> str:
        """The full address of ``path``: what error messages and deltalake take."""
        return f"{self.uri}/{path}" if path else self.uri

    @property
    @abstractmethod
    def filesystem(self) -> fs.FileSystem:
        """The pyarrow file system in which :meth:`inner` paths are valid."""

    @abstractmethod
    def inner(self, path: str) -> str:
        """``path`` as :attr:`filesystem` names it."""

    @abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """Write or replace a file: readers see the old bytes or the new ones, never a mixture."""

    @abstractmethod
    @contextmanager
    def staging(self, path: str) -> Iterator[str]:
        """A local file to fill; it becomes ``path`` as a whole on a clean exit and vanishes on an error."""

    @abstractmethod
    def claim(self, path: str, data: bytes) -> bool:
        """Create ``path`` with ``data``; False if it is there already. Of any number of racers one wins."""

    @abstractmethod
    def claimed(self, path: str) -> bytes | None:
        """What :meth:`claim` stored, or None."""

    @abstractmethod
    def unclaim(self, path: str) -> None:
        """Delete a claim; nothing happens if there is none."""

    @abstractmethod
    def claims(self, folder: str) -> list[str]:
        """The paths claimed in ``folder``, sorted."""

    def touch(self, path: str) -> None:  # noqa: B027  (objects cannot be touched)
        """Renew the age of a file that is still wanted; no object store can."""

    def sync(self, path: str) -> None:  # noqa: B027  (objects are durable when they are there)
        """Make a file that someone else wrote survive a power cut."""

    def read(self, path: str) -> bytes:
        """All bytes of a file. Raises FileNotFoundError."""
        with self.open(path) as file:
            return bytes(file.read())

    def open(self, path: str) -> pa.NativeFile:
        """A file for random access. Raises FileNotFoundError."""
        with guard(self.address(path)):
            return self.filesystem.open_input_file(self.inner(path))

    def size(self, path: str) -> int | None:
        """Bytes of a file, None if there is none."""
        with guard(self.address(path)):
            info = self.filesystem.get_file_info(self.inner(path))
        return info.size if info.type == fs.FileType.File else None

    def modified(self, path: str) -> float:
        """Seconds since the epoch of the last change; 0 if there is no such file."""
        with guard(self.address(path)):
            info = self.filesystem.get_file_info(self.inner(path))
        return info.mtime.timestamp() if info.mtime else 0.0

    def entries(self, folder: str = "", *, recursive: bool = True) -> list[Entry]:
        """The files in ``folder``, sorted by path; none if it does not exist."""
        return [
            Entry(self._outer(info.path), info.size, info.mtime.timestamp() if info.mtime else 0.0)
            for info in self._select(folder, recursive=recursive)
            if info.type == fs.FileType.File
        ]

    def folders(self, folder: str = "") -> list[str]:
        """The names of the folders directly in ``folder``, sorted."""
        return [
            info.base_name
            for info in self._select(folder, recursive=False)
            if info.type == fs.FileType.Directory
        ]

    def _select(self, folder: str, *, recursive: bool) -> list[Any]:
        selector = fs.FileSelector(self.inner(folder), allow_not_found=True, recursive=recursive)
        with guard(self.address(folder)), suppress(FileNotFoundError):  # Arrow: a folder that appears just now
            return sorted(self.filesystem.get_file_info(selector), key=lambda info: str(info.path))
        return []

    def _outer(self, path: str) -> str:
        return path[len(self.inner("")) :].strip("/")

    def delete(self, path: str) -> None:
        """Delete a file; nothing happens if there is none."""
        with suppress(FileNotFoundError), guard(self.address(path)):
            self.filesystem.delete_file(self.inner(path))

    def delete_folder(self, path: str) -> None:
        """Delete a folder and all that is in it; nothing happens if there is none."""
        with suppress(FileNotFoundError), guard(self.address(path)):
            self.filesystem.delete_dir(self.inner(path))


class LocalStorage(Storage):
    """A folder of a POSIX file system."""

    local = True

    @property
    def filesystem(self) -> fs.FileSystem:
        return fs.LocalFileSystem()

    def inner(self, path: str) -> str:
        return self.address(path)

    def write(self, path: str, data: bytes) -> None:
        with self.staging(path) as temporary, guard(self.address(path)):
            Path(temporary).write_bytes(data)

    @contextmanager
    def staging(self, path: str) -> Iterator[str]:
        final = Path(self.inner(path))
        temporary = final.with_name(f"{TEMPORARY}{uuid4().hex}")
        with guard(self.address(path)):
            final.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield str(temporary)
            with guard(self.address(path)):
                _fsync(temporary)
                temporary.replace(final)
                _fsync(final.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def claim(self, path: str, data: bytes) -> bool:
        final = Path(self.inner(path))
        temporary = final.with_name(f"{TEMPORARY}{uuid4().hex}")
        try:
            with guard(self.address(path)):
                final.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(data)
                _fsync(temporary)
                # A link, unlike a rename, fails where the name is taken.
                os.link(temporary, final)
                _fsync(final.parent)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def claimed(self, path: str) -> bytes | None:
        try:
            return self.read(path)
        except FileNotFoundError:
            return None

    def unclaim(self, path: str) -> None:
        self.delete(path)

    def claims(self, folder: str) -> list[str]:
        found = self.entries(folder, recursive=False)
        return [entry.path for entry in found if not entry.path.rpartition("/")[2].startswith(TEMPORARY)]

    def touch(self, path: str) -> None:
        # A read-only lake can still be read; its files do not age under anyone's vacuum.
        with suppress(PermissionError, FileNotFoundError):
            os.utime(self.inner(path))

    def sync(self, path: str) -> None:
        with suppress(FileNotFoundError):
            _fsync(Path(self.inner(path)))
            _fsync(Path(self.inner(path)).parent)


class ObjectStorage(Storage):
    """A prefix in an S3-compatible bucket.

    pyarrow has no conditional put, delta-rs has: a claim is the first log entry of a tiny Delta table at
    its path, with the data in the table's description.
    """

    local = False

    def __init__(self, uri: str, options: Mapping[str, str]) -> None:
        super().__init__(uri, options)
        self._filesystem: fs.FileSystem | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"uri": self.uri, "options": self.options, "_filesystem": None}

    @property
    def filesystem(self) -> fs.FileSystem:
        if self._filesystem is None:
            self._filesystem = _s3(self.options)
        return self._filesystem

    def inner(self, path: str) -> str:
        return self.address(path).removeprefix("s3://").removeprefix("s3a://")

    def write(self, path: str, data: bytes) -> None:
        with guard(self.address(path)), self.filesystem.open_output_stream(self.inner(path)) as stream:
            stream.write(data)

    @contextmanager
    def staging(self, path: str) -> Iterator[str]:
        # By way of a local file: closing an upload after an error would make half a file an object.
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY)
        os.close(handle)
        try:
            yield temporary
            with (
                guard(self.address(path)),
                open(temporary, "rb") as source,  # noqa: PTH123  (copyfileobj wants the plain object)
                self.filesystem.open_output_stream(self.inner(path)) as stream,
            ):
                shutil.copyfileobj(source, stream, _BLOCK)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def claim(self, path: str, data: bytes) -> bool:
        from deltalake import CommitProperties, DeltaTable
        from deltalake.exceptions import CommitFailedError, DeltaError

        try:
            # Without `max_commit_retries=0` a racing second create lands as version 1, and both succeed.
            DeltaTable.create(
                self.address(path),
                pa.schema([("_", pa.bool_())]),
                description=data.decode(),
                storage_options=self.options or None,
                commit_properties=CommitProperties(max_commit_retries=0),
            )
        except CommitFailedError:
            return False
        except DeltaError as error:
            if self.claimed(path) is not None:
                return False
            raise StorageError("the object store refuses", where=self.address(path), why=str(error)) from error
        return True

    def claimed(self, path: str) -> bytes | None:
        try:
            log = self.read(f"{path}/{_FIRST}")
        except FileNotFoundError:
            return None
        for line in log.splitlines():
            action = json.loads(line)
            if "metaData" in action:
                return str(action["metaData"]["description"]).encode()
        return None

    def unclaim(self, path: str) -> None:
        self.delete(f"{path}/{_FIRST}")
        self.delete_folder(path)

    def claims(self, folder: str) -> list[str]:
        found = (entry.path for entry in self.entries(folder))
        return [path.removesuffix(f"/{_FIRST}") for path in found if path.endswith(f"/{_FIRST}")]


_FIRST = "_delta_log/00000000000000000000.json"


def open_storage(uri: str | Path, options: Mapping[str, str] | None = None) -> Storage:
    """The storage for a local folder or an ``s3://bucket/prefix``; touches nothing yet.

    >>> open_storage("/data/lake/").uri
    '/data/lake'
    """
    text = str(uri)
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme in {"s3", "s3a"}:
        return ObjectStorage(text.rstrip("/"), options or {})
    if scheme not in {"", "file"}:
        raise StorageError(
            f"storage of the kind {scheme}:// is not supported",
            where=text,
            hint="give a local folder or s3://bucket/prefix",
        )
    return LocalStorage(str(Path(text.removeprefix("file://")).expanduser().absolute()), {})


def _s3(options: Mapping[str, str]) -> fs.FileSystem:
    given = {key.lower().removeprefix("aws_"): value for key, value in options.items()}

    def get(*names: str) -> str | None:
        for name in names:
            value = given.get(name) or os.environ.get(f"AWS_{name.upper()}")
            if value:
                return value
        return None

    endpoint = get("endpoint_url", "endpoint")
    split = urlsplit(endpoint) if endpoint and "://" in endpoint else None
    yes = {"1", "true", "yes"}
    return fs.S3FileSystem(
        access_key=get("access_key_id"),
        secret_key=get("secret_access_key"),
        session_token=get("session_token"),
        anonymous=(get("skip_signature") or "").lower() in yes,
        region=get("region", "default_region"),
        scheme=split.scheme if split else None,
        endpoint_override=split.netloc if split else endpoint,
        force_virtual_addressing=(get("virtual_hosted_style_request") or "").lower() in yes,
        # Errors of an upload must surface at the write that failed, with its address.
        background_writes=False,
    )


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
