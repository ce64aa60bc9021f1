"""Ops written in Python, such as nlpaug's, carried out text by text.

What is protected never reaches them: a text is cut at its protected spans, and what stands between two of them
is a text of its own to the op. A share s of all n words, max(1, int(s n)), is drawn from those that are not
protected; a stretch in which k of its j words were drawn is given to the op with the share k / j, and one with
none is left as it is. So is the white space at the ends of a stretch. A text without protected spans is given
to the op as a whole, with the share s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from augment import rng
from augment.custom import CODES
from augment.text.tokens import Resources, Texts, tokenise

__all__ = ["CODES", "carry_out"]

I64 = npt.NDArray[np.int64]
Carry = Callable[[str, float, Any], str]
Span = tuple[int, int]

_LESS = 1e-9  # 7 / 25 * 25 is more than 7, and nlpaug rounds up


def carry_out(
    texts: Texts, codes: I64, shares: npt.NDArray[np.float64], keys: npt.NDArray[np.uint32], known: Resources
) -> Texts:
    """Carry out the ops of Python among the codes, one op a text."""
    from augment.ops import by_code

    ours = texts.valid & (codes >= CODES)
    spans = _protected(Texts.of(texts.data, texts.offsets, ours), known)
    made = []
    for row, (count, words, saved) in enumerate(spans):
        start, stop = int(texts.offsets[row]), int(texts.offsets[row + 1])
        raw = texts.data[start:stop].tobytes()
        if ours[row] and raw:
            op: Carry = by_code(int(codes[row])).text  # type: ignore[attr-defined]  # rows of kind text
            share, key = float(shares[row]), keys[row]
            if saved:
                held = [(a - start, b - start) for a, b in saved]
                raw = _between(op, raw, share, key, count, words - start, held)
            else:
                raw = _done(op, raw, share, key)
        made.append(raw)
    offsets = np.cumsum([0, *map(len, made)]).astype(np.int64)
    return Texts.of(np.frombuffer(b"".join(made), np.uint8), offsets, texts.valid)


def _between(  # noqa: PLR0917  (a text and its spans)
    op: Carry, raw: bytes, share: float, key: Any, count: int, words: I64, saved: list[Span]
) -> bytes:
    """The op on the stretches between spans: of ``count`` words, those not protected begin at ``words``."""
    if share <= 0 or not len(words):
        return raw
    draws = rng.generator(key)
    ends = [0, *(edge for span in saved for edge in span), len(raw)]
    stretches = list(zip(ends[::2], ends[1::2], strict=True))
    place = np.searchsorted([stop for _, stop in stretches], words, side="right")
    some = draws.permutation(len(words))[: max(1, int(share * count))]
    have, drawn = (np.bincount(which, minlength=len(stretches)) for which in (place, place[some]))
    made, behind = [], 0
    for (start, stop), j, k in zip(stretches, have.tolist(), drawn.tolist(), strict=True):
        made.append(raw[behind:start])
        stretch = raw[start:stop]
        if k:
            inner = stretch.strip()
            left, _, right = stretch.partition(inner)
            stretch = (
                left
                + _done(op, inner, (k - _LESS) / j, draws.integers(1 << 32, size=4, dtype=np.uint32))
                + right
            )
        made.append(stretch)
        behind = stop
    return b"".join(made)


def _done(op: Carry, raw: bytes, share: float, key: Any) -> bytes:
    """The op on some bytes; what it leaves as it is stays so, whatever it holds that is not UTF-8."""
    text = raw.decode("utf-8", errors="replace")
    made = op(text, share, key)
    return raw if made in {"", text} else made.encode()


def _protected(texts: Texts, known: Resources) -> Iterator[tuple[int, I64, list[Span]]]:
    """Of each text how many words it has, where the unprotected ones begin, and its protected spans."""
    from augment.text._tokenise import GLUED, PROTECTED, phrase_spans

    found = tokenise(texts, known)
    room = np.empty(2 * int(np.diff(texts.offsets).max(initial=0)) + 2, np.int64)
    for row in range(len(texts.valid)):
        these = slice(found.rows[row], found.rows[row + 1])
        start, stop, flags = found.start[these], found.stop[these], found.flags[these]
        saved = flags & PROTECTED != 0
        spans = list(zip(start[saved].tolist(), stop[saved].tolist(), strict=True))
        joined = (flags[1:] & GLUED != 0) & saved[1:] & saved[:-1]  # what stands between them is protected too
        spans += zip(stop[:-1][joined].tolist(), start[1:][joined].tolist(), strict=True)
        if len(known.phrases[1]) > 1 and texts.valid[row]:
            edges = texts.offsets[row : row + 2]
            count = phrase_spans(texts.data, int(edges[0]), int(edges[1]), known.phrases, room)
            spans += zip(room[0 : 2 * count : 2].tolist(), room[1 : 2 * count : 2].tolist(), strict=True)
        yield len(start), start[~saved], _apart(spans)


def _apart(spans: list[Span]) -> list[Span]:
    """The union of spans, ascending; those that touch become one."""
    made: list[Span] = []
    for start, stop in sorted(spans):
        if made and start <= made[-1][1]:
            made[-1] = (made[-1][0], max(made[-1][1], stop))
        else:
            made.append((start, stop))
    return made
