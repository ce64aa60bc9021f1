"""The text measures as compiled loops over Arrow's own buffers, one thread, no copy of the text.

Per document: the bytes are decoded once into code points and their class bits, then each question gets
its own short pass. Repeats are found by 64-bit hashes (a collision among the n-grams of one document of a
million words has a chance of about 1 in 37 million), never by comparing strings.

Words
    A run of characters between blanks is one word. Where a run holds letters of a script that is written
    without blanks (Chinese, Japanese, Thai, Lao, Khmer, Burmese), each of those letters, with the combining
    marks that follow it, is a word, and what stands between them is one if it holds a letter or a digit.
Lines
    end at LF, CR or CR LF; they are trimmed, and blank ones do not count. A paragraph is a run of lines
    without a blank line between them.

All kernels stand in this one file: Numba's cache on disk does not notice a change in another.
"""
# ruff: noqa: PLR0917, PLR2004
# Compiled functions take their arrays by position, and the numbers are code points and n-gram sizes.

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lake.jit import kernel
from pipeline.filters.characters import (
    ALNUM,
    ALPHA,
    BULLET,
    CLOSER,
    HANGUL,
    LATIN,
    LOWER_SIZE,
    MARK,
    QUOTE,
    SPACE,
    STOP,
    STOP_ALONE,
    UNSPACED,
    WIDE,
)

__all__ = ["CORE_LIMIT", "count_words", "measure", "word_hash"]

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, bits well spread: the golden ratio times 2**64
_ROLL = np.uint64(0xD6E8FEB86659FD93)  # the base of the rolling n-gram hash; odd
_SEED = np.uint64(0xCBF29CE484222325)
_MIX = np.uint64(0xFF51AFD7ED558CCD)  # MurmurHash3's 64-bit finaliser
_SHIFT = np.uint64(33)
_ONE = np.uint64(1)

CORE_LIMIT = 8  # a stop word has fewer letters than this
_NEWLINE, _RETURN, _DOT, _HASH, _BRACE, _ELLIPSIS = 0x0A, 0x0D, 0x2E, 0x23, 0x7B, 0x2026
_SHORT_COLUMNS = 30
_LATIN, _HANGUL, _CJK, _SOUTHEAST, _OTHER = range(5)
_LINE_WORDS, _PROSE_WORDS = 3, 5

# The phrases that C4 looks for: lorem ipsum first, then those that make a line count as no prose.
_PHRASES = (
    b"lorem ipsum",
    b"javascript",
    b"terms of use",
    b"privacy policy",
    b"cookie policy",
    b"uses cookies",
    b"use of cookies",
    b"use cookies",
)
_PHRASE_BYTES = np.frombuffer(b"".join(_PHRASES), np.uint8).astype(np.uint32)
_PHRASE_ENDS = np.cumsum([0, *(len(phrase) for phrase in _PHRASES)]).astype(np.int64)

_U8 = npt.NDArray[np.uint8]
_U16 = npt.NDArray[np.uint16]
_U32 = npt.NDArray[np.uint32]
_U64 = npt.NDArray[np.uint64]
_I8 = npt.NDArray[np.int8]
_I32 = npt.NDArray[np.int32]
_I64 = npt.NDArray[np.int64]
_F64 = npt.NDArray[np.float64]
_Bool = npt.NDArray[np.bool_]
_Word = Any  # an np.uint64, on which NumPy's own arithmetic is typed too strictly to be of use


@kernel
def _decode(data: _U8, start: int, end: int, table: _U16, points: _U32, bits: _U16) -> int:
    """Code points and class bits of ``data[start:end]``; returns how many."""
    at = start
    count = 0
    while at < end:
        first = np.uint32(data[at])
        size = 1
        if first >= 0xF0:
            size = 4
            point = first & np.uint32(0x07)
        elif first >= 0xE0:
            size = 3
            point = first & np.uint32(0x0F)
        elif first >= 0xC0:
            size = 2
            point = first & np.uint32(0x1F)
        else:
            point = first
        if at + size > end:
            size = 1
            point = first
        for offset in range(1, size):
            point = (point << np.uint32(6)) | (np.uint32(data[at + offset]) & np.uint32(0x3F))
        if point >= 0x110000:
            point = np.uint32(0xFFFD)
        points[count] = point
        bits[count] = table[point]
        count += 1
        at += size
    return count


@kernel
def _mixed(value: _Word) -> _Word:
    value ^= value >> _SHIFT
    value *= _MIX
    value ^= value >> _SHIFT
    return value


@kernel
def _hash(points: _U32, first: int, last: int) -> _Word:
    value = _SEED
    for at in range(first, last):
        value = (value ^ np.uint64(points[at])) * _MULTIPLIER
    return _mixed(value)


@kernel
def _words(bits: _U16, count: int, starts: _I64, ends: _I64) -> tuple[int, int]:
    """Where each word starts and ends; returns how many there are, and how many are unspaced letters."""
    words = 0
    unspaced = 0
    at = 0
    while at < count:
        if bits[at] & SPACE:
            at += 1
            continue
        segment = at  # start of what stands between unspaced letters
        mixed = False
        alnum = False
        while at < count and not bits[at] & SPACE:
            if bits[at] & UNSPACED:
                if alnum:
                    starts[words] = segment
                    ends[words] = at
                    words += 1
                starts[words] = at
                at += 1
                while at < count and bits[at] & MARK:
                    at += 1
                ends[words] = at
                words += 1
                unspaced += 1
                mixed = True
                alnum = False
                segment = at
            else:
                alnum = alnum or bits[at] & ALNUM != 0
                at += 1
        if segment < at and (alnum or not mixed):
            starts[words] = segment
            ends[words] = at
            words += 1
    return words, unspaced


@kernel
def _script(points: _U32, bits: _U16, count: int, words: int, unspaced: int) -> int:
    """Most words are unspaced letters: their script. Else the script of most letters."""
    latin = 0
    hangul = 0
    letters = 0
    southeast = 0
    for at in range(count):
        if bits[at] & UNSPACED:
            point = points[at]
            southeast += point < 0x2E80 or 0xA900 <= point < 0xAB00
        elif bits[at] & ALPHA:
            letters += 1
            latin += bits[at] & LATIN != 0
            hangul += bits[at] & HANGUL != 0
    if unspaced * 2 > words:
        return _SOUTHEAST if southeast * 2 > unspaced else _CJK
    if latin * 2 > letters:
        return _LATIN
    if hangul * 2 > letters:
        return _HANGUL
    return _OTHER


@kernel
def _core(points: _U32, bits: _U16, first: int, last: int, lowers: _U32) -> _Word:
    """Hash of a word in lower case without the symbols around it; 0 where it is too long for a stop word."""
    while first < last and not bits[first] & ALNUM:
        first += 1
    while last > first and not bits[last - 1] & ALNUM:
        last -= 1
    if first == last or last - first >= CORE_LIMIT:
        return np.uint64(0)
    value = _SEED
    for at in range(first, last):
        point = points[at]
        if point < LOWER_SIZE:
            point = lowers[point]
        value = (value ^ np.uint64(point)) * _MULTIPLIER
    return _mixed(value)


@kernel
def _stop_words(
    points: _U32,
    bits: _U16,
    words: int,
    starts: _I64,
    ends: _I64,
    lowers: _U32,
    keys: _U64,
    languages: _U32,
    found: _U8,
) -> int:
    """The most different stop words of any one language.

    ``keys`` is an open-addressed table, 0 where empty; ``languages`` are bit sets; ``found`` is scratch.
    """
    found[:] = 0
    mask = np.uint64(keys.size - 1)
    for word in range(words):
        key = _core(points, bits, starts[word], ends[word], lowers)
        if key:
            place = int(key & mask)
            while keys[place] and keys[place] != key:
                place = int((np.uint64(place) + _ONE) & mask)
            if keys[place]:
                found[place] = 1
    tally = np.zeros(32, np.int64)
    for place in range(keys.size):
        if found[place]:
            for language in range(32):
                tally[language] += (languages[place] >> np.uint32(language)) & np.uint32(1)
    return int(tally.max())


@kernel
def _clear(keys: _U64, mask: _Word) -> None:
    """Empty the part of the table that ``mask`` reaches."""
    for place in range(np.int64(mask) + 1):
        keys[place] = np.uint64(0)


@kernel
def _insert(keys: _U64, counts: _I32, mask: _Word, key: _Word) -> int:
    """Count ``key`` in an open-addressed table, where 0 is an empty place; returns the new count."""
    key = max(key, _ONE)
    place = np.int64(key & mask)
    while keys[place] != key:
        if not keys[place]:
            keys[place] = key
            counts[place] = 1
            return 1
        place = np.int64((np.uint64(place) + _ONE) & mask)
    counts[place] += 1
    return int(counts[place])


@kernel
def _top_gram(
    hashes: _U64,
    sums: _I64,
    words: int,
    size: int,
    keys: _U64,
    counts: _I32,
    mask: _Word,
) -> tuple[float, bool]:
    """Share of the characters in the most frequent n-gram (of equals, the longest); and whether any repeats."""
    power = np.uint64(1)
    for _ in range(size):
        power *= _ROLL
    value = np.uint64(0)
    best = 1
    longest = np.int64(0)
    _clear(keys, mask)
    for last in range(words):
        value = value * _ROLL + hashes[last]
        if last >= size:
            value -= hashes[last - size] * power
        first = last - size + 1
        if first >= 0:
            seen = _insert(keys, counts, mask, _mixed(value))
            length = sums[last + 1] - sums[first]
            if seen > best or (seen == best > 1 and length > longest):
                best = seen
                longest = length
    if best == 1:
        return 0.0, False
    return min(1.0, best * longest / sums[words]), True


@kernel
def _repeated_grams(
    hashes: _U64,
    sums: _I64,
    words: int,
    size: int,
    keys: _U64,
    counts: _I32,
    mask: _Word,
) -> float:
    """Share of the characters inside n-grams that occurred before, each character counted once."""
    power = np.uint64(1)
    for _ in range(size):
        power *= _ROLL
    value = np.uint64(0)
    _clear(keys, mask)
    covered = 0  # words before this one are already counted
    total = np.int64(0)
    for last in range(words):
        value = value * _ROLL + hashes[last]
        if last >= size:
            value -= hashes[last - size] * power
        first = last - size + 1
        if first >= 0 and _insert(keys, counts, mask, _mixed(value)) > 1:
            total += sums[last + 1] - sums[max(first, covered)]
            covered = last + 1
    return float(total / sums[words])


@kernel
def _phrase(points: _U32, at: int, count: int, phrase: int) -> bool:
    """Whether the phrase of that number stands at ``at``, in ASCII letters of either case."""
    first, last = _PHRASE_ENDS[phrase], _PHRASE_ENDS[phrase + 1]
    if at + last - first > count:
        return False
    for offset in range(last - first):
        point = points[at + offset]
        if 0x41 <= point <= 0x5A:
            point += np.uint32(0x20)
        if point != _PHRASE_BYTES[first + offset]:
            return False
    return True


@kernel
def _sentences(bits: _U16, first: int, last: int) -> int:
    """Pieces with a letter or digit, cut after stops: those before a blank, and any of the unspaced scripts."""
    sentences = 0
    alnum = False
    pending = 0  # 1 after a stop, 2 after one that needs no blank
    for at in range(first, last):
        bit = bits[at]
        if bit & STOP_ALONE:
            pending = 2
        elif bit & STOP:
            pending = max(pending, 1)
        elif pending and bit & CLOSER:
            pass
        else:
            if pending == 2 or (pending == 1 and bit & SPACE):
                sentences += alnum
                alnum = False
            pending = 0
            alnum = alnum or bit & ALNUM != 0
    return sentences + alnum


@kernel
def _ellipsis_end(points: _U32, first: int, last: int) -> bool:
    if points[last - 1] == _ELLIPSIS:
        return True
    return (
        last - first >= 3 and points[last - 1] == _DOT and points[last - 2] == _DOT and points[last - 3] == _DOT
    )


@kernel
def _plain_line(points: _U32, first: int, last: int) -> bool:
    """Whether a line names neither javascript nor a policy."""
    for at in range(first, last):
        small = points[at] | np.uint32(0x20)
        if small in (0x6A, 0x74, 0x70, 0x63, 0x75):  # j t p c u
            for phrase in range(1, _PHRASE_ENDS.size - 1):
                if _phrase(points, at, last, phrase):
                    return False
    return True


@kernel
def _lines(  # noqa: C901, PLR0912, PLR0915  (one pass over the lines, so that each is looked at once)
    points: _U32,
    bits: _U16,
    count: int,
    starts: _I64,
    words: int,
    keys: _U64,
    counts: _I32,
    mask: _Word,
    out: _F64,
) -> None:
    """All that is measured by line, into ``out``, the document's row. Lines and paragraphs share one table."""
    lines = bullets = ellipses = punctuated = short = repeats = sentences = prose = 0
    characters = repeated = np.int64(0)
    paragraphs = paragraph_repeats = 0
    paragraph_repeated = np.int64(0)
    paragraph = np.uint64(0)  # 0 between paragraphs
    _clear(keys, mask)
    paragraph_size = np.int64(0)
    word = 0
    at = 0
    while at <= count:
        end = at
        while end < count and points[end] != _NEWLINE and points[end] != _RETURN:
            end += 1
        first, last = at, end
        at = end + 1
        if end + 1 < count and points[end] == _RETURN and points[end + 1] == _NEWLINE:
            at += 1
        while first < last and bits[first] & SPACE:
            first += 1
        while last > first and bits[last - 1] & SPACE:
            last -= 1
        if first < last:
            size = last - first
            value = _hash(points, first, last)
            lines += 1
            characters += size
            if _insert(keys, counts, mask, value) > 1:
                repeats += 1
                repeated += size
            paragraph = (paragraph ^ value) * _MULTIPLIER | np.uint64(1)
            paragraph_size += size
            bullets += bits[first] & BULLET != 0
            dotted = _ellipsis_end(points, first, last)
            ellipses += dotted
            ends = bits[last - 1] & (STOP | STOP_ALONE | QUOTE) != 0
            punctuated += ends
            columns = size
            for place in range(first, last):
                columns += bits[place] & WIDE != 0
            short += columns <= _SHORT_COLUMNS
            before = word
            while word < words and starts[word] < last:
                word += 1
            if word - before >= _LINE_WORDS and _plain_line(points, first, last):
                found = _sentences(bits, first, last)
                sentences += found
                if word - before >= _PROSE_WORDS and ends and not dotted:
                    prose += found
        if paragraph and (first >= last or at > count):
            paragraphs += 1
            if _insert(keys, counts, mask, _mixed(paragraph)) > 1:
                paragraph_repeats += 1
                paragraph_repeated += paragraph_size
            paragraph = np.uint64(0)
            paragraph_size = np.int64(0)
    out[24] = sentences
    out[25] = prose
    if lines:
        out[4] = bullets / lines
        out[5] = ellipses / lines
        out[9] = repeats / lines
        out[10] = repeated / characters
        out[11] = paragraph_repeats / paragraphs
        out[12] = paragraph_repeated / characters
        out[26] = punctuated / lines
        out[27] = short / lines


@kernel
def _signs(points: _U32, bits: _U16, count: int, words: int, starts: _I64, ends: _I64, out: _F64) -> None:
    """Symbols, letters and phrases."""
    hashes = ellipses = braces = lorem = visible = letters = alphabetic = 0
    dots = 0
    for at in range(count):
        point = points[at]
        visible += bits[at] & SPACE == 0
        letters += bits[at] & (ALNUM | MARK) != 0
        hashes += point == _HASH
        braces += point == _BRACE
        ellipses += point == _ELLIPSIS and (at == 0 or points[at - 1] != _ELLIPSIS)
        dots = dots + 1 if point == _DOT else 0
        ellipses += dots == 3
        if (point | np.uint32(0x20)) == 0x6C:  # l
            lorem += _phrase(points, at, count, 0)
    size = np.int64(0)
    for word in range(words):
        size += ends[word] - starts[word]
        for at in range(starts[word], ends[word]):
            if bits[at] & (ALPHA | UNSPACED):
                alphabetic += 1
                break
    out[22] = lorem
    out[23] = braces
    if words:
        out[1] = size / words
        out[2] = hashes / words
        out[3] = ellipses / words
        out[6] = alphabetic / words
    if visible:
        out[8] = letters / visible


@kernel
def measure(  # noqa: C901, PLR0912, PLR0915  (the driver: scratch memory and the order of the passes)
    data: _U8,
    offsets: _I64,
    valid: _Bool,
    table: _U16,
    lowers: _U32,
    stop_keys: _U64,
    stop_languages: _U32,
    grams: bool,
    out: _F64,
    scripts: _I8,
) -> None:
    """Write measures, float64 (rows, 28) in the order of ``rules.MEASURES``, and script, int8 (rows).

    A measure that has no meaning for a row (a share of no lines, a null text) is NaN. ``grams``: whether the
    n-gram measures are wanted.
    """
    rows = offsets.size - 1
    out[:] = np.nan
    scripts[:] = _OTHER
    longest = np.int64(0)
    for row in range(rows):
        longest = max(longest, np.int64(offsets[row + 1] - offsets[row]))
    points = np.empty(longest, np.uint32)
    bits = np.empty(longest, np.uint16)
    starts = np.empty(longest, np.int64)
    ends = np.empty(longest, np.int64)
    found = np.empty(stop_keys.size, np.uint8)
    hashes = np.empty(1024, np.uint64)
    sums = np.zeros(1025, np.int64)
    keys = np.empty(2048, np.uint64)
    counts = np.empty(2048, np.int32)
    for row in range(rows):
        if not valid[row]:
            continue
        count = _decode(data, offsets[row], offsets[row + 1], table, points, bits)
        words, unspaced = _words(bits, count, starts, ends)
        # Of lines and paragraphs together there are at most two more than line ends.
        need = 2
        for at in range(count):
            need += points[at] == _NEWLINE or points[at] == _RETURN
        need = max(need, words)
        if need * 2 > keys.size:
            capacity = keys.size
            while capacity < need * 2:
                capacity *= 2
            hashes = np.empty(capacity // 2, np.uint64)
            sums = np.zeros(capacity // 2 + 1, np.int64)
            keys = np.empty(capacity, np.uint64)
            counts = np.empty(capacity, np.int32)
        # A small document uses only the front of the tables, which then stays in the processor's cache.
        capacity = 64
        while capacity < need * 2:
            capacity *= 2
        mask = np.uint64(capacity - 1)
        script = _script(points, bits, count, words, unspaced)
        scripts[row] = script
        out[row, 0] = words
        out[row, 7] = _stop_words(points, bits, words, starts, ends, lowers, stop_keys, stop_languages, found)
        _signs(points, bits, count, words, starts, ends, out[row])
        _lines(points, bits, count, starts, words, keys, counts, mask, out[row])
        if grams and words:
            for word in range(words):
                hashes[word] = _hash(points, starts[word], ends[word])
                sums[word + 1] = sums[word] + ends[word] - starts[word]
            out[row, 13:22] = 0.0
            scale = 2 if script in (_CJK, _SOUTHEAST) else 1
            repeats = True
            for size in range(2, 5):
                if repeats:
                    share, repeats = _top_gram(hashes, sums, words, size * scale, keys, counts, mask)
                    out[row, 11 + size] = share
            for size in range(5, 11):
                if repeats:
                    share = _repeated_grams(hashes, sums, words, size * scale, keys, counts, mask)
                    out[row, 11 + size] = share
                    repeats = share > 0


@kernel
def count_words(data: _U8, offsets: _I64, valid: _Bool, table: _U16, out: _I64) -> None:
    """Write the words of each row, int64 (rows); 0 for a null text."""
    rows = offsets.size - 1
    out[:] = 0
    longest = np.int64(0)
    for row in range(rows):
        longest = max(longest, np.int64(offsets[row + 1] - offsets[row]))
    points = np.empty(longest, np.uint32)
    bits = np.empty(longest, np.uint16)
    starts = np.empty(longest, np.int64)
    ends = np.empty(longest, np.int64)
    for row in range(rows):
        if valid[row]:
            count = _decode(data, offsets[row], offsets[row + 1], table, points, bits)
            out[row] = _words(bits, count, starts, ends)[0]


@kernel
def word_hash(points: _U32) -> _Word:
    """The hash of a stop word given as its code points in lower case, as ``_core`` computes it."""
    value = _SEED
    for at in range(points.size):
        value = (value ^ np.uint64(points[at])) * _MULTIPLIER
    return _mixed(value)
