"""Streams of bytes, and the blocks of whole lines in them. No line is copied more than twice."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lake.formats.places import Readable, open_file
from lake.native import kernels

__all__ = ["BOM", "Block", "BrokenStreamError", "Stop", "TooLong", "blocks", "decompressed", "ranged", "stream"]

_kernels = kernels("lake._kernels")

BOM = b"\xef\xbb\xbf"
_CHUNK = 1 << 20


class BrokenStreamError(Exception):
    """The bytes end, or turn to nonsense, before they should; the message never quotes them."""


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines (the last may lack its line end), the number of the first one, and where line feeds are."""

    data: bytes
    row: int
    feeds: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TooLong:
    """Line ``row`` is over the limit, and was passed over unread."""

    row: int


@dataclass(frozen=True, slots=True)
class Stop:
    """The stream broke in line ``row``; nothing more will come."""

    row: int
    reason: str


@contextmanager
def stream(
    address: str, compression: str, start: int = 0, end: int | None = None
) -> Iterator[Callable[[int], bytes]]:
    """A ``read(n)`` over a file's bytes, decompressed; b"" at the end. The range is of an uncompressed file.

    Raises:
        OSError: it cannot be opened or read.
        BrokenStreamError: from ``read``: compressed data broken, or fewer bytes than ``end`` promised.
    """
    source = open_file(address)
    try:
        if compression:
            yield decompressed(source, compression)
        else:
            yield ranged(source, start, end)
    finally:
        source.close()


def ranged(source: Readable, start: int, end: int | None) -> Callable[[int], bytes]:
    """A ``read(n)`` over bytes ``start`` to ``end``."""
    if start:
        source.seek(start)
    at = start

    def read(size: int) -> bytes:
        nonlocal at
        if end is not None:
            size = min(size, end - at)
        if size <= 0:
            return b""
        data = source.read(size)
        at += len(data)
        if not data and end is not None:
            raise BrokenStreamError(f"the file ends at byte {at}, and had {end} when it was found")
        return data

    return read


def decompressed(source: Readable, compression: str) -> Callable[[int], bytes]:
    """A ``read(n)`` over the decompressed bytes of a gzip or Zstandard file, of any number of members."""
    return _gunzip(source) if compression == "gz" else _unzstd(source)


def _gunzip(source: Readable) -> Callable[[int], bytes]:
    # Not the gzip module: its read() throws away what it had when the file breaks.
    state: Any = zlib.decompressobj(wbits=31)
    waiting = b""
    began = False  # inside a member

    def read(size: int) -> bytes:
        nonlocal state, waiting, began
        while True:
            data = waiting or source.read(_CHUNK)
            if not data:
                if began:
                    raise BrokenStreamError("the gzip data ends too early")
                return b""
            try:
                out: bytes = state.decompress(data, size)
            except zlib.error as error:
                raise BrokenStreamError("the gzip data is broken") from error
            began = True
            waiting = state.unconsumed_tail
            if state.eof:
                waiting = state.unused_data.lstrip(b"\0")  # members may be padded
                state = zlib.decompressobj(wbits=31)
                began = False
            if out:
                return out

    return read


def _unzstd(source: Readable) -> Callable[[int], bytes]:
    unpacked = pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd")

    def read(size: int) -> bytes:
        # Small steps: what a failing read had already unpacked is lost.
        try:
            data: bytes = unpacked.read(min(size, 1 << 16))
        except OSError as error:
            raise BrokenStreamError("the Zstandard data is broken or ends too early") from error
        return data

    return read


def blocks(
    read: Callable[[int], bytes], row: int, *, block_bytes: int, max_row_bytes: int, first: bool
) -> Iterator[Block | TooLong | Stop]:
    """Cut a stream at line ends into blocks of about ``block_bytes``.

    A line over ``max_row_bytes`` is never held in memory as a whole. ``first``: the stream starts
    at the start of its file, where a byte order mark is taken off.
    """
    held = _Held(max_row_bytes)
    broken = ""
    while not broken:
        chunk, broken = _fill(read, block_bytes)
        if not chunk:
            break
        if first:
            chunk, first = chunk.removeprefix(BOM), False
        cut = chunk.rfind(b"\n") + 1
        if cut:
            if held.skipping:
                yield TooLong(row)
                row += 1
            head = held.joined(chunk, cut)
            if head:
                feeds = np.empty(head.count(b"\n"), np.int64)
                _kernels.line_ends(np.frombuffer(head, np.uint8), feeds)
                yield Block(head, row, feeds)
                row += len(feeds)
        held.keep(chunk, cut)
    if broken:
        yield Stop(row, broken)
    elif held.skipping:
        yield TooLong(row)
    elif held.length:
        yield Block(b"".join(held.parts), row, np.empty(0, np.int64))


class _Held:
    """The start of a line whose end has not come yet; given up once it is over the limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.parts: list[bytes] = []
        self.length = 0
        self.skipping = False

    def joined(self, chunk: bytes, cut: int) -> bytes:
        """What was held and ``chunk[:cut]``, or that without the line that is passed over."""
        start = chunk.find(b"\n") + 1 if self.skipping else 0
        parts, self.parts, self.length, self.skipping = self.parts, [], 0, False
        if not parts and start == 0 and cut == len(chunk):
            return chunk
        return b"".join([*parts, memoryview(chunk)[start:cut]])

    def keep(self, chunk: bytes, cut: int) -> None:
        """Hold what follows the last line end."""
        if cut == len(chunk) or self.skipping:
            return
        self.parts.append(chunk[cut:] if cut else chunk)
        self.length += len(self.parts[-1])
        if self.length > self.limit:
            self.parts, self.length, self.skipping = [], 0, True


def _fill(read: Callable[[int], bytes], size: int) -> tuple[bytes, str]:
    """``size`` bytes, or what is left; and why no more will come, where the stream is broken."""
    parts: list[bytes] = []
    total = 0
    broken = ""
    while total < size:
        try:
            data = read(size - total)
        except BrokenStreamError as error:
            broken = str(error)
            break
        if not data:
            break
        parts.append(data)
        total += len(data)
    return (parts[0] if len(parts) == 1 else b"".join(parts)), broken
