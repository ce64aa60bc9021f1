"""Programs carried out on the CPU, exactly.

Pillow 13 is the reference for uint8, bit for bit:

- L = (19595 R + 38470 G + 7471 B + 32768) >> 16.
- blend(d, a, f) = trunc(clip(d + f (a - d), 0, 255)) in float32. Brightness: d = 0. Color: d = L. Contrast:
  d = int(mean(L) + 0.5). Sharpness: d = the 3x3 sum of [1 1 1; 1 5 1; 1 1 1] over 13, rounded half up; the
  border of one pixel stays.
- Posterize keeps the upper bits; 0 bits, which old published policies contain and Pillow refuses, count as 1.
  Solarize inverts from a threshold on. AutoContrast stretches each channel in float64. Equalize as in
  ``PIL.ImageOps``.
- Warps: nearest neighbour in 16.16 fixed point (float64 in perspective) or bilinear, black outside. Shears are
  about the top-left corner, rotations about the centre, translations by whole pixels.
- Cutout (not in Pillow): a square of ``int(parameter * min(h, w))`` pixels of mid-grey, 128, about a place
  drawn uniformly over the image, cut off at its edges (DeVries and Taylor, 2017).

uint16 is the same over 0 .. 65535, never a cast to 8 bits: thresholds of Solarize are multiplied by 257;
Posterize to b < 8 bits keeps the b highest (8 changes nothing, on either depth); Equalize needs more than
65,535 pixels to do anything, as its integer step is 0 below. Images that are neither grey nor RGB take the
rounded mean of their channels for L.

What is fused, and when that is exact: :mod:`augment.engine.compile`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from augment.engine.compile import CALLS, Compiled, Resampling, compile_programs
from augment.engine.programs import Programs
from augment.ops import Op, Program, Shape, Space, by_code
from lake.errors import DeviceError
from lake.machine import cores
from lake.parallel import in_chunks

if TYPE_CHECKING:
    from augment.engine.output import Output
    from augment.targets import Targets

__all__ = ["check_device", "check_finite", "execute", "run", "shape_of", "threads", "together"]

Array = npt.NDArray[Any]

_TOPS = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0, np.dtype(np.float32): 1.0}
_CHUNK, _MOST = 1 << 19, 1 << 24  # values that a thread takes at a time, at least and at most
_SHARES = 8  # of the batch, for each thread: some take longer than others
_BATCH, _IMAGE = 4, 3  # dimensions


def check_device(device: str) -> None:
    """Refuse what is neither "cpu" nor "cuda", clearly and never silently.

    Raises:
        lake.errors.DeviceError: for any other device.
    """
    if device not in {"cpu", "cuda"}:
        raise DeviceError(
            f"device {device!r} was asked for, but there are cpu and cuda",
            hint="the GPU that works is CuPy's current device: with cupy.cuda.Device(1): ...",
        )


def threads() -> int:
    """As many as this process may use; an engine that gives a worker fewer cores says so by OMP_NUM_THREADS."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(said), cores()) if said.isdigit() and int(said) > 0 else cores()


def execute(
    images: Any,
    programs: Sequence[Program],
    *,
    space: Space = "wide",
    resampling: Resampling = "nearest",
    fuse: bool = True,
    targets: Targets | None = None,
    partners: Any = None,
    output: Output | None = None,
) -> Any:
    """Carry out one program per image.

    Args:
        images: uint8, uint16, or float32 in 0 .. 1, (n, h, w, c) or (n, h, w); or a sequence of (h, w, c) or
            (h, w) arrays of any sizes.
        programs: as many; parameters are those of ``space``.
        space: in which translations are pixels ("wide") or shares of the side ("autoaugment").
        resampling: of the warps.
        fuse: False: consecutive warps stay as many resamplings.
        targets: masks, boxes and keypoints that move along.
        partners: as many images of the same shapes, for MixUp and CutMix.
        output: how the images are handed over; None: as they were given.

    Returns:
        New images: an array for an array, a list for a sequence. With targets, images and moved targets; with
        partners, images and the partners' shares in the labels, float64 (n,).

    Raises:
        ValueError: the numbers differ, or a shape is none of those above.
        TypeError: for another dtype.

    >>> from augment.ops import Applied
    >>> execute(np.array([[[1, 2], [3, 4]]], np.uint8), [[Applied("Invert", 0.0)]]).tolist()
    [[[254, 253], [252, 251]]]
    """
    if len(images) != len(programs):
        raise ValueError(f"{len(images)} images but {len(programs)} ids or programs: give one per image")
    made = Programs.of(programs)
    if not isinstance(images, np.ndarray):  # an array is looked at when it is run
        check_finite(images)
    if targets is not None and partners is not None:
        raise ValueError("masks, boxes and keypoints cannot be mixed: give targets or partners, not both")
    if targets is not None:
        targets.check(len(images))
    if partners is not None and len(partners) != len(images):
        raise ValueError(f"{len(images)} images but {len(partners)} partners: give one per image")

    def batch(numbers: Sequence[int], some: Array) -> tuple[Array, Any]:
        """Of some images of one shape: the new ones, and what goes with them."""
        compiled = compile_programs(
            made.take(numbers), shape_of(some), space=space, resampling=resampling, fuse=fuse
        )
        if partners is not None:
            from augment.engine.mix import shares

            whole = isinstance(images, np.ndarray) and isinstance(partners, np.ndarray)
            others = partners if whole else np.stack([partners[i] for i in numbers])
            return _handed(run(compiled, some, partners=others), output), shares(compiled)
        done = _handed(run(compiled, some), output)
        return done, None if targets is None else _moved(compiled, targets.take(numbers), numbers)

    if isinstance(images, np.ndarray):
        result, rest = batch(range(len(images)), images)
        return result if rest is None else (result, rest)
    return _in_groups([np.asarray(image) for image in images], batch, targets, mixed=partners is not None)


def _handed(images: Array, output: Output | None) -> Array:
    return images if output is None else output.convert(images)


def _in_groups(
    arrays: Sequence[Array], batch: Callable[..., tuple[Array, Any]], targets: Targets | None, *, mixed: bool
) -> Any:
    """Images of any sizes, a batch for each shape."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, array in enumerate(arrays):
        groups.setdefault((array.shape, array.dtype), []).append(i)
    results: list[Array] = [np.empty(0)] * len(arrays)
    parts, share = [], np.zeros(len(arrays))
    for numbers in groups.values():
        done, rest = batch(numbers, np.stack([arrays[i] for i in numbers]))
        for i, image in zip(numbers, done, strict=True):
            results[i] = image
        if mixed:
            share[numbers] = rest
        parts.append((numbers, rest))
    if mixed:
        return results, share
    return results if targets is None else (results, together(targets, parts))


def _moved(compiled: Compiled, targets: Targets, numbers: Sequence[int]) -> Targets:
    from augment.targets import move

    return move(compiled, targets, numbers)


def together(targets: Targets, parts: Sequence[tuple[list[int], Targets | None]]) -> Targets:
    """Give the targets of groups of images, back in the order of the images."""
    made: dict[str, Any] = {}
    for name in ("masks", "boxes", "keypoints", "box_labels", "kept", "visible"):
        values: dict[int, Any] = {}
        for positions, part in parts:
            found = getattr(part, name)
            if found is not None and len(found):
                values.update(zip(positions, found, strict=True))
        if values:
            ordered = [values[i] for i in sorted(values)]
            made[name] = tuple(ordered) if name in {"kept", "visible"} else ordered
    return replace(targets, **made)


def shape_of(images: Array) -> Shape:
    """The shape of a batch, checked.

    Raises:
        ValueError: it is neither (n, h, w, c) nor (n, h, w).
        TypeError: the dtype has no exact definition.
    """
    if images.dtype not in _TOPS:
        raise TypeError(f"images of dtype {images.dtype}: give uint8, uint16, or float32 of 0 .. 1")
    if images.ndim not in {_BATCH, _IMAGE}:
        raise ValueError(f"images of shape {images.shape}: give (n, h, w, c), (n, h, w), or a list of images")
    h, w, c = images.shape[1:] if images.ndim == _BATCH else (*images.shape[1:], 1)
    return Shape(h, w, c, _TOPS[images.dtype])


def run(compiled: Compiled, images: Array, *, partners: Array | None = None) -> Array:
    """Carry out what was compiled, on all cores.

    Args:
        compiled: for as many images, of this shape.
        images: uint8, uint16 or float32, (n, h, w, c) or (n, h, w).
        partners: as many, for the ops that mix.

    Returns:
        New images of the same shape and dtype.

    Raises:
        ValueError: it was compiled for others, a float is not finite, or there are no fitting partners.
    """
    if len(compiled) != len(images) or shape_of(images) != compiled.shape:
        raise ValueError(
            f"compiled for {len(compiled)} images of {tuple(compiled.shape[:3])}, "
            f"not for {images.dtype} {images.shape}"
        )
    if images.size == 0:
        return images.copy()
    check_finite(images)
    if partners is not None and (partners.shape != images.shape or partners.dtype != images.dtype):
        raise ValueError(
            f"partners are {partners.dtype} {partners.shape}, images {images.dtype} {images.shape}: "
            "they must be alike"
        )
    # The kernel is compiled for writable C order; a read-only or strided array is copied here.
    four = np.require(images if images.ndim == _BATCH else images[..., None], requirements=["C", "W"])
    out = np.empty_like(four)
    called = np.asarray((compiled.codes >= CALLS).any(axis=1) | (images.dtype.kind == "f"))

    def work(start: int, stop: int) -> None:
        if called[start:stop].any():
            for i in range(start, stop):
                _one(compiled, i, four, out, partners)
        else:
            _kernel(compiled, slice(start, stop), slice(None), four[start:stop], out[start:stop])

    count, many = len(four), threads()
    even = -(-count // (_SHARES * many)) if many > 1 else count
    least, most = max(1, _CHUNK // four[0].size), max(1, _MOST // four[0].size)
    in_chunks(many, count, min(max(even, least), most), work)
    return out.reshape(images.shape)


def check_finite(images: Any) -> None:
    """Refuse float images that hold what is no number: nothing that follows would be right.

    Raises:
        ValueError: with the number of the first.
    """
    if isinstance(images, np.ndarray) and (images.dtype.kind != "f" or np.isfinite(images).all()):
        return
    bad = [i for i, each in enumerate(map(np.asarray, images)) if _has_nan(each)]
    if bad:
        raise ValueError(
            f"{len(bad)} of {len(images)} images hold NaN or infinity, the first is number {bad[0]}: replace "
            "such pixels (for instance by np.nan_to_num) or leave the images out"
        )


def _has_nan(image: Array) -> bool:
    return image.dtype.kind == "f" and not np.isfinite(image).all()


def _kernel(compiled: Compiled, rows: slice, slots: slice, images: Array, out: Array) -> None:
    """The stages that are not calls, in one kernel."""
    from augment.engine import _kernels

    _kernels.run(
        images, out, np.ascontiguousarray(compiled.codes[rows, slots]),
        np.ascontiguousarray(compiled.values[rows, slots]), int(compiled.shape.top),
        compiled.resampling == "bilinear",
    )  # fmt: skip


def _one(compiled: Compiled, i: int, images: Array, out: Array, partners: Array | None) -> None:
    """One image with calls among its stages: the stages between them go to the kernel."""
    image, at = images[i], 0
    codes = compiled.codes[i]
    row = slice(i, i + 1)
    for slot in [*np.flatnonzero(codes >= CALLS), len(codes)]:
        if at < slot and (codes[at:slot] >= 0).any():
            image = _segment(compiled, row, slice(at, slot), image)
        if slot < len(codes):
            op = by_code(int(codes[slot]))
            if op.kind == "mix":
                done = op.mix(image, _partner(op, partners, i, image), compiled.values[i, slot])
            else:
                done = op.call(image, compiled.values[i, slot], compiled.keys[i, slot])
            image = _checked(done, image, op)
        at = slot + 1
    out[i] = image


def _segment(compiled: Compiled, row: slice, slots: slice, image: Array) -> Array:
    """Some stages of one image that are not calls."""
    if image.dtype.kind == "f":
        from augment.engine import float32

        codes, values = compiled.codes[row, slots][0], compiled.values[row, slots][0]
        return float32.run(image, codes, values, bilinear=compiled.resampling == "bilinear")
    made = np.empty_like(image)
    _kernel(compiled, row, slots, image[None], made[None])
    return made


def _partner(op: Op, partners: Array | None, i: int, image: Array) -> Array:
    if partners is None:
        raise ValueError(f"{op.name} mixes an image with another one: give partners=, one image for each")
    found: Array = partners[i].reshape(image.shape)
    return found


def _checked(made: Array, given: Array, op: Op) -> Array:
    if made.shape != given.shape or made.dtype != given.dtype:
        raise ValueError(
            f"{op.name} made {made.dtype} {made.shape} of {given.dtype} {given.shape}: an op keeps both"
        )
    return np.require(made, requirements=["C", "W"])
