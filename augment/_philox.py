"""The compiled loops behind :mod:`augment.rng`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lake.jit import kernel

# Multipliers, and the Weyl constants (golden ratio, sqrt(3) - 1) that step the keys.
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_ROUNDS = 10


@kernel
def _block(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:  # noqa: PLR0917  (a counter and a key)
    """Ten rounds over one counter; words are uint64 below 2**32."""
    for _ in range(_ROUNDS):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _LOW, (p0 >> _32) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@kernel
def rounds(counter: Any, keys: Any, out: Any) -> None:
    """Ten rounds: counter and out are uint32 (n, 4), keys (n, 2) or, the same for all, (1, 2)."""
    step = 1 if len(keys) == len(counter) else 0
    for i in range(len(counter)):
        c0, c1 = np.uint64(counter[i, 0]), np.uint64(counter[i, 1])
        c2, c3 = np.uint64(counter[i, 2]), np.uint64(counter[i, 3])
        k0, k1 = np.uint64(keys[i * step, 0]), np.uint64(keys[i * step, 1])
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = _block(c0, c1, c2, c3, k0, k1)


@kernel
def bits(keys: Any, epoch: Any, numbers: Any, out: Any) -> None:
    """Blocks of keys: keys are uint32 (n, 4), numbers (m,), out (n, m, 4)."""
    c1 = np.uint64(epoch)
    for i in range(len(keys)):
        k0, k1 = np.uint64(keys[i, 0]), np.uint64(keys[i, 1])
        c2, c3 = np.uint64(keys[i, 2]), np.uint64(keys[i, 3])
        for j in range(len(numbers)):
            a, b, c, d = _block(np.uint64(numbers[j]), c1, c2, c3, k0, k1)
            out[i, j, 0], out[i, j, 1], out[i, j, 2], out[i, j, 3] = a, b, c, d


@kernel
def doubles(keys: Any, epoch: Any, numbers: Any, out: Any) -> None:
    """The same blocks as two numbers in [0, 1) each: out is float64 (n, 2 m)."""
    c1, five, six, shift = np.uint64(epoch), np.uint64(5), np.uint64(6), np.uint64(1 << 26)
    for i in range(len(keys)):
        k0, k1 = np.uint64(keys[i, 0]), np.uint64(keys[i, 1])
        c2, c3 = np.uint64(keys[i, 2]), np.uint64(keys[i, 3])
        for j in range(len(numbers)):
            a, b, c, d = _block(np.uint64(numbers[j]), c1, c2, c3, k0, k1)
            # The usual recipe for doubles from two words (numpy.random's and the Mersenne Twister's).
            out[i, 2 * j] = np.float64((a >> five) * shift + (b >> six)) * 2.0**-53
            out[i, 2 * j + 1] = np.float64((c >> five) * shift + (d >> six)) * 2.0**-53
