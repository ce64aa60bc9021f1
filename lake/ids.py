"""Content identity: 128-bit hashes of what a record holds, and a set of them.

The hash of a record is BLAKE2b (RFC 7693) with a 16-byte digest and the personalisation
``gristmill1``, over the parts that are there, in this order::

    b"t"  length of the text in UTF-8 bytes, 8 bytes little-endian   those bytes
    b"i"  length of the image in bytes, 8 bytes little-endian        those bytes

The tag and the length before every part keep a text from ever standing for an image, or two
parts for another two. Nothing is normalised: texts that differ in one byte are different
records (``dedup`` decides about those that are merely alike).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lake.native import kernels

__all__ = ["IdSet", "content_ids", "halves"]

_kernels = kernels("lake._kernels")

_HEX = np.frombuffer(b"".join(b"%02x" % i for i in range(256)), dtype=np.uint16)
_DIGITS = 32
_MANY = 64  # rows from which the kernel is worth the loading of Numba
_NO_DIGIT = 255
_HEADER = np.dtype([("tag", "S1"), ("length", "<u8")])  # packed: 9 bytes


def content_ids(text: pa.Array | None, image: pa.Array | None) -> pa.StringArray:
    """The ids of records, from their payload columns.

    Args:
        text: string or large_string, shape (n,), or None where no record has any.
        image: binary or large_binary, shape (n,), or None.

    Returns:
        n strings of 32 lower-case hex digits, none null.

    Raises:
        ValueError: both columns are None, or their lengths differ.

    >>> import pyarrow as pa
    >>> content_ids(pa.array(["abc"]), None).to_pylist()
    ['af8748bd7853368202b768c562ba9dce']
    >>> content_ids(None, pa.array([b"abc"])) == content_ids(pa.array(["abc"]), None)
    False
    """
    columns = [(tag, _flat(column)) for tag, column in ((b"t", text), (b"i", image)) if column is not None]
    if not columns:
        raise ValueError("content_ids needs a text or an image column")
    n = len(columns[0][1])
    if any(len(column) != n for _, column in columns):
        raise ValueError("the text and the image column differ in length")
    digests = _digests(columns)
    raw = np.frombuffer(digests, dtype=np.uint8)
    offsets = np.arange(0, 32 * n + 1, 32, dtype=np.int32 if 32 * n < 2**31 else np.int64)
    kind = pa.StringArray if offsets.dtype == np.int32 else pa.LargeStringArray
    return kind.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(_HEX[raw]))


def _digests(columns: list[tuple[bytes, pa.Array]]) -> bytes:
    """16 bytes a row."""
    start = hashlib.blake2b(b"", digest_size=16, person=b"gristmill1")
    n = len(columns[0][1])
    if len(columns) == 1 and n >= _MANY and not columns[0][1].null_count:
        return _digests_of_one(*columns[0])
    states = [start.copy() for _ in range(n)]
    for tag, column in columns:
        head, data, ends = _buffers(tag, column)
        for i in np.flatnonzero(np.asarray(column.is_valid())).tolist():
            states[i].update(head[9 * i : 9 * i + 9])
            states[i].update(data[ends[i] : ends[i + 1]])
    return b"".join([state.digest() for state in states])


def _digests_of_one(tag: bytes, column: pa.Array) -> bytes:
    """The common case in one call, which leaves the interpreter to the other threads."""
    _, _, data = column.buffers()
    out = np.empty((len(column), 2), np.uint64)
    _kernels.blake2b_rows(tag[0], np.frombuffer(data or b"", np.uint8), _offsets(column).astype(np.int64), out)
    return out.tobytes()


def _buffers(tag: bytes, column: pa.Array) -> tuple[bytes, memoryview, list[int]]:
    """Headers of 9 bytes a row, the column's bytes (not copied), and where each row starts and ends there."""
    n = len(column)
    offsets = _offsets(column)
    data_buffer = column.buffers()[2]
    headers = np.empty(n, dtype=_HEADER)
    headers["tag"] = tag
    headers["length"] = np.diff(offsets)
    data = memoryview(data_buffer) if data_buffer is not None else memoryview(b"")
    return headers.tobytes(), data, offsets.tolist()


def _offsets(column: pa.Array) -> npt.NDArray[np.signedinteger]:
    """Where each row starts in the column's bytes, and where the last one ends; shape (n + 1,)."""
    wide = pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type)
    buffer = column.buffers()[1]
    if len(column) == 0 or buffer is None:
        return np.zeros(len(column) + 1, np.int64)
    offsets: npt.NDArray[np.signedinteger] = (
        np.frombuffer(buffer, np.int64) if wide else np.frombuffer(buffer, np.int32)
    )
    return offsets[column.offset : column.offset + len(column) + 1]


def _flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # nothing in it, or more than 2 GiB
            wide = pa.large_string() if pa.types.is_string(column.type) else pa.large_binary()
            column = pa.concat_arrays(column.cast(wide).chunks) if column.num_chunks else pa.array([], wide)
    if pa.types.is_null(column.type):
        return column.cast(pa.binary())
    return column


def halves(ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> npt.NDArray[np.uint64]:
    """The two 64-bit halves of each id, the first 16 hex digits first.

    Returns:
        uint64, shape (n, 2): ``int(id[:16], 16), int(id[16:], 16)``.

    Raises:
        ValueError: an id is null, or is not 32 lower-case hex digits.

    >>> halves(["000000000000000a0000000000000001"]).tolist()
    [[10, 1]]
    """
    if isinstance(ids, pa.ChunkedArray):
        blocks = [halves(chunk) for chunk in ids.chunks]
        return np.concatenate(blocks) if blocks else np.empty((0, 2), np.uint64)
    column = ids if isinstance(ids, pa.Array) else pa.array(ids, pa.string())
    n = len(column)
    if n == 0:
        return np.empty((0, 2), np.uint64)
    wide = pa.types.is_large_string(column.type)
    if column.null_count or not (wide or pa.types.is_string(column.type)):
        raise ValueError("ids are strings of 32 hex digits, and never null")
    _, offset_buffer, data = column.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int64 if wide else np.int32)
    offsets = offsets[column.offset : column.offset + n + 1]
    if np.any(np.diff(offsets) != _DIGITS):
        raise ValueError("an id has 32 hex digits")
    digits = np.frombuffer(data, dtype=np.uint8)[int(offsets[0]) : int(offsets[-1])]
    nibbles = _NIBBLE[digits]
    if np.any(nibbles == _NO_DIGIT):
        raise ValueError("an id has lower-case hex digits only")
    packed = (nibbles[0::2] << 4) | nibbles[1::2]
    return packed.view(">u8").astype(np.uint64).reshape(n, 2)


def _nibbles() -> npt.NDArray[np.uint8]:
    table = np.full(256, _NO_DIGIT, dtype=np.uint8)
    for value, digit in enumerate(b"0123456789abcdef"):
        table[digit] = value
    return table


_NIBBLE = _nibbles()


class IdSet:
    """A growing set of 128-bit ids: open addressing in one array, 21 to 43 bytes a row.

    Ids are uniform by construction, so their low bits are the slot and linear probing suffices.

    >>> seen = IdSet()
    >>> a, b = "0" * 31 + "a", "0" * 31 + "b"
    >>> seen.add([a, b, a]).tolist(), seen.add([b]).tolist(), len(seen)
    ([True, True, False], [False], 2)
    """

    def __init__(self, capacity: int = 0) -> None:
        """``capacity``: ids expected; more make it grow by doubling."""
        slots = 1024
        while slots * 3 < capacity * 4:
            slots *= 2
        self._slots = np.zeros((slots, 2), dtype=np.uint64)
        self._used = 0
        self._zero = False  # (0, 0) marks an empty slot, so that id is kept apart

    def add(
        self, ids: pa.Array | pa.ChunkedArray | Sequence[str] | npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.bool_]:
        """Take ids in, in their order; True, shape (n,), where an id was not there before.

        ``ids`` are hex strings, or their :func:`halves` (uint64, shape (n, 2)). Of equal ids in one
        call the first is True.
        """
        keys = ids if isinstance(ids, np.ndarray) else halves(ids)
        keys = np.ascontiguousarray(keys, dtype=np.uint64)
        new = np.zeros(len(keys), dtype=np.bool_)
        zeros = np.flatnonzero((keys[:, 0] == 0) & (keys[:, 1] == 0))

        # In slices, so that a batch full of known ids does not make the table grow.
        for start in range(0, len(keys), 65_536):
            part = keys[start : start + 65_536]
            self._reserve(self._used + len(part))
            self._used += _kernels.insert(self._slots, part, new[start : start + 65_536])
        if len(zeros) and not self._zero:
            new[zeros[0]] = True
            self._zero = True
        return new

    def _reserve(self, used: int) -> None:
        if used * 4 <= len(self._slots) * 3:
            return
        slots = len(self._slots)
        while slots * 3 < used * 4:
            slots *= 2
        old = self._slots
        self._slots = np.zeros((slots, 2), dtype=np.uint64)

        for start in range(0, len(old), 1 << 20):  # bounded scratch memory
            part = old[start : start + (1 << 20)]
            _kernels.insert(self._slots, part, np.zeros(len(part), dtype=np.bool_))

    def __len__(self) -> int:
        return self._used + self._zero

    @property
    def nbytes(self) -> int:
        """Bytes of the table."""
        return self._slots.nbytes
