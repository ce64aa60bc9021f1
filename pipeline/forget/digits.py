"""Runs of hexadecimal digits in bytes, in which an ``_id`` may stand: found at the pace of the memory.

An id has 32 digits. So a run that may hold one has three words of eight digits in a row, whatever byte it
begins at, and all else is passed over by looking at one word in place of eight bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["DIGITS", "ID_DIGITS", "Runs", "every_window", "likely_windows", "runs_in", "words_at"]

DIGITS = b"0123456789abcdef"
ID_DIGITS = 32
_WORD = 8
_ALL = np.uint64(0x0101010101010101)  # eight digits
_IS_DIGIT = bytes(byte in DIGITS for byte in range(256))

Places = npt.NDArray[np.int64]


class Runs(NamedTuple):
    """Where the longest runs begin, and where they end: two arrays of the same length, ascending."""

    starts: Places
    ends: Places


def runs_in(data: bytes) -> Runs:
    """The runs of at least 32 hexadecimal digits, small letters.

    >>> runs_in(b"id=" + b"0f" * 16 + b" 0f0f")
    Runs(starts=array([3]), ends=array([35]))
    """
    # A word of other bytes before and after: then no run touches the end.
    framed = b" " * _WORD + data + b" " * (_WORD + -len(data) % _WORD)
    digits = np.frombuffer(framed.translate(_IS_DIGIT), np.uint8)
    whole = digits.view(np.uint64) == _ALL
    first = np.flatnonzero(whole[:-2] & whole[1:-1] & whole[2:])
    if not len(first):
        return Runs(first, first)
    breaks = np.flatnonzero(np.diff(first) > 1)
    starts = first[np.concatenate([[0], breaks + 1])] * _WORD
    ends = (first[np.concatenate([breaks, [-1]])] + 3) * _WORD
    for _ in range(_WORD - 1):  # the words beside are not whole: fewer than eight digits more
        starts = starts - digits[starts - 1]
        ends = ends + digits[ends]
    long = ends - starts >= ID_DIGITS
    return Runs(starts[long] - _WORD, ends[long] - _WORD)


def every_window(runs: Runs) -> Places:
    """Where 32 digits stand, at any place of a run."""
    counts = runs.ends - runs.starts - (ID_DIGITS - 1)
    ends = np.cumsum(counts)
    places: Places = np.arange(counts.sum()) + np.repeat(runs.starts - ends + counts, counts)
    return places


def likely_windows(runs: Runs) -> Places:
    """The same where each has to be hashed: of a long run, in which ids stand side by side, one in 32."""
    long = runs.ends - runs.starts > 2 * ID_DIGITS
    found = [every_window(Runs(runs.starts[~long], runs.ends[~long]))]
    for start, end in zip(runs.starts[long], runs.ends[long], strict=True):
        aligned = {int(start), int(start + (end - start) % ID_DIGITS)}  # with its beginning, or with its end
        found += [np.arange(first, end - ID_DIGITS + 1, ID_DIGITS) for first in aligned]
    return np.concatenate(found)


def words_at(data: bytes, places: Places) -> npt.NDArray[np.uint64]:
    """The eight bytes from each place on, as one number."""
    if not len(places):
        return np.empty(0, np.uint64)
    words: npt.NDArray[np.uint64] = np.ndarray((len(data) - _WORD + 1,), np.uint64, data, strides=(1,))
    return words[places]
