"""What each code point is to the tokenizer.

Scripts that put no spaces between words (Han, hiragana, bopomofo) are ``IDEOGRAPH``: their runs are segmented
with the lexicon. Thai, Lao, Khmer, Myanmar and katakana also run on, but no lexicon here knows their words, so
a run of theirs is one token: better a long token than a broken one.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = [
    "CLASS", "CLOSES", "DIGIT", "ENDS", "EXTEND", "IDEOGRAPH", "NUMERAL", "OTHER", "SPACE", "UPPER", "WORD",
    "classes",
]  # fmt: skip

OTHER, SPACE, WORD, IDEOGRAPH, EXTEND, ENDS, CLOSES = range(7)
CLASS, UPPER, DIGIT, NUMERAL = 7, 8, 16, 32
"""A mask for the class, and bits beside it: an upper-case letter, a decimal digit, a Chinese numeral."""

_CODE_POINTS = 0x110000
_ASSIGNED = 0x20000  # above stand ideographs (planes 2 and 3), selectors (plane 14) and private use
_PLANE_14 = 0xE0000
_IDEOGRAPHS = (
    (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3038, 0x303B), (0x3040, 0x309F), (0x3100, 0x312F),
    (0x31A0, 0x31BF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),
)  # fmt: skip
_ENDS = ".!?\u3002\uff01\uff1f\u2026\uff61\uff0e"  # full stops, marks and an ellipsis, also full and half width
_CLOSES = "\"')]}\u201d\u2019\u00bb\u203a\u300d\u300f\u300b\u3011\uff09\uff3d"
_NUMERALS = "零〇一二三四五六七八九十百千万萬亿億两兩"


@cache
def classes() -> npt.NDArray[np.uint8]:
    """The class of every code point, and the bits beside it: uint8, shape (0x110000,).

    >>> (classes()[[ord(" "), ord("a"), ord("漢"), 0x301, ord("!")]] & CLASS).tolist()
    [1, 2, 3, 4, 5]
    """
    table = np.full(_CODE_POINTS, OTHER, np.uint8)
    table[_ASSIGNED:0x3FFFE] = IDEOGRAPH
    table[_PLANE_14 : _PLANE_14 + 0x1000] = EXTEND
    for point in range(_ASSIGNED):
        char = chr(point)
        category = unicodedata.category(char)
        if category[0] in "LN":
            table[point] = (
                WORD | (UPPER if category in {"Lu", "Lt"} else 0) | (DIGIT if category == "Nd" else 0)
            )
        elif category[0] == "M" or category == "Cf":
            table[point] = EXTEND
        elif char.isspace():
            table[point] = SPACE
    for first, last in _IDEOGRAPHS:
        some = table[first : last + 1]
        some[some & CLASS == WORD] = IDEOGRAPH
    for char in _ENDS:
        table[ord(char)] = ENDS
    for char in _CLOSES:
        table[ord(char)] = CLOSES
    for char in _NUMERALS:
        table[ord(char)] |= NUMERAL
    table.setflags(write=False)
    return table
