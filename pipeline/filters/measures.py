"""From an Arrow column of texts to its measures: the seam between Arrow and the compiled loops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lake.native import kernels
from pipeline.filters.characters import STOP_WORDS, classes, lower
from pipeline.filters.rules import MEASURES, SCRIPTS

__all__ = ["Measures", "measure", "word_counts"]

_kernels = kernels("pipeline.filters.kernels")


@dataclass(frozen=True, slots=True)
class Measures:
    """What the rules look at.

    ``values``: float64 (rows, measures) in the order of ``rules.MEASURES``, NaN where a measure means nothing
    (a null text, a share of no lines). ``scripts``: int8 (rows), places in ``rules.SCRIPTS``.
    """

    values: npt.NDArray[np.float64]
    scripts: npt.NDArray[np.int8]

    def column(self, name: str) -> npt.NDArray[np.float64]:
        """The measure of that name."""
        return self.values[:, MEASURES.index(name)]

    def script(self, row: int) -> str:
        """The script of a row in words."""
        return SCRIPTS[self.scripts[row]]


def measure(
    texts: pa.Array | pa.ChunkedArray, languages: tuple[str, ...] = tuple(STOP_WORDS), *, grams: bool = True
) -> Measures:
    """Measure each text; without ``grams`` the n-gram columns stay NaN, and the rest is quicker.

    >>> found = measure(pa.array(["To be, or not to be: that is the question."]))
    >>> found.column("words").tolist(), found.column("stop_words").tolist(), found.script(0)
    ([10.0], [4.0], 'latin')
    """
    keys, sets = _stop_table(languages)
    values = np.empty((len(texts), len(MEASURES)))
    scripts = np.empty(len(texts), np.int8)
    start = 0
    for data, offsets, valid in _buffers(texts):
        mine = slice(start, start + len(valid))
        _kernels.measure(
            data, offsets, valid, classes(), lower(), keys, sets, grams, values[mine], scripts[mine]
        )
        start = mine.stop
    return Measures(values, scripts)


def word_counts(texts: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """The words of each text, int64 (rows); 0 for a null text. See ``kernels`` for what a word is.

    >>> word_counts(pa.array(["two words", "三个字", None])).tolist()
    [2, 3, 0]
    """
    counts, start = np.empty(len(texts), np.int64), 0
    for data, offsets, valid in _buffers(texts):
        _kernels.count_words(data, offsets, valid, classes(), counts[start : start + len(valid)])
        start += len(valid)
    return counts


@lru_cache(maxsize=32)
def _stop_table(languages: tuple[str, ...]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    """The stop words as an open-addressed table of hashes, and the bit set of the languages that have each."""
    keys, sets = np.zeros(512, np.uint64), np.zeros(512, np.uint32)
    for bit, language in enumerate(languages):
        for word in STOP_WORDS[language]:
            key = _kernels.word_hash(np.array([ord(letter) for letter in word], np.uint32))
            place = int(key) % 512
            while keys[place] and keys[place] != key:
                place = (place + 1) % 512
            keys[place] = key
            sets[place] |= np.uint32(1 << bit)
    return keys, sets


def _buffers(
    texts: pa.Array | pa.ChunkedArray,
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
    """Bytes, int64 offsets and validity of each chunk, the bytes uncopied."""
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        if not len(chunk):
            continue
        array = (
            chunk
            if pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type)
            else chunk.cast(pa.string())
        )
        _, offsets, data = array.buffers()
        width = np.int64 if pa.types.is_large_string(array.type) else np.int32
        places = np.frombuffer(offsets, width)[array.offset : array.offset + len(array) + 1].astype(np.int64)
        bytes_ = np.frombuffer(data, np.uint8) if data is not None and data.size else np.empty(0, np.uint8)
        yield bytes_, places, array.is_valid().to_numpy(zero_copy_only=False)
