"""Masks moved on a GPU, as the images are: the same bytes as :func:`augment.targets.move`.

A mask is an image whose program has nothing left but its moves. Its labels are copied bit by bit, so that
those of any type are pixels of 8, 16 or 32 bits to the kernel, or several of 32. Boxes and keypoints are a
little arithmetic on the host.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np

from augment import targets as on_host
from augment.engine._cuda_calls import moves_masks
from augment.engine._cuda_work import Batch
from augment.engine._launch import MOST_CHANNELS, on_device
from augment.engine.compile import CALLS, WARP, Compiled
from augment.engine.programs import ABSENT
from augment.ops import Shape, by_code
from augment.targets import Targets

__all__ = ["move"]

_UNITS = {4: ("float32", 1.0), 2: ("uint16", 65535.0), 1: ("uint8", 255.0)}
_FLAT = 2  # dimensions of a mask without planes


Calls = Literal["device", "host"]


def move(cupy: Any, parts: Sequence[tuple[Compiled, Targets, Sequence[int]]], calls: Calls) -> list[Targets]:
    """Move what belongs to the images of some batches.

    Args:
        cupy: the module.
        parts: of each batch what was compiled for its images, on the host; its targets, with masks of NumPy or
            of whatever is on the device; and what errors call its images.
        calls: "host": ops that move masks by a function of the CPU do so.

    Returns:
        Of each batch the targets; masks where they were, NumPy arrays or CuPy arrays.

    Raises:
        lake.errors.DeviceError: an op has no function for a GPU that moves masks.
        ValueError: as :func:`augment.targets.move`; or a mask has too many planes for a GPU.
        TypeError: a mask holds objects.
    """
    from augment.engine.cuda import arrays, carry_out

    moved: list[Targets] = []
    jobs: list[tuple[int, list[int] | None, Batch, bool]] = []
    for compiled, targets, numbers in parts:
        found = on_host.move(compiled, replace(targets, masks=None), numbers)
        masks = arrays(cupy, targets.masks)
        if masks is not None:
            if len(masks) and not _by_function(compiled, calls):
                jobs += [(len(moved), *each) for each in _batches(cupy, compiled, masks, numbers)]
            else:
                masks = _on_the_cpu(cupy, compiled, masks, numbers)
            found = replace(found, masks=list(masks) if isinstance(masks, list) else masks)
        moved.append(found)
    for there in (True, False):
        some = [job for job in jobs if job[-1] == there]
        for (i, rows, _, _), made in zip(
            some, carry_out(cupy, [batch for _, _, batch, _ in some], calls), strict=True
        ):
            masks = cast("Any", moved[i].masks)
            if rows is None:
                moved[i] = replace(moved[i], masks=_back(made, masks))
                continue
            for row, mask in zip(rows, made, strict=True):
                masks[row] = _back(mask, masks[row])
    return moved


def _by_function(compiled: Compiled, calls: Calls) -> bool:
    """Whether one of the ops moves masks by a function of the CPU; refused where that is not asked for."""
    codes = np.unique(compiled.codes[compiled.codes >= CALLS])
    ops = [op for op in map(by_code, codes.tolist()) if op.moves]
    return not all([moves_masks(op, host=calls == "host") for op in ops])  # noqa: C419  (refuses any)


def _on_the_cpu(cupy: Any, compiled: Compiled, masks: Any, numbers: Sequence[int]) -> Any:
    here = [mask.get() if on_device(mask) else mask for mask in masks]
    made = on_host.move(compiled, Targets(masks=here), numbers).masks or []
    again = [cupy.asarray(new) if on_device(old) else new for old, new in zip(masks, made, strict=True)]
    if isinstance(masks, list):
        return again
    return (cupy if on_device(masks) else np).stack(again) if again else masks.copy()


def _batches(
    cupy: Any, compiled: Compiled, masks: Any, numbers: Sequence[int]
) -> Iterator[tuple[list[int] | None, Batch, bool]]:
    """Masks of one shape and type: their rows, or None for all; the batch; whether it is on the device."""
    moving = _moving(compiled)
    if not isinstance(masks, list):
        yield None, _batch(cupy, moving, masks, [masks[0]], numbers), on_device(masks)
        return
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, mask in enumerate(masks):
        if mask is not None:
            groups.setdefault((mask.shape, mask.dtype, on_device(mask)), []).append(i)
    for (_, _, there), rows in groups.items():
        own = [masks[i] for i in rows]
        yield rows, _batch(cupy, moving.take(rows), own, own, [numbers[i] for i in rows]), there


def _moving(compiled: Compiled) -> Compiled:
    """The same program without what does not move pixels, to the nearest neighbour."""
    codes, values = compiled.codes.copy(), compiled.values.copy()
    for code in np.unique(codes[codes >= 0]):
        if code != WARP and not (code >= CALLS and by_code(int(code)).moves):
            codes[codes == code] = ABSENT
    values[codes >= CALLS, -1] = 0.0
    return replace(compiled, resampling="nearest", codes=codes, values=values)


def _batch(cupy: Any, moving: Compiled, masks: Any, samples: list[Any], numbers: Sequence[int]) -> Batch:
    """Masks as pixels; ``samples``: one or more of them, of which all have the shape and type."""
    h, w = moving.shape[:2]
    for mask, number in zip(samples, numbers, strict=False):
        on_host.check_mask(mask, (h, w), number)
    size = samples[0].dtype.itemsize
    unit = next(each for each in _UNITS if size % each == 0)
    dtype, top = _UNITS[unit]
    channels = int(np.prod(samples[0].shape[_FLAT:])) * size // unit
    if channels > MOST_CHANNELS:
        raise ValueError(
            f"masks of {samples[0].dtype} {tuple(samples[0].shape)}: a GPU takes planes of up to "
            f"{MOST_CHANNELS * unit} bytes a pixel; choose device cpu"
        )

    def pixels(some: Any, *first: int) -> Any:
        whole = (cupy if on_device(some) else np).ascontiguousarray(some)
        return whole.view(dtype).reshape(*first, h, w, channels)

    shape = Shape(h, w, channels, top)
    given = [pixels(mask) for mask in masks] if isinstance(masks, list) else pixels(masks, len(masks))
    return Batch(replace(moving, shape=shape), given, checked=True, names=numbers)


def _back(made: Any, like: Any) -> Any:
    return made.view(like.dtype).reshape(like.shape)
