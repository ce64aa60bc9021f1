"""The compiled loop behind :func:`augment.rng.philox4x32`."""

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
def rounds(counter: Any, keys: Any, out: Any) -> None:
    """Ten rounds: counter and out are uint32 (n, 4), keys (n, 2) or, the same for all, (1, 2)."""
    step = 1 if len(keys) == len(counter) else 0
    for i in range(len(counter)):
        c0, c1 = np.uint64(counter[i, 0]), np.uint64(counter[i, 1])
        c2, c3 = np.uint64(counter[i, 2]), np.uint64(counter[i, 3])
        k0, k1 = np.uint64(keys[i * step, 0]), np.uint64(keys[i * step, 1])
        for _ in range(_ROUNDS):
            p0, p1 = _M0 * c0, _M1 * c2
            c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _LOW, (p0 >> _32) ^ c3 ^ k1, p0 & _LOW
            k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = c0, c1, c2, c3
