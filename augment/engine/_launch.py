"""How ``programs.cu`` is launched: which blocks, how much memory, in how many turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from augment.engine.compile import CALLS, WARP
from augment.engine.output import Output
from lake.errors import DeviceError
from lake.gpu import cupy as _cupy

__all__ = [
    "MOST_CHANNELS",
    "RUNS",
    "Job",
    "bits_of",
    "is_call",
    "kind_of",
    "launch",
    "levels_of",
    "mixes",
    "not_finite",
    "on_device",
    "passes",
    "state_bytes",
]

Array = npt.NDArray[Any]
I64 = npt.NDArray[np.int64]

# Numbers that programs.cu has too.
MOST_CHANNELS = 32
RUNS = 2
WHOLE, SCAN, BUILD = 0, 1, 2
_SAME, _WIDER, _NARROWER = 0, 1, 2
_FLOATS = {"float16": 3, "bfloat16": 4, "float32": 5}

_VARIANTS = (1, 3, 4)  # numbers of channels that have a kernel of their own
_STENCIL, _STATISTICS = 9, (8, 12, 13)
_MIXES = (120, 121)
_BITS = {255.0: 8, 65535.0: 16, 1.0: 32}
_WIDE = 16  # bits of pixels whose tables and counts do not fit near the multiprocessor
_FLOAT = 32
_FINITE = 256  # threads
_PART = 1 << 16  # values that a block looks through
_SURELY_ONE = 4  # so many stages are one segment, unless there are stencils or several warps
_BLOCK, _SMALL_BLOCK = 512, 128  # threads: for images of more than, and up to,
_SMALL = 64 * 64  # pixels
_LARGE = 2 << 20  # bytes: such images are shared out among blocks,
_FEW = 256 << 10  # and such ones where there are fewer images than multiprocessors
_TILE = 1 << 16  # pixels, of a block's share
_STATIC = 3 << 10  # bytes of shared memory that are not in the pool, with what the driver takes
_SCRATCH = 1 << 30  # bytes of intermediate images, at most about


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Images of one shape.

    Attributes:
        size: height, width, channels.
        bits: of a value.
        bilinear: how warps resample.
        sources: int64 (n,), addresses on the device; C order.
        results: likewise.
        codes: int64 (n, k), on the host or on the device; those that mix on the host only.
        values: float64 (n, k, 12), there too.
        partners: like ``sources``; None: there are no stages that mix.
    """

    size: tuple[int, int, int]
    bits: int
    bilinear: bool
    sources: I64
    results: I64
    codes: Any
    values: Any
    partners: I64 | None = None


@dataclass(frozen=True, slots=True)
class _Card:
    """What the device has."""

    multiprocessors: int
    shared_block: int
    shared: int
    registers: int
    threads: int


def on_device(array: Any) -> bool:
    """Whether an array is on a GPU, by the interface that all of them have."""
    return hasattr(array, "__cuda_array_interface__")


def bits_of(top: float) -> int:
    """Of a pixel with that white: 8, 16, or 32 of a float."""
    return _BITS[top]


def is_call(codes: Any) -> npt.NDArray[np.bool_]:
    """Where stages are functions of their own; on the device none are drawn."""
    return np.zeros(1, np.bool_) if on_device(codes) else (codes >= CALLS) & ~np.isin(codes, _MIXES)


def mixes(codes: Any) -> npt.NDArray[np.bool_]:
    """Where stages mix an image with its partner; on the device none are drawn."""
    return np.zeros(1, np.bool_) if on_device(codes) else np.isin(codes, _MIXES)


def kind_of(output: Output | None, bits: int) -> int:
    """The number by which the kernel knows a conversion."""
    if output is None or output.dtype == f"uint{bits}":
        return _SAME
    if output.integer:
        return _WIDER if output.dtype == "uint16" else _NARROWER
    return _FLOATS[output.dtype]


def levels_of(bits: int) -> int:
    """Of a histogram; floats are counted in 256."""
    return 1 << _WIDE if bits == _WIDE else 256


def state_bytes(bits: int, channels: int) -> int:
    """The tables, counts and sums of one image, see ``state_at`` in programs.cu."""
    levels = levels_of(bits)
    return 16 + 4 * levels * (channels + 1) + bits // 8 * levels * (RUNS * channels + 1)


def passes(codes: I64) -> int:
    """How many passes the longest of these programs has at most."""
    stages = (codes > 0).sum(axis=1) + np.isin(codes, _STATISTICS).sum(axis=1)
    return int(stages.max(initial=0)) + 1


def launch(cupy: Any, jobs: Sequence[Job], output: Output | None) -> None:
    """Carry out jobs in the current stream: those alike in channels, bits and resampling in one launch."""
    groups: dict[tuple[int, int, bool], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.bits, job.size[2], job.bilinear), []).append(job)
    for some in groups.values():
        _launch_alike(cupy, some, output)


def not_finite(cupy: Any, images: I64) -> npt.NDArray[np.bool_]:
    """Which of some float32 images hold NaN or infinity; waits for the device.

    Args:
        cupy: the module.
        images: int64 (n, 2), addresses and numbers of values.
    """
    found = cupy.zeros(len(images), np.uint32)
    parts = max(1, int(images[:, 1].max()) // _PART)
    given = (cupy.asarray(images), np.int64(len(images)), np.int32(parts), found)
    _finite(cupy.cuda.Device().id)((len(images) * parts,), (_FINITE,), given)
    made: npt.NDArray[np.bool_] = found.get() != 0
    return made


def _launch_alike(cupy: Any, jobs: list[Job], output: Output | None) -> None:
    bits, channels = jobs[0].bits, jobs[0].size[2]
    images = np.concatenate([_places(job) for job in jobs])
    card = _card(cupy.cuda.Device().id)
    bytes_each = _pixels(images) * channels * (bits // 8)
    large = (bytes_each > _LARGE) | ((bytes_each > _FEW) & (len(images) < card.multiprocessors))
    codes, values = _together(jobs)
    norm = np.zeros((2, channels), np.float32) if output is None else output.factors(channels)
    mixing = any(mixes(job.codes).any() for job in jobs if job.partners is not None)
    shared = _Shared(cupy, card, bits, channels, jobs[0].bilinear, mixing, output, cupy.asarray(norm))
    for which, run in ((~large, shared.whole), (large, shared.in_turns)):
        if which.all():
            run(images, codes, values)
        elif which.any():
            run(images[which], codes[which], values[which])


def _places(job: Job) -> I64:
    """Of each image: addresses of the source, of the result and of the partner, height, width."""
    n = len(job.sources)
    partners = np.zeros(n, np.int64) if job.partners is None else job.partners
    return np.stack([job.sources, job.results, partners, *(np.full(n, side) for side in job.size[:2])], axis=1)


def _pixels(images: I64) -> I64:
    return images[:, 3] * images[:, 4]


def _together(jobs: list[Job]) -> tuple[Any, Any]:
    """The stages of all jobs, padded to the longest."""
    if len(jobs) == 1:
        return jobs[0].codes, jobs[0].values
    n, k = sum(len(job.sources) for job in jobs), max(job.codes.shape[1] for job in jobs)
    codes, values = np.full((n, k), -1, np.int64), np.zeros((n, k, 12))
    at = 0
    for job in jobs:
        m, own = job.codes.shape
        codes[at : at + m, :own], values[at : at + m, :own] = _host(job.codes), _host(job.values)
        at += m
    return codes, values


def _host(array: Any) -> Array:
    found: Array = array.get() if on_device(array) else array
    return found


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the launches for images of one kind have in common."""

    cupy: Any
    card: _Card
    bits: int
    channels: int
    bilinear: bool
    mixing: bool
    output: Output | None
    norm: Any

    def whole(self, images: I64, codes: Any, values: Any) -> None:
        """One launch, in which a block takes image after image."""
        pixels = _pixels(images)
        block = _SMALL_BLOCK if int(pixels.max()) <= _SMALL else _BLOCK
        bytes_each = pixels * self.channels * (self.bits // 8)
        kernel = self._kernel(block)
        capacity, copies, pool = self._pool(block, bytes_each)
        several = _several_segments(codes, self.bits)
        pitch = -(-int(bytes_each.max()) // 16) * 16
        grid = self.card.multiprocessors * self._resident(kernel, block, pool)
        if several:
            grid = max(min(grid, _SCRATCH // (2 * pitch)), self.card.multiprocessors)
        grid = min(grid, len(images))
        scratch = self._bytes(2 * grid * pitch if several else 16)
        states = self._bytes(grid * state_bytes(self.bits, self.channels) if self.bits != 8 else 16)  # noqa: PLR2004
        self._call(kernel, grid, block, pool, images, codes, values, scratch, pitch, states, capacity, copies)

    def in_turns(self, images: I64, codes: Any, values: Any) -> None:
        """Launches in turn, for which images are cut into tiles of rows."""
        kernel = self._kernel(_BLOCK)
        _, copies, pool = self._pool(_BLOCK, np.zeros(1, np.int64))
        known = _host(codes)
        several = _several_segments(known, self.bits)
        pitch = -(-int(_pixels(images).max()) * self.channels * (self.bits // 8) // 16) * 16
        scratch = self._bytes(2 * len(images) * pitch if several else 16)
        states = self._bytes(len(images) * state_bytes(self.bits, self.channels))
        tiles, where = self.cupy.asarray(tiles_of(images)), self.cupy.asarray(images)
        codes, values = self.cupy.asarray(codes), self.cupy.asarray(values)
        for turn in range(passes(known)):
            for mode, grid in ((BUILD, len(images)), (SCAN, len(tiles))):
                self._call(
                    kernel, grid, _BLOCK, pool, where, codes, values, scratch, pitch, states, 0, copies, mode,
                    turn, tiles,
                )  # fmt: skip

    def _call(  # noqa: PLR0917  (a kernel's)
        self,
        kernel: Any,
        grid: int,
        block: int,
        pool: int,
        images: Any,
        codes: Any,
        values: Any,
        scratch: Any,
        pitch: int,
        states: Any,
        capacity: int,
        copies: int,
        mode: int = WHOLE,
        turn: int = 0,
        tiles: Any = None,
    ) -> None:
        cupy, output = self.cupy, self.output
        counter = cupy.zeros(1, np.uint32)
        top = np.float32(1 if self.bits == _FLOAT else (1 << self.bits) - 1)
        kernel(
            (grid,),
            (block,),
            (
                cupy.asarray(images), np.int64(len(images)), np.int32(self.channels),
                cupy.ascontiguousarray(cupy.asarray(codes, np.int64)),
                cupy.ascontiguousarray(cupy.asarray(values, np.float64)), np.int32(codes.shape[1]),
                np.int32(self.bilinear), np.int32(kind_of(output, self.bits)),
                np.int32(output is not None and output.layout == "NCHW"), np.float32(1.0) / top, self.norm,
                scratch, np.int64(pitch), states, np.int64(state_bytes(self.bits, self.channels)), counter,
                np.int32(grid), np.int32(capacity), np.int32(copies), np.int32(mode), np.int32(turn),
                counter if tiles is None else tiles,
            ),
            shared_mem=pool,
        )  # fmt: skip

    def _bytes(self, count: int) -> Any:
        return self.cupy.empty(max(count, 16), np.uint8)

    def _kernel(self, block: int) -> Any:
        variant = self.channels if self.channels in _VARIANTS else 0
        return _kernel(self.cupy.cuda.Device().id, self.bits, variant, block, mixing=self.mixing)

    def _pool(self, block: int, bytes_each: I64) -> tuple[int, int, int]:
        """Bytes for an image, copies of a histogram, and bytes in all, of a block's shared memory."""
        levels, eight, near = levels_of(self.bits), self.bits == 8, self.bits != _WIDE  # noqa: PLR2004
        limit = self.card.shared_block - _STATIC
        held = state_bytes(8, self.channels) if eight else 0
        words = self.channels * (self.bits // 8) if self.channels in _VARIANTS else 0
        for copies in (8, 4, 2, 1) if block > _SMALL_BLOCK else (2, 1):
            area = max(4 * block, 4 * block * words, 4 * levels * self.channels * copies if near else 0)
            room = limit - held - area
            wanted = -(-int(bytes_each.max()) // 16) * 16
            if wanted <= room:
                return wanted, copies, wanted + held + area
        if room < 0:
            raise DeviceError(
                f"images of {self.channels} channels need {held + area:,} bytes of shared memory in a block, "
                f"and this GPU has {limit:,}",
                hint="give images of fewer channels, or choose device cpu",
            )
        fitting = bytes_each[bytes_each <= room]
        return self._pool(block, fitting if fitting.size else np.zeros(1, np.int64))

    def _resident(self, kernel: Any, block: int, pool: int) -> int:
        """Blocks that a multiprocessor holds at once."""
        by_registers = self.card.registers // (max(int(kernel.num_regs), 1) * block)
        return max(1, min(self.card.threads // block, by_registers, self.card.shared // (pool + _STATIC)))


def tiles_of(images: I64) -> npt.NDArray[np.int32]:
    """Image, first row, row behind the last: int32 (tiles, 3)."""
    parts = []
    for i, (h, w) in enumerate(images[:, 3:].tolist()):
        rows = max(4, _TILE // w // 4 * 4)  # whole groups of four pixels
        first = np.arange(0, h, rows)
        parts.append(np.stack([np.full(len(first), i), first, np.minimum(first + rows, h)], axis=1))
    return np.concatenate(parts).astype(np.int32)


def _several_segments(codes: Any, bits: int) -> bool:
    """Whether an image may need more than one pass that stores; at worst it is thought so in vain."""
    if on_device(codes):
        return True
    stages, warps = (codes > 0).sum(axis=1), (codes == WARP).sum(axis=1)
    stencils = (codes == _STENCIL).any(axis=1)
    learned = np.isin(codes, _STATISTICS).sum(axis=1) if bits == _FLOAT else np.zeros(len(codes), np.int64)
    return bool(((stages > _SURELY_ONE) | (warps > 1) | (stencils & (stages > 1)) | (learned > RUNS)).any())


@cache
def _card(device: int) -> _Card:
    has = _cupy().cuda.Device(device).attributes
    return _Card(
        has["MultiProcessorCount"], has["MaxSharedMemoryPerBlockOptin"],
        has["MaxSharedMemoryPerMultiprocessor"], has["MaxRegistersPerMultiprocessor"],
        has["MaxThreadsPerMultiProcessor"],
    )  # fmt: skip


@cache
def _kernel(device: int, bits: int, channels: int, block: int, *, mixing: bool) -> Any:
    source = files("augment.engine").joinpath("programs.cu").read_text("utf-8")
    macros = (f"-DBITS={bits}", f"-DCHANNELS={channels}", f"-DBLOCK={block}", f"-DMIXING={int(mixing)}")
    module = _cupy().RawModule(code=source, options=("--std=c++14", "--fmad=false", *macros))
    kernel = module.get_function("augment")
    # Not for each launch: threads share a kernel, and one would take from another what it is to start with.
    kernel.max_dynamic_shared_size_bytes = _card(device).shared_block - _STATIC
    return kernel


@cache
def _finite(_device: int) -> Any:
    source = files("augment.engine").joinpath("finite.cu").read_text("utf-8")
    options = ("--std=c++14", "--fmad=false", f"-DBLOCK={_FINITE}")
    return _cupy().RawModule(code=source, options=options).get_function("not_finite")
