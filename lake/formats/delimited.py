"""CSV and TSV (RFC 4180): a header, then records; ``_source.row`` is a record's first line."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

from lake.formats.lines import BOM, Block, Stop, TooLong, blocks, stream
from lake.formats.rows import BadRowError, Reading, Rows, canonical, cell_value
from lake.formats.splits import Piece
from lake.op import Outcome

__all__ = ["read"]

_BLOCK = 1 << 20


class _TooLargeError(Exception):
    """The record that is being read has passed the limit."""


class _Lines:
    """The decoded lines of a stream, with their numbers and the bytes since the last record."""

    def __init__(self, read: Callable[[int], bytes], row: int, how: Reading, *, first: bool) -> None:
        self.number = row - 1  # of the line given last
        self.since = 0  # bytes since a record began
        self.stop: Stop | None = None
        self._limit = how.max_row_bytes
        self._lines = self._decoded(
            blocks(read, row, block_bytes=_BLOCK, max_row_bytes=how.max_row_bytes, first=first)
        )

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        if line is None:
            raise _TooLargeError
        self.since += len(line)
        if self.since > self._limit + 2:  # the line end does not count
            raise _TooLargeError
        # Bytes that are not UTF-8 come as lone surrogates: the record they end up in is dropped.
        return line.decode("utf-8", "surrogateescape")

    def _decoded(self, parts: Iterator[Block | TooLong | Stop]) -> Iterator[bytes | None]:
        for part in parts:
            if isinstance(part, Block):
                start = 0
                while (end := part.data.find(b"\n", start) + 1) > 0:
                    yield part.data[start:end]
                    start = end
                if start < len(part.data):
                    yield part.data[start:]
            elif isinstance(part, TooLong):
                yield None
            else:
                self.stop = part


def read(piece: Piece, address: str, how: Reading) -> Iterator[Outcome]:
    """The records of a piece of a file, in order."""
    file = piece.file
    csv.field_size_limit(sys.maxsize)  # ours is max_row_bytes, and is counted in bytes of the record
    dialect: dict[str, Any] = {"delimiter": _delimiter(file.path), "strict": True}
    header = None if piece.start == 0 else _header(address, dialect)
    with stream(address, file.compression, piece.start, piece.end) as source:
        lines = _Lines(source, piece.first_row, how, first=piece.start == 0)
        rows = Rows(how)
        reader = csv.reader(lines, **dialect)
        while True:
            begin = lines.number + 1
            lines.since = 0
            try:
                cells = next(reader)
                if not cells:
                    continue
                if header is None:
                    header = _names(cells)
                    continue
                _record(rows, file.uri, begin, header, cells)
            except StopIteration:
                break
            except _TooLargeError:
                rows.drop(file.uri, begin, "row-too-large", f"line {begin}: over {how.max_row_bytes} bytes")
            except csv.Error as error:
                rows.drop(file.uri, begin, "unreadable-csv", f"line {begin}: {_told(error)}")
            except BadRowError as bad:
                rows.drop(file.uri, begin, bad.rule, f"line {begin}, {bad.detail}")
            if rows.full:
                yield rows.finish()
        if lines.stop:
            detail = f"line {lines.stop.row}: {lines.stop.reason}"
            rows.drop(file.uri, lines.stop.row, "truncated-file", detail)
        yield rows.finish()


def _delimiter(path: str) -> str:
    return "\t" if ".tsv" in path.lower().rsplit("/", 1)[-1] else ","


def _told(error: csv.Error) -> str:
    """The reason in our words: no message of another library, which might quote the line, is passed on."""
    known = {
        "unexpected end of data": "a quote is opened and never closed",
        "new-line character seen in unquoted field": "a carriage return inside a field without quotes",
    }
    text = str(error)
    return next((ours for theirs, ours in known.items() if theirs in text), "text after a closing quote")


def _header(address: str, dialect: dict[str, Any]) -> list[str]:
    """The first record that is not empty, for a piece that does not start at the file's start."""
    with stream(address, "") as source:
        start = source(_BLOCK).removeprefix(BOM).decode("utf-8", "surrogateescape")
    records = csv.reader(io.StringIO(start, newline="\n"), **dialect)
    return _names(next((cells for cells in records if cells), []))


def _names(cells: list[str]) -> list[str]:
    """Column names; a repeated one gets ``_2``, ``_3``, and what is not UTF-8 is escaped."""
    names: list[str] = []
    for cell in cells:
        clean = cell.encode("utf-8", "backslashreplace").decode("utf-8")
        name, count = clean, 1
        while name in names:
            count += 1
            name = f"{clean}_{count}"
        names.append(name)
    return names


def _record(rows: Rows, uri: str, number: int, header: list[str], cells: list[str]) -> None:
    how = rows.how
    for cell in cells:
        if "\0" in cell:
            raise BadRowError("nul-byte", "a NUL byte")
        if not cell.isascii():
            try:
                cell.encode("utf-8")
            except UnicodeEncodeError:
                raise BadRowError("invalid-utf8", "bytes that are not UTF-8") from None
    if len(cells) != len(header):
        raise BadRowError(
            "ragged-row", f"column {len(cells)}: {len(cells)} fields, the header has {len(header)}"
        )
    values = dict(zip(header, cells, strict=True))
    text = values.get(how.text) if how.text is not None else None
    if text is None:
        raise BadRowError(how.missing(), f"no column {how.text!r}")
    label = (values.get(how.label) or None) if how.label is not None else None
    typed = tuple(cell_value(values.get(name, ""), kind, name) for name, kind in how.columns)
    meta = canonical({name: cell for name, cell in values.items() if cell and name not in how.taken})
    rows.add(uri, number, text=text, label=label, meta=meta, typed=typed)
