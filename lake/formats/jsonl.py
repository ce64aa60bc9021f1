"""JSON lines: Arrow's reader where its answer is certainly right, line by line where it is not."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as arrow_json

from lake.formats import vectors
from lake.formats.lines import Block, Stop, TooLong, blocks, stream
from lake.formats.rows import (
    BadRowError,
    Reading,
    Rows,
    canonical,
    dropped,
    interleave,
    label_text,
    sources,
    table,
    value_of,
)
from lake.formats.rows import timestamp as as_timestamp
from lake.formats.splits import Piece
from lake.formats.threads import in_order
from lake.native import kernels
from lake.op import Outcome

__all__ = ["read"]

_kernels = kernels("lake._kernels")

_BLOCK = 2 << 20  # 1 to 4 MiB differ by less than the noise in benchmarks/ingest.py
_DEEPEST = 100
_MOST_OPENED = 5000
_MOST_DOUBTFUL = 4  # one row in four: above it the line-by-line code is the faster one
_CR, _OPEN, _CLOSE = 13, 123, 125


def read(piece: Piece, address: str, how: Reading) -> Iterator[Outcome]:
    """The records of a piece of a file, block by block, in order."""
    uri, file = piece.file.uri, piece.file
    reader = _Reader(uri, how)
    size = min(_BLOCK, how.batch_bytes)
    with stream(address, file.compression, piece.start, piece.end) as source:
        parts = blocks(
            source, piece.first_row, block_bytes=size, max_row_bytes=how.max_row_bytes, first=piece.start == 0
        )
        yield from in_order(reader.outcome, parts)


class _Reader:
    def __init__(self, uri: str, how: Reading) -> None:
        self.uri = uri
        self.how = how
        # Columns whose strings Arrow takes for times; learned as blocks show them.
        self.strings: dict[str, pa.DataType] = {}
        self.fast = how.image is None and how.text is not None

    def outcome(self, part: Block | TooLong | Stop) -> Outcome:
        if isinstance(part, Block):
            found = self._by_columns(part) if self.fast else None
            return found or self._by_lines(part)
        if isinstance(part, TooLong):
            drop = (self.uri, part.row, *_too_large(part.row, self.how))
        else:
            drop = (self.uri, part.row, "truncated-file", f"line {part.row}: {part.reason}")
        return Outcome(self.how.schema.empty_table(), dropped([drop]))

    # ---- line by line

    def _by_lines(self, block: Block) -> Outcome:
        rows = Rows(self.how)
        lines = block.data.split(b"\n")
        if lines and not lines[-1]:
            lines.pop()
        for number, line in enumerate(lines, block.row):
            self._line(rows, number, line)
        return rows.finish()

    def _line(self, rows: Rows, number: int, line: bytes) -> None:
        how = self.how
        if len(line) > how.max_row_bytes:
            rows.drop(self.uri, number, *_too_large(number, how))
            return
        if not line.strip(b" \t\r"):
            return
        try:
            text, image, label, meta, typed = _record(parse(line), how)
        except BadRowError as bad:
            rows.drop(self.uri, number, bad.rule, f"line {number}, {bad.detail}" if bad.detail else None)
            return
        rows.add(self.uri, number, text=text, image=image, label=label, meta=meta, typed=typed)

    # ---- by columns

    def _by_columns(self, block: Block) -> Outcome | None:
        """None where Arrow refuses, or might see other things in these lines than JSON says."""
        data, how = block.data, self.how
        starts, ends = _line_bounds(data, block.feeds)
        # Arrow's parser goes down as deeply as a line says, until the stack ends.
        raw = np.frombuffer(data, np.uint8)
        if len(starts) == 0 or _kernels.most_opened(raw, block.feeds, _MOST_OPENED) > _MOST_OPENED:
            return None
        if int((ends - starts).max()) > how.max_row_bytes or b"\0" in data or not _utf8(data):
            return None
        lines, starts, ends = _objects(data, starts, ends)
        if lines is None or len(lines) == 0 or _scattered_keys(data, starts, ends):
            return None
        parsed = self._parse(data)
        if parsed is None or parsed.num_rows != len(lines) or _struct_depth(parsed.schema) > _DEEPEST // 2:
            return None
        columns = {name: vectors.one_array(parsed.column(name)) for name in parsed.column_names}
        given, doubtful = self._columns(columns)
        if doubtful is not None and np.count_nonzero(doubtful) * _MOST_DOUBTFUL > len(lines):
            return None
        return self._assemble(block, lines + block.row, (starts, ends), given, doubtful)

    def _parse(self, data: bytes) -> pa.Table | None:
        how = self.how
        if any(kind not in _EXPLICIT for _, kind in how.columns):
            return None  # Arrow would have to know the type of any JSON
        explicit: dict[str, pa.DataType] = dict(self.strings)
        for name, kind in how.columns:
            explicit[name] = _EXPLICIT[kind]
        if how.text is not None:
            explicit[how.text] = pa.string()
        options = arrow_json.ReadOptions(use_threads=False, block_size=len(data) + 1)
        try:
            for _ in range(2):
                parsed = arrow_json.read_json(
                    pa.BufferReader(data),
                    read_options=options,
                    parse_options=arrow_json.ParseOptions(
                        explicit_schema=pa.schema(list(explicit.items())), unexpected_field_behavior="infer"
                    ),
                )
                times = {f.name: _untimed(f.type) for f in parsed.schema if _untimed(f.type) != f.type}
                if not times:
                    return parsed
                explicit.update(times)
                self.strings = {**self.strings, **times}
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError, ValueError):
            return None
        return None

    def _columns(self, columns: dict[str, pa.Array]) -> tuple[dict[str, Any], vectors.Mask]:
        how = self.how
        given: dict[str, Any] = {"text": columns[str(how.text)]}
        mask: vectors.Mask = None
        if how.label is not None and how.label in columns:
            given["label"], mask = vectors.plain_text(columns[how.label], exact=False)
        for name, kind in how.columns:
            given[name], doubtful = _typed(columns[name], kind)
            mask = vectors.either(mask, doubtful)
        rest = [name for name in columns if name not in how.taken]
        if rest:
            meta, doubtful = vectors.json_object(rest, [columns[name] for name in rest], exact=False)
            given["meta"] = pc.if_else(pc.equal(meta, "{}"), pa.scalar(None, pa.string()), meta)
            mask = vectors.either(mask, doubtful)
        return given, mask

    def _assemble(
        self,
        block: Block,
        numbers: npt.NDArray[np.int64],
        bounds: Any,
        given: dict[str, Any],
        doubtful: vectors.Mask,
    ) -> Outcome:
        missing = ~np.asarray(given["text"].is_valid())
        drops = dropped([])
        keep = ~missing if doubtful is None else ~(missing | doubtful)
        gone = numbers[missing if doubtful is None else missing & ~doubtful]
        if len(gone):
            rule, detail = _no_payload(self.how)
            drops = dropped([(self.uri, int(row), rule, f"line {row}, {detail}") for row in gone])
        if not keep.all():
            chosen = pa.array(keep)
            given = {name: column.filter(chosen) for name, column in given.items()}
            kept = numbers[keep]
        else:
            kept = numbers
        outcome = Outcome(table(self.how, given, sources(self.uri, kept)), drops)
        if doubtful is None or not doubtful.any():
            return outcome
        rows = Rows(self.how)
        for index in np.flatnonzero(doubtful).tolist():
            line = block.data[bounds[0][index] : bounds[1][index]]
            self._line(rows, int(numbers[index]), line)
        return interleave(outcome, rows.finish())


_EXPLICIT = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "timestamp": pa.string(),
}


def _too_large(number: int, how: Reading) -> tuple[str, str]:
    return "row-too-large", f"line {number}: over {how.max_row_bytes} bytes"


def _no_payload(how: Reading) -> tuple[str, str]:
    names = " or ".join(repr(name) for name in (how.text, how.image) if name is not None)
    return how.missing(), f"no value for {names}"


def _typed(column: pa.Array, kind: str) -> tuple[pa.Array, vectors.Mask]:
    if kind == "float64":
        good = np.isfinite(np.asarray(column.fill_null(0.0)))
        return column, None if good.all() else ~good
    if kind == "timestamp":
        values = [None if value is None else as_timestamp(value) for value in column.to_pylist()]
        moments = pa.array(values, pa.timestamp("us", tz="UTC"))
        if moments.null_count == column.null_count:
            return moments, None
        return moments, np.asarray(moments.is_null()) & np.asarray(column.is_valid())
    return column, None


def _untimed(kind: pa.DataType) -> pa.DataType:
    """The type with strings where Arrow saw times."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_struct(kind):
        return pa.struct([(kind.field(i).name, _untimed(kind.field(i).type)) for i in range(kind.num_fields)])
    return kind


def _struct_depth(fields: Iterable[pa.Field]) -> int:
    return 1 + max((_struct_depth(f.type) for f in fields if pa.types.is_struct(f.type)), default=0)


def _line_bounds(data: bytes, feeds: npt.NDArray[np.int64]) -> tuple[Any, Any]:
    """Where each line starts and ends, its line end (and a carriage return before it) left out."""
    raw, ends = np.frombuffer(data, np.uint8), feeds
    if not len(ends) or ends[-1] != len(raw) - 1:
        ends = np.append(ends, len(raw))
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    returns = (ends > starts) & (raw[np.maximum(ends - 1, 0)] == _CR)
    return starts, ends - returns


def _objects(data: bytes, starts: Any, ends: Any) -> tuple[Any, Any, Any]:
    """The numbers and bounds of the lines that are not empty; None unless each is ``{...}``.

    If all are, an object that goes over a line end cannot be: after ``}`` inside an object no ``{``
    may follow. So as many rows as lines means one object a line.
    """
    raw = np.frombuffer(data, np.uint8)
    lines = np.flatnonzero(ends > starts)
    starts, ends = starts[lines], ends[lines]
    if not (np.all(raw[starts] == _OPEN) and np.all(raw[ends - 1] == _CLOSE)):
        return None, starts, ends
    return lines, starts, ends


def _utf8(data: bytes) -> bool:
    whole = pa.LargeStringArray.from_buffers(
        1, pa.py_buffer(np.array([0, len(data)], np.int64)), pa.py_buffer(data)
    )
    try:
        whole.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _scattered_keys(data: bytes, starts: Any, ends: Any) -> bool:
    """Whether rows seem to have keys of their own: Arrow would make a column of each, in every row."""
    names: set[str] = set()
    most = 0
    for index in np.unique(np.linspace(0, len(starts) - 1, 16).astype(np.int64)).tolist():
        if ends[index] - starts[index] > _BLOCK // 64:
            continue
        try:
            keys = _keys(json.loads(data[starts[index] : ends[index]]), "")
        except (ValueError, RecursionError):
            return True
        most = max(most, len(keys))
        names |= keys
    return len(names) > 2 * most + 8


def _keys(value: Any, prefix: str) -> set[str]:
    if not isinstance(value, dict):
        return set()
    names: set[str] = set()
    for key, item in value.items():
        names.add(prefix + key)
        if isinstance(item, dict):
            names |= _keys(item, f"{prefix}{key}\0")
    return names


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_STRINGS_AND_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def _depth(line: str) -> int:
    depth = deepest = 0
    for match in _STRINGS_AND_BRACKETS.finditer(line):
        found = match.group()
        if found in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif found in "]}":
            depth -= 1
    return deepest


def parse(line: bytes) -> dict[str, Any]:
    """One line as a JSON object.

    Raises:
        BadRowError: with a rule and a column, never a word of the line.
    """
    if b"\0" in line:
        raise BadRowError("nul-byte", f"byte {line.index(0) + 1}: a NUL byte")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRowError("invalid-utf8", f"byte {error.start + 1}: {error.reason}") from None
    if line.count(b"[") + line.count(b"{") > _DEEPEST and _depth(text) > _DEEPEST:
        # A fixed limit: where Python itself gives up depends on the stack.
        raise BadRowError("unreadable-json", f"column 1: nested deeper than {_DEEPEST}")
    try:
        value = json.loads(text, parse_constant=_constant)
        if b"\\u" in line:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise BadRowError("unreadable-json", f"column {error.colno}: {error.msg}") from None
    except UnicodeEncodeError:
        raise BadRowError("invalid-utf8", "an escaped surrogate without its other half") from None
    except ValueError:
        raise BadRowError("unreadable-json", "a number that cannot be held") from None
    if not isinstance(value, dict):
        raise BadRowError("unreadable-json", "column 1: expected an object")
    return value


def _record(value: dict[str, Any], how: Reading) -> tuple[Any, Any, Any, Any, tuple[Any, ...]]:
    text = value.get(how.text) if how.text is not None else None
    if text is not None and not isinstance(text, str):
        raise BadRowError("wrong-type", f"column {how.text!r}: expected a string")
    image = _image(value.get(how.image), how) if how.image is not None else None
    if text is None and image is None:
        raise BadRowError(*_no_payload(how))
    label = label_text(value.get(how.label), how.label) if how.label is not None else None
    typed = tuple(value_of(value.get(name), kind, name) for name, kind in how.columns)
    try:
        meta = canonical({name: item for name, item in value.items() if name not in how.taken})
    except ValueError:
        raise BadRowError("unreadable-json", "a number that cannot be held") from None
    return text, image, label, meta, typed


def _image(value: object, how: Reading) -> bytes | None:
    """Base64, as JSON can hold no bytes."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadRowError("wrong-type", f"column {how.image!r}: expected base64 text")
    try:
        blob = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise BadRowError("unreadable-image", f"column {how.image!r}: not base64") from None
    from lake.formats.pictures import check

    check(blob, how)
    return blob
