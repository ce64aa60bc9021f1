"""Where files lie: local paths, globs, folders and URLs; finding, stating and opening them."""

from __future__ import annotations

import difflib
import errno
import glob
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from pyarrow import fs as arrow_fs

from lake.errors import InputError, StorageError

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
def _remote(root: str, endpoint: str, region: str) -> Any:
    if not root.startswith("s3://"):
        return arrow_fs.FileSystem.from_uri(root)[0]
    options: dict[str, str] = {}
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        options = {"endpoint_override": host.rstrip("/"), "scheme": scheme or "https"}
    if region or endpoint:
        options["region"] = region or "us-east-1"
    else:
        options["region"] = arrow_fs.resolve_s3_region(root.removeprefix("s3://").split("/")[0])
    return arrow_fs.S3FileSystem(**options)


def _filesystem(url: str) -> tuple[Any, str]:
    """The Arrow file system of a URL, and the path in it."""
    scheme, _, path = url.partition("://")
    root = f"{scheme}://{path.split('/')[0]}"
    env = os.environ
    endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or ""
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or ""
    try:
        system = _remote(root, endpoint, region)
    except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError("cannot reach the source", where=url, why=str(error)) from error
    if scheme in {"s3", "gs", "gcs"}:
        return system, path
    return system, arrow_fs.FileSystem.from_uri(url)[1]


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
    if is_url(address):
        system, path = _filesystem(address)
        return _Watched(system.open_input_file(path), address)
    return _Watched(open(address, "rb", buffering=0), address)  # noqa: PTH123 (the caller closes it)


class _Watched(io.RawIOBase):
    """A file whose storage errors cannot be taken for bad data: decoders raise OSErrors of their own."""

    def __init__(self, file: Any, address: str) -> None:
        super().__init__()
        self._file = file
        self._address = address

    def read(self, size: int = -1, /) -> bytes:
        # Not left to the base class, which would copy every byte once more.
        data: bytes = self._told(self._file.read, *([size] if size >= 0 else []))
        return data

    def readinto(self, room: Any, /) -> int:
        return int(self._told(self._file.readinto, room))

    def _told(self, work: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return work(*arguments)
        except (PermissionError, FileNotFoundError):
            raise
        except OSError as error:
            raise StorageError(
                "reading a source failed", where=self._address, why=str(error), hint="run it again"
            ) from error

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
        names = glob.glob(root, recursive=True)  # noqa: PTH207
        if names:
            return [_local(name, base, still) for name in names if not os.path.isdir(name)]  # noqa: PTH112
    raise InputError("no file matches", where=pattern, why=f"looked in {base}", hint=_hint(root))


def _still(pattern: str) -> str:
    """The part of a glob before its first wildcard, up to a folder."""
    head = re.split(r"[*?[]", pattern, maxsplit=1)[0]
    return head.rpartition("/")[0] or "/"


def _walk(root: str) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise InputError(
            "cannot list a folder", where=error.filename, why=error.strerror, hint="check its permissions"
        ) from error

    for folder, folders, files in os.walk(root, onerror=refuse):
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
    system, path = _filesystem(url)
    scheme = url[: len(url) - len(path)] if url.endswith(path) else url.partition("://")[0] + "://"
    magic = glob.has_magic(path)
    try:
        root = _still(path) if magic else path.rstrip("/")
        info = system.get_file_info(root)
        if not magic and info.type == arrow_fs.FileType.File:
            return [_remote_found(info, scheme, root, named=True)]
        listed = system.get_file_info(arrow_fs.FileSelector(root, recursive=True, allow_not_found=True))
    except OSError as error:
        raise InputError("cannot list the source", where=url, why=str(error)) from error
    wanted = _glob_regex(path) if magic else None
    found = [
        _remote_found(item, scheme, root, named=False)
        for item in listed
        if item.type == arrow_fs.FileType.File
        and (wanted.fullmatch(item.path) if wanted else "/." not in item.path[len(root) :])
    ]
    if not found:
        raise InputError("no file matches", where=url, why=f"looked under {scheme}{root}")
    return found


def _remote_found(info: Any, scheme: str, root: str, *, named: bool) -> Found:
    parent = info.path.rpartition("/")[0]
    folder = None if named or parent == root else parent.rpartition("/")[2]
    return Found(scheme + info.path, info.size or 0, info.mtime_ns or 0, folder, named=named)


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
