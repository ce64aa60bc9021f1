"""Banding of perceptual hashes finds every pair within the radius."""

from __future__ import annotations

import numpy as np
import pytest

from dedup.image.phash import _stretches


@pytest.mark.parametrize("radius", [0, 1, 3, 8, 15, 31])
def test_the_stretches_find_every_pair_within_the_radius(radius: int) -> None:
    rng = np.random.default_rng(radius)
    base = rng.integers(0, 2**64, 60, dtype=np.uint64)
    near = base.copy()
    for row in range(60):
        for bit in rng.permutation(64)[: rng.integers(0, radius + 1)]:
            near[row] ^= np.uint64(1) << np.uint64(bit)
    hashes = np.concatenate([base, near, rng.integers(0, 2**64, 60, dtype=np.uint64)])
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    shares = np.zeros(apart.shape, np.bool_)
    stretches = list(_stretches(hashes, radius + 1))
    assert len(stretches) == radius + 1
    for stretch in stretches:
        shares |= stretch[:, None] == stretch[None, :]
    assert shares[apart <= radius].all()
