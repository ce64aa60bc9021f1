"""Texts to tokens, on Arrow's own buffers.

*Tokens.* A run of letters, digits and their marks is one token, over an apostrophe or a hyphen between letters
("don't", "well-made") and over a point or a comma between digits ("1,024.5"). A run of Han, hiragana or
bopomofo is cut into the fewest words that the lexicon (and the fitted vocabulary) knows; a character in none
stands alone. Web and mail addresses, @mentions and #tags are one token each. White space, punctuation and
markup (``<br />``) are what stands between tokens; it stays where it is.

*Sentences* end with ``. ! ?`` (full-width ones too), ``。`` or ``…`` and closing quotes behind
it, with a line, or before markup. A full stop within a word, after an initial or a title, or before a small
letter ends none.

*Words* are compared with ASCII letters folded; a lexicon's words are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from augment.text import _unicode
from augment.text.protect import NEGATIONS, Protect
from lake.errors import SchemaError

if TYPE_CHECKING:
    from augment.text.fitted import Fitted
    from augment.text.lexicon import Lexicon

__all__ = [
    "Resources",
    "Texts",
    "Token",
    "Tokens",
    "as_array",
    "constant",
    "resources",
    "split",
    "tokenise",
    "views",
]

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

_MOST_UNITS = 16


class Texts(NamedTuple):
    """Texts as the kernels read them: UTF-8, text i is ``data[offsets[i]:offsets[i + 1]]``."""

    data: U8
    offsets: I64
    valid: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, data: U8, offsets: I64, valid: npt.NDArray[np.bool_]) -> Texts:
        """Texts that nobody writes to: kernels are compiled once for these, and not again for others."""
        return cls(*map(constant, (data, offsets, valid)))

    def part(self, start: int, stop: int) -> Texts:
        """Texts ``start`` to ``stop``; their bytes stay where they are."""
        return Texts.of(self.data, self.offsets[start : stop + 1], self.valid[start:stop])


class Tokens(NamedTuple):
    """The tokens and sentences of texts, as places in the data: text i has ``rows[i]`` to ``rows[i + 1]``."""

    rows: I64
    start: I64
    stop: I64
    flags: U8
    word: npt.NDArray[np.int32]
    sentence_rows: I64
    sentence_token: I64
    sentence_start: I64
    sentence_stop: I64


class Token(NamedTuple):
    """A token as people see it."""

    text: str
    protected: bool
    glued: bool
    starts_sentence: bool


@dataclass(frozen=True, eq=False)
class Resources:
    """Lexicon, protected words and fitted vocabulary, laid out for the kernels.

    Attributes:
        words: hash table of all known words, and how long the words can be that begin with a character.
        marks: uint8 per known word.
        synonyms: the synonyms of word w are the pool's ``synonyms[w]`` to ``synonyms[w + 1]``.
        vocabulary: int32 per known word: its row of the vocabulary, or -1.
        pool: (bytes, offsets) of all words that may be written: the lexicon's, then the vocabulary's.
        drawn: how the vocabulary is drawn from: cumulative weights.
        idf: inverse document frequency of each word of the vocabulary, and at the end that of one not in it.
        first_drawn: the vocabulary's place in the pool.
        phrases: protected phrases: (bytes, offsets, first per leading byte).
        save: bits of what else is protected.
    """

    words: tuple[Any, Any]
    marks: U8
    synonyms: I64
    vocabulary: npt.NDArray[np.int32]
    pool: tuple[U8, I64]
    drawn: F64
    idf: F64
    first_drawn: int
    phrases: tuple[U8, I64, I64]
    save: int
    longest: int


def constant(array: Any) -> Any:
    """The same array, not to be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def as_array(texts: Any) -> pa.Array | pa.ChunkedArray:
    """Texts as an Arrow column of strings.

    Raises:
        SchemaError: they are no strings.
    """
    if isinstance(texts, (str, bytes)):
        raise SchemaError("texts are a list or an Arrow column of strings, not one string")
    try:
        column = texts if isinstance(texts, (pa.Array, pa.ChunkedArray)) else pa.array(list(texts), pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError) as error:
        raise SchemaError(
            "texts that are not all strings or None", why=str(error).split("\n")[0][:200]
        ) from None
    kind = column.type
    if pa.types.is_dictionary(kind):
        return as_array(column.cast(kind.value_type))
    if pa.types.is_null(kind):
        return column.cast(pa.string())
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise SchemaError(
            f"a column of type {kind} holds no text", hint="give a column of strings, or cast this one"
        )
    return column


def views(column: pa.Array | pa.ChunkedArray) -> Iterator[Texts]:
    """A column of strings, chunk by chunk, without a copy of the bytes."""
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        array = chunk.cast(pa.large_string()) if pa.types.is_string_view(chunk.type) else chunk
        if len(array) == 0:
            continue
        _, offsets, data = array.buffers()
        wide = pa.types.is_large_string(array.type)
        places = np.frombuffer(
            offsets, np.int64 if wide else np.int32, len(array) + 1, array.offset * (8 if wide else 4)
        )
        valid = (
            np.ones(len(array), np.bool_)
            if array.null_count == 0
            else array.is_valid().to_numpy(zero_copy_only=False)
        )
        yield Texts.of(
            np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8),
            places.astype(np.int64, copy=False),
            valid,
        )


def tokenise(texts: Texts, known: Resources) -> Tokens:
    """Tokens and sentences of texts."""
    from augment.text import _tokenise

    n = len(texts.offsets) - 1
    size = int(texts.offsets[-1] - texts.offsets[0]) // 2 + n + 8  # a token of one byte has a gap behind it
    rows, sentence_rows = np.empty(n + 1, np.int64), np.empty(n + 1, np.int64)
    start, stop, first, begin, end = (np.empty(size, np.int64) for _ in range(5))
    flags, word = np.empty(size, np.uint8), np.empty(size, np.int32)
    _tokenise.tokenise(
        texts.data, texts.offsets, texts.valid, _unicode.classes(), known.words, known.marks, known.phrases,
        known.save, rows, start, stop, flags, word, sentence_rows, first, begin, end,
    )  # fmt: skip
    return Tokens(rows, start, stop, flags, word, sentence_rows, first, begin, end)


def split(
    texts: Any, *, protect: Protect | None = None, lexicon: Lexicon | None = None, fitted: Fitted | None = None
) -> list[list[Token]]:
    """What the ops see as tokens, for people.

    >>> [token.text for token in split(["Don't miss it at 9.30, <b>Ann</b>!"])[0]]
    ["Don't", 'miss', 'it', 'at', '9.30', 'Ann']
    >>> [token.text for token in split(["Don't miss it at 9.30, <b>Ann</b>!"])[0] if token.protected]
    ["Don't", '9.30', 'Ann']
    """
    from augment.text._tokenise import GLUED, PROTECTED, STARTS

    known = resources(lexicon, protect or Protect(), fitted)
    made: list[list[Token]] = []
    for view in views(as_array(texts)):
        found = tokenise(view, known)
        for row in range(len(view.valid)):
            these = range(found.rows[row], found.rows[row + 1])
            made.append(
                [
                    Token(
                        view.data[found.start[t] : found.stop[t]].tobytes().decode("utf-8", errors="replace"),
                        *(bool(found.flags[t] & flag) for flag in (PROTECTED, GLUED, STARTS)),
                    )
                    for t in these
                ]
            )  # fmt: skip
    return made


@lru_cache(maxsize=8)
def resources(lexicon: Lexicon | None, protect: Protect, fitted: Fitted | None) -> Resources:
    """Lay out what the kernels look words up in."""
    from augment.text import _tokenise

    own = lexicon.table.column("word").to_pylist() if lexicon else []
    negations = sorted(NEGATIONS) if protect.negations else []
    vocabulary = fitted.words.to_pylist() if fitted else []
    place = {word: row for row, word in enumerate(dict.fromkeys([*own, *negations, *vocabulary]))}
    everything = list(place)
    marks = np.zeros(len(everything), np.uint8)
    marks[[place[word] for word in negations]] = _tokenise.NEGATION
    rows = np.full(len(everything), -1, np.int32)
    rows[[place[word] for word in vocabulary]] = np.arange(len(vocabulary), dtype=np.int32)
    counts = np.zeros(len(everything) + 1, np.int64)
    flat = pa.array([], pa.string())
    if lexicon and len(lexicon):
        lists = lexicon.table.column("synonyms").combine_chunks()
        lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
        flat = lists.flatten()
        counts[1 : 1 + len(own)] = lists.value_lengths().to_numpy()
    pool = _bytes([*flat.to_pylist(), *vocabulary])
    return Resources(
        words=(_table(everything), _reach(everything)),
        marks=marks,
        synonyms=np.cumsum(counts),
        vocabulary=rows,
        pool=pool,
        drawn=fitted.drawn if fitted else np.zeros(0),
        idf=fitted.idf if fitted else np.zeros(1),
        first_drawn=len(flat),
        phrases=_phrases(protect.words),
        save=protect.negations * _tokenise.SAVE_NEGATIONS
        | protect.numbers * _tokenise.SAVE_NUMBERS
        | protect.entities * _tokenise.SAVE_ENTITIES,
        longest=int(np.diff(pool[1]).max(initial=2)),
    )


def _bytes(words: list[str]) -> tuple[U8, I64]:
    encoded = [word.encode() for word in words]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def _table(words: list[str]) -> npt.NDArray[np.uint64]:
    from augment.text import _tokenise

    data, offsets = _bytes(words)
    hashes = np.empty(len(words), np.uint64)
    _tokenise.hash_rows(data, offsets, hashes)
    size = 1 << max(4, (2 * len(words)).bit_length())
    table = np.zeros(size, np.uint64)
    _tokenise.place_words(hashes, table)
    return table


def _reach(words: list[str]) -> U8:
    """How many characters the longest word has that begins with a character (its lower 16 bits)."""
    reach = np.ones(1 << 16, np.uint8)
    for word in words:
        first = ord(word[0]) & 0xFFFF
        if 1 < len(word) <= _MOST_UNITS and len(word) > reach[first]:
            reach[first] = len(word)
    return reach


def _phrases(words: tuple[str, ...]) -> tuple[U8, I64, I64]:
    # An accent may be a part of its letter or stand behind it: whoever protects a word means both.
    forms = {
        word for each in words for word in (each, *(unicodedata.normalize(f, each) for f in ("NFC", "NFD")))
    }
    folded = {bytes(b + 32 if 65 <= b <= 90 else b for b in word.encode()) for word in forms}  # noqa: PLR2004  (A .. Z)
    ordered = sorted(folded, key=lambda word: (word[0], -len(word), word))
    offsets = np.cumsum([0, *map(len, ordered)]).astype(np.int64)
    first = np.searchsorted(np.array([word[0] for word in ordered], np.int64), np.arange(257)).astype(np.int64)
    return np.frombuffer(b"".join(ordered), np.uint8), offsets, first
