"""Random numbers that are a pure function of (seed, epoch, ``_id``, draw index).

A counter-based generator has no state: any cutting into batches, any order, any worker, any retry
gives every record the same numbers. The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011), used twice:

1. ``h = philox(counter=_id, key=seed)``: for one seed a bijection of the 128 bits of the ``_id``,
2. ``block = philox(counter=(index // 2, epoch, h2, h3), key=(h0, h1))``: 128 random bits, that is
   two draws of 53 bits.

An op that needs many numbers (noise for every pixel, say) gets 128 such bits as a *key* of its own, from the
blocks from 2**31 on, and counts with it: ``philox(counter=(index, 0, k2, k3), key=(k0, k1))``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Stream", "generator", "halves", "integers", "of_keys", "philox4x32", "uniform"]

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]

_32 = np.uint64(32)
_IDS = "32 lower-case hexadecimal digits each, a uint64 array (n, 2), or an array of n non-negative integers"
_PAIR = 2  # an id is two 64-bit halves
_KEYS = 1 << 31  # the first block that is a key
_ID = re.compile("[0-9a-f]{32}")
_FEW = 16


def philox4x32(counter: U32, key: U32) -> U32:
    """Ten rounds of Philox4x32 over n counters.

    Args:
        counter: uint32 (n, 4).
        key: uint32 (2,) or (n, 2).

    Returns:
        uint32 (n, 4).

    >>> zero = philox4x32(np.zeros((1, 4), np.uint32), np.zeros(2, np.uint32))
    >>> [f"{word:08x}" for word in zero[0]]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    from augment._philox import rounds  # loads Numba: a policy can be written and read without

    counter = np.require(counter, np.uint32, ["C", "W"])
    keys = np.require(np.reshape(key, (-1, 2)), np.uint32, ["C", "W"])
    if counter.ndim != _PAIR or counter.shape[1] != 2 * _PAIR or len(keys) not in {1, len(counter)}:
        raise ValueError(f"counters {counter.shape} and keys {keys.shape}: give (n, 4), and (2,) or (n, 2)")
    made = np.empty_like(counter)
    rounds(counter, keys, made)
    return made


def halves(ids: object) -> U64:
    """The ids as uint64 (n, 2), big-endian halves.

    Args:
        ids: strings of 32 hexadecimal digits (a sequence or an Arrow array), a uint64 array (n, 2),
            or a one-dimensional array or sequence of non-negative integers (handy in a notebook).

    Raises:
        ValueError: for other ids.
        TypeError: for what is neither an array nor a sequence.

    >>> halves(["0000000000000001000000000000000a"]).tolist()
    [[1, 10]]
    >>> halves([7]).tolist()
    [[0, 7]]
    """
    if isinstance(ids, np.ndarray) and ids.ndim == _PAIR:
        if ids.dtype == np.uint64 and ids.shape[1] == _PAIR:
            return ids
        raise ValueError(f"ids of shape {ids.shape} and dtype {ids.dtype}; give {_IDS}")
    if hasattr(ids, "to_pylist"):  # Arrow
        return _hexadecimal(ids)
    if not isinstance(ids, (np.ndarray, Sequence)) or isinstance(ids, (str, bytes)):
        raise TypeError(f"ids of type {type(ids).__name__}; give {_IDS}")
    values = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    if values and all(isinstance(v, str) for v in values):
        return _hexadecimal(values)
    if all(isinstance(v, (int, np.integer)) and 0 <= v < 1 << 64 for v in values):
        low = np.array(values, np.uint64)
        return np.stack([np.zeros_like(low), low], axis=1)
    raise ValueError(f"ids that are neither all strings nor all integers in 0 .. 2**64 - 1; give {_IDS}")


def _hexadecimal(values: Any) -> U64:
    # A sampler asks for one image at a time: Arrow takes ten times as long for a few.
    if isinstance(values, list) and len(values) <= _FEW and all(map(_ID.fullmatch, values)):
        return np.array([(int(one[:16], 16), int(one[16:], 16)) for one in values], np.uint64)
    from lake import ids  # loads Arrow

    return ids.halves(values)


def _words(pairs: U64) -> U32:
    """(n, 2) 64-bit halves as (n, 4) 32-bit words, most significant first."""
    return pairs.astype(">u8", order="C").view(">u4").astype(np.uint32)


def _check(name: str, value: int, bits: int) -> int:
    if not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{name} must lie in 0 .. 2**{bits} - 1, not {value}")
    return int(value)


class Stream:
    """The random numbers of n records in one epoch.

    Args:
        ids: what :func:`halves` takes.
        seed: 0 .. 2**64 - 1.
        epoch: 0 .. 2**32 - 1.

    >>> stream = Stream(["000102030405060708090a0b0c0d0e0f"], seed=1, epoch=2)
    >>> bool(stream.uniforms([0, 1])[0, 1] == uniform(["000102030405060708090a0b0c0d0e0f"], 1, 2, 1)[0])
    True
    """

    __slots__ = ("_epoch", "_mixed")

    def __init__(self, ids: object, seed: int, epoch: int) -> None:
        seed = _check("seed", seed, 64)
        key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
        self._epoch = _check("epoch", epoch, 32)
        self._mixed = philox4x32(_words(halves(ids)), key)

    def __len__(self) -> int:
        return len(self._mixed)

    def bits(self, blocks: Sequence[int]) -> U32:
        """Random bits: uint32 (n, len(blocks), 4)."""
        from augment._philox import bits

        numbers = np.array([_check("index", b, 32) for b in blocks], np.uint32)
        made = np.empty((len(self), len(numbers), 4), np.uint32)
        bits(self._mixed, self._epoch, numbers, made)
        return made

    def uniforms(self, indices: Sequence[int]) -> F64:
        """Uniform numbers in [0, 1) with 53 bits: float64 (n, len(indices))."""
        blocks = sorted({_check("index", i, 33) // 2 for i in indices})
        values = self.pairs(np.array(blocks, np.uint32))
        place = {block: position for position, block in enumerate(blocks)}
        return values[:, [2 * place[i // 2] + i % 2 for i in indices]]

    def pairs(self, blocks: U32) -> F64:
        """The uniform numbers ``2 b`` and ``2 b + 1`` of each block b: float64 (n, 2 len(blocks))."""
        return _doubles(self._mixed, self._epoch, blocks)

    def keys(self, slots: Sequence[int]) -> U32:
        """Keys for the ops in these places of a program: uint32 (n, len(slots), 4)."""
        return self.bits([_KEYS + slot for slot in slots])


def _doubles(keys: U32, epoch: int, blocks: U32) -> F64:
    from augment._philox import doubles

    made = np.empty((len(keys), 2 * len(blocks)))
    doubles(keys, epoch, blocks, made)
    return made


def of_keys(keys: U32, count: int) -> F64:
    """``count`` uniform numbers in [0, 1) for each key: float64 (n, count).

    >>> of_keys(np.zeros((1, 4), np.uint32), 3).shape
    (1, 3)
    """
    blocks = np.arange((count + 1) // 2, dtype=np.uint32)
    return _doubles(np.require(keys, np.uint32, ["C", "W"]), 0, blocks)[:, :count]


def generator(key: npt.ArrayLike) -> np.random.Generator:
    """NumPy's generator for one key: for ops written in Python.

    >>> bool(generator([1, 2, 3, 4]).random() == generator([1, 2, 3, 4]).random())
    True
    """
    words = np.asarray(key, np.uint32).astype(np.uint64)
    return np.random.Generator(np.random.Philox(key=words[::2] << _32 | words[1::2]))


def uniform(ids: object, seed: int, epoch: int, index: int) -> F64:
    """One uniform number in [0, 1) per id: float64 (n,).

    >>> a = uniform([1, 2, 3], seed=5, epoch=0, index=0)
    >>> b = uniform([3, 1], seed=5, epoch=0, index=0)
    >>> a[[2, 0]].tolist() == b.tolist()
    True
    """
    return Stream(ids, seed, epoch).uniforms([index])[:, 0]


def integers(ids: object, seed: int, epoch: int, index: int, high: int) -> npt.NDArray[np.int64]:
    """One integer in 0 .. high - 1 per id: int64 (n,); the bias is below high / 2**53.

    >>> bool(integers(range(100), 0, 0, 0, high=4).max() < 4)
    True
    """
    if not 1 <= high <= 1 << 32:
        raise ValueError(f"high must lie in 1 .. 2**32, not {high}")
    return (uniform(ids, seed, epoch, index) * high).astype(np.int64)
