"""The compiled loops of :mod:`dedup.image.near`."""

# ruff: noqa: PLR0917  a kernel takes arrays by position: numba has no keyword-only arguments

from __future__ import annotations

from typing import Any

import numpy as np

from lake.jit import kernel

__all__ = ["group", "probe"]


@kernel
def _ones(value: Any) -> Any:
    """Count bits; the compiler makes one instruction of it."""
    value -= (value >> np.uint64(1)) & np.uint64(0x5555555555555555)
    value = (value & np.uint64(0x3333333333333333)) + ((value >> np.uint64(2)) & np.uint64(0x3333333333333333))
    value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((value * np.uint64(0x0101010101010101)) >> np.uint64(56))


@kernel
def _key(code: Any, lows: Any, taken: Any, chosen: Any) -> Any:
    """The first bits of the chosen stretches, as many as are taken of each."""
    key = np.uint64(0)
    for k in range(chosen.size):
        width = taken[chosen[k]]
        stretch = (code >> lows[chosen[k]]) & ((np.uint64(1) << width) - np.uint64(1))
        key = (key << width) | stretch
    return np.int64(key)


@kernel
def group(codes: Any, lows: Any, taken: Any, chosen: Any, starts: Any, order: Any, sorted_codes: Any) -> None:
    """Sort codes by the chosen stretches: those of key k stand from ``starts[k]`` to ``starts[k + 1]``."""
    starts[:] = 0
    for k in range(codes.size):
        starts[_key(codes[k], lows, taken, chosen) + 2] += 1
    for k in range(1, starts.size):
        starts[k] += starts[k - 1]
    for k in range(codes.size):
        key = _key(codes[k], lows, taken, chosen)
        at = starts[key + 1]  # where bucket `key` begins; in the end, where it ends
        starts[key + 1] += 1
        order[at], sorted_codes[at] = k, codes[k]


@kernel
def _first(differ: Any, lows: Any, widths: Any, chosen: Any) -> Any:
    """Whether the chosen stretches are the first that are equal: so that one table of all gives a pair."""
    at = 0
    for k in range(lows.size):
        if (differ >> lows[k]) & ((np.uint64(1) << widths[k]) - np.uint64(1)) == np.uint64(0):
            if chosen[at] != k:
                return False
            at += 1
            if at == chosen.size:
                return True
    return False


@kernel
def probe(
    codes: Any, rows: Any, lows: Any, widths: Any, taken: Any, chosen: Any, starts: Any, sorted_codes: Any,
    sorted_rows: Any, radius: Any, left: Any, right: Any,
) -> Any:  # fmt: skip
    """Write the pairs within the radius, the lesser row first; gives how many, with those that had no room."""
    found = 0
    for k in range(codes.size):
        key = _key(codes[k], lows, taken, chosen)
        for at in range(starts[key], starts[key + 1]):
            differ = codes[k] ^ sorted_codes[at]
            if _ones(differ) <= radius and sorted_rows[at] != rows[k] and _first(differ, lows, widths, chosen):
                if found < left.size:
                    left[found] = min(rows[k], sorted_rows[at])
                    right[found] = max(rows[k], sorted_rows[at])
                found += 1
    return found
