"""A folder of a POSIX file system: renames replace files, hard links claim names."""

# ruff: noqa: D102  (the methods are documented in the base class)

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from pyarrow import fs

from lake.storage.base import TEMPORARY, Storage
from lake.storage.refusals import guard

__all__ = ["LocalStorage"]


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


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
