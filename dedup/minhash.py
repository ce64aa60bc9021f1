"""Sets of shingle hashes to MinHash signatures.

The permutations and their arithmetic are ``affine32`` of datasketch 2: the shingle hash ``h`` is mixed once
by MurmurHash3's 32-bit finaliser, and value ``k`` of the signature is the least ``(a_k h + b_k) mod 2**32``
over the shingles, ``a_k`` odd. Element for element the signature equals that of
``datasketch.MinHash(num_perm, seed, scheme="affine32", hashfunc=identity)`` that was fed the same hashes.
The share of equal values in two signatures estimates the Jaccard similarity (Broder 1997).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.shingle import Texts, Unit, room, tables, texts

__all__ = ["estimate", "permutations", "signatures", "sketches"]

_NONE = np.empty(0, np.uint32)


@cache
def permutations(num_perm: int, seed: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Take the factors ``a`` and the shifts ``b`` from datasketch: uint32, shape (num_perm,) each.

    >>> a, b = permutations(128, 1)
    >>> a.dtype, a.shape, bool((a % 2 == 1).all())
    (dtype('uint32'), (128,), True)
    """
    from datasketch import MinHash

    a, b = MinHash(num_perm=num_perm, seed=seed, scheme="affine32").permutations
    return np.ascontiguousarray(a), np.ascontiguousarray(b)


def signatures(
    column: pa.Array | pa.ChunkedArray,
    num_perm: int = 128,
    seed: int = 1,
    ngram: int = 5,
    unit: Unit = "word",
    *,
    threads: int = 1,
) -> npt.NDArray[np.uint32]:
    """Give the MinHash signature of every text: tokens, shingles, hashes and minima in one pass.

    >>> x, y = signatures(pa.array(["The cat sat on the mat.", "the cat sat, on the MAT"]))
    >>> x.shape, bool((x == y).all())
    ((128,), True)

    Args:
        column: n texts: string, large_string, string_view or a dictionary of them, chunked or not.
        num_perm: values in a signature.
        seed: of the permutations, as in datasketch.
        ngram: units in a shingle.
        unit: ``word`` or ``char``; what they are stands in :mod:`dedup.shingle`.
        threads: how many to use. The result is the same for any number.

    Returns:
        uint32 of shape (n, num_perm). A text without a shingle, and a null, has 2**32 - 1 everywhere, as an
        empty datasketch MinHash has.

    Raises:
        SchemaError: the column holds no text.
        ValueError: ``num_perm``, ``ngram`` or ``threads`` is not positive, or ``unit`` is another one.
    """
    from dedup._text_kernels import sign_batch

    _check(ngram, unit, num_perm=num_perm, threads=threads)
    a, b = permutations(num_perm, seed)
    out = np.empty((len(column), num_perm), np.uint32)
    jobs, start = [], 0
    for chunk in texts(column):
        for part in _parts(chunk, threads):
            stop = start + len(part.valid)
            jobs.append((*part, tables(), (ngram, int(unit == "char")), a, b, out[start:stop]))
            start = stop
    if threads == 1:
        for job in jobs:
            sign_batch(*job)
    else:
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(sign_batch, *job) for job in jobs]:
                done.result()
    return out


def sketches(
    column: pa.Array | pa.ChunkedArray, num_perm: int = 128, seed: int = 1, ngram: int = 5, unit: Unit = "word"
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """Give the signatures and the shingle sets of every text: see :func:`signatures`, ``shingle_sets``.

    Returns:
        Signatures, uint32 of shape (n, num_perm) (``num_perm`` 0: none); offsets, int64 of shape (n + 1,);
        sorted distinct hashes, uint32.
    """
    from dedup._text_kernels import sketch_batch

    _check(ngram, unit)
    a, b = permutations(num_perm, seed) if num_perm else (_NONE, _NONE)
    out = np.empty((len(column), num_perm), np.uint32)
    ends = np.zeros(len(column) + 1, np.int64)
    pieces, start, total = [_NONE], 0, 0
    for chunk in texts(column):
        stop = start + len(chunk.valid)
        hashes = np.empty(room(chunk, unit), np.uint32)  # untouched pages cost nothing
        local = np.zeros(stop - start + 1, np.int64)
        shape = (ngram, int(unit == "char"))
        sketch_batch(*chunk, tables(), shape, a, b, out[start:stop], hashes, local)
        ends[start + 1 : stop + 1] = local[1:] + total
        total += int(local[-1])
        pieces.append(hashes[: local[-1]].copy())
        start = stop
    return out, ends, pieces[1] if len(pieces) == 2 else np.concatenate(pieces)  # noqa: PLR2004  (one chunk)


def estimate(x: npt.NDArray[np.uint32], y: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """Estimate the Jaccard similarity from signatures: the share of equal values along the last axis.

    >>> estimate(np.array([1, 2, 3, 4], np.uint32), np.array([1, 2, 3, 5], np.uint32)).item()
    0.75
    """
    return np.asarray((x == y).mean(axis=-1), np.float64)


def _check(ngram: int, unit: str, **positive: int) -> None:
    for name, value in {"ngram": ngram, **positive}.items():
        if value < 1:
            raise ValueError(f"{name} must be positive, not {value}")
    if unit not in {"word", "char"}:
        raise ValueError(f"unit must be 'word' or 'char', not {unit!r}")


def _parts(chunk: Texts, threads: int) -> list[Texts]:
    """Cut a chunk into parts of about equal bytes, a few for each thread."""
    if threads == 1:
        return [chunk]
    rows = len(chunk.valid)
    targets = int(chunk.offsets[0]) + np.linspace(0, chunk.room, 4 * threads + 1)[1:-1]
    cuts = [0, *np.minimum(np.searchsorted(chunk.offsets, targets), rows).tolist(), rows]
    return [
        Texts(chunk.data, chunk.offsets[low : high + 1], chunk.valid[low:high])
        for low, high in pairwise(cuts)
        if high > low
    ]
