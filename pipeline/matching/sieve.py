"""A few keys or ids, found among the many of a corpus: one bit is looked at for each of the many.

A sieve is a table of bits, of which the few set one each, that lets one value in 64 pass by chance; what
passes is compared exactly.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lake.native import kernels

__all__ = ["Ids", "Keys", "Rows", "Sieve", "bits_for", "codes", "mark", "passed"]

_pair_kernels = kernels("dedup._pair_kernels")

Keys = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]

_BITS = 1 << 16  # the fewest of a sieve
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio: spreads the few bits of a digit
_ID_BYTES = 32
_HEX = re.compile("[0-9a-f]{32}")
_NONE = 255
_DIGITS = np.full(256, _NONE, np.uint8)
_DIGITS[[*b"0123456789abcdef"]] = np.arange(16)


def bits_for(keys: int, each: int) -> int:
    """The bytes of a table of bits for so many keys, with ``each`` to twice as many bits for one.

    >>> bits_for(100_000, 8)
    131072
    """
    return max(_BITS, 1 << (each * keys).bit_length()) // 8


def mark(keys: Keys, bits: npt.NDArray[np.uint8]) -> None:
    """Set a bit for each key, in a table of :func:`bits_for` bytes."""
    _pair_kernels.mark(keys, bits)


def passed(keys: Keys, bits: npt.NDArray[np.uint8]) -> Rows:
    """The places of the keys whose bit is set."""
    hit = np.empty(len(keys), np.bool_)
    _pair_kernels.probe(keys, bits, hit)
    return np.flatnonzero(hit)


class Sieve:
    """A few keys, to be found among many.

    >>> Sieve(np.array([3, 5], np.uint64)).find(np.array([9, 5, 4, 3], np.uint64)).tolist()
    [1, 3]
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys if (keys[1:] > keys[:-1]).all() else np.unique(keys)
        self._bits = np.zeros(bits_for(len(keys), 64), np.uint8)
        mark(self._keys, self._bits)

    def find(self, keys: Keys) -> Rows:
        """The places of those keys that are among the few."""
        return self.match(keys)[0]

    def match(self, keys: Keys) -> tuple[Rows, Rows]:
        """The places of those keys that are among the few, and which of the few (ascending) each is."""
        if not len(self._keys):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        found = passed(keys, self._bits)
        place = np.minimum(np.searchsorted(self._keys, keys[found]), len(self._keys) - 1)
        same = self._keys[place] == keys[found]
        return found[same], place[same]


class Ids:
    """A few ids, to be found among many.

    >>> few = Ids(pa.array(["0" * 32, "f" * 32]))
    >>> few.find(pa.chunked_array([["e" * 32, "f" * 32]])).tolist()
    [1]
    """

    def __init__(self, ids: pa.Array | pa.ChunkedArray) -> None:
        self._ids = pc.unique(ids)
        self._sieve: Sieve | None = None
        if (words := _words(self._ids)) is not None:
            mixed = _mixed(words)
            order = np.argsort(mixed)
            if (np.diff(mixed[order]) > 0).all():  # no two ids have the same 64 bits
                self._sieve, self._whole = Sieve(mixed[order]), words[order]

    def find(self, column: pa.ChunkedArray) -> Rows:
        """The rows of a column of ids that hold one of the few."""
        found, start = [np.empty(0, np.int64)], 0
        for chunk in column.chunks:
            found.append(start + self._find(chunk))
            start += len(chunk)
        return np.concatenate(found)

    def _find(self, chunk: pa.Array) -> Rows:
        words = None if self._sieve is None else _words(chunk)
        if words is None or self._sieve is None:
            return np.flatnonzero(pc.is_in(chunk, value_set=self._ids).to_numpy(zero_copy_only=False))
        rows, which = self._sieve.match(_mixed(words))
        same: npt.NDArray[np.bool_] = (words[rows] == self._whole[which]).all(axis=1)
        return rows[same]


def _words(ids: pa.Array) -> Keys | None:
    """Ids of 32 bytes as four numbers each, shape (n, 4); None where they are something else."""
    if not pa.types.is_string(ids.type) or ids.null_count:
        return None
    if not len(ids):
        return np.empty((0, 4), np.uint64)
    _, offsets, data = ids.buffers()
    ends = np.frombuffer(offsets, np.int32, len(ids) + 1, 4 * ids.offset)
    if ends[-1] - ends[0] != _ID_BYTES * len(ids) or (np.diff(ends) != _ID_BYTES).any():
        return None
    return np.frombuffer(data, np.uint64, 4 * len(ids), ends[0]).reshape(-1, 4)


def _mixed(words: Keys) -> Keys:
    """64 bits of each id: a hexadecimal digit has only four in a byte."""
    mixed = (words[:, 0] * _ODD ^ words[:, 1]) * _ODD
    return mixed ^ mixed >> np.uint64(32)


def codes(column: pa.ChunkedArray) -> tuple[Keys, Keys]:
    """128 bits of each id, in two halves, of which the first is mixed: equal ones are equal ids.

    Of an id as content hashes are written, 32 hexadecimal digits, they are the digits themselves; of another
    one its BLAKE2b digest, which is what an ``_id`` is anyway.
    """
    halves = [np.empty((0, 2), np.uint64), *(_halves(chunk) for chunk in column.chunks)]
    high, low = np.concatenate(halves).T
    mixed = high * _ODD ^ low
    return mixed ^ mixed >> np.uint64(32), high


def _halves(ids: pa.Array) -> Keys:
    if (packed := _packed(ids)) is not None:
        return packed
    values = ids.to_pylist()
    digests = [hashlib.blake2b(each.encode(), digest_size=16).digest() for each in values]
    found = np.frombuffer(b"".join(digests), ">u8").reshape(-1, 2).astype(np.uint64)
    regular = np.array([_HEX.fullmatch(each) is not None for each in values], np.bool_)
    if (packed := _packed(ids.filter(pa.array(regular)))) is not None:
        found[regular] = packed
    return found


def _packed(ids: pa.Array) -> Keys | None:
    """The 128 bits that 32 hexadecimal digits say, in two halves; None where other ids are among them."""
    if (words := _words(ids)) is None:
        return None
    digits = words.view(np.uint8)
    values = _DIGITS[digits].reshape(-1, 2, 8, 2)
    if (values == _NONE).any():
        return None
    found: Keys = (values[..., 0] << 4 | values[..., 1]).reshape(-1, 16).view(">u8").astype(np.uint64)
    return found
