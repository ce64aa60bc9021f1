"""The effects on a GPU: the same bytes as on the CPU, from ``effects.cu``.

What little depends on exp, cos or a sort is worked out on the host and goes over as small tables, so that every
device has the same. CuPy is imported when a function is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from augment import rng
from augment.effects import blur, elastic, jpeg
from augment.effects._random import normal_table
from lake.gpu import cupy as _cupy

__all__ = ["BLOCK", "TILE", "Launch", "launches", "run"]

BLOCK = 256
TILE = 64  # threads for 8 x 8 pixels
_KINDS = {"uint8": "u8", "uint16": "u16", "float32": "f32"}
_TOPS = {"u8": 255, "u16": 65535, "f32": 1}
_BYTES = {"u8": 1, "u16": 2, "f32": 4}
_GRID = 64  # tiles of CLAHE

F64 = npt.NDArray[np.float64]
U32 = npt.NDArray[np.uint32]
Shape = tuple[int, int, int, int]


class Scratch:
    """Device memory that a launch needs and a later one reads: the number of bytes."""

    def __init__(self, size: int) -> None:
        self.size = size


class Launch:
    """One kernel: its name without the type, the number of blocks, of threads, and what it gets.

    ``"src"`` and ``"dst"`` stand for the images, arrays for themselves on the device, numbers for themselves.
    """

    def __init__(self, name: str, blocks: int, arguments: Sequence[Any], threads: int = BLOCK) -> None:
        self.name, self.blocks, self.arguments, self.threads = name, blocks, tuple(arguments), threads


def run(name: str, images: Any, values: F64, keys: U32, stream: Any = None) -> Any:
    """Carry out an effect on images that lie on the device.

    Args:
        name: an op of :mod:`augment.ops.effects`.
        images: CuPy, uint8, uint16 or float32, (n, h, w, c), C order.
        values: float64 (n, 12), on the host.
        keys: uint32 (n, 4), on the host.
        stream: the CuPy stream to work in. None: the current one.

    Returns:
        A new CuPy array.

    Raises:
        DeviceError: there is no GPU, or no CuPy.
        TypeError: for another dtype.
    """
    cupy = _cupy()
    kind = _KINDS.get(str(images.dtype))
    if kind is None:
        raise TypeError(f"images of dtype {images.dtype}: give uint8, uint16, or float32 of 0 .. 1")
    with stream if stream is not None else cupy.cuda.get_current_stream():
        out = cupy.empty_like(images)
        held: dict[int, Any] = {}
        for launch in launches(name, kind, images.shape, values, keys):
            arguments = [_on_device(cupy, each, images, out, held) for each in launch.arguments]
            kernel = _module(cupy.cuda.Device().id).get_function(f"{launch.name}_{kind}")
            kernel((launch.blocks,), (launch.threads,), tuple(arguments))
        return out


def _on_device(cupy: Any, argument: Any, images: Any, out: Any, held: dict[int, Any]) -> Any:
    if isinstance(argument, str):
        return images if argument == "src" else out
    if isinstance(argument, Scratch):
        if id(argument) not in held:
            held[id(argument)] = cupy.empty(argument.size, np.uint8)
        return held[id(argument)]
    return cupy.asarray(argument) if isinstance(argument, np.ndarray) else argument


@cache
def _module(_device: int) -> Any:
    source = files("augment.effects").joinpath("effects.cu").read_text("utf-8")
    return _cupy().RawModule(code=source, options=("--std=c++14", "--fmad=false", f"-DBLOCK={BLOCK}"))


def launches(name: str, kind: str, shape: Shape, values: F64, keys: U32) -> list[Launch]:
    """The kernels that carry out an effect, in order.

    Args:
        name: an op of :mod:`augment.ops.effects`.
        kind: ``u8``, ``u16`` or ``f32``.
        shape: n, h, w, c.
        values: float64 (n, 12).
        keys: uint32 (n, 4).
    """
    keys = np.ascontiguousarray(keys, np.uint32)
    made = _EFFECTS[name](kind, shape, np.ascontiguousarray(values, np.float64), keys)
    return [launch for launch in made if launch.blocks]


def _blocks(count: int) -> int:
    return -(-count // BLOCK)


def _top(kind: str) -> int:
    return _TOPS[kind]


def _noise(name: str, lanes: int, scale: Callable[[F64, int], F64]) -> Callable[..., list[Launch]]:
    def launch(kind: str, shape: Shape, values: F64, keys: U32) -> list[Launch]:
        n, size = shape[0], shape[1] * shape[2] * shape[3]
        amount = np.ascontiguousarray(scale(values[:, 0], _top(kind)))
        arguments = (
            "src",
            "dst",
            np.int64(n),
            np.int64(size),
            amount,
            keys,
            normal_table(),
            np.float32(_top(kind)),
        )
        return [Launch(name, _blocks(n * -(-size // lanes)), arguments)]

    return launch


def _sigma(values: F64, top: int) -> F64:
    return (values * top).astype(np.float32).astype(np.float64)


def _sides(shape: Shape) -> tuple[np.int64, np.int32, np.int32, np.int32]:
    n, h, w, c = shape
    return np.int64(n), np.int32(h), np.int32(w), np.int32(c)


def _blur(_kind: str, shape: Shape, values: F64, _keys: U32) -> list[Launch]:
    each = [blur.weights(float(s)) if s > 0 else np.array([1 << 15], np.int64) for s in values[:, 0]]
    reach = max((len(taps) for taps in each), default=1)
    taps = np.zeros((len(each), reach), np.int64)
    for row, found in zip(taps, each, strict=True):
        row[: len(found)] = found
    count = int(np.prod(shape))
    sums = Scratch(8 * count)
    rest = (*_sides(shape), taps, np.int32(reach))
    return [
        Launch("blur_down", _blocks(count), ("src", sums, *rest)),
        Launch("blur_across", _blocks(count), (sums, "dst", *rest)),
    ]


def _jpeg(kind: str, shape: Shape, values: F64, _keys: U32) -> list[Launch]:
    n, h, w, c = shape
    top = float(_top(kind))
    quantum = np.array([jpeg.tables(int(q)) * (top / 255.0) for q in values[:, 0]]).reshape(n, 128)
    arguments = (
        "src", "dst", np.int32(h), np.int32(w), np.int32(c), quantum, np.ascontiguousarray(jpeg.basis()),
        np.float64(top),
    )  # fmt: skip
    return [Launch("jpeg", n * -(-h // 8) * -(-w // 8), arguments, TILE)]


def _clahe(kind: str, shape: Shape, values: F64, _keys: U32) -> list[Launch]:
    n, h, w, c = shape
    levels = 256 if kind == "u8" else 65536
    counts, tables = (Scratch(4 * n * c * _GRID * levels) for _ in range(2))
    first = ("src", np.int32(h), np.int32(w), np.int32(c), values, counts, tables, np.int32(levels))
    return [
        Launch("clahe_tables", n * c * _GRID, first),
        Launch("clahe_apply", _blocks(n * h * w * c), ("src", "dst", *_sides(shape), tables, np.int32(levels))),
    ]


def _elastic(_kind: str, shape: Shape, values: F64, keys: U32) -> list[Launch]:
    n, h, w, _ = shape
    found = [elastic.nodes(values[i], keys[i], h, w) for i in range(n)]
    grid, side = np.ascontiguousarray(np.stack([each for each, _ in found])), found[0][1]
    size = (np.int32(grid.shape[1]), np.int32(grid.shape[2]), np.float64(side))
    return [Launch("elastic", _blocks(n * h * w), ("src", "dst", *_sides(shape), values, grid, *size))]


def _downscale(kind: str, shape: Shape, values: F64, _keys: U32) -> list[Launch]:
    _, h, w, _ = shape
    sides = np.stack([np.floor(h / values[:, 0] + 0.5), np.floor(w / values[:, 1] + 0.5)], axis=1)
    sides = np.clip(sides, 1, [h, w]).astype(np.int32)
    count = int(np.prod(shape))
    small = Scratch(count * _BYTES[kind])
    return [
        Launch("shrink", _blocks(count), ("src", small, *_sides(shape), sides)),
        Launch("grow", _blocks(count), (small, "dst", *_sides(shape), sides)),
    ]


def _ghosts(kind: str, shape: Shape, values: F64, _keys: U32) -> list[Launch]:
    arguments = ("src", "dst", *_sides(shape), values, np.float64(_top(kind)))
    return [Launch("ghosts", _blocks(int(np.prod(shape))), arguments)]


def _bias(kind: str, shape: Shape, values: F64, keys: U32) -> list[Launch]:
    coefficients = (2.0 * rng.of_keys(keys, 9) - 1.0) * values[:, :1]
    arguments = ("src", "dst", *_sides(shape), np.ascontiguousarray(coefficients), np.float64(_top(kind)))
    return [Launch("bias", _blocks(int(np.prod(shape))), arguments)]


_EFFECTS: dict[str, Callable[[str, Shape, F64, U32], list[Launch]]] = {
    "GaussianNoise": _noise("gaussian", 8, _sigma),
    "RicianNoise": _noise("rician", 4, _sigma),
    "PoissonNoise": _noise("poisson", 4, lambda values, top: values * values * top),
    "Blur": _blur,
    "Jpeg": _jpeg,
    "Clahe": _clahe,
    "Elastic": _elastic,
    "Downscale": _downscale,
    "Ghosting": _ghosts,
    "BiasField": _bias,
}
