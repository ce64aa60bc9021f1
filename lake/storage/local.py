"""A folder of a POSIX file system: renames replace files, hard links claim names."""

# ruff: noqa: D102  (the methods are documented in the base class)

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from pyarrow import fs

from lake.storage.base import TEMPORARY, Storage
from lake.storage.refusals import guard

__all__ = ["LocalStorage"]

_ATTEMPTS = 100  # to write into a folder that somebody else takes away when it is empty


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
            _create(temporary)
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
                _make(final.parent)
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

    def delete_empty(self, folder: str) -> None:
        with suppress(OSError):  # somebody has just written into it, or deleted it
            Path(self.inner(folder)).rmdir()

    def touch(self, path: str) -> None:
        # A read-only lake can still be read; its files do not age under anyone's vacuum.
        try:
            os.utime(self.inner(path))
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS}:
                raise

    def sync(self, path: str) -> None:
        with suppress(FileNotFoundError):
            _fsync(Path(self.inner(path)))
            _fsync(Path(self.inner(path)).parent)


def _make(folder: Path) -> None:
    """A folder that survives a power cut."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        with suppress(OSError):  # one that may not be read, above the lake
            _fsync(folder.parent)


def _create(file: Path) -> None:
    """An empty file and its folder; a vacuum may take the empty folder away in between."""
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):
            _make(file.parent)
            file.touch()
            return
    raise NotADirectoryError(errno.ENOTDIR, "the folder does not stay", str(file.parent))


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
