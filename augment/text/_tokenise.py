"""The compiled tokenizer: texts to tokens, flags, lexicon entries and sentences.

What a token is stands in :mod:`augment.text.tokens`. What a kernel calls lives in the same file: see
:mod:`lake.jit`.
"""

# ruff: noqa: PLR0917, C901, PLR0912, PLR0915  one pass over the bytes is one loop; kernels take arrays by position
# ruff: noqa: PLR2004  the bounds of UTF-8 and of ASCII are the format
# ruff: noqa: PLR1714, SIM110, SIM114  written as what is quickest when compiled
# ruff: noqa: PLR0911  a look-ahead has many ways to end

from __future__ import annotations

from typing import Any

import numpy as np

from augment.text._unicode import CLASS, CLOSES, DIGIT, ENDS, EXTEND, IDEOGRAPH, NUMERAL, SPACE, UPPER, WORD
from lake.jit import kernel

__all__ = ["gather_folded", "hash_rows", "phrase_spans", "place_words", "tokenise"]

# Flags of tokens.
PROTECTED, GLUED, IDEO, CAPITAL, STARTS, ENTITY, GOES_ON = 1, 2, 4, 8, 16, 32, 64
# Marks of known words, and which of them, and what else, is protected.
NEGATION = 1
SAVE_NEGATIONS, SAVE_NUMBERS, SAVE_ENTITIES = 1, 2, 4

_OFFSET = np.uint64(0xCBF29CE484222325)  # FNV-1a
_PRIME = np.uint64(0x100000001B3)
_TAG = np.uint64(0xFFFFFFFFFF000000)
_MOST_UNITS = 16  # the longest word of a script without spaces
_LOOK = 256  # bytes that a look-ahead may read


@kernel
def _fold(byte: Any) -> Any:
    return byte + 32 if 65 <= byte <= 90 else byte


@kernel
def _decode(data: Any, at: Any, end: Any) -> Any:
    """Give the code point at a place and its length; a byte that is not UTF-8 stands for itself."""
    b = np.int64(data[at])
    if b < 0x80:
        return b, 1
    length = 2 if 0xC2 <= b < 0xE0 else 3 if 0xE0 <= b < 0xF0 else 4 if 0xF0 <= b < 0xF5 else 1
    if length == 1 or at + length > end:
        return 0xFFFD, 1
    point = b & (0x7F >> length)
    for p in range(at + 1, at + length):
        if data[p] & 0xC0 != 0x80:
            return 0xFFFD, 1
        point = (point << 6) | (np.int64(data[p]) & 63)
    # Not the shortest way to write it, a surrogate, or beyond the last code point: no UTF-8 either.
    if (length == 3 and (point < 0x800 or 0xD800 <= point < 0xE000)) or (
        length == 4 and not 0x10000 <= point < 0x110000
    ):
        return 0xFFFD, 1
    return point, length


@kernel
def _mixed(h: Any) -> Any:
    return h ^ (h >> np.uint64(29))


@kernel
def hash_rows(data: Any, offsets: Any, out: Any) -> None:
    """Hash words, ASCII letters folded."""
    for i in range(len(out)):
        h = _OFFSET
        for p in range(offsets[i], offsets[i + 1]):
            h = (h ^ np.uint64(_fold(data[p]))) * _PRIME
        out[i] = h


@kernel
def place_words(hashes: Any, table: Any) -> None:
    """Fill a table with open addressing; its size is a power of two.

    An entry is the row + 1 in the lower 24 bits, and the hash's upper 40 above; 0 is an empty place.
    """
    mask = np.uint64(len(table) - 1)
    for i in range(len(hashes)):
        at = _mixed(hashes[i]) & mask
        while table[at] != 0:
            at = (at + np.uint64(1)) & mask
        table[at] = (hashes[i] & _TAG) | np.uint64(i + 1)


@kernel
def _find(table: Any, h: Any) -> Any:
    mask = np.uint64(len(table) - 1)
    at = _mixed(h) & mask
    while table[at] != 0:
        if table[at] & _TAG == h & _TAG:
            return np.int64(table[at] & ~_TAG) - 1
        at = (at + np.uint64(1)) & mask
    return np.int64(-1)


@kernel
def _begins(data: Any, at: Any, end: Any, word: Any) -> Any:
    """Whether a word of ASCII stands here, in whatever case."""
    if at + len(word) > end:
        return False
    for k in range(len(word)):
        if _fold(data[at + k]) != word[k]:
            return False
    return True


@kernel
def _address_end(data: Any, at: Any, end: Any) -> Any:
    """Where a web address ends: before white space, quotes, brackets and closing punctuation."""
    p = at
    while p < end and 32 < data[p] < 127 and data[p] != 34 and data[p] != 60 and data[p] != 62:
        p += 1
    while p > at:
        b = data[p - 1]
        # . , ; : ! ? ' ) ]
        if b in (46, 44, 59, 58, 33, 63, 39, 41, 93):
            p -= 1
        else:
            break
    return p


@kernel
def _mail_part(byte: Any) -> Any:
    folded = _fold(byte)
    # letters, digits, . _ + -
    return 97 <= folded <= 122 or 48 <= byte <= 57 or byte in (46, 95, 43, 45)


@kernel
def _mail_end(data: Any, at: Any, end: Any) -> Any:
    """Where a mail address ends of which ``at`` lies in the part before the @; -1: there is none."""
    p = at
    stop = min(end, at + _LOOK)
    while p < stop and _mail_part(data[p]):
        p += 1
    if p >= stop or data[p] != 64:
        return -1
    p += 1
    first = p
    dots = 0
    while p < min(end, first + _LOOK) and _mail_part(data[p]) and data[p] != 95 and data[p] != 43:
        dots += data[p] == 46
        p += 1
    while p > first and (data[p - 1] == 46 or data[p - 1] == 45):
        dots -= data[p - 1] == 46
        p -= 1
    return p if dots > 0 and p > first else -1


@kernel
def _tag_end(data: Any, at: Any, end: Any) -> Any:
    """Where the markup ``<...>`` ends that begins here; -1: none does."""
    if at + 2 >= end:
        return -1
    b = _fold(data[at + 1])
    if not (97 <= b <= 122 or b == 47 or b == 33):
        return -1
    for p in range(at + 2, min(end, at + _LOOK)):
        if data[p] == 62:
            return p + 1
        if data[p] == 60:
            return -1
    return -1


@kernel
def _is_block(data: Any, at: Any) -> Any:
    """Whether markup is that of a new line, such as <br>, <p> and </div>, and not <b>, <i> or <span>."""
    p = at + 1 if data[at + 1] != 47 else at + 2
    b = _fold(data[p])
    # p h d l t o, and br
    return b in (112, 104, 100, 108, 116, 111) or (b == 98 and _fold(data[p + 1]) == 114)


_HTTP = np.frombuffer(b"http://", np.uint8)
_HTTPS = np.frombuffer(b"https://", np.uint8)
_WWW = np.frombuffer(b"www.", np.uint8)


@kernel
def _segment(
    data: Any, at: Any, end: Any, classes: Any, words: Any, starts: Any, stops: Any, count: Any
) -> Any:
    """Cut a run of a script without spaces into the fewest words.

    Among equals: the fewest of a single character, and then the longest first. What no word covers stands
    alone. ``at`` .. ``end`` holds ideographs and marks only. Gives the new number of tokens.
    """
    table, reach = words
    edges = np.empty(end - at + 1, np.int64)
    m = 0
    p = at
    while p < end:
        point, size = _decode(data, p, end)
        if classes[point] & CLASS != EXTEND or p == at:
            edges[m] = p
            m += 1
        p += size
    edges[m] = end
    cost: Any = np.empty(m + 1, np.int64)
    length = np.empty(m, np.int64)
    cost[m] = 0
    for i in range(m - 1, -1, -1):
        point, _ = _decode(data, edges[i], end)
        most: Any = min(np.int64(reach[point & 0xFFFF]), m - i)
        cost[i] = cost[i + 1] + 1025
        length[i] = 1
        h = _OFFSET
        for k in range(1, most + 1):
            for q in range(edges[i + k - 1], edges[i + k]):
                h = (h ^ np.uint64(_fold(data[q]))) * _PRIME
            if k > 1 and cost[i + k] + 1024 <= cost[i] and _find(table, h) >= 0:
                cost[i] = cost[i + k] + 1024
                length[i] = k
    i = 0
    while i < m:
        starts[count] = edges[i]
        stops[count] = edges[i + length[i]]
        i += length[i]
        count += 1
    return count


@kernel
def phrase_spans(data: Any, at: Any, end: Any, phrases: Any, spans: Any) -> Any:
    """Where the protected phrases stand: pairs of places, ascending; longer ones of one place first."""
    text, offsets, first = phrases
    count = 0
    for p in range(at, end):
        lead = _fold(data[p])
        for k in range(first[lead], first[lead + 1]):
            size = offsets[k + 1] - offsets[k]
            if p + size > end or not _begins(data, p, end, text[offsets[k] : offsets[k + 1]]):
                continue
            b = _fold(data[p])
            plain = 97 <= b <= 122 or 48 <= b <= 57
            if plain and p > at:
                b = _fold(data[p - 1])
                if 97 <= b <= 122 or 48 <= b <= 57:
                    continue
            q = p + size
            b = _fold(data[q - 1])
            plain = 97 <= b <= 122 or 48 <= b <= 57
            if plain and q < end:
                b = _fold(data[q])
                if 97 <= b <= 122 or 48 <= b <= 57:
                    continue
            if 2 * count + 1 < len(spans):
                spans[2 * count] = p
                spans[2 * count + 1] = q
                count += 1
            break
    return count


@kernel
def _word_end(data: Any, at: Any, end: Any, classes: Any) -> Any:
    """Where the word ends that begins here, whether a digit is in it, and whether it is an address.

    Words hold together over an apostrophe or a hyphen between letters, numbers over a point or a comma too.
    """
    p = at
    number = False  # a digit is in it
    b = _fold(data[at])
    if b == 104 and (_begins(data, at, end, _HTTP) or _begins(data, at, end, _HTTPS)):
        return _address_end(data, at, end), False, True
    if b == 119 and _begins(data, at, end, _WWW):
        return _address_end(data, at, end), False, True
    digit = False
    while p < end:
        byte = data[p]
        if 97 <= byte | 32 <= 122:
            digit = False
            p += 1
            continue
        if byte < 0x80:
            c = classes[byte]
            size = 1
        else:
            point, size = _decode(data, p, end)
            c = classes[point]
        if c & CLASS == WORD:
            digit = c & DIGIT != 0
            number |= digit
            p += size
            continue
        if c & CLASS == EXTEND and p > at:
            p += size
            continue
        if p + size >= end:
            break
        following = classes[_decode(data, p + size, end)[0]]
        if following & CLASS != WORD:
            break
        # ' - and the typographic apostrophe between letters; . and , between digits
        if byte == 39 or byte == 45 or (byte == 0xE2 and data[p + 1] == 0x80 and data[p + 2] == 0x99):
            p += size
        elif (byte == 46 or byte == 44) and digit and following & DIGIT:
            p += size
        elif byte == 64 or byte == 46 or byte == 43 or byte == 95:
            stop = _mail_end(data, p, end)
            if stop > 0:
                return stop, number, True
            if byte != 95:
                break
            p += size
        else:
            break
    return p, number, False


@kernel
def _negates(data: Any, at: Any, end: Any, flag: Any, words: Any, marks: Any) -> Any:
    """Whether a part of a hyphenated word is on the list, or it is ...n't, or there is 不, 没 or 沒 in it."""
    if flag & IDEO:
        for p in range(at, end - 2):
            if data[p] == 0xE4 and data[p + 1] == 0xB8 and data[p + 2] == 0x8D:
                return True
            if data[p] == 0xE6 and data[p + 1] == 0xB2 and (data[p + 2] == 0xA1 or data[p + 2] == 0x92):
                return True
        return False
    if end - at >= 4 and _fold(data[end - 1]) == 116:
        p = end - 2
        if data[p] == 39 and _fold(data[p - 1]) == 110:
            return True
        if data[p] == 0x99 and data[p - 1] == 0x80 and end - at >= 5 and _fold(data[end - 5]) == 110:
            return True
    p = at
    while p < end and data[p] != 45:
        p += 1
    if p == end:
        return False
    h = _OFFSET
    for p in range(at, end + 1):
        if p == end or data[p] == 45:
            piece = _find(words[0], h)
            if piece >= 0 and marks[piece] & NEGATION:
                return True
            h = _OFFSET
        else:
            h = (h ^ np.uint64(_fold(data[p]))) * _PRIME
    return False


@kernel
def _numerals(data: Any, at: Any, end: Any, classes: Any) -> Any:
    p = at
    while p < end:
        point, size = _decode(data, p, end)
        if not classes[point] & NUMERAL:
            return False
        p += size
    return True


@kernel
def _abbreviation(data: Any, at: Any, end: Any) -> Any:
    """Whether a token before a full stop is an initial, or a title."""
    size = end - at
    if size == 1:
        return 65 <= data[at] <= 90 and data[at] != 73
    if size > 4:
        return False
    v = np.int64(0)
    for p in range(at, end):
        v = v * 256 + np.int64(_fold(data[p]))
    # mr ms dr st vs jr sr mrs prof
    return v in (0x6D72, 0x6D73, 0x6472, 0x7374, 0x7673, 0x6A72, 0x7372, 0x6D7273, 0x70726F66)


@kernel
def _same_run(data: Any, at: Any, end: Any) -> Any:
    """Whether one space or one hyphen stands between two tokens."""
    return end - at == 1 and (data[at] == 32 or data[at] == 45)


@kernel
def _is_name(data: Any, at: Any, end: Any, classes: Any) -> Any:
    """Whether a token begins with a capital ("I" and "I'm" aside): 0, 1, or 2 where another capital follows."""
    point, size = _decode(data, at, end)
    if not classes[point] & UPPER:
        return 0
    if point == 73 and (end - at == 1 or data[at + 1] == 39 or data[at + 1] == 0xE2):
        return 0
    p = at + size
    while p < end:
        point, size = _decode(data, p, end)
        if classes[point] & UPPER:
            return 2
        p += size
    return 1


@kernel
def tokenise(
    data: Any, offsets: Any, valid: Any, classes: Any, words: Any, marks: Any, phrases: Any, save: Any,
    row_tokens: Any, starts: Any, stops: Any, flags: Any, known: Any,
    row_sentences: Any, first_token: Any, sentence_start: Any, sentence_stop: Any,
) -> None:  # fmt: skip
    """Tokens of row i: ``row_tokens[i]`` .. ``row_tokens[i + 1]``; the same with its sentences.

    Places are those in ``data``. ``known`` is the row of the word list, or -1.
    """
    count = np.int64(0)
    sentences = np.int64(0)
    spans = np.empty(512, np.int64)
    for row in range(len(offsets) - 1):
        row_tokens[row] = count
        row_sentences[row] = sentences
        base = count
        p = np.int64(offsets[row])
        end = np.int64(offsets[row + 1])
        if not valid[row]:
            continue
        origin = p
        ended = True  # a sentence is over, and no token of the next one has come
        dot = False  # it was over with full stops only
        quoted = False  # an opening quote, bracket or colon: a capital behind it says nothing
        over: Any = p  # where the sentence before ends
        begins: Any = np.int64(-1)  # where the next one begins, if known
        while p < end:
            byte = data[p]
            point, size = np.int64(byte), 1
            if byte >= 0x80:
                point, size = _decode(data, p, end)
            c = classes[point]
            kind = c & CLASS
            before = count
            entity = False
            if kind == WORD:
                stop, number, entity = _word_end(data, p, end, classes)
                starts[count] = p
                stops[count] = stop
                flags[count] = 0
                if entity:
                    flags[count] = ENTITY
                elif save & SAVE_NUMBERS and number:
                    flags[count] = PROTECTED
                if 65 <= byte <= 90:
                    flags[count] |= CAPITAL
                count += 1
                follow = stop
            elif kind == IDEOGRAPH:
                follow = p
                while follow < end:
                    point, size = _decode(data, follow, end)
                    some = classes[point] & CLASS
                    if some != IDEOGRAPH and some != EXTEND:
                        break
                    follow += size
                count = _segment(data, p, follow, classes, words, starts, stops, count)
                for t in range(before, count):
                    flags[t] = IDEO
                    if save & SAVE_NUMBERS and _numerals(data, starts[t], stops[t], classes):
                        flags[t] |= PROTECTED
                        if t > before and flags[t - 1] & PROTECTED:
                            flags[t] |= GLUED  # three hundred is one number
            elif (byte == 64 or byte == 35) and p + 1 < end and (
                classes[_decode(data, p + 1, end)[0]] & CLASS in (WORD, IDEOGRAPH)
            ):  # fmt: skip
                # @mention and #tag: letters and digits of whatever script, and underscores
                follow = p + 1
                while follow < end:
                    point, size = _decode(data, follow, end)
                    some = classes[point] & CLASS
                    if some != WORD and some != IDEOGRAPH and some != EXTEND and point != 95:
                        break
                    follow += size
                starts[count] = p
                stops[count] = follow
                flags[count] = ENTITY
                count += 1
            else:
                follow = p + size
                if byte == 60:
                    tag = _tag_end(data, p, end)
                    if tag > 0:
                        follow = tag
                        kind = SPACE
                        if _is_block(data, p):
                            if not ended:
                                over = p
                                while over > stops[count - 1] and data[over - 1] in (32, 9, 10, 13):
                                    over -= 1
                            ended = True
                            dot = False
                            begins = -1
                elif kind == SPACE and byte == 10 and not ended:
                    over = p
                    while over > stops[count - 1] and data[over - 1] in (32, 9, 13):
                        over -= 1
                    ended = True
                    dot = False
                    begins = -1
                if kind == ENDS:
                    if not ended:
                        dot = byte == 46
                        # 3.5 and e.g. are no ends, nor is Mr. : it must be followed by a gap, and not by a
                        # small letter
                        if not (byte == 46 and stops[count - 1] == p and (
                            _abbreviation(data, starts[count - 1], stops[count - 1])
                            or (follow < end and classes[data[follow]] & CLASS == WORD and data[follow] < 0x80)
                        )):  # fmt: skip
                            ended = True
                            over = follow
                            begins = -1
                    elif begins < 0:
                        over = follow
                        dot = dot and byte == 46
                elif kind == CLOSES and ended and begins < 0 and over == p and count > base:
                    over = follow
                elif kind != SPACE and ended and begins < 0:
                    begins = p
                quoted = kind != SPACE and (
                    kind == CLOSES or byte in (40, 91, 58) or point in (0x201C, 0x2018, 0xAB)
                )
                p = follow
                continue
            if ended and dot and count > before and 97 <= byte <= 122:
                ended = False  # "... and so on": the sentence goes on
            if ended:
                if sentences > row_sentences[row]:
                    sentence_stop[sentences - 1] = over
                first_token[sentences] = before
                sentence_start[sentences] = begins if begins >= 0 and begins >= over else p
                if sentences == row_sentences[row]:
                    sentence_start[sentences] = min(sentence_start[sentences], p)
                sentences += 1
                flags[before] |= STARTS
            elif quoted:
                flags[before] |= STARTS
            ended = False
            dot = False
            quoted = False
            begins = -1
            over = follow
            p = follow
        if sentences > row_sentences[row]:
            last = end
            while last > stops[count - 1] and data[last - 1] in (32, 9, 10, 13):
                last -= 1
            # What stands behind the last sentence, such as markup, is no part of it.
            sentence_stop[sentences - 1] = over if ended else last
        for t in range(base, count):
            h = _OFFSET
            odd = False  # an apostrophe, a hyphen, or no ASCII
            for q in range(starts[t], stops[t]):
                byte = _fold(data[q])
                odd |= byte < 48 or byte >= 0x80
                h = (h ^ np.uint64(byte)) * _PRIME
            place = _find(words[0], h)
            known[t] = place
            if save & SAVE_NEGATIONS:
                if place >= 0 and marks[place] & NEGATION:
                    flags[t] |= PROTECTED
                elif (
                    odd
                    and not flags[t] & ENTITY
                    and _negates(data, starts[t], stops[t], flags[t], words, marks)
                ):
                    flags[t] |= PROTECTED
        if save & SAVE_ENTITIES:
            last_name = 0
            for t in range(base, count):
                name = 0
                if flags[t] & ENTITY:
                    flags[t] |= PROTECTED
                elif flags[t] & CAPITAL or (data[starts[t]] >= 0x80 and not flags[t] & IDEO):
                    name = _is_name(data, starts[t], stops[t], classes)
                if name and t > base and last_name and _same_run(data, stops[t - 1], starts[t]):
                    flags[t] |= PROTECTED | GLUED
                    flags[t - 1] |= PROTECTED
                elif name == 2 or (name == 1 and not flags[t] & STARTS):
                    flags[t] |= PROTECTED
                last_name = name
        if len(phrases[1]) > 1:
            found = phrase_spans(data, origin, end, phrases, spans)
            while 2 * found >= len(spans):  # they did not fit
                spans = np.empty(4 * len(spans), np.int64)
                found = phrase_spans(data, origin, end, phrases, spans)
            k = 0
            reach = np.int64(-1)
            for t in range(base, count):
                if starts[t] < reach:
                    flags[t] |= PROTECTED | GLUED
                while k < found and spans[2 * k] < stops[t]:
                    if spans[2 * k + 1] > starts[t]:
                        flags[t] |= PROTECTED if spans[2 * k] >= starts[t] else PROTECTED | GLUED
                        reach = max(reach, spans[2 * k + 1])
                    k += 1
                if reach > stops[t]:
                    flags[t] |= GOES_ON
            if sentences > row_sentences[row]:
                # A phrase over the end of a sentence holds both together.
                k = 0
                reach = np.int64(-1)
                whole = row_sentences[row]
                for s in range(whole + 1, sentences):
                    while k < found and spans[2 * k] < sentence_stop[s - 1]:
                        reach = max(reach, spans[2 * k + 1])
                        k += 1
                    if reach <= sentence_start[s]:
                        whole += 1
                        first_token[whole], sentence_start[whole] = first_token[s], sentence_start[s]
                    sentence_stop[whole] = sentence_stop[s]
                sentences = whole + 1
    row_tokens[len(offsets) - 1] = count
    row_sentences[len(offsets) - 1] = sentences


@kernel
def gather_folded(data: Any, start: Any, stop: Any, out: Any) -> None:
    """Copy stretches one behind the other, ASCII letters folded."""
    at = 0
    for i in range(len(start)):
        for p in range(start[i], stop[i]):
            out[at] = _fold(data[p])
            at += 1
