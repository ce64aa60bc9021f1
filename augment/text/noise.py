"""Which key stands beside which, and which letters look alike."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["KEYBOARD", "OCR", "Misprints", "keyboard", "ocr"]

_ROWS = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")
_SHIFTS = (0.0, 0.5, 0.75, 1.25)  # how far each row of an ANSI keyboard stands to the right, in keys
_NEAR = 1.26  # keys whose middles are nearer than that are neighbours

_LOOKALIKE = """
    0 o O D; 1 l I i; 2 z Z; 5 s S; 6 b G; 8 B; 9 g q;
    a o e; b h 6; c e o; d cl; e c o; f t; g q 9; h b n; i l j 1; j i; l 1 I i; m rn nn; n ri h; o 0 c e;
    q g 9; r n; s 5; t f; u v ii; v u y; w vv; y v; z 2;
    B 8 R; C G; D O 0; E F; F E; G 6 C; I l 1; O 0 Q D; P F; Q O; S 5; T I; U V; V U; W VV; Z 2
"""  # a character, and what it is read as


def _keyboard() -> dict[str, tuple[str, ...]]:
    place = {
        key: (x + shift, float(y))
        for y, (row, shift) in enumerate(zip(_ROWS, _SHIFTS, strict=True))
        for x, key in enumerate(row)
    }
    near = {
        key: tuple(
            other
            for other, (u, v) in place.items()
            if other != key and other.isalpha() and (u - x) ** 2 + (v - y) ** 2 < _NEAR**2
        )
        for key, (x, y) in place.items()
        if key.isalpha()
    }
    return near | {key.upper(): tuple(o.upper() for o in others) for key, others in near.items()}


KEYBOARD: dict[str, tuple[str, ...]] = _keyboard()
"""The letters beside each letter of an ANSI keyboard."""

OCR: dict[str, tuple[str, ...]] = {
    char: tuple(others) for char, *others in (entry.split() for entry in _LOOKALIKE.split(";"))
}
"""What each letter or digit is misread as."""


class Misprints(NamedTuple):
    """A table as arrays: replacements ``first[byte]`` to ``first[byte + 1]`` of ``text``, two bytes each."""

    first: npt.NDArray[np.int64]
    text: npt.NDArray[np.uint8]
    size: npt.NDArray[np.int64]


def _arrays(table: dict[str, tuple[str, ...]]) -> Misprints:
    counts = [len(table.get(chr(byte), ())) for byte in range(256)]
    words = [word.encode() for byte in range(256) for word in table.get(chr(byte), ())]
    text = np.frombuffer(b"".join(word.ljust(2) for word in words), np.uint8).reshape(-1, 2)
    return Misprints(
        np.cumsum([0, *counts]).astype(np.int64), text, np.array([len(w) for w in words], np.int64)
    )


@cache
def keyboard() -> Misprints:
    """:data:`KEYBOARD` for the kernels.

    >>> keyboard().text[keyboard().first[ord("q")] : keyboard().first[ord("r")]].tobytes().split()[0]
    b'w'
    """
    return _arrays(KEYBOARD)


@cache
def ocr() -> Misprints:
    """:data:`OCR` for the kernels."""
    return _arrays(OCR)
