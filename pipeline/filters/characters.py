"""What each Unicode character counts as: the tables behind the text measures.

The classes are those of the running Python's ``unicodedata``: a character that only a newer Unicode
version knows is a symbol to an older Python.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = [
    "ALNUM",
    "ALPHA",
    "BULLET",
    "CLOSER",
    "HANGUL",
    "LATIN",
    "LOWER_SIZE",
    "MARK",
    "QUOTE",
    "SPACE",
    "STOP",
    "STOP_ALONE",
    "STOP_WORDS",
    "UNSPACED",
    "WIDE",
    "classes",
    "lower",
]

# The kernels have these numbers compiled in, and Numba's cache looks at kernels.py alone: whoever changes one
# must change that file too.
SPACE = 1  # str.isspace()
ALPHA = 2  # str.isalpha()
ALNUM = 4  # str.isalnum()
MARK = 8  # a combining mark: category Mn, Mc or Me
UNSPACED = 16  # letter or numeral of a script written without blanks: each is a word of its own
WIDE = 32  # two columns: East Asian width W or F
LATIN = 64
HANGUL = 128
STOP = 256  # may end a sentence, when a blank or the line's end follows
STOP_ALONE = 512  # ends a sentence whatever follows
QUOTE = 1024  # a quotation mark that may close a line
CLOSER = 2048  # quotation mark or bracket that may stand between a stop and the blank
BULLET = 4096

STOP_MARKS = ".!?…؟۔।॥։።"  # noqa: RUF001  (other scripts' full stops are meant)
STOP_ALONE_MARKS = "。！？｡．។။"  # noqa: RUF001  (the full-width marks are meant)
QUOTES = "\"'”’»」』"  # noqa: RUF001  (the typographic quotes are meant)
CLOSERS = QUOTES + ")]）］】》〉"  # noqa: RUF001  (the full-width brackets are meant)
BULLETS = "•‣◦▪▫●○■□▶►◀*-–"  # noqa: RUF001  (the en dash is meant)

# Blocks, first and last code point.
_UNSPACED_BLOCKS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # CJK radicals
    (0x3005, 0x3007),
    (0x3021, 0x312F),  # Hangzhou numerals, kana, Bopomofo
    (0x31A0, 0x31FF),  # Bopomofo and kana extensions
    (0x3400, 0x4DBF),  # ideographs, extension A
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),  # Myanmar extensions
    (0xAA60, 0xAA7F),
    (0xF900, 0xFAFF),  # compatibility ideographs
    (0xFF66, 0xFF9D),  # half-width kana
    (0x1AFF0, 0x1B16F),  # kana supplements
    (0x20000, 0x323AF),  # ideographs, extensions B to H
)
_LATIN_BLOCKS = (
    (0x0041, 0x00AA),
    (0x00BA, 0x02AF),
    (0x1D00, 0x1D25),
    (0x1E00, 0x1EFF),
    (0x2C60, 0x2C7F),
    (0xA722, 0xA7FF),
    (0xAB30, 0xAB64),
    (0xFF21, 0xFF5A),
)
_HANGUL_BLOCKS = ((0x1100, 0x11FF), (0x3131, 0x318E), (0xA960, 0xA97F), (0xAC00, 0xD7FF))

LOWER_SIZE = 0x2000  # lower case is looked up below this code point: all of Latin that the stop words use

STOP_WORDS: dict[str, tuple[str, ...]] = {
    "cs": ("a", "se", "na", "že", "je", "v", "to", "s"),
    "da": ("og", "at", "det", "en", "på", "er", "af", "til"),
    "de": ("der", "die", "und", "das", "von", "zu", "mit", "ist"),
    "en": ("the", "be", "to", "of", "and", "that", "have", "with"),  # Rae et al. 2021, A1.1
    "es": ("el", "la", "de", "que", "y", "en", "los", "una"),
    "fi": ("ja", "on", "ei", "se", "että", "oli", "hän", "mutta"),
    "fr": ("le", "la", "les", "de", "et", "des", "que", "une"),
    "hu": ("a", "az", "és", "hogy", "nem", "egy", "is", "volt"),
    "id": ("yang", "dan", "di", "dari", "untuk", "dengan", "ini", "itu"),
    "it": ("il", "di", "che", "e", "la", "per", "una", "del"),
    "nl": ("de", "het", "een", "van", "en", "dat", "met", "is"),
    "no": ("og", "det", "en", "på", "er", "av", "til", "som"),
    "pl": ("i", "w", "nie", "na", "się", "że", "do", "to"),
    "pt": ("de", "que", "e", "do", "da", "em", "um", "para"),
    "ro": ("de", "și", "la", "în", "cu", "care", "un", "pe"),
    "sv": ("och", "att", "det", "som", "en", "på", "är", "av"),
    "tr": ("bir", "ve", "bu", "da", "de", "için", "ile", "çok"),
    "vi": ("và", "của", "là", "có", "không", "cho", "được", "các"),
}
"""Eight very common words of each language; those of English are Gopher's."""


@lru_cache(maxsize=1)
def classes() -> npt.NDArray[np.uint16]:
    """The class bits of every code point, uint16 (0x110000,).

    >>> bool(classes()[ord("é")] & LATIN), bool(classes()[ord("猫")] & UNSPACED)
    (True, True)
    """
    points = np.arange(0x110000, dtype=np.uint32)
    letters = points.view("<U1")
    alpha = np.strings.isalpha(letters)
    alnum = alpha | np.strings.isnumeric(letters) | np.strings.isdecimal(letters) | np.strings.isdigit(letters)
    space = np.strings.isspace(letters)
    table = np.zeros(0x110000, np.uint16)
    table[space] |= SPACE
    table[alpha] |= ALPHA
    table[alnum] |= ALNUM
    table[_within(_UNSPACED_BLOCKS) & alnum] |= UNSPACED
    table[_within(_LATIN_BLOCKS) & alpha] |= LATIN
    table[_within(_HANGUL_BLOCKS) & alpha] |= HANGUL
    for point in [*range(0x0300, 0x20000), *range(0xE0100, 0xE01F0)]:
        if not alnum[point] and unicodedata.category(chr(point))[0] == "M":
            table[point] |= MARK
    for point in range(0x1100, 0x20000):
        letter = chr(point)
        # Some Pythons call what is not assigned full-width.
        if unicodedata.east_asian_width(letter) in "WF" and unicodedata.category(letter) != "Cn":
            table[point] |= WIDE
    table[0x20000:0x40000] |= WIDE
    # Thai, Lao and Myanmar digits run together into numbers, as digits do elsewhere.
    decimal = np.strings.isdecimal(letters)
    table[decimal] &= np.uint16(0xFFFF ^ UNSPACED)
    for marks, bit in (
        (STOP_MARKS, STOP),
        (STOP_ALONE_MARKS, STOP_ALONE),
        (QUOTES, QUOTE),
        (CLOSERS, CLOSER),
        (BULLETS, BULLET),
    ):
        table[[ord(mark) for mark in marks]] |= bit
    table.flags.writeable = False
    return table


def _within(blocks: tuple[tuple[int, int], ...]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(0x110000, bool)
    for first, last in blocks:
        mask[first : last + 1] = True
    return mask


@lru_cache(maxsize=1)
def lower() -> npt.NDArray[np.uint32]:
    """The lower case of each code point below ``LOWER_SIZE``, where that is a single character."""
    table = np.arange(LOWER_SIZE, dtype=np.uint32)
    for point in range(LOWER_SIZE):
        small = chr(point).lower()
        if len(small) == 1:
            table[point] = ord(small)
    table.flags.writeable = False
    return table
