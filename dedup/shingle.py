"""Text to sets of shingle hashes.

**The shingle hash, version 1** (:data:`SPEC`). A change of any word below is a new version, and
sketches of different versions refuse to be compared.

*Normalisation.* Letters are folded by Unicode 14.0 simple case folding (one code point to one: ``ẞ``
becomes ``ß``, ``İ`` stays). Nothing else is normalised: ``é`` and ``e`` + accent differ. A byte that is
not UTF-8 separates.

*Tokens.* Every code point belongs to one class (:func:`dedup._unicode.classes`):

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

*Hash.* All arithmetic is modulo 2**64. Of a token ``t``: FNV-1a over its code points, that is
``h = 0xCBF29CE484222325``, then ``h = (h ^ c) * 0x100000001B3`` for each ``c``; then MurmurHash3's 64-bit
finaliser. A character of unit ``char`` is hashed like a token of itself. Of a shingle: the polynomial
``t_1 P**(m-1) + ... + t_m`` with ``P = 0x9E3779B97F4A7C15``, the finaliser again, and of that the upper
32 bits. There is no seed: the seed belongs to the permutations.

"Exact" similarity is the Jaccard similarity of the sets of these 32-bit hashes: two different shingles of
one pair of documents of 10,000 shingles share a hash with a probability of 2 in 100,000 each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lake.errors import SchemaError

if TYPE_CHECKING:
    from typing import TypeAlias

__all__ = ["SPEC", "Texts", "Unit", "shingle_sets", "tables", "texts"]

SPEC = 1
"""The version of the definition above; stored with every sketch."""

Unit: TypeAlias = Literal["word", "char"]


class Texts(NamedTuple):
    """One chunk of a text column as the kernels read it: Arrow's own buffers, not copied."""

    data: npt.NDArray[np.uint8]
    """UTF-8."""
    offsets: npt.NDArray[np.int32] | npt.NDArray[np.int64]
    """Text ``i`` is ``data[offsets[i]:offsets[i + 1]]``: one more than there are texts."""
    valid: npt.NDArray[np.bool_]

    @property
    def room(self) -> int:
        """The number of bytes between the first offset and the last."""
        return int(self.offsets[-1]) - int(self.offsets[0])


def texts(column: pa.Array | pa.ChunkedArray) -> Iterator[Texts]:
    """View a text column, chunk by chunk.

    Takes string, large_string, string_view and dictionaries of them, sliced or not, and the null type.

    Raises:
        SchemaError: the column holds no text.
    """
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        array, kind = chunk, chunk.type
        if pa.types.is_dictionary(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind):
            array, kind = array.cast(pa.large_string()), pa.large_string()
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise SchemaError(
                f"a column of type {column.type} holds no text",
                hint="give a column of strings, or cast this one",
            )
        if len(array) == 0:
            continue
        _, offset_buffer, data_buffer = array.buffers()
        count = len(array) + 1
        offsets: npt.NDArray[np.int32] | npt.NDArray[np.int64]
        if pa.types.is_large_string(kind):
            offsets = np.frombuffer(offset_buffer, np.int64, count, array.offset * 8)
        else:
            offsets = np.frombuffer(offset_buffer, np.int32, count, array.offset * 4)
        data = np.frombuffer(data_buffer, np.uint8) if data_buffer else np.empty(0, np.uint8)
        valid = array.is_valid().to_numpy(zero_copy_only=False)
        yield Texts(data, offsets, valid)


def tables() -> tuple[Any, Any, Any]:
    """Give the three look-up tables that the kernels take."""
    from dedup import _unicode

    return _unicode.ascii_table(), _unicode.classes(), _unicode.folds()


def room(chunk: Texts, unit: Unit) -> int:
    """Bound the number of shingles of a chunk from above.

    Two tokens of ASCII need a separator; one that stands alone has two bytes or more. One to spare for
    each text that rounds up, and one that the kernels never fill.
    """
    rows = len(chunk.valid)
    return (chunk.room if unit == "char" else (chunk.room + rows) // 2) + 1


def shingle_sets(
    column: pa.Array | pa.ChunkedArray, ngram: int = 5, unit: Unit = "word"
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """Give the sorted distinct shingle hashes of every text.

    >>> offsets, hashes = shingle_sets(pa.array(["Call me Ishmael.", "call ME, Ishmael", None, "?!"]), ngram=2)
    >>> offsets.tolist()
    [0, 2, 4, 4, 4]
    >>> hashes[:2].tolist() == hashes[2:].tolist()
    True

    Returns:
        ``offsets`` int64 of shape (n + 1,) and ``hashes`` uint32: the set of text ``i`` is
        ``hashes[offsets[i]:offsets[i + 1]]``. Empty for a null and for a text without a token.

    Raises:
        SchemaError: the column holds no text.
        ValueError: ``ngram`` is not positive.
    """
    from dedup.minhash import sketches

    _, offsets, hashes = sketches(column, num_perm=0, ngram=ngram, unit=unit)
    return offsets, hashes
