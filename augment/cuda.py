"""Compiled programs carried out on a GPU: the same bits as :mod:`augment.cpu`.

One launch augments a whole batch, whatever its images' shapes are, and writes what :class:`~augment.output.Output`
asks for. The kernel and how it works: ``programs.cu``. CuPy is imported when a function is called, and NVRTC
compiles for the GPU that is there (some seconds, once; CuPy keeps the result on disk).

Images on the device stay there: CuPy arrays, and whatever speaks ``__cuda_array_interface__`` or DLPack. Results
are CuPy arrays, which PyTorch and JAX take over without a copy::

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

from augment._launch import MOST_CHANNELS, Job, launch
from augment.compile import CALLS, Compiled, compile_programs
from augment.cpu import shape_of
from augment.ops import Op, Shape, by_code
from augment.output import Output
from augment.programs import ABSENT
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
        compiled: for as many images, of this shape; or a list of them for a list of batches, which still are one
            launch.
        images: uint8 or uint16, (n, h, w, c) or (n, h, w), on the device or on the host; or a list of such. In
            place of a batch a list of (h, w, c) or (h, w) arrays may stand.
        output: how they are handed over; None: as they were given.
        stream: the CuPy stream to work in. None: the current one.
        calls: what happens with ops that are functions of their own and have none for the GPU: "device": they are
            refused; "host": their images go to the CPU and back.

    Returns:
        New images: CuPy arrays for arrays on the device, NumPy arrays for those on the host; a list for a list. On
        the device they are ready when the stream has come so far.

    Raises:
        lake.errors.DeviceError: there is no GPU, or no CuPy, or too little memory; or an op has no function for it.
        ValueError: it was compiled for others.
        TypeError: for another dtype.
    """
    cupy = _cupy()
    several = not isinstance(compiled, Compiled)
    pairs = list(zip(compiled, images, strict=True)) if several else [(compiled, images)]
    how = _How(output, calls)
    for one, given in pairs:
        _check(one, given, how)
    places = {_on_host(given) for _, given in pairs}
    if len(places) > 1:
        raise ValueError("some images are on the host, others on the device: give all of them on one")
    with stream if stream is not None else cupy.cuda.get_current_stream():
        made = _through(cupy, pairs, how) if places == {True} else _stay(cupy, pairs, how)
    return made if several else made[0]


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
        from augment import cuda_draw

        drawn = cuda_draw.compiled_on_device(_cupy(), policy, images, ids, seed, epoch, stream)
        if drawn is not None:
            return run(drawn, images, output=output, stream=stream, calls=calls)
    programs = policy.draw(ids, seed, epoch)
    if len(images) != len(programs):
        raise ValueError(f"{len(images)} images but {len(programs)} ids or programs: give one per image")

    def compiled(numbers: Sequence[int], shape: Shape) -> Compiled:
        return compile_programs(
            programs.take(numbers), shape, space=policy.space, resampling=policy.resampling
        )

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
        raise TypeError("float32 images are augmented on the CPU only: give uint8 or uint16, and ask for a float output")
    if shape.channels > MOST_CHANNELS:
        raise ValueError(f"images of {shape.channels} channels: a GPU takes up to {MOST_CHANNELS}; choose device cpu")
    if how.calls == "host" or isinstance(compiled.codes, np.ndarray) is False:
        return
    for code in np.unique(compiled.codes[compiled.codes >= CALLS]):
        op = by_code(int(code))
        if not _twin(op):
            raise DeviceError(
                f"{op.name} has no function for a GPU",
                hint='pass calls="host": its images go to the CPU and back; or choose device cpu',
            )


def _twin(op: Op) -> str:
    """The op's function for a GPU, as ``module:function``."""
    return getattr(op, "cuda", "")


def _on_host(images: Any) -> bool:
    first = images[0] if isinstance(images, list) and images else images
    if isinstance(first, np.ndarray) or isinstance(images, list) and not images:
        return True
    if hasattr(first, "__cuda_array_interface__"):
        return False
    return hasattr(first, "__dlpack_device__") and int(first.__dlpack_device__()[0]) == _CPU


# --- images that are on the device ----------------------------------------------------------------------


def _stay(cupy: Any, pairs: Sequence[tuple[Compiled, Any]], how: _How) -> list[Any]:
    try:
        given = [(one, _device_arrays(cupy, images)) for one, images in pairs]
        made = [_result(cupy, one, images, how) for one, images in given]
        work = [(one, arrays, out) for (one, arrays), (out, _) in zip(given, made, strict=True)]
        try:
            _fill(cupy, work, how)
        except cupy.cuda.memory.OutOfMemoryError:
            cupy.get_default_memory_pool().free_all_blocks()
            for half in _halves(work):
                _fill(cupy, half, how)
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise DeviceError(
            f"{sum(len(one) for one, _ in pairs)} images do not fit into the memory of the GPU, nor half of them",
            why=str(error),
            hint="give smaller batches, or free memory that other libraries keep (torch.cuda.empty_cache())",
        ) from error
    return [shown for _, shown in made]


def _device_arrays(cupy: Any, images: Any) -> Any:
    """A batch (n, h, w, c), or a list of arrays, on the device and in C order; copied only where it must be."""
    if isinstance(images, list):
        return [_device_arrays(cupy, image[None])[0] for image in images]
    if hasattr(images, "__cuda_array_interface__") or isinstance(images, np.ndarray):
        array = cupy.asarray(images)
    else:
        array = cupy.from_dlpack(images)
    return cupy.ascontiguousarray(array if array.ndim == _BATCH else array[..., None])


def _result(cupy: Any, compiled: Compiled, images: Any, how: _How) -> tuple[Any, Any]:
    """Memory for the results, as it is filled and as it is shown."""
    h, w, c, top = compiled.shape
    own = np.uint8 if top == 255 else np.uint16  # noqa: PLR2004  (the two depths)
    full = (len(compiled), h, w, c)
    dtype, shape = (own, full) if how.output is None else (how.output.holder, how.output.shape(full))
    made = cupy.empty(shape, dtype)
    grey = not isinstance(images, list) and False
    return made, made[..., 0] if grey else made


def _halves(work: list[tuple[Compiled, Any, Any]]) -> Iterator[list[tuple[Compiled, Any, Any]]]:
    if len(work) > 1:
        yield work[: len(work) // 2]
        yield work[len(work) // 2 :]
        return
    for one, images, out in work:
        middle = len(one) // 2
        for part in (slice(middle), slice(middle, None)):
            if len(out[part]):
                yield [(one.take(part), images[part], out[part])]
