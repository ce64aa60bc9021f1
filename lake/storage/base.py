"""Files below one root, wherever they are: the interface, and what all kinds of storage share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow import fs

from lake.storage.refusals import guard

__all__ = ["TEMPORARY", "Entry", "Storage"]

TEMPORARY = ".gristmill-tmp-"
"""Prefix of half-written files; everything else under its final name is whole."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file: path below the root, size in bytes, last change in seconds since the epoch."""

    path: str
    size: int
    modified: float


class Storage(ABC):
    """Files below one root.

    Paths are relative to the root and use ``/``. Two kinds of write exist: :meth:`write` and :meth:`staging`
    replace a file atomically, and :meth:`claim` creates one only if it is not there yet (a hard link locally,
    a conditional put in an object store), which is the one primitive that commits and leases are built on.
    """

    uri: str
    """The root, as a local absolute path or a URL such as ``s3://bucket/prefix``."""
    local: bool
    """True where files can be mapped into memory and locked by the kernel."""

    def __init__(self, uri: str, options: Mapping[str, str]) -> None:
        self.uri = uri
        self.options = dict(options)

    def address(self, path: str = "") -> str:
        """The full address of ``path``: what error messages and deltalake take."""
        return f"{self.uri}/{path}" if path else self.uri

    @property
    def delta_options(self) -> dict[str, str] | None:
        """What deltalake needs to reach the same files with the same credentials."""
        return None

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

    def renew(self, path: str) -> int | None:
        """Make a file young that is about to be needed for good; gives its size, None if there is none."""
        self.touch(path)
        return self.size(path)

    def sync(self, path: str) -> None:  # noqa: B027  (objects are durable when they are there)
        """Make a file that someone else wrote survive a power cut."""

    def guard(self, path: str = "") -> Any:
        """A context in which what the storage refuses becomes a :class:`~lake.errors.StorageError`."""
        return guard(self.address(path), self.options)

    def ask(self, path: str, work: Callable[[], T]) -> T:
        """The answer of ``work``, which may be called again where that is safe and may help."""
        with self.guard(path):
            return work()

    def read(self, path: str) -> bytes:
        """All bytes of a file. Raises FileNotFoundError."""

        def work() -> bytes:
            with self._open(path) as file:
                return bytes(file.read())

        return self.ask(path, work)

    def open(self, path: str) -> pa.NativeFile:
        """A file for random access. Raises FileNotFoundError."""
        return self.ask(path, lambda: self._open(path))

    def _open(self, path: str) -> pa.NativeFile:
        return self.filesystem.open_input_file(self.inner(path))

    def size(self, path: str) -> int | None:
        """Bytes of a file, None if there is none."""
        info = self._info(path)
        return info.size if info.type == fs.FileType.File else None

    def modified(self, path: str) -> float:
        """Seconds since the epoch of the last change; 0 if there is no such file."""
        info = self._info(path)
        return info.mtime.timestamp() if info.mtime else 0.0

    def _info(self, path: str) -> Any:
        return self.ask(path, lambda: self.filesystem.get_file_info(self.inner(path)))

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
        with suppress(FileNotFoundError):  # Arrow: a folder that appears just now
            found = self.ask(folder, lambda: self.filesystem.get_file_info(selector))
            return sorted(found, key=lambda info: str(info.path))
        return []

    def _outer(self, path: str) -> str:
        return path[len(self.inner("")) :].strip("/")

    def delete(self, path: str) -> None:
        """Delete a file; nothing happens if there is none."""
        with suppress(FileNotFoundError):
            self.ask(path, lambda: self.filesystem.delete_file(self.inner(path)))

    def delete_empty(self, folder: str) -> None:
        """Delete a folder if nothing is in it; nothing happens if there is none."""
        if not self.entries(folder):
            self.delete_folder(folder)

    def delete_folder(self, path: str) -> None:
        """Delete a folder and all that is in it; nothing happens if there is none."""
        with suppress(FileNotFoundError):
            self.ask(path, lambda: self.filesystem.delete_dir(self.inner(path)))
