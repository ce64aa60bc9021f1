"""Text to MinHash signatures on a GPU: the same bits as :mod:`dedup.text.signatures`.

One launch signs a whole batch of texts, which may lie on the device already. The kernel and how it works:
``signatures.cu``. CuPy is imported when a function is called, and NVRTC compiles for the GPU that is there.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.text.shingle import Unit, tables, texts
from dedup.text.signatures import permutations
from lake.gpu import check_place
from lake.gpu import cupy as _cupy

__all__ = ["BLOCK", "MAX_NGRAM", "TILE", "sign_column", "signatures", "tile_ends"]

BLOCK = 128
TILE = {"word": 2048, "char": 1024}
MAX_NGRAM = 64
_PIECE = 2**28  # bytes of a host column that go to the device at a time


def signatures(
    data: Any,
    offsets: Any,
    num_perm: int = 128,
    seed: int = 1,
    ngram: int = 5,
    *,
    unit: Unit = "word",
    valid: Any = None,
    stream: Any = None,
) -> Any:
    """Give the MinHash signature of every text, computed and left on the current device.

    Args:
        data: UTF-8: uint8, on the device (a CuPy array: not copied) or on the host (NumPy).
        offsets: n + 1 integers, on either: text ``i`` is ``data[offsets[i]:offsets[i + 1]]``.
        num_perm: values in a signature.
        seed: of the permutations.
        ngram: units in a shingle, at most 64.
        unit: ``word`` or ``char``.
        valid: n booleans: False for a null. None: there is none.
        stream: the CuPy stream to work in. None: the current one.

    Returns:
        A CuPy array, uint32 of shape (n, num_perm): the values that
        :func:`dedup.text.signatures.signatures` has. It is ready when the stream has come so far.

    Raises:
        DeviceError: there is no GPU, or no CuPy.
        ValueError: a setting is out of its range, or an array is on another GPU.
    """
    if not (num_perm > 0 and 0 < ngram <= MAX_NGRAM and unit in TILE):
        raise ValueError(f"num_perm must be positive, ngram 1 to {MAX_NGRAM}, and unit 'word' or 'char'")
    cupy = _cupy()
    with stream if stream is not None else cupy.cuda.get_current_stream():
        text = cupy.ascontiguousarray(cupy.asarray(data, np.uint8))  # the kernel knows no strides
        places = cupy.ascontiguousarray(cupy.asarray(offsets), np.int64)
        for each in (text, places):
            check_place(cupy, each)
        rows = len(places) - 1
        out = cupy.full((rows, num_perm), 0xFFFFFFFF, np.uint32)
        exists = None if valid is None else cupy.asarray(valid, np.bool_)
        ends = tile_ends(cupy, places, exists, unit)
        blocks = int(ends[-1]) if rows else 0  # waits for the device, once a batch
        if blocks:
            classes, folds, a, b = _constants(cupy.cuda.Device().id, num_perm, seed)
            kernel = _module(cupy.cuda.Device().id).get_function(_ENTRY[unit])
            kernel(
                (blocks,),
                (BLOCK,),
                (
                    text, places, ends, np.int64(rows), classes, folds, np.int32(len(folds)),
                    np.int32(ngram), a, b, np.int32(num_perm), out,
                ),
            )  # fmt: skip
        return out


def sign_column(
    column: pa.Array | pa.ChunkedArray, num_perm: int, seed: int, ngram: int, unit: Unit
) -> npt.NDArray[np.uint32]:
    """Sign a column in host memory: what ``signatures(..., device="cuda")`` calls.

    It goes over in pieces on two streams: while one is copied, the one before is signed.
    """
    cupy = _cupy()
    out = np.empty((len(column), num_perm), np.uint32)
    streams = _streams(cupy.cuda.Device().id)
    waiting: list[tuple[Any, Any, npt.NDArray[np.uint32], Any]] = []
    start = turn = 0
    for chunk in texts(column):
        rows = len(chunk.valid)
        low = 0
        while low < rows:
            upto = int(np.searchsorted(chunk.offsets, int(chunk.offsets[low]) + _PIECE, side="right")) - 1
            high = min(max(upto, low + 1), rows)
            first, last = int(chunk.offsets[low]), int(chunk.offsets[high])
            stream = streams[turn % 2]
            with stream:
                data = cupy.empty(last - first, np.uint8)
                data.set(chunk.data[first:last], stream=stream)
            places = chunk.offsets[low : high + 1].astype(np.int64) - first
            valid = chunk.valid[low:high]
            signed = signatures(data, places, num_perm, seed, ngram, unit=unit, valid=valid, stream=stream)
            waiting.append((signed, stream, out[start + low : start + high], data))
            if len(waiting) == len(streams):
                _fetch(*waiting.pop(0))
            low, turn = high, turn + 1
        start += rows
    for each in waiting:
        _fetch(*each)
    return out


def tile_ends(xp: Any, offsets: Any, valid: Any, unit: Unit) -> Any:
    """Give for each text the number of tiles up to and with it: int64, shape (n,).

    >>> tile_ends(np, np.array([0, 1, 1, 2050, 4098]), np.array([True, True, False, True]), "word").tolist()
    [1, 1, 1, 2]

    Args:
        xp: NumPy or CuPy, whichever the others are of.
        offsets: int64, shape (n + 1,).
        valid: bool, shape (n,), or None.
        unit: ``word`` or ``char``.
    """
    tiles = (xp.diff(offsets) + (TILE[unit] - 1)) // TILE[unit]
    return xp.cumsum(tiles if valid is None else xp.where(valid, tiles, 0), dtype=np.int64)


_ENTRY = {"word": "sign_words", "char": "sign_characters"}


def _fetch(signed: Any, stream: Any, out: npt.NDArray[np.uint32], _held: Any) -> None:
    """Copy a piece's signatures to the host; its text is held until then."""
    signed.get(stream=stream, out=out, blocking=True)


@cache
def _streams(_device: int) -> list[Any]:
    """For all threads, and kept: CuPy's pool keeps memory for a stream even when the stream is no more."""
    return [_cupy().cuda.Stream(non_blocking=True) for _ in range(2)]


@cache
def _module(_device: int) -> Any:
    source = files("dedup.text").joinpath("signatures.cu").read_text("utf-8")
    options = ("--std=c++14", f"-DBLOCK={BLOCK}", f"-DTILE={TILE['word']}")
    return _cupy().RawModule(code=source, options=options)


@cache
def _constants(_device: int, num_perm: int, seed: int) -> tuple[Any, Any, Any, Any]:
    """Give the tables and the permutations on a device."""
    cupy = _cupy()
    found = [cupy.asarray(np.ascontiguousarray(each)) for each in (*tables(), *permutations(num_perm, seed))]
    cupy.cuda.get_current_stream().synchronize()  # other streams will read them
    return found[0], found[1], found[2], found[3]
