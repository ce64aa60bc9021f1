"""Compiled programs carried out on a GPU: the same bits as :mod:`augment.engine.cpu`.

One launch augments a whole batch, whatever its images' shapes are, and writes what an
:class:`~augment.engine.output.Output` asks for. The kernel and how it works: ``programs.cu``. CuPy is
imported when a function is called, and NVRTC compiles for the GPU that is there: some seconds, once; CuPy
keeps the result.

Images on the device stay there: CuPy arrays, and whatever speaks ``__cuda_array_interface__`` or DLPack. The
results are CuPy arrays, which PyTorch and JAX take over without a copy::

    made = policy.apply(torch_images, ids, device="cuda", output=Output("float16", "NCHW"))
    batch = torch.from_dlpack(made)          # or jax.dlpack.from_dlpack(made)

NumPy arrays come back as NumPy arrays: they go over in pieces, through pinned memory, on two streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from augment.engine._cuda_calls import call, check
from augment.engine._launch import MOST_CHANNELS, Job, launch, on_device
from augment.engine.compile import CALLS, Compiled, compile_programs
from augment.engine.cpu import shape_of
from augment.engine.output import Output
from augment.engine.programs import ABSENT
from augment.ops import Shape, by_code
from lake.errors import DeviceError
from lake.gpu import cupy as _cupy

if TYPE_CHECKING:
    from augment.policy import Policy

__all__ = ["Calls", "apply", "run"]

Calls = Literal["device", "host"]
Array = npt.NDArray[Any]
I64 = npt.NDArray[np.int64]

_PIECE = 32 << 20  # bytes of host images that go over at a time
_BATCH = 4  # dimensions
_CPU = 1  # DLPack's number of the device


@dataclass(frozen=True, slots=True)
class _How:
    output: Output | None
    calls: Calls


def run(
    compiled: Compiled | Sequence[Compiled],
    images: Any,
    *,
    output: Output | None = None,
    stream: Any = None,
    calls: Calls = "device",
) -> Any:
    """Carry out what was compiled, on the current device.

    Args:
        compiled: for as many images, of this shape; or a list of them for a list of batches, in one launch.
        images: uint8 or uint16, (n, h, w, c) or (n, h, w), on the device or on the host; or a list of such. In
            place of a batch a list of (h, w, c) or (h, w) arrays may stand.
        output: how they are handed over; None: as they were given.
        stream: the CuPy stream to work in. None: the current one.
        calls: of ops that are functions of their own, and have none for the GPU: "device": they are refused;
            "host": their images go to the CPU and back.

    Returns:
        New images: CuPy arrays for arrays on the device, NumPy arrays for those on the host; a list for a list.
        On the device they are ready when the stream has come so far.

    Raises:
        lake.errors.DeviceError: there is no GPU, no CuPy, too little memory, or no function for an op.
        ValueError: it was compiled for others.
        TypeError: for another dtype.
    """
    cupy = _cupy()
    single = isinstance(compiled, Compiled)
    pairs = [(compiled, images)] if isinstance(compiled, Compiled) else list(zip(compiled, images, strict=True))
    how = _How(output, calls)
    for one, given in pairs:
        _check(one, given, how)
    places = {_on_host(given) for _, given in pairs}
    if len(places) > 1:
        raise ValueError("some images are on the host, others on the device: give all of them on one")
    with stream if stream is not None else cupy.cuda.get_current_stream():
        made = _through(cupy, pairs, how) if places == {True} else _stay(cupy, pairs, how)
    return made[0] if single else made


def apply(
    policy: Policy,
    images: Any,
    ids: object,
    *,
    seed: int = 0,
    epoch: int = 0,
    output: Output | None = None,
    stream: Any = None,
    calls: Calls = "device",
) -> Any:
    """Augment images on the current device: what ``Policy.apply(..., device="cuda")`` does.

    Args:
        policy: of all epochs.
        images: what :func:`run` takes, or a list of (h, w, c) or (h, w) arrays of any sizes.
        ids: one per image.
        seed: as in ``Policy.apply``.
        epoch: as there.
        output: see :func:`run`.
        stream: see :func:`run`.
        calls: see :func:`run`.

    Returns:
        New images, the same kind as given.

    Raises:
        ValueError: the numbers of images and ids differ; and see :func:`run`.
    """
    several = isinstance(images, (list, tuple))
    if not several:
        from augment.engine import cuda_draw

        drawn = cuda_draw.compiled_on_device(_cupy(), policy, images, ids, seed, epoch, stream)
        if drawn is not None:
            return run(drawn, images, output=output, stream=stream, calls=calls)
    programs = policy.draw(ids, seed, epoch)
    if len(images) != len(programs):
        raise ValueError(f"{len(images)} images but {len(programs)} ids or programs: give one per image")

    def compiled(numbers: Sequence[int], shape: Shape) -> Compiled:
        return compile_programs(programs.take(numbers), shape, space=policy.space, resampling=policy.resampling)

    if not several:
        one = compiled(range(len(images)), shape_of(images))
        return run(one, images, output=output, stream=stream, calls=calls)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault((image.shape, image.dtype), []).append(i)
    made = run(
        [compiled(numbers, _shape([images[numbers[0]]])) for numbers in groups.values()],
        [[images[i] for i in numbers] for numbers in groups.values()],
        output=output, stream=stream, calls=calls,
    )  # fmt: skip
    results: list[Any] = [None] * len(images)
    for numbers, batch in zip(groups.values(), made, strict=True):
        for i, image in zip(numbers, batch, strict=True):
            results[i] = image
    return results


def _shape(images: Any) -> Shape:
    """Of a batch, or of a list of arrays of one shape."""
    return shape_of(images[0][None] if isinstance(images, list) else images)


def _check(compiled: Compiled, images: Any, how: _How) -> None:
    shape = compiled.shape
    if len(compiled) != len(images) or (len(images) and _shape(images) != shape):
        raise ValueError(
            f"compiled for {len(compiled)} images of {tuple(shape[:3])}, not for the {len(images)} given"
        )
    if shape.top == 1.0:
        raise TypeError(
            "float32 images are augmented on the CPU only: give uint8 or uint16, and ask for a float output"
        )
    if shape.channels > MOST_CHANNELS:
        raise ValueError(
            f"images of {shape.channels} channels: a GPU takes up to {MOST_CHANNELS}; choose device cpu"
        )
    if on_device(compiled.codes):  # drawn there: only what is a table is
        return
    for code in np.unique(compiled.codes[compiled.codes >= CALLS]):
        check(by_code(int(code)), host=how.calls == "host")


def _on_host(images: Any) -> bool:
    if isinstance(images, list):
        return not images or _on_host(images[0])
    if on_device(images):
        return False
    return not hasattr(images, "__dlpack_device__") or int(images.__dlpack_device__()[0]) == _CPU


# --- images that are on the device ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """Images of one shape, what is to be done to them, and where the results go."""

    compiled: Compiled
    codes: Any
    values: Any
    images: Any
    out: Any

    def part(self, which: slice) -> _Work:
        return _Work(
            self.compiled.take(which) if not on_device(self.codes) else self.compiled,
            self.codes[which], self.values[which], self.images[which], self.out[which],
        )  # fmt: skip

    def job(self, codes: Any, images: Any, out: Any) -> Job:
        h, w, c, top = self.compiled.shape
        return Job(
            (h, w, c), int(top).bit_length(), self.compiled.resampling == "bilinear", _addresses(images),
            _addresses(out), codes, self.values,
        )  # fmt: skip


def _stay(cupy: Any, pairs: Sequence[tuple[Compiled, Any]], how: _How) -> list[Any]:
    try:
        work = []
        for compiled, given in pairs:
            images = _device_arrays(cupy, given)
            work.append(
                _Work(compiled, compiled.codes, compiled.values, images, _results(cupy, compiled, images, how))
            )
        try:
            _fill(cupy, work, how)
        except cupy.cuda.memory.OutOfMemoryError:
            cupy.get_default_memory_pool().free_all_blocks()
            for half in _halves(work):
                _fill(cupy, half, how)
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise DeviceError(
            f"{sum(len(one) for one, _ in pairs)} images do not fit into the GPU's memory, nor half of them",
            why=str(error),
            hint="give smaller batches, or free what other libraries keep (torch.cuda.empty_cache())",
        ) from error
    return [each.out for each in work]


def _device_arrays(cupy: Any, images: Any) -> Any:
    """A batch, or a list of arrays, on the device and in C order; copied only where it must be."""
    if isinstance(images, list):
        return [_device_arrays(cupy, image) for image in images]
    if on_device(images):
        return cupy.ascontiguousarray(cupy.asarray(images))
    return cupy.ascontiguousarray(cupy.from_dlpack(images))


def _results(cupy: Any, compiled: Compiled, images: Any, how: _How) -> Any:
    single = images[0] if isinstance(images, list) else None
    shape = images.shape if single is None else (len(images), *single.shape)
    dtype = images.dtype if single is None else single.dtype
    if how.output is not None:
        shape, dtype = how.output.shape(shape), how.output.holder
    return cupy.empty(shape, dtype) if len(compiled) else cupy.empty((0, *shape[1:]), dtype)


def _addresses(images: Any) -> I64:
    if isinstance(images, list):
        return np.array([image.data.ptr for image in images], np.int64)
    first, step = int(images.data.ptr), images.nbytes // max(len(images), 1)
    made: I64 = first + step * np.arange(len(images), dtype=np.int64)
    return made


def _halves(work: list[_Work]) -> Iterator[list[_Work]]:
    middle = len(work) // 2
    if middle:
        yield work[:middle]
        yield work[middle:]
        return
    count = len(work[0].out)
    yield [work[0].part(slice(count // 2))]
    yield [work[0].part(slice(count // 2, None))]


def _fill(cupy: Any, work: list[_Work], how: _How) -> None:
    plain = []
    for each in work:
        if not len(each.out) or not each.out.size:
            continue
        if not on_device(each.codes) and (each.codes >= CALLS).any():
            _with_calls(cupy, each, how)
        else:
            plain.append(each.job(each.codes, each.images, each.out))
    launch(cupy, plain, how.output)


def _with_calls(cupy: Any, work: _Work, how: _How) -> None:
    """In rounds: each image up to its next call, then these calls, op by op."""
    codes, (n, k) = work.codes, work.codes.shape
    slots, at = np.arange(k), np.zeros(n, np.int64)
    images = work.images
    while True:
        calls = (codes >= CALLS) & (slots >= at[:, None])
        upto = np.where(calls.any(axis=1), calls.argmax(axis=1), k)
        now = np.where((slots >= at[:, None]) & (slots < upto[:, None]), codes, ABSENT)
        last = bool((upto == k).all())
        h, w, c, top = work.compiled.shape
        into = work.out if last else cupy.empty((n, h, w, c), f"uint{int(top).bit_length()}")
        launch(cupy, [work.job(now, images, into)], how.output if last else None)
        if last:
            return
        images = into
        rows = np.flatnonzero(upto < k)
        called = codes[rows, upto[rows]]
        for code in np.unique(called):
            some = rows[called == code]
            values, keys = work.compiled.values[some, upto[some]], work.compiled.keys[some, upto[some]]
            call(cupy, by_code(int(code)), images, some, values, keys)
        at = upto + 1


# --- images that are on the host ------------------------------------------------------------------------


def _through(cupy: Any, pairs: Sequence[tuple[Compiled, Any]], how: _How) -> list[Any]:
    """Over and back in pieces, on two streams: while one is copied, the one before is augmented."""
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
    waiting: list[tuple[Any, Array, Array, Array]] = []
    results = []
    turn = 0
    for compiled, given in pairs:
        images = _host_array(given)
        shape = images.shape if how.output is None else how.output.shape(images.shape)
        made = np.empty(shape, images.dtype if how.output is None else how.output.holder)
        results.append(made)
        step = max(1, _PIECE // max(images[:1].nbytes, 1))
        for start in range(0, len(images) if made.size else 0, step):
            part, stream = slice(start, start + step), streams[turn % 2]
            if len(waiting) == len(streams):
                _arrive(*waiting.pop(0))
            with stream:
                there = cupy.empty(images[part].shape, images.dtype)
                over = _pinned(cupy, images[part].shape, images.dtype)
                over[...] = images[part]
                there.set(over, stream=stream)
                (done,) = _stay(cupy, [(compiled.take(part), there)], how)
                back = _pinned(cupy, done.shape, done.dtype)
                done.get(stream=stream, out=back, blocking=False)
            waiting.append((stream, back, made[part], over))
            turn += 1
    for each in waiting:
        _arrive(*each)
    return results


def _arrive(stream: Any, back: Array, into: Array, _held: Array) -> None:
    """The end of a piece; what the stream reads is held until then."""
    stream.synchronize()
    into[...] = back


def _host_array(images: Any) -> Array:
    if isinstance(images, list):
        return np.stack([np.asarray(image) for image in images])
    return images if isinstance(images, np.ndarray) else np.from_dlpack(images)


def _pinned(cupy: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Memory from which the device copies by itself; CuPy keeps it for the next piece."""
    count = int(np.prod(shape))
    memory = cupy.cuda.alloc_pinned_memory(count * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, count).reshape(shape)
