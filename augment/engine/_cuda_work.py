"""Batches on the device, carried out: in one launch, or in rounds where ops are functions of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augment.engine._cuda_calls import call
from augment.engine._launch import Job, bits_of, is_call, launch, not_finite, on_device
from augment.engine.compile import Compiled
from augment.engine.output import Output
from augment.engine.programs import ABSENT
from augment.ops import by_code
from lake.errors import DeviceError

__all__ = ["DTYPES", "Batch", "refuse_not_finite", "stay", "too_little_memory"]

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Images of one shape and what is to be done to them.

    Attributes:
        compiled: for as many.
        images: an array, or a list of arrays; all are on the host or all on the device.
        partners: as many, for stages that mix; or None.
        output: how they are handed over; None: as they were given.
        checked: what they hold is known to be finite, or need not be.
        names: what errors call the images; their positions where not given.
    """

    compiled: Compiled
    images: Any
    partners: Any = None
    output: Output | None = None
    checked: bool = False
    names: Sequence[int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """A batch with the place of its results."""

    compiled: Compiled
    codes: Any
    values: Any
    images: Any
    partners: Any
    out: Any
    output: Output | None

    def part(self, which: slice) -> _Work:
        return _Work(
            self.compiled.take(which) if not on_device(self.codes) else self.compiled,
            self.codes[which], self.values[which], self.images[which],
            None if self.partners is None else self.partners[which], self.out[which], self.output,
        )  # fmt: skip

    def job(self, codes: Any, images: Any, out: Any) -> Job:
        h, w, c, top = self.compiled.shape
        return Job(
            (h, w, c), bits_of(top), self.compiled.resampling == "bilinear", _addresses(images),
            _addresses(out), codes, self.values, None if self.partners is None else _addresses(self.partners),
        )  # fmt: skip


def stay(cupy: Any, batches: Sequence[Batch]) -> list[Any]:
    """Carry out batches on the device: new arrays there, ready when the current stream has come so far.

    Raises:
        ValueError: a float is not finite.
    """
    work = []
    for each in batches:
        images = _in_c_order(cupy, each.images)
        partners = None if each.partners is None else _in_c_order(cupy, each.partners)
        compiled, out = each.compiled, _results(cupy, each, images)
        one = _Work(compiled, compiled.codes, compiled.values, images, partners, out, each.output)
        work.append(one)
    _look_for_nan(cupy, batches, work)
    try:
        _fill(cupy, work)
    except cupy.cuda.memory.OutOfMemoryError:
        cupy.get_default_memory_pool().free_all_blocks()
        for half in _halves(work):
            _fill(cupy, half)
    return [each.out for each in work]


def too_little_memory(count: int, error: Exception) -> DeviceError:
    """The error for images that do not fit, nor half of them."""
    return DeviceError(
        f"{count} images do not fit into the GPU's memory, nor half of them",
        why=str(error),
        hint="give smaller batches, or free what other libraries keep (torch.cuda.empty_cache())",
    )


def refuse_not_finite(bad: npt.NDArray[np.bool_], names: Sequence[int] | None, what: str = "images") -> None:
    """Name images that hold what is no number; ``bad``: which ones.

    Raises:
        ValueError: there is one.
    """
    if bad.any():
        first = int(bad.argmax())
        raise ValueError(
            f"{bad.sum()} of {len(bad)} {what} hold NaN or infinity, the first is number "
            f"{first if names is None else names[first]}: replace such pixels (nan_to_num), "
            "or leave the images out"
        )


def _look_for_nan(cupy: Any, batches: Sequence[Batch], work: list[_Work]) -> None:
    """In one launch for all images and partners that are floats."""
    looked, places = [], []
    for batch, each in zip(batches, work, strict=True):
        if batch.checked or each.compiled.shape.top != 1.0 or not (len(each.out) and each.out.size):
            continue
        for what, given in (("images", each.images), ("partners", each.partners)):
            if given is not None:
                looked.append((what, batch.names))
                at = _addresses(given)
                places.append(np.stack([at, np.full(len(at), np.prod(each.compiled.shape[:3]))], axis=1))
    if places:
        bad = not_finite(cupy, np.concatenate(places).astype(np.int64))
        for (what, names), some in zip(looked, places, strict=True):
            refuse_not_finite(bad[: len(some)], names, what)
            bad = bad[len(some) :]


def _in_c_order(cupy: Any, images: Any) -> Any:
    """Copied only where it must be."""
    if isinstance(images, list):
        return [_in_c_order(cupy, image) for image in images]
    return cupy.ascontiguousarray(images)


def _results(cupy: Any, batch: Batch, images: Any) -> Any:
    single = images[0] if isinstance(images, list) else None
    shape = images.shape if single is None else (len(images), *single.shape)
    dtype = images.dtype if single is None else single.dtype
    if batch.output is not None:
        shape, dtype = batch.output.shape(shape), batch.output.holder
    return cupy.empty(shape, dtype) if len(batch.compiled) else cupy.empty((0, *shape[1:]), dtype)


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


def _fill(cupy: Any, work: list[_Work]) -> None:
    plain: dict[Output | None, list[Job]] = {}
    for each in work:
        if not len(each.out) or not each.out.size:
            continue
        if not on_device(each.codes) and is_call(each.codes).any():
            _with_calls(cupy, each)
        else:
            plain.setdefault(each.output, []).append(each.job(each.codes, each.images, each.out))
    for output, jobs in plain.items():
        launch(cupy, jobs, output)


def _with_calls(cupy: Any, work: _Work) -> None:
    """In rounds: each image up to its next call, then these calls, op by op."""
    codes, (n, k) = work.codes, work.codes.shape
    slots, at = np.arange(k), np.zeros(n, np.int64)
    images = work.images
    while True:
        calls = is_call(codes) & (slots >= at[:, None])
        upto = np.where(calls.any(axis=1), calls.argmax(axis=1), k)
        now = np.where((slots >= at[:, None]) & (slots < upto[:, None]), codes, ABSENT)
        last = bool((upto == k).all())
        h, w, c, top = work.compiled.shape
        into = work.out if last else cupy.empty((n, h, w, c), DTYPES[bits_of(top)])
        launch(cupy, [work.job(now, images, into)], work.output if last else None)
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


DTYPES = {8: "uint8", 16: "uint16", 32: "float32"}
"""Of the pixels, by their bits."""
