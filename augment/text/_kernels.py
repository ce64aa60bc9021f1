"""The compiled text ops: tokens, shares and keys in, new texts out.

What each op does with which random number stands in :mod:`augment.text.execute`. What a kernel calls lives in
the same file: see :mod:`lake.jit`.

The ops on words fill a plan of the text, and one loop writes it: for each place (the stretch between two gaps)
what stands in it (``what``: a token's number; below 0 a word of the pool, -2 - its number) or nothing
(``GONE``), and what is put in before it. Deleting a word takes the white space before it along, or where there
is none that behind it.
"""

# ruff: noqa: PLR0917, C901, PLR0912, PLR0915  one pass is one loop; kernels take arrays by position
# ruff: noqa: PLR2004  the bounds of UTF-8 and of ASCII are the format
# ruff: noqa: FBT003, PLR1714, SIM102, SIM109  written as what is quickest when compiled

from __future__ import annotations

from typing import Any

import numpy as np

from lake.jit import kernel

__all__ = ["carry_out"]

_PROTECTED, _GLUED, _IDEO, _CAPITAL, _GOES_ON = 1, 2, 4, 8, 64
_GONE = -(1 << 40)
_SYNONYM, _INSERTION, _SWAP, _DELETION, _KEYBOARD, _OCR, _TFIDF_IN, _TFIDF_FOR, _SHUFFLE, _CROP, _MIX = range(
    500, 511
)
_LETTERS = 4  # a shorter word is not misspelt: too little of it would be left
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


@kernel
def _pair(key: Any, block: Any) -> Any:
    """Numbers ``2 block`` and ``2 block + 1`` of a key: augment.rng.of_keys."""
    c0, c1, c2, c3 = np.uint64(block), np.uint64(0), np.uint64(key[2]), np.uint64(key[3])
    k0, k1 = np.uint64(key[0]), np.uint64(key[1])
    for turn in range(10):
        if turn:
            k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _LOW, (p0 >> _32) ^ c3 ^ k1, p0 & _LOW
    first = np.float64((c0 >> np.uint64(5)) * np.uint64(1 << 26) + (c1 >> np.uint64(6))) * 2.0**-53
    return first, np.float64((c2 >> np.uint64(5)) * np.uint64(1 << 26) + (c3 >> np.uint64(6))) * 2.0**-53


@kernel
def _uniform(key: Any, index: Any) -> Any:
    even, odd = _pair(key, index >> 1)
    return odd if index & 1 else even


@kernel
def _below(key: Any, index: Any, count: Any) -> Any:
    return np.int64(_uniform(key, index) * count)


@kernel
def _how_many(share: Any, count: Any) -> Any:
    return max(np.int64(1), np.int64(share * count)) if share > 0 else np.int64(0)


@kernel
def _grown(array: Any, used: Any, room: Any) -> Any:
    if used + room <= len(array):
        return array
    more = np.empty(2 * (used + room), array.dtype)
    more[:used] = array[:used]
    return more


@kernel
def _copy(source: Any, start: Any, stop: Any, out: Any, at: Any) -> Any:
    for p in range(start, stop):
        out[at + p - start] = source[p]
    return at + stop - start


@kernel
def _is_space(byte: Any) -> Any:
    return byte == 32 or 9 <= byte <= 13


@kernel
def _runs_on(data: Any, start: Any, stop: Any, first: Any) -> Any:
    """Whether the first or the last character is of a script without spaces, or of its punctuation."""
    p = start
    if not first:
        p = stop - 1
        while p > start and data[p] & 0xC0 == 0x80:
            p -= 1
    b = data[p]
    if b == 0xE2 or b >= 0xF0:  # quotes and emoji stand between words; radicals, and planes 2 and 3, are Han
        return p + 1 < stop and data[p + 1] >= (0xBA if b == 0xE2 else 0xA0)
    return 0xE3 <= b < 0xEA or b == 0xEF


@kernel
def _candidates(
    op: Any, data: Any, tokens: Any, first: Any, count: Any, synonyms: Any, misprints: Any, out: Any
) -> Any:
    """The tokens that an op may pick."""
    _, start, stop, flags, word, _, _, _, _ = tokens
    m = 0
    for t in range(count):
        j = first + t
        if flags[j] & _PROTECTED:
            continue
        if op == _SYNONYM or op == _INSERTION:
            if word[j] < 0 or synonyms[word[j] + 1] == synonyms[word[j]]:
                continue
        elif op == _KEYBOARD or op == _OCR:
            letters = 0
            for p in range(start[j], stop[j]):
                b = data[p]
                letters += misprints[0][b + 1] > misprints[0][b]
            if letters == 0 or (op == _KEYBOARD and letters < _LETTERS):
                continue
        out[m] = t
        m += 1
    return m


@kernel
def _gaps(data: Any, begin: Any, end: Any, tokens: Any, first: Any, count: Any, out: Any) -> Any:
    """The places before which a word may be put: behind white space, between ideographs, at both ends."""
    _, start, stop, flags, _, _, _, _, _ = tokens
    m = 0
    for t in range(count):
        j = first + t
        if flags[j] & _GLUED:
            continue
        left = stop[j - 1] if t > 0 else begin
        if left == start[j]:
            if t > 0 and not (flags[j] & _IDEO and flags[j - 1] & _IDEO):
                continue
        elif not _is_space(data[start[j] - 1]):
            continue
        out[m] = t
        m += 1
    if flags[first + count - 1] & _GOES_ON:
        return m
    last = stop[first + count - 1]
    b = data[last] if last < end else 32
    # the end, or . , ! ? ; : or white space, or Chinese punctuation behind the last word
    if _is_space(b) or b in (46, 44, 33, 63, 59, 58) or b == 0xE3 or b == 0xEF:
        out[m] = count
        m += 1
    return m


@kernel
def _draw_word(drawn: Any, u: Any) -> Any:
    """The row of the vocabulary at a share of the cumulative weights."""
    aim = u * drawn[-1]
    low, high = 0, len(drawn) - 1
    while low < high:
        middle = (low + high) // 2
        if drawn[middle] > aim:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def _tf_idf(tokens: Any, first: Any, count: Any, vocabulary: Any, idf: Any, out: Any) -> None:
    """The tf-idf of each token within its text; words outside the vocabulary stand for themselves."""
    _, _, _, _, word, _, _, _, _ = tokens
    size = 16
    while size < 2 * count:
        size *= 2
    keys, counts = np.full(size, -1, np.int64), np.zeros(size, np.int64)
    places = np.empty(count, np.int64)
    for t in range(count):
        w = word[first + t]
        row = np.int64(vocabulary[w]) if w >= 0 else np.int64(-1)
        if row < 0:
            places[t] = -1
            continue
        at = (row * 0x9E3779B1) & (size - 1)
        while keys[at] >= 0 and keys[at] != row:
            at = (at + 1) & (size - 1)
        keys[at] = row
        counts[at] += 1
        places[t] = at
    for t in range(count):
        at = places[t]
        out[t] = (counts[at] * idf[keys[at]] if at >= 0 else idf[-1]) / count


@kernel
def _write(
    data: Any, begin: Any, end: Any, tokens: Any, first: Any, count: Any, pool: Any, what: Any, notes: Any,
    places: Any, inserted: Any, insertions: Any, misprints: Any, out: Any, at: Any,
) -> Any:  # fmt: skip
    """Write a planned text."""
    _, start, stop, flags, _, _, _, _, _ = tokens
    # by place; equal ones in the order in which they were drawn
    if insertions > 1:
        order = np.argsort(places[:insertions], kind="mergesort")
        places[:insertions], inserted[:insertions] = places[order], inserted[order]
    origin = at
    behind = begin  # what stands from here to the present place is not written yet, and unchanged
    k = 0
    touching = 0  # what was written last: 1 a token of a script with spaces, 2 one without
    for t in range(count + 1):
        j = first + t
        inserts = k < insertions and places[k] == t
        # Two tokens that stood together, and are the same ones still, need no space between them.
        together = 0 < t < count and what[t] == t and what[t - 1] == t - 1 and not inserts
        if t < count and what[t] == t and notes[t] < 0 and not inserts:
            if touching != 1 or behind != start[j] or flags[j] & _IDEO or together:
                continue
        stop_gap = start[j] if t < count else end
        gone = t < count and what[t] == _GONE
        taken = False
        if gone:
            cut, least = stop_gap, max(behind, stop[j - 1] if t > 0 else begin)
            while cut > least and _is_space(data[cut - 1]):
                cut -= 1
            taken = cut < stop_gap
            stop_gap = cut
        if t == count and inserts:
            stop_gap = stop[j - 1] if t > 0 and behind <= stop[j - 1] else behind
        if stop_gap > behind:
            at = _copy(data, behind, stop_gap, out, at)
            touching = 0
            if t > 0 and stop_gap == stop[j - 1]:
                touching = 2 if flags[j - 1] & _IDEO else 1
        behind = stop_gap
        while k < insertions and places[k] == t:
            source, low, high = pool[0], pool[1][inserted[k]], pool[1][inserted[k] + 1]
            runs = _runs_on(source, low, high, True)
            if t == count and at > origin and not (runs and touching == 2) and not _is_space(out[at - 1]):
                out[at] = 32
                at += 1
            at = _copy(source, low, high, out, at)
            runs = _runs_on(source, low, high, False)
            touching = 2 if runs else 1
            if t < count and not (runs and flags[j] & _IDEO):
                out[at] = 32
                at += 1
                touching = 0
            k += 1
        if t == count:
            at = _copy(data, behind, end, out, at)
            break
        behind = stop[j]
        if gone:
            if not taken:
                following = start[j + 1] if t + 1 < count else end
                while behind < following and _is_space(data[behind]):
                    behind += 1
            continue
        source, low, high = data, start[j], stop[j]
        if what[t] >= 0:
            low, high = start[first + what[t]], stop[first + what[t]]
            runs = flags[first + what[t]] & _IDEO != 0
            if touching == 1 and not runs and not together:
                out[at] = 32
                at += 1
            note = notes[t]
            if note >= 0:
                place, new = note >> 16, note & 0xFFFF
                at = _copy(source, low, low + place, out, at)
                for q in range(misprints[2][new]):
                    out[at] = misprints[1][new, q]
                    at += 1
                at = _copy(source, low + place + 1, high, out, at)
            else:
                at = _copy(source, low, high, out, at)
        else:
            new = -2 - what[t]
            source, low, high = pool[0], pool[1][new], pool[1][new + 1]
            runs = _runs_on(source, low, high, True)
            if touching == 1 and not runs:
                out[at] = 32
                at += 1
            head = at
            at = _copy(source, low, high, out, at)
            if flags[j] & _CAPITAL and 97 <= out[head] <= 122:
                out[head] -= 32
            runs = _runs_on(source, low, high, False)
        touching = 2 if runs else 1
    return at


@kernel
def _misprint(key: Any, index: Any, data: Any, low: Any, high: Any, misprints: Any) -> Any:
    """Which letter of a token goes wrong, and how: its place * 65536 + the row of the table."""
    letters = 0
    for p in range(low, high):
        letters += misprints[0][data[p] + 1] > misprints[0][data[p]]
    nth = _below(key, index, letters)
    for p in range(low, high):
        first, last = misprints[0][data[p]], misprints[0][data[p] + 1]
        if last > first:
            if nth == 0:
                return ((p - low) << 16) | (first + _below(key, index + 1, last - first))
            nth -= 1
    return np.int64(-1)


@kernel
def _crop(key: Any, share: Any, data: Any, begin: Any, end: Any, tokens: Any, first: Any, count: Any) -> Any:
    """What is left between two cuts: places in the data."""
    _, start, stop, flags, _, _, _, _, _ = tokens
    kept = max(np.int64(1), count - _how_many(share, count))
    low = _below(key, 0, count - kept + 1)
    high = low + kept
    for t in range(count):
        if flags[first + t] & _PROTECTED:
            low, high = min(low, t), max(high, t + 1)
    left, right = begin, end
    if low > 0:
        left = start[first + low]
        while left > stop[first + low - 1] and not _is_space(data[left - 1]) and data[left - 1] != 62:
            left -= 1  # what touches the token, but markup: > ends it, < begins it
        if flags[first + low] & _GLUED:  # a protected phrase begins before the token
            left = stop[first + low - 1]
            while _is_space(data[left]):
                left += 1
    if high < count:
        right = stop[first + high - 1]
        while right < start[first + high] and not _is_space(data[right]) and data[right] != 60:
            right += 1
        if flags[first + high - 1] & _GOES_ON:
            right = start[first + high]
            while _is_space(data[right - 1]):
                right -= 1
    return left, right


@kernel
def _shuffle(
    key: Any, share: Any, data: Any, begin: Any, end: Any, tokens: Any, row: Any, out: Any, at: Any
) -> Any:  # fmt: skip
    """Swap sentences; what stands between them stays."""
    _, _, _, _, _, rows, _, starts, stops = tokens
    first = rows[row]
    count = rows[row + 1] - first
    if count < 2:
        return _copy(data, begin, end, out, at)
    order = np.arange(count)
    for t in range(_how_many(share, count)):
        a = _below(key, 2 * t, count)
        b = _below(key, 2 * t + 1, count - 1)
        b += b >= a
        order[a], order[b] = order[b], order[a]
    behind = begin
    for s in range(count):
        at = _copy(data, behind, starts[first + s], out, at)
        at = _copy(data, starts[first + order[s]], stops[first + order[s]], out, at)
        behind = stops[first + s]
    return _copy(data, behind, end, out, at)


@kernel
def _mix(
    key: Any, share: Any, data: Any, begin: Any, end: Any, tokens: Any, row: Any, mates: Any, mate: Any,
    out: Any, at: Any,
) -> Any:  # fmt: skip
    """Put sentences of a mate in the place of own ones without anything protected, or behind others."""
    _, _, _, flags, _, rows, heads, starts, stops = tokens
    text, _, _, _, _, _, others, _, other_starts, other_stops = mates
    first = rows[row]
    count = rows[row + 1] - first
    source = others[mate]
    there = others[mate + 1] - source
    if count < 1 or there < 1:
        return _copy(data, begin, end, out, at), out
    taken = np.full(count, -1, np.int64)
    order = np.arange(count)
    room = 0
    for t in range(min(_how_many(share, count), count)):
        k = t + _below(key, 1 + 2 * t, count - t)
        order[t], order[k] = order[k], order[t]
        s = source + _below(key, 2 + 2 * t, there)
        taken[order[t]] = s
        room += other_stops[s] - other_starts[s] + 2
    out = _grown(out, at, end - begin + room + 8)
    behind = begin
    for s in range(count):
        at = _copy(data, behind, starts[first + s], out, at)
        behind = stops[first + s]
        new = taken[s]
        keeps = new < 0 or count == 1
        if not keeps:
            last = heads[first + s + 1] if s + 1 < count else tokens[0][row + 1]
            for t in range(heads[first + s], last):
                if flags[t] & _PROTECTED:
                    keeps = True
        if keeps:
            at = _copy(data, starts[first + s], behind, out, at)
            if new >= 0 and not _runs_on(text, other_starts[new], other_stops[new], True):
                out[at] = 32
                at += 1
        if new >= 0:
            at = _copy(text, other_starts[new], other_stops[new], out, at)
            close = s + 1 < count and starts[first + s + 1] == behind
            if close and not _runs_on(text, other_starts[new], other_stops[new], False):
                out[at] = 32
                at += 1
    return _copy(data, behind, end, out, at), out


@kernel
def carry_out(
    data: Any, offsets: Any, valid: Any, tokens: Any, codes: Any, shares: Any, keys: Any, synonyms: Any,
    vocabulary: Any, pool: Any, drawn: Any, idf: Any, first_drawn: Any, longest: Any, keyboard: Any, ocr: Any,
    mates: Any, partner: Any, out: Any, out_offsets: Any,
) -> Any:  # fmt: skip
    """Carry out one op on each text; a code of -1 leaves it as it is. Gives the buffer written."""
    rows, start, stop, _, word, _, _, _, _ = tokens
    most = np.int64(1)
    for row in range(len(codes)):
        most = max(most, rows[row + 1] - rows[row])
    what, notes = np.empty(most, np.int64), np.empty(most, np.int64)
    some, slots = np.empty(most, np.int64), np.empty(most + 1, np.int64)
    places, inserted = np.empty(most + 1, np.int64), np.empty(most + 1, np.int64)
    weights = np.empty(most)
    at = np.int64(0)
    for row in range(len(codes)):
        out_offsets[row] = at
        begin, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        if not valid[row]:
            continue
        first = rows[row]
        n = rows[row + 1] - first
        op, share, key = codes[row], shares[row], keys[row]
        out = _grown(out, at, end - begin + 1)
        if op < 0 or n == 0 or share <= 0:
            at = _copy(data, begin, end, out, at)
            continue
        if op == _CROP:
            left, right = _crop(key, share, data, begin, end, tokens, first, n)
            at = _copy(data, left, right, out, at)
            continue
        if op == _SHUFFLE:
            at = _shuffle(key, share, data, begin, end, tokens, row, out, at)
            continue
        if op == _MIX:
            if partner[row] >= 0:
                at, out = _mix(key, share, data, begin, end, tokens, row, mates, partner[row], out, at)
            else:
                at = _copy(data, begin, end, out, at)
            continue
        misprints = keyboard if op == _KEYBOARD else ocr
        for t in range(n):
            what[t] = t
            notes[t] = -1
        insertions = 0
        replaced = 0
        count = _how_many(share, n)
        m = _candidates(op, data, tokens, first, n, synonyms, misprints, some)
        if op == _SYNONYM or op == _KEYBOARD or op == _OCR:
            for t in range(min(count, m)):
                k = t + _below(key, 3 * t, m - t)
                some[t], some[k] = some[k], some[t]
                j = some[t]
                if op == _SYNONYM:
                    low, high = synonyms[word[first + j]], synonyms[word[first + j] + 1]
                    what[j] = -2 - (low + _below(key, 3 * t + 1, high - low))
                    replaced += 1
                else:
                    notes[j] = _misprint(key, 3 * t + 1, data, start[first + j], stop[first + j], misprints)
                    replaced += 1
        elif op == _INSERTION or op == _TFIDF_IN:
            gaps = _gaps(data, begin, end, tokens, first, n, slots)
            ready = m > 0 if op == _INSERTION else len(drawn) > 0
            if ready and gaps > 0:
                insertions = count
                for t in range(count):
                    if op == _INSERTION:
                        j = some[_below(key, 3 * t, m)]
                        low, high = synonyms[word[first + j]], synonyms[word[first + j] + 1]
                        inserted[t] = low + _below(key, 3 * t + 1, high - low)
                    else:
                        inserted[t] = first_drawn + _draw_word(drawn, _uniform(key, 3 * t + 1))
                    places[t] = slots[_below(key, 3 * t + 2, gaps)]
        elif op == _SWAP:
            if m > 1:
                for t in range(count):
                    even, odd = _pair(key, t)
                    a, b = np.int64(even * m), np.int64(odd * (m - 1))
                    b += b >= a
                    what[some[a]], what[some[b]] = what[some[b]], what[some[a]]
        elif op == _DELETION:
            gone = 0
            block = np.int64(-1)
            even, odd = 0.0, 0.0
            for k in range(m):
                if some[k] >> 1 != block:
                    block = some[k] >> 1
                    even, odd = _pair(key, block)
                if (odd if some[k] & 1 else even) < share:
                    what[some[k]] = _GONE
                    gone += 1
            if gone == n:
                back = _below(key, n, n)
                what[back] = back
        elif op == _TFIDF_FOR and len(drawn) > 0 and m > 0:
            _tf_idf(tokens, first, n, vocabulary, idf, weights)
            top = 0.0
            for k in range(m):
                top = max(top, weights[some[k]])
            total = 0.0
            for k in range(m):
                total += top - weights[some[k]]
            for k in range(m):
                j = some[k]
                chance = share * m * (top - weights[j]) / total if total > 0 else share
                if _uniform(key, 2 * j) < chance:
                    what[j] = -2 - (first_drawn + _draw_word(drawn, _uniform(key, 2 * j + 1)))
                    replaced += 1
        out = _grown(out, at, end - begin + (insertions + replaced) * (longest + 3) + n + 8)
        at = _write(
            data, begin, end, tokens, first, n, pool, what, notes, places, inserted, insertions, misprints, out,
            at,
        )  # fmt: skip
    out_offsets[len(codes)] = at
    return out
