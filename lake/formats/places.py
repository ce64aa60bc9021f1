"""Where files lie: local paths, globs, folders and URLs; finding, stating and opening them."""

from __future__ import annotations

import difflib
import errno
import fnmatch
import glob
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pyarrow as pa
from pyarrow import fs as arrow_fs

from lake.errors import InputError, StorageError
from lake.storage import complaint, open_storage, redact, refused
from lake.storage.objects import ObjectStorage
from lake.storage.urls import SCHEMES, scheme_of

__all__ = ["Found", "Readable", "find", "locate", "open_file", "readable"]


class Readable(Protocol):  # the methods of io.RawIOBase and pyarrow.NativeFile that are used
    """What every opened file can do, local or remote."""

    def read(self, size: int = -1, /) -> bytes: ...  # noqa: D102 (as in io.RawIOBase)
    def readinto(self, buffer: memoryview, /) -> int | None: ...  # noqa: D102 (as in io.RawIOBase)
    def seek(self, offset: int, /) -> int: ...  # noqa: D102 (as in io.RawIOBase)
    def close(self) -> None: ...  # noqa: D102 (as in io.RawIOBase)


@dataclass(frozen=True, slots=True)
class Found:
    """A file that a pattern matched. ``path`` is relative to the base when below it, else absolute or a URL."""

    path: str
    size: int  # bytes; -1 where it cannot be stated
    modified: int  # nanoseconds since the epoch
    folder: str | None  # name of the folder that holds it; None directly at the pattern's root
    named: bool  # given by its own name, not by a folder or a wildcard


def is_url(path: str) -> bool:
    """An address with a scheme, such as ``s3://bucket/key``."""
    return bool(re.match(r"[a-z][a-z0-9+.-]+://", path))


def locate(path: str, base: str) -> str:
    """The address to open: a URL as it is, a path from the base folder."""
    return path if is_url(path) else os.path.join(base, path)  # noqa: PTH118 (names may not be UTF-8)


@lru_cache(maxsize=32)
def _bucket(root: str) -> ObjectStorage:
    storage = open_storage(root)
    assert isinstance(storage, ObjectStorage)  # noqa: S101  (the caller looked at the scheme)
    return storage


def _storage(url: str) -> tuple[ObjectStorage, str]:
    """The bucket of a URL, and the key in it."""
    if wrong := complaint(url):
        raise InputError(wrong, where=redact(url))
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    storage = _bucket(f"{scheme}://{bucket}")
    return storage, key


def _other(url: str) -> tuple[Any, str]:
    """The Arrow file system of a URL that is no object store's, and the path in it."""
    try:
        system, path = arrow_fs.FileSystem.from_uri(url)
    except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError("cannot reach the source", where=redact(url), why=redact(str(error))) from None
    return system, path


def open_file(address: str) -> Readable:
    """Open for reading at any position.

    Raises:
        OSError: as the system says it.
        PermissionError: it is no regular file; a pipe would be waited for without end.
    """
    if not is_url(address):
        try:
            mode = os.stat(address).st_mode  # noqa: PTH116 (a str: names may not be UTF-8)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise FileNotFoundError(error.errno, "a link that leads to itself") from error
            raise
        if not stat.S_ISREG(mode):
            raise PermissionError(errno.EACCES, "not a regular file")
    if scheme_of(address) in SCHEMES:
        storage, key = _storage(address)
        return _Watched(storage.open(key), address, storage, key)
    if is_url(address):
        system, path = _other(address)
        return _Watched(system.open_input_file(path), address)
    return _Watched(open(address, "rb", buffering=0), address)  # noqa: PTH123 (the caller closes it)


class _Watched(io.RawIOBase):
    """A file whose storage errors cannot be taken for bad data: decoders raise OSErrors of their own."""

    def __init__(self, file: Any, address: str, storage: ObjectStorage | None = None, key: str = "") -> None:
        super().__init__()
        self._file = file
        self._address = address
        self._storage, self._key = storage, key

    def read(self, size: int = -1, /) -> bytes:
        # Not left to the base class, which would copy every byte once more.
        data: bytes = self._told(self._file.read, *([size] if size >= 0 else []))
        return data

    def readinto(self, room: Any, /) -> int:
        return int(self._told(self._file.readinto, room))

    def _told(self, work: Callable[..., Any], *arguments: Any) -> Any:
        try:
            if self._storage is None:
                return work(*arguments)
            at = self._file.tell()
            return self._storage.ask(self._key, lambda: self._again(at, work, arguments))
        except (PermissionError, FileNotFoundError):
            raise
        except OSError as error:
            raise refused(error, self._address) from error

    def _again(self, at: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        self._file.seek(at)
        return work(*arguments)

    def seek(self, at: int, whence: int = 0, /) -> int:
        self._file.seek(at, whence)
        return self.tell()

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def readable(address: str) -> bool:
    """Whether opening it has a chance; asked before a file that failed is tried again."""
    return is_url(address) or os.access(address, os.R_OK)


def find(pattern: str, base: Path) -> list[Found]:
    """Every file that one path, glob, folder or URL names, in the order of their paths.

    Hidden files and folders (a leading dot) are left out unless they are named.

    Raises:
        InputError: nothing is there, or a folder cannot be listed.
    """
    found = _find_remote(pattern) if is_url(pattern) else _find_local(os.path.expanduser(pattern), base)  # noqa: PTH111
    return sorted(found, key=lambda item: item.path)


def _find_local(pattern: str, base: Path) -> list[Found]:
    root = os.path.normpath(os.path.join(base, pattern))  # noqa: PTH118 (a str: names may not be UTF-8)
    if os.path.isdir(root):  # noqa: PTH112
        return [_local(name, base, root) for name in _walk(root)]
    if os.path.lexists(root):
        return [_local(root, base, None)]
    if glob.has_magic(pattern):
        still = _still(root)
        names = list(dict.fromkeys(_matches(root)))
        if names:
            return [_local(name, base, still) for name in names if not os.path.isdir(name)]  # noqa: PTH112
    raise InputError("no file matches", where=pattern, why=f"looked in {base}", hint=_hint(root))


def _still(pattern: str) -> str:
    """The part of a glob before its first wildcard, up to a folder."""
    head = re.split(r"[*?[]", pattern, maxsplit=1)[0]
    return head.rpartition("/")[0] or "/"


_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


def _matches(pattern: str) -> list[str]:
    """What ``glob.glob(pattern, recursive=True)`` gives, but that a folder that cannot be listed is an error.

    There its files would be missing without a word, as if they had been deleted.
    """
    first, *rest = pattern.split("/")
    found = [first]
    for part in rest:
        if part == "**":
            found = [name for each in found if _is_there(f"{each}/") for name in _below(each)]
        elif glob.has_magic(part):
            found = [f"{each}/{name}" for each in found for name in _listing(each, hidden=part[0] == ".")
                     if fnmatch.fnmatchcase(name, part)]  # fmt: skip
        else:
            found = [name for each in found if _is_there(name := f"{each}/{part}")]
    return found


def _below(folder: str) -> Iterator[str]:
    """A folder, and all that is below it, through links too."""
    yield folder
    for name in _listing(folder, hidden=False):
        yield from _below(f"{folder}/{name}")


def _listing(folder: str, *, hidden: bool) -> list[str]:
    """The names in a folder; none where it is no folder."""
    try:
        return sorted(name for name in os.listdir(f"{folder}/") if hidden or name[0] != ".")  # noqa: PTH208
    except OSError as error:
        if error.errno in _NOT_THERE:
            return []
        _refuse(error)


def _is_there(name: str) -> bool:
    try:
        os.lstat(name)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return False
        _refuse(error)
    return True


def _refuse(error: OSError) -> NoReturn:
    raise InputError(
        "cannot list a folder", where=error.filename, why=error.strerror, hint="check its permissions"
    ) from error


def _walk(root: str) -> Iterator[str]:
    for folder, folders, files in os.walk(root, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith("."):
                yield os.path.join(folder, name)  # noqa: PTH118


def _local(name: str, base: Path, root: str | None) -> Found:
    parent = os.path.dirname(name)  # noqa: PTH120
    folder = None if root is None or parent == root else os.path.basename(parent)  # noqa: PTH119
    inside = os.path.relpath(name, base)
    path = name if inside.startswith("..") else inside
    try:
        info = os.stat(name)  # noqa: PTH116
    except OSError:
        return Found(path, -1, 0, folder, named=root is None)
    if not stat.S_ISREG(info.st_mode):
        if root is None:
            raise InputError("not a regular file", where=name, hint="give files and folders only")
        return Found(path, -1, 0, folder, named=False)  # a pipe, a socket: nobody will write into it for us
    return Found(path, info.st_size, info.st_mtime_ns, folder, named=root is None)


def _hint(root: str) -> str:
    """Names that do exist beside the first part of the path that does not."""
    path = Path(re.split(r"[*?[]", root, maxsplit=1)[0])
    while not path.parent.is_dir():
        path = path.parent
    try:
        beside = sorted(item.name for item in path.parent.iterdir())[:1000]
    except OSError:
        return f"is {path.parent} readable?"
    close = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.6)
    if close:
        return f"did you mean {path.parent / close[0]}?"
    return f"{path.parent} has: {', '.join(beside[:5])}" if beside else f"{path.parent} is empty"


def _find_remote(url: str) -> list[Found]:
    if scheme_of(url) in SCHEMES:
        storage, key = _storage(url)
        try:
            found = storage.ask(key, lambda: _listed(storage.filesystem, storage.inner(key)))
            if not found:
                storage.check_bucket()
        except StorageError as error:
            what = f"cannot list the source: {error.what}"
            raise InputError(what, where=url, why=error.why, hint=error.hint) from error
        head, cut = f"{storage.uri}/", len(storage.bucket) + 1
    else:
        system, path = _other(url)
        try:
            found = _listed(system, path)
        except OSError as error:
            raise InputError("cannot list the source", where=redact(url), why=redact(str(error))) from None
        head, cut = url[: len(url) - len(path)] if url.endswith(path) else url.partition("://")[0] + "://", 0
    if not found:
        raise InputError("no file matches", where=url)
    return [_remote_found(info, head + info.path[cut:], root, named=named) for info, root, named in found]


def _listed(system: Any, path: str) -> list[tuple[Any, str, bool]]:
    """The files that a path or a glob names: each with the folder that was listed, and whether it was named."""
    magic = glob.has_magic(path)
    root = _still(path) if magic else path.rstrip("/")
    info = system.get_file_info(root)
    if not magic and info.type == arrow_fs.FileType.File:
        return [(info, root, True)]
    listed = system.get_file_info(arrow_fs.FileSelector(root, recursive=True, allow_not_found=True))
    wanted = _glob_regex(path) if magic else None
    return [
        (item, root, False)
        for item in listed
        if item.type == arrow_fs.FileType.File
        and (wanted.fullmatch(item.path) if wanted else "/." not in item.path[len(root) :])
    ]


def _remote_found(info: Any, url: str, root: str, *, named: bool) -> Found:
    parent = info.path.rpartition("/")[0]
    folder = None if named or parent == root else parent.rpartition("/")[2]
    return Found(url, info.size or 0, info.mtime_ns or 0, folder, named=named)


def _glob_regex(pattern: str) -> re.Pattern[str]:
    """``*``, ``?`` and ``[...]`` stay within a folder, ``**`` does not; no wildcard takes a leading dot."""
    out, at = "", 0
    for match in re.finditer(r"(?:(?<=/)|^)\*\*/|\*\*|\*|\?|\[(!?)([^]/]+)\]", pattern):
        out += re.escape(pattern[at : match.start()])
        at = match.end()
        wild = match.group()
        visible = "(?!\\.)" if match.start() == 0 or pattern[match.start() - 1] == "/" else ""
        if wild == "**/":
            out += r"(?:(?!\.)[^/]+/)*"
        elif wild == "**":
            out += r"(?:(?!\.)[^/]+/)*(?!\.)[^/]*"
        elif wild in "*?":
            out += visible + ("[^/]*" if wild == "*" else "[^/]")
        else:
            inner = match.group(2).replace("\\", "\\\\")
            out += f"{visible}[{'^' if match.group(1) else ''}{inner}]"
    return re.compile(out + re.escape(pattern[at:]))
