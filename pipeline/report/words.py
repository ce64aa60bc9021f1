"""Numbers and texts as people read them, and what two texts do not share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

__all__ = [
    "Difference",
    "Piece",
    "bytes_",
    "clean",
    "count",
    "cut",
    "difference",
    "masked",
    "percent",
    "seconds",
]

LONGEST_WORD = 60  # characters; a longer one is cut, so that a base64 blob cannot fill the page
MOST_WORDS = 1_500  # of each text between their common ends: difflib is quadratic
CONTEXT = 10  # words shown on each side of a difference
MOST_CHANGES = 8  # differences shown of one pair
MOST_ONLY = 40  # words shown of one stretch that only one text has
READ_CHARS = 200_000  # of a text; what lies behind is not compared

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_SECRET = re.compile(r"secret|passw|token|credential|access_?key|api_?key", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/@\s]+:[^/@\s]+(?=@)")
# Scripts without spaces compare by character, all others by word.
_TOKEN = re.compile(r"(\s*)([\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\s\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+)")  # fmt: skip  # noqa: E501


def count(number: float) -> str:
    """An integer with separators.

    >>> count(1234567)
    '1,234,567'
    """
    return f"{int(number):,}"


def percent(part: float, whole: float) -> str:
    """A share with one decimal; never 0 or 100 for what is not.

    >>> percent(1, 3), percent(1, 10_000), percent(9_999, 10_000), percent(0, 0)
    ('33.3 %', '<0.1 %', '>99.9 %', '0 %')
    """
    if not whole or not part:
        return "0 %"
    if part == whole:
        return "100 %"
    share = 100 * part / whole
    if share < 0.1:  # noqa: PLR2004  (what one decimal can show)
        return "<0.1 %"
    if 99.9 < share < 100:  # noqa: PLR2004  (the same at the other end)
        return ">99.9 %"
    return f"{share:.1f} %"


def seconds(number: float) -> str:
    """A time in the unit that fits.

    >>> seconds(0.0123), seconds(5.25), seconds(95), seconds(7322)
    ('12 ms', '5.2 s', '1 min 35 s', '2 h 2 min')
    """
    if number < 1:
        return f"{1000 * number:.0f} ms"
    if number < 60:  # noqa: PLR2004  (seconds in a minute)
        return f"{number:.1f} s"
    minutes, rest = divmod(round(number), 60)
    if minutes < 60:  # noqa: PLR2004  (minutes in an hour)
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def bytes_(number: float) -> str:
    """A size in binary units.

    >>> bytes_(0), bytes_(2048), bytes_(5_500_000)
    ('0 B', '2.0 KiB', '5.2 MiB')
    """
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    size, unit = float(number), 0
    while size >= 1024 and unit < len(units) - 1:  # noqa: PLR2004  (bytes in a KiB)
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {units[unit]}" if unit else f"{int(size)} B"


def clean(text: str) -> str:
    r"""The text without characters that HTML forbids: each becomes U+FFFD.

    >>> clean("a\x00b\tc")
    'a\ufffdb\tc'
    """
    return _CONTROL.sub("\ufffd", text)


def cut(text: str, most: int) -> str:
    """The beginning of a text, with an ellipsis where something is missing.

    >>> cut("one two three", 8)
    'one two…'
    """
    head = clean(text[: most + 1])
    return head if len(head) <= most else head[: most - 1].rstrip() + "…"


def masked(value: Any, key: str = "") -> Any:
    """A configuration with its credentials masked, as JSON holds it.

    >>> masked({"path": "s3://me:pw@host/in", "api_key": "k"})
    {'path': 's3://***@host/in', 'api_key': '***'}
    """
    if isinstance(value, Mapping):
        return {str(name): masked(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(inner, key) for inner in value]
    if isinstance(value, str) and _SECRET.search(key):
        return "***"
    if isinstance(value, str):
        return _USERINFO.sub("***", value)
    return value if isinstance(value, (int, float, bool, type(None))) else str(value)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text; ``kind`` is ``same``, ``only`` (the other text lacks it) or ``gap`` (left out)."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Difference:
    """Two texts side by side.

    Attributes:
        left: the pieces of the first text.
        right: the pieces of the second.
        changes: how many places differ.
        shown: how many of them the pieces show.
        whole: whether the texts were compared to their ends.
    """

    left: tuple[Piece, ...]
    right: tuple[Piece, ...]
    changes: int
    shown: int
    whole: bool


def difference(left: str, right: str) -> Difference:
    """What two texts do not share, by words, with a little context; equal stretches are left out.

    >>> found = difference("the quick fox", "the slow fox")
    >>> [(piece.kind, piece.text) for piece in found.right]
    [('same', 'the '), ('only', 'slow '), ('same', 'fox')]
    """
    a, b = _Words(left), _Words(right)
    head = _common(a.words, b.words)
    tail = _common(a.words[head:][::-1], b.words[head:][::-1])
    mid_a, mid_b = a.words[head : len(a.words) - tail], b.words[head : len(b.words) - tail]
    long = len(mid_a) > MOST_WORDS or len(mid_b) > MOST_WORDS
    if long:
        mid_a, mid_b, tail = mid_a[:MOST_WORDS], mid_b[:MOST_WORDS], 0
    middle = SequenceMatcher(None, mid_a, mid_b, autojunk=False).get_opcodes()
    end_a, end_b = head + len(mid_a), head + len(mid_b)
    codes = _joined(
        [
            (True, 0, head, 0, head),
            *((tag == "equal", i + head, j + head, k + head, m + head) for tag, i, j, k, m in middle),
            (True, end_a, end_a + tail, end_b, end_b + tail),
        ]
    )
    changes = sum(not code[0] for code in codes)
    shown = min(changes, MOST_CHANGES)
    if shown < changes:
        codes = codes[: [at for at, code in enumerate(codes) if not code[0]][shown]]
    whole = not (a.more or b.more or long)
    open_end = shown < changes or not whole
    return Difference(
        left=_pieces(a, [code[:3] for code in codes], open_end),
        right=_pieces(b, [(code[0], *code[3:]) for code in codes], open_end),
        changes=changes,
        shown=shown,
        whole=whole,
    )


class _Words:
    """The words of a text, and whether white space stands before each."""

    def __init__(self, text: str) -> None:
        found = [(bool(match[1]), match[2]) for match in _TOKEN.finditer(text[:READ_CHARS])]
        self.words = [word for _, word in found]
        self.spaced = [spaced for spaced, _ in found]
        self.more = len(text) > READ_CHARS

    def text(self, start: int, end: int) -> str:
        """Words ``start`` to ``end``, the space before the first one dropped and one put behind the last."""
        if start == end:
            return ""
        parts = []
        for at in range(start, end):
            parts.append(" " if self.spaced[at] and at > start else "")
            parts.append(cut(self.words[at], LONGEST_WORD))
        behind = " " if end < len(self.words) and self.spaced[end] else ""
        return "".join(parts) + behind


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the common beginning."""
    for at, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return at
    return min(len(a), len(b))


def _joined(codes: list[tuple[bool, int, int, int, int]]) -> list[tuple[bool, int, int, int, int]]:
    """Empty stretches left out, neighbours of the same kind joined."""
    out: list[tuple[bool, int, int, int, int]] = []
    for same, i, j, k, m in codes:
        if i == j and k == m:
            continue
        if out and out[-1][0] == same:
            _, i0, _, k0, _ = out.pop()
            out.append((same, i0, j, k0, m))
        else:
            out.append((same, i, j, k, m))
    return out


def _pieces(words: _Words, codes: Sequence[tuple[bool, int, int]], open_end: bool) -> tuple[Piece, ...]:
    """The stretches as text; the inner words of long equal stretches give way to a gap."""
    out = []
    if len(codes) == 1 and codes[0][0]:  # no word differs: the beginning stands for the whole
        codes, open_end = [(True, 0, min(4 * CONTEXT, codes[0][2]))], codes[0][2] > 4 * CONTEXT
    for at, (same, start, end) in enumerate(codes):
        if not same:
            stop = end if end - start <= MOST_ONLY + CONTEXT else start + MOST_ONLY
            out.append(Piece("only", words.text(start, stop)))
            if stop < end:
                out.append(Piece("gap", f"{end - stop:,} more words that only this text has"))
            continue
        first = at == 0 and len(codes) > 1
        last = at == len(codes) - 1
        before = 0 if first else CONTEXT
        after = 0 if last and len(codes) > 1 else CONTEXT
        left_out = end - start - before - after
        if left_out < 3 or len(codes) == 1:  # noqa: PLR2004  (a mark for two words would be longer than they are)
            out.append(Piece("same", words.text(start, end)))
            continue
        if before:
            out.append(Piece("same", words.text(start, start + before)))
        out.append(Piece("gap", f"{left_out:,} words"))
        if after:
            out.append(Piece("same", words.text(end - after, end)))
    if open_end:
        out.append(Piece("gap", "more"))
    return tuple(piece for piece in out if piece.text)
