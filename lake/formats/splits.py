"""What is new of a source, and how it is cut into work: files, pieces of files, and splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from lake.errors import InputError
from lake.formats.places import Found, Readable, is_url, locate, open_file, readable

__all__ = ["GONE", "UNKNOWN", "UNREADABLE", "File", "Piece", "Split", "Taken", "group", "new_pieces"]

UNREADABLE = "unreadable"
"""The fingerprint of a file that could not be opened: it is tried again as soon as it can be."""

GONE = "gone"
"""The fingerprint of a file that was taken and is no more: should it come back, all of it is new."""

UNKNOWN = "unknown-format"
"""The format, and the rule, of a file that was found beside others and that no reader knows."""

_EDGE = 64 * 1024
_SCAN = 256 << 10
_MOST_PIECES = 2000
_LINE_FEED = 10
LINE_FORMATS = frozenset({"jsonl", "csv"})


@dataclass(frozen=True, slots=True)
class File:
    """One file as it was when it was found."""

    path: str  # relative to the base folder, absolute, or a URL
    format: str
    compression: str  # "", "gz" or "zst"
    size: int
    modified: int
    label: str | None  # its folder's name, where the format takes labels from folders
    consumed: int  # bytes up to the last line end; all of them where it has no lines
    rows: int  # lines up to there; -1 where nobody has counted yet
    fingerprint: str  # of the bytes up to `consumed`

    @property
    def uri(self) -> str:
        """The path as it stands in ``_source``: bytes of a name that are not UTF-8 are escaped."""
        return self.path.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file: bytes of a line file, row groups of a Parquet file, else the whole."""

    file: File
    start: int = 0
    end: int | None = None
    first_row: int = 1  # the number of its first line or row
    size: int = 0  # bytes, for weighing


@dataclass(frozen=True, slots=True)
class Split:
    """A unit of work: pieces of one format, at most one large or many small."""

    pieces: tuple[Piece, ...]
    base: str  # the folder that relative paths start from
    reader: str  # hash of the settings that rows depend on

    @property
    def format(self) -> str:
        """The format of all its pieces."""
        return self.pieces[0].file.format

    @property
    def uri(self) -> str:
        """The first file's address."""
        return self.pieces[0].file.uri

    @property
    def start(self) -> int:
        """Where the first piece starts."""
        return self.pieces[0].start

    @property
    def size(self) -> int:
        """Bytes to be read."""
        return sum(piece.size for piece in self.pieces)

    @property
    def key(self) -> str:
        """32 hex digits over everything that its rows depend on, but not the base folder."""
        state = hashlib.blake2b(self.reader.encode(), digest_size=16, person=b"gristmill-split")
        for piece in self.pieces:
            file = piece.file
            named = (file.uri, file.format, file.compression, file.size, file.modified, file.label)
            state.update(repr((*named, file.fingerprint, piece.start, piece.end, piece.first_row)).encode())
        return state.hexdigest()


@dataclass(frozen=True, slots=True)
class Taken:
    """One row of the manifest (``lake.schema.MANIFEST``): a file that was taken, and how much of it."""

    uri: str
    size: int
    modified: int
    consumed: int
    rows: int
    fingerprint: str
    reader: str
    pipeline: str = ""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Taken:
        """From a row as ``Table.to_pylist`` gives it."""
        return cls(**row)


def fingerprint(source: Readable, end: int) -> str:
    """BLAKE2b over the first and the last 64 KiB of the first ``end`` bytes, and their number."""
    state = hashlib.blake2b(end.to_bytes(8, "little"), digest_size=16, person=b"gristmill-file")
    for start in (0, max(0, end - _EDGE)):
        source.seek(start)
        state.update(_exactly(source, min(_EDGE, end)))
    return state.hexdigest()


def _exactly(source: Readable, size: int) -> bytes:
    parts = []
    while size > 0:
        data = source.read(size)
        if not data:
            break
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def new_pieces(
    found: Found, file_format: str, compression: str, before: Taken | None, *,
    base: str, reader: str, split_bytes: int, label: str | None,
) -> list[Piece]:  # fmt: skip
    """The pieces of one file that ``before`` does not cover; none where nothing is new."""
    address = locate(found.path, base)
    file = File(
        path=found.path, format=file_format, compression=compression, size=max(found.size, 0),
        modified=found.modified, label=label, consumed=max(found.size, 0), rows=-1, fingerprint="",
    )  # fmt: skip
    can = found.size >= 0 and readable(address)
    if before is not None and (before.reader != reader or before.fingerprint == GONE):
        before = None
    if before is not None and before.fingerprint == UNREADABLE:
        if not can:
            return []
        before = None
    if before is not None and (before.size, before.modified) == (file.size, file.modified):
        return []
    try:
        if can:
            return _cut(address, file, before, split_bytes)
    except (PermissionError, FileNotFoundError):
        pass  # as if we had known
    except OSError as error:
        raise InputError("cannot read a source", where=file.uri, why=str(error)) from error
    return [Piece(replace(file, consumed=0, rows=0, fingerprint=UNREADABLE))]


def _cut(address: str, file: File, before: Taken | None, split_bytes: int) -> list[Piece]:
    if file.format in LINE_FORMATS and not file.compression:
        source = open_file(address)
        try:
            start, row = _resume(source, file, before)
            return _line_pieces(source, file, start, row, split_bytes, remote=is_url(address))
        finally:
            source.close()
    if file.format == "parquet" and file.size > split_bytes:
        return _row_groups(address, file, split_bytes)
    return [Piece(file, size=file.size)]


def _resume(source: Readable, file: File, before: Taken | None) -> tuple[int, int]:
    """Where reading goes on: (byte, line number), (0, 1) unless the file has only grown."""
    if before is None or file.size <= before.size or before.consumed == 0:
        return 0, 1
    if fingerprint(source, before.consumed) != before.fingerprint:
        return 0, 1
    rows = before.rows
    if rows < 0:
        rows = sum(count for _, count in _scan(source, 0, before.consumed))
    return before.consumed, rows + 1


def _scan(source: Readable, start: int, end: int) -> Iterator[tuple[bytearray, int]]:
    """The bytes from ``start`` to ``end`` in large blocks, each with its number of line ends."""
    source.seek(start)
    room = bytearray(min(_SCAN, max(end - start, 0)))  # one for all blocks
    seen, feeds = np.frombuffer(room, np.uint8), np.empty(len(room), np.bool_)
    while start < end:
        size = source.readinto(memoryview(room)[: end - start])
        if not size:
            break
        start += size
        data = room if size == len(room) else room[:size]
        # Three times as fast as bytearray.count, which goes from one line end to the next.
        yield data, int(np.count_nonzero(np.equal(seen[:size], _LINE_FEED, out=feeds[:size])))


def _line_pieces(
    source: Readable, file: File, start: int, row: int, split_bytes: int, *, remote: bool
) -> list[Piece]:
    if remote:
        cuts, consumed, rows = [(start, row)], _last_line_end(source, file, start), -1
    else:
        scan = _CsvCuts() if file.format == "csv" else _Cuts()
        cuts, consumed, rows = scan.run(source, start, row, file.size, split_bytes)
    file = replace(file, consumed=consumed, rows=rows, fingerprint=fingerprint(source, consumed))
    ends = [at for at, _ in cuts[1:]] + [file.size]
    return [Piece(file, at, end, line, end - at) for (at, line), end in zip(cuts, ends, strict=True)]


def _last_line_end(source: Readable, file: File, start: int) -> int:
    """Without reading the file. In CSV a line end may be inside a field, so there is no telling: 0."""
    if file.format == "csv":
        return 0
    end = file.size
    while end > start:
        begin = max(start, end - _EDGE)
        source.seek(begin)
        at = _exactly(source, end - begin).rfind(b"\n")
        if at >= 0:
            return begin + at + 1
        end = begin
    return start


class _Cuts:
    """Cuts at the first line end at or after every ``split_bytes`` from the last cut."""

    def run(
        self, source: Readable, start: int, row: int, size: int, split_bytes: int
    ) -> tuple[list[tuple[int, int]], int, int]:
        """(cuts as (byte, line number), byte after the last line end, number of lines up to there)."""
        cuts = [(start, row)]
        at, last, lines = start, start, row - 1
        rows = lines  # up to `last`
        for data, count in _scan(source, start, size):
            ends = self.line_ends(data)
            if ends is None:  # not to be cut anywhere
                return [(start, row)], 0, 0
            while (end := ends.first(cuts[-1][0] + split_bytes - 1 - at)) >= 0:
                cuts.append((at + end + 1, lines + data.count(b"\n", 0, end + 1) + 1))
            end = ends.last()
            if end >= 0:
                last, rows = at + end + 1, lines + (data.count(b"\n", 0, end + 1) if ends.some else count)
            at += len(data)
            lines += count
        if not self.closed:
            return [(start, row)], 0, 0
        if cuts[-1][0] >= size and len(cuts) > 1:
            cuts.pop()
        return cuts, last, rows

    closed = True

    def line_ends(self, data: bytearray) -> _LineEnds | None:
        """Where records end in this block, which follows the one given before; None if it cannot be told."""
        return _LineEnds(data, None)


class _LineEnds:
    """The line ends of a block that end records: all of them, or those listed."""

    def __init__(self, data: bytearray, listed: npt.NDArray[np.int64] | None) -> None:
        self._data = data
        self._listed = listed
        self.some = listed is not None

    def first(self, goal: int) -> int:
        """The first at or after ``goal``; -1 if there is none."""
        goal = max(goal, 0)
        if self._listed is None:
            return self._data.find(b"\n", goal)
        index = int(np.searchsorted(self._listed, goal))
        return int(self._listed[index]) if index < len(self._listed) else -1

    def last(self) -> int:
        """The last one; -1 if there is none."""
        if self._listed is None:
            return self._data.rfind(b"\n")
        return int(self._listed[-1]) if len(self._listed) else -1


class _CsvCuts(_Cuts):
    """Only line ends outside quotes; no cuts at all in a file whose quotes are not regular.

    Regular: an opening quote follows a delimiter or a line's start, a closing one precedes a
    delimiter or a line's end, and one inside a field is doubled. Then a line end is a record's end
    if and only if the number of quotes before it is even.
    """

    _BEFORE = frozenset(b',\t\n"')
    _AFTER = frozenset(b',\t\r\n"')

    def __init__(self) -> None:
        self.quotes = 0
        self.previous = 10
        self.closing_last = False

    def line_ends(self, data: bytearray) -> _LineEnds | None:
        if self.closing_last and data[0] not in self._AFTER:
            return None
        self.closing_last = False
        previous, self.previous = self.previous, data[-1]
        if b'"' not in data and self.closed:
            return _LineEnds(data, None)
        raw = np.frombuffer(data, np.uint8)
        quotes = np.flatnonzero(raw == 34)  # noqa: PLR2004 (double quote)
        opening = (np.arange(len(quotes)) + self.quotes) % 2 == 0
        before = np.where(quotes > 0, raw[quotes - 1], previous)[opening]
        inner = quotes[~opening]
        self.closing_last = bool(len(inner)) and int(inner[-1]) == len(raw) - 1
        after = raw[inner[inner < len(raw) - 1] + 1]
        if not set(before.tolist()) <= self._BEFORE or not set(after.tolist()) <= self._AFTER:
            return None
        ends = np.flatnonzero(raw == 10)  # noqa: PLR2004 (line feed)
        outside = (np.searchsorted(quotes, ends) + self.quotes) % 2 == 0
        self.quotes += len(quotes)
        self.closed = self.quotes % 2 == 0
        return _LineEnds(data, ends[outside])


def _row_groups(address: str, file: File, split_bytes: int) -> list[Piece]:
    """Runs of row groups of about ``split_bytes``; the whole file where its footer cannot be read."""
    source = open_file(address)
    try:
        footer = pq.ParquetFile(pa.PythonFile(source, mode="r")).metadata
    except (pa.ArrowInvalid, OSError):
        return [Piece(file, size=file.size)]
    finally:
        source.close()
    pieces, start, row, first, size = [], 0, 1, 1, 0
    for index in range(footer.num_row_groups):
        part = footer.row_group(index)
        size += sum(part.column(i).total_compressed_size for i in range(part.num_columns))
        row += part.num_rows
        if size >= split_bytes or index == footer.num_row_groups - 1:
            pieces.append(Piece(file, start, index + 1, first, size))
            start, first, size = index + 1, row, 0
    return pieces or [Piece(file, size=file.size)]


def group(pieces: list[Piece], base: str, reader: str, split_bytes: int) -> list[Split]:
    """Pack small pieces of one format together, up to ``split_bytes`` or 2,000; in order of (uri, start)."""
    packed: list[list[Piece]] = []
    filling: dict[str, tuple[list[Piece], int]] = {}
    for piece in sorted(pieces, key=lambda item: (item.file.uri, item.start)):
        kind = piece.file.format
        current, size = filling.get(kind, ([], 0))
        if not current or size + piece.size > split_bytes or len(current) >= _MOST_PIECES:
            current, size = [], 0
            packed.append(current)
        current.append(piece)
        filling[kind] = current, size + piece.size
    splits = [Split(tuple(items), base, reader) for items in packed]
    return sorted(splits, key=lambda split: (split.uri, split.start))
