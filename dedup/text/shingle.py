"""Text to sets of shingle hashes.

**The shingle hash, version 2** (:data:`SPEC`). A change of any word below is a new version, and
sketches of different versions refuse to be compared.

*Normalisation.* Letters are folded by Unicode 14.0 simple case folding (one code point to one: ``ẞ``
becomes ``ß``, ``İ`` stays). Nothing else is normalised: ``é`` and ``e`` + accent differ. A byte that is
not UTF-8 separates.

*Tokens.* Every code point belongs to one class (:func:`dedup.text._unicode.classes`):

- ``WORD``: letters and digits (general categories L and N). A run of them is one token.
- ``ALONE``: letters, and numbers that are not decimal digits, of scripts that put no spaces between words.
  Each is a token: Han with its radicals, iteration and repeat marks and extensions (planes 2 and 3 as a
  whole, U+20000 to U+3FFFD), kana, bopomofo, Thai, Lao, Myanmar, Khmer, Tai Le, New Tai Lue, Tai Tham,
  Tai Viet, Nüshu. Their decimal digits are ``WORD``.
- ``EXTEND``: marks (M), and the half-width kana voice marks. One belongs to the token before it, if
  that touches it, and separates nothing; elsewhere it is skipped.
- ``IGNORED``: format characters (Cf: soft hyphen, zero-width joiner, byte order mark, ...): skipped.
- ``SEPARATOR``: all else. So ``don't`` is two tokens.

*Shingles.* Unit ``word``: every run of ``n`` tokens. Unit ``char``: every run of ``n`` characters of the
folded tokens, with one space where separators stood between them. A text of fewer than ``n`` units but
at least one has one shingle, of all of them. A text without any has none: by similarity it is never a
duplicate.

*Hash.* All arithmetic is modulo 2**64. Of a token: the UTF-8 of its folded code points, filled up with
zeros to a multiple of 16 bytes, is cut into pairs of little-endian 64-bit words ``(x, y)``. From ``h = 0``
on, for each pair: the 128-bit product of ``x ^ h ^ 0xFFD6E8FEB86659FD`` and ``y ^ 0xFFCA2BE5AB7E9D65``, its
upper half xor its lower half, is the new ``h``; the last is the hash of the token. (No UTF-8 holds a byte
0xFF, so no token makes a factor zero; and no token holds a zero byte, so the filling is no ambiguity.) A
character of unit ``char``, and the space, is hashed like a token of itself. Of a shingle: the polynomial
``w = t_1 P**(m-1) + ... + t_m`` with ``P = 0x9E3779B97F4A7C15``, then the upper 32 bits of
``(w ^ (w >> 32)) * 0xD6E8FEB86659FD93``. There is no seed: the seed belongs to the permutations.

"Exact" similarity is the Jaccard similarity of the sets of these 32-bit hashes: a shingle has by chance the
hash of one of the 10,000 shingles of another document with a probability of 2 in a million.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lake.errors import SchemaError

if TYPE_CHECKING:
    from typing import TypeAlias

__all__ = ["SPEC", "Texts", "Unit", "distinct", "pick", "room", "shingle_sets", "tables", "texts"]

SPEC = 2
"""The version of the definition above; stored with every sketch."""

Unit: TypeAlias = Literal["word", "char"]


class Texts(NamedTuple):
    """One chunk of a text column as the kernels read it: Arrow's own buffers, not copied."""

    data: npt.NDArray[np.uint8]
    """UTF-8."""
    offsets: npt.NDArray[np.int32] | npt.NDArray[np.int64]
    """Text ``i`` is ``data[offsets[i]:offsets[i + 1]]``: one more than there are texts."""
    valid: npt.NDArray[np.bool_]


def texts(column: pa.Array | pa.ChunkedArray) -> Iterator[Texts]:
    """View a text column, chunk by chunk.

    Takes string, large_string, binary and large_binary, sliced or not, without a copy; views and the null
    type are cast first. For dictionaries see :func:`distinct`.

    Raises:
        SchemaError: the column holds no text.
    """
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        array, kind = chunk, chunk.type
        if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind) or pa.types.is_null(kind):
            array, kind = array.cast(pa.large_binary()), pa.large_binary()
        wide = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
        if not (wide or pa.types.is_string(kind) or pa.types.is_binary(kind)):
            raise SchemaError(
                f"a column of type {column.type} holds no text",
                hint="give a column of strings, or cast this one",
            )
        if len(array) == 0:
            continue
        _, offset_buffer, data_buffer = array.buffers()
        count = len(array) + 1
        offsets: npt.NDArray[np.int32] | npt.NDArray[np.int64]
        if wide:
            offsets = np.frombuffer(offset_buffer, np.int64, count, array.offset * 8)
        else:
            offsets = np.frombuffer(offset_buffer, np.int32, count, array.offset * 4)
        data = np.frombuffer(data_buffer, np.uint8) if data_buffer else np.empty(0, np.uint8)
        valid = array.is_valid().to_numpy(zero_copy_only=False)
        yield Texts(data, offsets, valid)


def distinct(
    column: pa.Array | pa.ChunkedArray,
) -> tuple[pa.Array | pa.ChunkedArray, npt.NDArray[np.int64] | None]:
    """Give the texts that must be hashed, and for each row which of them it is.

    Of a dictionary these are the entries that occur, each once, and a null; of other columns the column
    itself, and None.

    >>> values, places = distinct(pa.array(["a", "b", "a", None]).dictionary_encode())
    >>> values.to_pylist(), places.tolist()
    (['a', 'b', None], [0, 1, 0, 2])
    """
    if not pa.types.is_dictionary(column.type):
        return column, None
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    if not chunks:
        return pa.array([], column.type.value_type), np.empty(0, np.int64)
    if pa.types.is_null(column.type.value_type):
        return pa.nulls(len(column)), None
    chunks = pa.chunked_array([_plain(chunk) for chunk in chunks]).unify_dictionaries().chunks
    entries = chunks[0].dictionary
    # A null is row -1: of these arrays the last.
    rows = np.concatenate([chunk.indices.cast(pa.int64()).fill_null(-1).to_numpy() for chunk in chunks])
    occurs = np.zeros(len(entries) + 1, np.bool_)
    occurs[rows] = True
    used = np.flatnonzero(occurs)
    values = entries.take(pa.array(used, mask=used == len(entries)))
    return values, (np.cumsum(occurs) - 1)[rows]


def _plain(chunk: pa.DictionaryArray) -> pa.DictionaryArray:
    """Make of a dictionary one that Arrow unifies with others and takes entries from.

    Its entries are no views, none of them is null, and its indices have room for the entries of all chunks.
    """
    entries, indices = chunk.dictionary, chunk.indices.cast(pa.int64())
    if pa.types.is_string_view(entries.type) or pa.types.is_binary_view(entries.type):
        entries = entries.cast(pa.large_binary())
    if entries.null_count:
        there = entries.is_valid().to_numpy(zero_copy_only=False)
        indices = pa.array(np.cumsum(there) - 1, mask=~there).take(indices)
        entries = entries.drop_null()
    return pa.DictionaryArray.from_arrays(indices, entries)


def tables() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Give the two look-up tables that the kernels take: classes and case folding."""
    from dedup.text import _unicode

    return _unicode.classes(), _unicode.folds()


def room(size: int, rows: int, unit: Unit) -> int:
    """Bound the number of shingles of ``rows`` texts of ``size`` bytes together from above.

    Two tokens of ASCII need a separator; one that stands alone has two bytes or more. One to spare for
    each text that rounds up.
    """
    return size if unit == "char" else (size + rows) // 2


def pick(
    offsets: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint32], rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """Give the sets of some rows, in their order.

    >>> offsets, hashes = pick(np.array([0, 2, 3]), np.array([5, 7, 6], np.uint32), np.array([1, 0, 1]))
    >>> offsets.tolist(), hashes.tolist()
    ([0, 1, 3, 4], [6, 5, 7, 6])
    """
    ends = np.zeros(len(rows) + 1, np.int64)
    sizes = np.diff(offsets)[rows]
    np.cumsum(sizes, out=ends[1:])
    return ends, hashes[np.repeat(offsets[rows] - ends[:-1], sizes) + np.arange(ends[-1])]


def shingle_sets(
    column: pa.Array | pa.ChunkedArray,
    ngram: int = 5,
    unit: Unit = "word",
    *,
    rows: npt.NDArray[np.int64] | None = None,
    threads: int = 1,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """Give the sorted distinct shingle hashes of every text, or of some.

    >>> offsets, hashes = shingle_sets(pa.array(["Call me Ishmael.", "call ME, Ishmael", None, "?!"]), ngram=2)
    >>> offsets.tolist()
    [0, 2, 4, 4, 4]
    >>> hashes[:2].tolist() == hashes[2:].tolist()
    True

    Args:
        column: texts, as in :func:`dedup.text.signatures.signatures`.
        ngram: units in a shingle.
        unit: ``word`` or ``char``.
        rows: which rows, as int64, in any order and as often as wanted. None: all.
        threads: how many to use. The result is the same for any number.

    Returns:
        ``offsets`` int64 of shape (n + 1,) and ``hashes`` uint32: the set of text ``i`` (of row ``rows[i]``) is
        ``hashes[offsets[i]:offsets[i + 1]]``. Empty for a null and for a text without a token.

    Raises:
        SchemaError: the column holds no text.
        ValueError: ``ngram`` or ``threads`` is not positive.
        IndexError: there is no such row.
    """
    from dedup.text.signatures import sketches

    _, offsets, hashes = sketches(column, num_perm=0, ngram=ngram, unit=unit, rows=rows, threads=threads)
    return offsets, hashes
