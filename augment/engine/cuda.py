"""Compiled programs carried out on a GPU: the same bits as :mod:`augment.engine.cpu`.

One launch augments a whole batch, whatever its images' shapes are, and writes what an
:class:`~augment.engine.output.Output` asks for; partners of MixUp and CutMix are read in it, and masks take
another one. The kernel and how it works: ``programs.cu``. CuPy is imported when a function is called, and NVRTC
compiles for the GPU that is there: some seconds, once; CuPy keeps the result.

Images on the device stay there: CuPy arrays, and whatever speaks ``__cuda_array_interface__`` or DLPack. The
results are CuPy arrays, which PyTorch and JAX take over without a copy::

    made = policy.apply(torch_images, ids, device="cuda", output=Output("float16", "NCHW"))
    batch = torch.from_dlpack(made)          # or jax.dlpack.from_dlpack(made)

NumPy arrays come back as NumPy arrays: they go over in pieces, through pinned memory, on two streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from augment.engine._cuda_calls import check
from augment.engine._cuda_work import Batch, refuse_not_finite, stay, too_little_memory
from augment.engine._launch import MOST_CHANNELS, is_call, mixes, on_device
from augment.engine.compile import Compiled, compile_programs
from augment.engine.cpu import shape_of, together
from augment.engine.mix import shares
from augment.engine.output import Output
from augment.engine.programs import Programs
from augment.ops import Shape, by_code
from lake.gpu import check_place
from lake.gpu import cupy as _cupy

if TYPE_CHECKING:
    from augment.policy import Policy
    from augment.targets import Targets

__all__ = ["Calls", "apply", "carry_out", "run"]

Calls = Literal["device", "host"]
Array = npt.NDArray[Any]

_STREAMS = 2
_PIECE = 32 << 20  # bytes of host images that go over at a time
_CPU = 1  # DLPack's number of the device


def run(
    compiled: Compiled | Sequence[Compiled],
    images: Any,
    *,
    partners: Any = None,
    output: Output | None = None,
    stream: Any = None,
    calls: Calls = "device",
) -> Any:
    """Carry out what was compiled, on the current device.

    Args:
        compiled: for as many images, of this shape; or a list of them for a list of batches, in one launch.
        images: uint8, uint16 or float32, (n, h, w, c) or (n, h, w), on the device or on the host; or a list of
            such. In place of a batch a list of (h, w, c) or (h, w) arrays may stand.
        partners: the same once more, for the ops that mix.
        output: how they are handed over; None: as they were given.
        stream: the CuPy stream to work in. None: the current one.
        calls: of ops that are functions of their own, and have none for the GPU: "device": they are refused;
            "host": their images go to the CPU and back.

    Returns:
        New images: CuPy arrays for arrays on the device, NumPy arrays for those on the host; a list for a list.
        On the device they are ready when the stream has come so far.

    Raises:
        lake.errors.DeviceError: there is no GPU, no CuPy, too little memory, or no function for an op.
        ValueError: it was compiled for others, a float is not finite, there are no fitting partners, or an
            array is on another GPU.
        TypeError: for another dtype.
    """
    cupy = _cupy()
    with _in(cupy, stream):
        images, partners = arrays(cupy, images), arrays(cupy, partners)
        if isinstance(compiled, Compiled):
            return carry_out(cupy, [Batch(compiled, images, partners, output)], calls)[0]
        others = [None] * len(images) if partners is None else partners
        several = zip(compiled, images, others, strict=True)
        return carry_out(cupy, [Batch(*each, output) for each in several], calls)


def apply(
    policy: Policy,
    images: Any,
    ids: Any,
    *,
    seed: int = 0,
    epoch: int = 0,
    targets: Targets | None = None,
    partners: Any = None,
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
        targets: as there. Masks are moved on the device, and come back to where they were; boxes and keypoints
            are a little arithmetic, which the CPU does.
        partners: as there, and where the images are.
        output: see :func:`run`.
        stream: see :func:`run`.
        calls: see :func:`run`.

    Returns:
        New images, the same kind as given; with targets or partners the pair that ``Policy.apply`` gives.

    Raises:
        ValueError: the numbers of images and ids differ; and see :func:`run`.
    """
    cupy = _cupy()
    if targets is not None and partners is not None:
        raise ValueError("masks, boxes and keypoints cannot be mixed: give targets or partners, not both")
    with _in(cupy, stream):
        images, partners = arrays(cupy, images), arrays(cupy, partners)
        if not isinstance(images, list) and targets is None and partners is None:
            from augment.engine import cuda_draw

            drawn = cuda_draw.compiled_on_device(cupy, policy, images, ids, seed, epoch, None)
            if drawn is not None:
                return carry_out(cupy, [Batch(drawn, images, None, output)], calls)[0]
        _check_counts(images, targets, partners)
        programs = policy.draw(cupy.asarray(ids).get() if on_device(ids) else ids, seed, epoch)
        return _in_groups(cupy, policy, images, programs, targets, partners, output, calls)


def _check_counts(images: Any, targets: Targets | None, partners: Any) -> None:
    if targets is not None:
        targets.check(len(images))
    if partners is not None and len(partners) != len(images):
        raise ValueError(f"{len(images)} images but {len(partners)} partners: give one per image")


def _in_groups(  # noqa: PLR0917  (what `apply` has)
    cupy: Any, policy: Policy, images: Any, programs: Programs, targets: Targets | None, partners: Any,
    output: Output | None, calls: Calls,
) -> Any:  # fmt: skip
    """Compile for the images of each shape, and carry out all of them."""
    if len(images) != len(programs):
        raise ValueError(f"{len(images)} images but {len(programs)} ids or programs: give one per image")
    groups = _groups(images)
    numbers = [some for some, _ in groups]
    compiled = [
        compile_programs(programs.take(some), shape, space=policy.space, resampling=policy.resampling)
        for some, shape in groups
    ]
    batches = [
        Batch(one, _some(images, some), _some(partners, some, images), output, names=some)
        for one, some in zip(compiled, numbers, strict=True)
    ]
    made = carry_out(cupy, batches, calls)
    done = _in_order(made, numbers) if isinstance(images, list) else made[0]
    if partners is not None:
        share = np.zeros(len(images))
        for some, one in zip(numbers, compiled, strict=True):
            share[some] = shares(one)
        return done, share
    if targets is None:
        return done
    from augment.engine.cuda_targets import move

    if not isinstance(images, list):
        return done, move(cupy, [(compiled[0], targets, numbers[0])], calls)[0]
    parts = [(one, targets.take(some), some) for one, some in zip(compiled, numbers, strict=True)]
    return done, together(targets, list(zip(numbers, move(cupy, parts, calls), strict=True)))


def carry_out(cupy: Any, batches: Sequence[Batch], calls: Calls) -> list[Any]:
    """Carry out batches that are all on the host or all on the device, in the current stream.

    Raises:
        as :func:`run`.
    """
    for each in batches:
        _check(each, calls)
    places = {
        _on_host(given) for each in batches for given in (each.images, each.partners) if given is not None
    }
    if len(places) > 1:
        raise ValueError("some images are on the host, others on the device: give all of them on one")
    try:
        return _through(cupy, batches) if places == {True} else stay(cupy, batches)
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise too_little_memory(sum(len(each.compiled) for each in batches), error) from error


def arrays(cupy: Any, images: Any) -> Any:
    """What may be of any library as arrays of NumPy or CuPy, where they are and without a copy.

    Raises:
        ValueError: an array is on another GPU than the current one.
    """
    if isinstance(images, (list, tuple)):
        return [arrays(cupy, image) for image in images]
    if images is None or isinstance(images, np.ndarray):
        return images
    if on_device(images):
        made = cupy.asarray(images)
    elif not hasattr(images, "__dlpack_device__"):
        return np.asarray(images)
    elif int(images.__dlpack_device__()[0]) == _CPU:
        return np.from_dlpack(images)
    else:
        made = cupy.from_dlpack(images)
    check_place(cupy, made)
    return made


def _in(cupy: Any, stream: Any) -> Any:
    return stream if stream is not None else cupy.cuda.get_current_stream()


def _groups(images: Any) -> list[tuple[list[int], Shape]]:
    """The numbers of images of one shape and type each."""
    if not isinstance(images, list):
        return [(list(range(len(images))), _shape(images))]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, image in enumerate(images):
        groups.setdefault((image.shape, image.dtype), []).append(i)
    return [(numbers, _shape([images[numbers[0]]])) for numbers in groups.values()]


def _shape(images: Any) -> Shape:
    """Of a batch, or of a list of arrays of one shape."""
    return shape_of(images[0][None] if isinstance(images, list) else images)


def _some(given: Any, numbers: list[int], like: Any = None) -> Any:
    """Those of a group; all of an array, which is one group."""
    whole = not isinstance(given if like is None else like, list)
    return given if given is None or whole else [given[i] for i in numbers]


def _in_order(made: list[Any], numbers: list[list[int]]) -> list[Any]:
    results: dict[int, Any] = {}
    for some, batch in zip(numbers, made, strict=True):
        results.update(zip(some, batch, strict=True))
    return [results[i] for i in sorted(results)]


def _check(batch: Batch, calls: Calls) -> None:
    compiled, images, shape = batch.compiled, batch.images, batch.compiled.shape
    count = len(images)
    if len(compiled) != count or (count and _shape(images) != shape):
        raise ValueError(
            f"compiled for {len(compiled)} images of {tuple(shape[:3])}, not for the {count} given"
        )
    if shape.channels > MOST_CHANNELS:
        raise ValueError(
            f"images of {shape.channels} channels: a GPU takes up to {MOST_CHANNELS}; choose device cpu"
        )
    if batch.output is not None and count:
        batch.output.check((images[0] if isinstance(images, list) else images).dtype)
    if on_device(compiled.codes):  # drawn there: only what is a table is
        return
    for code in np.unique(compiled.codes[is_call(compiled.codes)]):
        check(by_code(int(code)), host=calls == "host")
    _check_partners(batch)


def _check_partners(batch: Batch) -> None:
    images, partners = batch.images, batch.partners
    if partners is None:
        mixing = batch.compiled.codes[mixes(batch.compiled.codes)]
        if len(mixing):
            name = by_code(int(mixing[0])).name
            raise ValueError(f"{name} mixes an image with another one: give partners=, one image for each")
        return
    if _kinds(partners) != _kinds(images):
        one, other = (each[0] if isinstance(each, list) else each for each in (images, partners))
        raise ValueError(
            f"partners are {other.dtype} {other.shape}, images {one.dtype} {one.shape}: they must be alike"
        )


def _kinds(images: Any) -> set[tuple[Any, ...]]:
    if not isinstance(images, list):
        return {(tuple(images.shape[1:]), images.dtype)}
    return {(tuple(image.shape), image.dtype) for image in images}


def _on_host(images: Any) -> bool:
    return _on_host(images[0]) if isinstance(images, list) and images else not on_device(images)


# --- images that are on the host ------------------------------------------------------------------------


def _through(cupy: Any, batches: Sequence[Batch]) -> list[Any]:
    """Over and back in pieces, on two streams: while one is copied, the one before is augmented."""
    streams = _streams(cupy.cuda.Device().id)
    turns = cycle(streams)
    waiting: list[tuple[Any, Array, Array, Any]] = []
    try:
        results = [_piecewise(cupy, each, turns, waiting) for each in batches]
        for piece in waiting:
            _arrive(*piece)
    finally:  # or pinned memory would go back while the device still writes there
        for stream in streams:
            stream.synchronize()
    return results


@cache
def _streams(_device: int) -> list[Any]:
    """For all threads, and kept: CuPy's pool keeps memory for a stream even when the stream is no more."""
    return [_cupy().cuda.Stream(non_blocking=True) for _ in range(_STREAMS)]


def _piecewise(
    cupy: Any, batch: Batch, turns: Iterator[Any], waiting: list[tuple[Any, Array, Array, Any]]
) -> Array:
    """One batch; the last of its pieces are `waiting` to arrive."""
    images = _host_array(batch.images)
    partners = None if batch.partners is None else _host_array(batch.partners)
    for what, given in (("images", images), ("partners", partners)):
        if given is not None and given.dtype.kind == "f" and not batch.checked and given.size:
            bad = np.asarray(~np.isfinite(given).reshape(len(given), -1).all(axis=1))
            refuse_not_finite(bad, batch.names, what)
    shape = images.shape if batch.output is None else batch.output.shape(images.shape)
    made = np.empty(shape, images.dtype if batch.output is None else batch.output.holder)
    step = max(1, _PIECE // max(images[:1].nbytes, 1))
    for start in range(0, len(images) if made.size else 0, step):
        part = slice(start, start + step)
        if len(waiting) == _STREAMS:
            _arrive(*waiting.pop(0))
        stream = next(turns)
        with stream:
            there, held = _over(cupy, images[part], stream)
            beside, too = (None, None) if partners is None else _over(cupy, partners[part], stream)
            some = Batch(batch.compiled.take(part), there, beside, batch.output, checked=True)
            (done,) = stay(cupy, [some])
            back = _pinned(cupy, done.shape, done.dtype)
            done.get(stream=stream, out=back, blocking=False)
        waiting.append((stream, back, made[part], (held, too)))
    return made


def _over(cupy: Any, images: Array, stream: Any) -> tuple[Any, Array]:
    """A piece on the device, and the memory that must be held until it is there."""
    there, over = cupy.empty(images.shape, images.dtype), _pinned(cupy, images.shape, images.dtype)
    over[...] = images
    there.set(over, stream=stream)
    return there, over


def _arrive(stream: Any, back: Array, into: Array, _held: Any) -> None:
    """The end of a piece; what the stream reads is held until then."""
    stream.synchronize()
    into[...] = back


def _host_array(images: Any) -> Array:
    return np.stack(images) if isinstance(images, list) else images


def _pinned(cupy: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Memory from which the device copies by itself; CuPy keeps it for the next piece."""
    count = int(np.prod(shape))
    memory = cupy.cuda.alloc_pinned_memory(count * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, count).reshape(shape)
