"""Sets of shingle hashes to MinHash signatures.

The permutations and their arithmetic are ``affine32`` of datasketch 2: the shingle hash ``h`` is mixed once
by MurmurHash3's 32-bit finaliser, and value ``k`` of the signature is the least ``(a_k h + b_k) mod 2**32``
over the shingles, ``a_k`` odd. Element for element the signature equals that of
``datasketch.MinHash(num_perm, seed, scheme="affine32", hashfunc=identity)`` that was fed the same hashes.
The share of equal values in two signatures estimates the Jaccard similarity (Broder 1997).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.text.shingle import Texts, Unit, distinct, pick, room, tables, texts

if TYPE_CHECKING:
    from datasketch import MinHash
from lake.native import kernels

__all__ = ["estimate", "permutations", "signatures", "sketches", "sorted_sets", "to_datasketch"]

_kernels = kernels("dedup.text._kernels")

_NONE = np.empty(0, np.uint32)
_LANES = 32  # of dedup.text._kernels: the permutations are filled up to a multiple
_MOST_UNITS = (1 << 31) - 1  # of a shingle
_JOBS = 4  # for each thread, so that one giant does not keep the others waiting


@cache
def permutations(num_perm: int, seed: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Draw the factors ``a`` and the shifts ``b`` of ``affine32``: uint32, shape (num_perm,) each.

    They come from NumPy's Mersenne Twister, whose stream is frozen for ever: first all ``a``, 31 random bits
    and a one, then all ``b``, 32 random bits.

    >>> a, b = permutations(128, 1)
    >>> a.dtype, a.shape, bool((a % 2 == 1).all())
    (dtype('uint32'), (128,), True)
    """
    draw = np.random.RandomState(seed)  # the generator that datasketch defines the scheme by
    a = draw.randint(0, 2**31, num_perm, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    b = draw.randint(0, 2**32, num_perm, dtype=np.uint32)
    a.flags.writeable = b.flags.writeable = False
    return a, b


def signatures(
    column: pa.Array | pa.ChunkedArray,
    num_perm: int = 128,
    seed: int = 1,
    ngram: int = 5,
    unit: Unit = "word",
    *,
    rows: npt.NDArray[np.int64] | None = None,
    threads: int = 1,
    device: Literal["cpu", "cuda"] = "cpu",
) -> npt.NDArray[np.uint32]:
    """Give the MinHash signature of every text: tokens, shingles, hashes and minima in one pass.

    >>> x, y = signatures(pa.array(["The cat sat on the mat.", "the cat sat, on the MAT"]))
    >>> x.shape, bool((x == y).all())
    ((128,), True)

    Args:
        column: n texts: string, large_string, string_view, binary that holds UTF-8, or a dictionary of them,
            chunked or not. Each entry of a dictionary is hashed once.
        num_perm: values in a signature.
        seed: of the permutations, as in datasketch.
        ngram: units in a shingle.
        unit: ``word`` or ``char``; what they are stands in :mod:`dedup.text.shingle`.
        rows: which rows, as int64, in any order and as often as wanted. None: all.
        threads: how many to use. The result is the same for any number.
        device: ``cuda`` computes the same on the current GPU, see :mod:`dedup.text.cuda`.

    Returns:
        uint32 of shape (n, num_perm). A text without a shingle, and a null, has 2**32 - 1 everywhere, as an
        empty datasketch MinHash has.

    Raises:
        SchemaError: the column holds no text.
        ValueError: ``num_perm``, ``ngram`` or ``threads`` is not positive, or ``unit`` or ``device`` is another
            one; on ``cuda`` also an ``ngram`` above 64.
        IndexError: there is no such row.
        DeviceError: ``cuda`` without a GPU or without CuPy.
    """
    _check(ngram, unit, num_perm=num_perm, threads=threads)
    if device not in {"cpu", "cuda"}:
        raise ValueError(f"device must be 'cpu' or 'cuda', not {device!r}")
    values, places = distinct(column)
    if rows is not None:
        places = _chosen(rows, len(column), places)
    used, back = _once(places)
    if device == "cuda":
        from dedup.text import cuda

        on_gpu = cuda.sign_column(values, num_perm, seed, ngram, unit)
        return on_gpu if places is None else on_gpu[places]
    everything = np.arange(len(values)) if used is None else used
    a, b = _padded(num_perm, seed)
    out = np.empty((len(everything), num_perm), np.uint32)
    _run(
        _kernels.sign_batch,
        [
            (*part.texts, part.rows, tables(), (ngram, int(unit == "char")), a, b, out[part.place])
            for part in _parts(values, everything, threads)
        ],
        threads,
    )
    return out if back is None else out[back]


def sketches(
    column: pa.Array | pa.ChunkedArray,
    num_perm: int = 128,
    seed: int = 1,
    ngram: int = 5,
    unit: Unit = "word",
    *,
    rows: npt.NDArray[np.int64] | None = None,
    threads: int = 1,
    sets: bool = True,
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """Give signatures and shingle sets of every text, or of some: see :func:`signatures`, ``shingle_sets``.

    >>> signed, offsets, hashes = sketches(pa.array(["one two", "three", "four five six"]), ngram=2, threads=2)
    >>> signed.shape, offsets.tolist()
    ((3, 128), [0, 1, 2, 4])

    Returns:
        Signatures, uint32 of shape (n, num_perm) (``num_perm`` 0: none); offsets, int64 of shape (n + 1,);
        hashes, uint32: sorted and distinct, or with ``sets=False`` as they come in the text: see
        :func:`sorted_sets`.

    Raises:
        SchemaError, ValueError, IndexError: as those.
    """
    _check(ngram, unit, threads=threads)
    values, places = distinct(column)
    if rows is not None:
        places = _chosen(rows, len(column), places)
    used, back = _once(places)
    everything = np.arange(len(values)) if used is None else used
    signed, offsets, hashes = _sketch(values, everything, (num_perm, seed), (ngram, unit), threads, sets=sets)
    return (signed, offsets, hashes) if back is None else (signed[back], *pick(offsets, hashes, back))


def sorted_sets(
    offsets: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint32], rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """Make the shingle sets of some rows, of what :func:`sketches` gave with ``sets=False``.

    >>> _, offsets, hashes = sketches(pa.array(["one", "two two two"]), ngram=1, sets=False)
    >>> offsets.tolist(), sorted_sets(offsets, hashes, np.array([1]))[0].tolist()
    ([0, 1, 4], [0, 1])

    Returns:
        Offsets, int64 of shape (rows + 1,); sorted distinct hashes, uint32.
    """
    ends = np.zeros(len(rows) + 1, np.int64)
    room_for = int(np.diff(offsets)[rows].sum())
    made = np.empty(room_for, np.uint32)
    _kernels.sort_batch(hashes, offsets, rows, made, ends[1:])
    made.resize(ends[-1], refcheck=False)
    return ends, made


def estimate(x: npt.NDArray[np.uint32], y: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """Estimate the Jaccard similarity from signatures: the share of equal values along the last axis.

    >>> estimate(np.array([1, 2, 3, 4], np.uint32), np.array([1, 2, 3, 5], np.uint32)).item()
    0.75
    """
    return np.asarray((x == y).mean(axis=-1), np.float64)


def to_datasketch(signature: npt.NDArray[np.uint32], seed: int = 1) -> MinHash:
    """Carry one signature over to datasketch, whose indexes and estimates it then serves.

    >>> row = signatures(pa.array(["The cat sat on the mat."]), seed=7)[0]
    >>> to_datasketch(row, seed=7).jaccard(to_datasketch(row, seed=7))
    1.0

    Args:
        signature: one row of :func:`signatures`.
        seed: the one that it was made with.

    To add to it (``update``), feed shingle hashes of :func:`dedup.text.shingle.shingle_sets`.
    """
    from datasketch import MinHash

    row = np.array(signature, np.uint32)
    return MinHash(num_perm=len(row), seed=seed, scheme="affine32", hashvalues=row, hashfunc=int)


def _chosen(
    rows: npt.NDArray[np.int64], count: int, places: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.int64]:
    """Of some rows, where their texts stand."""
    rows = np.asarray(rows, np.int64)
    if rows.size and (rows.min() < 0 or rows.max() >= count):
        raise IndexError(f"rows must lie between 0 and {count - 1}")
    return rows if places is None else places[rows]


def _once(
    places: npt.NDArray[np.int64] | None,
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.intp] | None]:
    """Give the texts to hash, ascending, each once, and which of them stands at each place; None for all."""
    if places is None or (places[1:] > places[:-1]).all():
        return places, None
    return np.unique(places, return_inverse=True)


class _Part(NamedTuple):
    texts: Texts
    rows: npt.NDArray[np.int64]
    """Which of the texts."""
    size: int
    """Bytes in them."""
    place: slice
    """Where they stand among all rows that were asked for."""


def _sketch(
    values: pa.Array | pa.ChunkedArray,
    rows: npt.NDArray[np.int64],
    scheme: tuple[int, int],
    grams: tuple[int, Unit],
    threads: int,
    *,
    sets: bool,
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """Give the sketches of some rows, ascending and distinct."""
    num_perm, _ = scheme
    ngram, unit = grams
    a, b = _padded(*scheme)
    out = np.empty((len(rows), num_perm), np.uint32)
    ends = np.zeros(len(rows) + 1, np.int64)
    shape = (ngram, int(unit == "char"))

    def run(part: _Part) -> npt.NDArray[np.uint32]:
        hashes = np.empty(room(part.size, len(part.rows), unit), np.uint32)
        local = ends[part.place.start + 1 : part.place.stop + 1]
        _kernels.sketch_batch(
            *part.texts, part.rows, tables(), shape, a, b, out[part.place], hashes, local, sets
        )
        hashes.resize(local[-1], refcheck=False)  # gives back what it did not need, where it stands
        return hashes

    parts = list(_parts(values, rows, threads))
    pieces = _run(run, [(part,) for part in parts], threads)
    total = 0
    for part, piece in zip(parts, pieces, strict=True):
        ends[part.place.start + 1 : part.place.stop + 1] += total
        total += len(piece)
    return out, ends, pieces[0] if len(pieces) == 1 else np.concatenate([_NONE, *pieces])


@cache
def _padded(num_perm: int, seed: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Fill the permutations up to a multiple of the kernel's lanes."""
    a, b = (
        (np.pad(x, (0, -num_perm % _LANES)) for x in permutations(num_perm, seed))
        if num_perm
        else (_NONE, _NONE)
    )
    return a, b


def _check(ngram: int, unit: str, **positive: int) -> None:
    for name, value in {"ngram": ngram, **positive}.items():
        if value < 1:
            raise ValueError(f"{name} must be positive, not {value}")
    if ngram > _MOST_UNITS:
        raise ValueError(f"ngram must be at most {_MOST_UNITS}, not {ngram}")
    if unit not in {"word", "char"}:
        raise ValueError(f"unit must be 'word' or 'char', not {unit!r}")


def _run(function: Callable[..., Any], jobs: list[tuple[Any, ...]], threads: int) -> list[Any]:
    """Call the function for each job; the kernels leave the interpreter lock to the others."""
    if threads == 1 or len(jobs) == 1:
        return [function(*job) for job in jobs]
    with ThreadPoolExecutor(threads) as pool:
        return [done.result() for done in [pool.submit(function, *job) for job in jobs]]


def _parts(values: pa.Array | pa.ChunkedArray, rows: npt.NDArray[np.int64], threads: int) -> Iterator[_Part]:
    """Cut ascending rows into parts of one chunk each, of about equal bytes, a few for each thread."""
    start = taken = 0
    for chunk in texts(values):
        stop = start + len(chunk.valid)
        upto = int(np.searchsorted(rows, stop))
        mine = rows[taken:upto] - start
        sizes = chunk.offsets[mine + 1].astype(np.int64) - chunk.offsets[mine]
        ends = np.cumsum(sizes)
        count = 1 if threads == 1 else _JOBS * threads
        whole = int(ends[-1]) if len(mine) else 0
        cuts = np.searchsorted(ends, np.linspace(0, whole, count + 1)[1:-1])
        edges = [0, *np.unique(cuts[cuts > 0]).tolist(), len(mine)]
        for low, high in pairwise(edges):
            if high > low:
                size = int(sizes[low:high].sum())
                yield _Part(chunk, mine[low:high], size, slice(taken + low, taken + high))
        start, taken = stop, upto
