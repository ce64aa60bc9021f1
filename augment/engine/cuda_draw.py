"""Draws and compiled programs made on a GPU, which takes more of them than the host can draw.

A core draws and compiles 0.6 to 0.9 million programs a second (benchmarks/augment_cuda.py), a GPU augments
several million images. So for policies whose levels are binned, and whose ops take nothing from the stream but
level, sign and a Cutout's place, the host makes a table of all stages that can occur, and ``draw.cu`` does the
rest, with the same bits. Other policies are drawn on the host.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from augment import rng
from augment.engine._launch import on_device
from augment.engine.compile import Compiled, _placed
from augment.engine.cpu import shape_of
from augment.engine.draw import _Table
from augment.engine.programs import ABSENT, Programs
from augment.ops import OPS, Shape, by_code
from augment.ops.table import VALUES
from lake.gpu import check_place
from lake.gpu import cupy as _cupy

if TYPE_CHECKING:
    from augment.policy import Policy

__all__ = ["Rows", "compiled_on_device", "rows_of"]

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

_BLOCK = 128
_MOST_ROWS = 1 << 16  # 6 MiB
_SLACK = 1e-6  # of augment.ops.autoaugment.square
_KEPT = 8  # tables of policies
_CHOICE = np.dtype([("probability", "f8"), ("row", "i8"), ("bins", "i8"), ("sign", "i8")])

_BY_LEVEL = frozenset(
    {"Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "FlipX", "FlipY", "Zoom", "Color",
     "Grey", "Sharpness", "Hue", "Cutout"}
    | {name for name, op in OPS.items() if op.kind == "lut" and name != "Window"}
)  # fmt: skip
"""The ops whose stage depends on the parameter alone; Cutout's place is drawn on the device."""


class Rows(NamedTuple):
    """A policy as a table, for images of one shape.

    Attributes:
        edges: float64 (subpolicies,), cumulated weights.
        choices: (subpolicies, length), see ``Choice`` in draw.cu.
        codes: int64 (rows,): bin by bin, each for the sign + and the sign -.
        values: float64 (rows, 12).
        draws: sub-policies an image.
    """

    edges: F64
    choices: npt.NDArray[np.void]
    codes: I64
    values: F64
    draws: int


def rows_of(policy: Policy, shape: Shape) -> Rows | None:
    """Give the table of a policy without schedules; None where it has none.

    >>> from augment.presets import preset
    >>> rows_of(preset("trivial_augment_wide"), Shape(32, 32, 3, 255.0)).choices["bins"].max()
    np.int64(31)
    """
    if policy.distinct or not set(policy.ops) <= _BY_LEVEL:
        return None
    table = _Table(policy)
    low, high, spread = table.laws[..., 0], table.laws[..., 1], table.laws[..., 2]
    ranges = (low != high) & (table.codes != ABSENT)
    if (spread > 0).any() or (policy.bins is None and ranges.any()):
        return None
    choices = np.zeros(table.codes.shape, _CHOICE)
    choices["probability"], choices["sign"] = table.probability, table.signed
    choices["bins"] = np.where(table.codes == ABSENT, 0, np.where(ranges, policy.bins or 1, 1))
    count = int(choices["bins"].sum())
    if 2 * count > _MOST_ROWS:
        return None
    choices["row"] = 2 * (np.cumsum(choices["bins"].ravel()) - choices["bins"].ravel()).reshape(choices.shape)
    which = np.repeat(np.arange(choices.size), choices["bins"].ravel())
    bin_of = np.arange(count) - np.repeat(choices["row"].ravel() // 2, choices["bins"].ravel())
    share = bin_of / ((policy.bins or 2) - 1)
    level = low.ravel()[which] + (high - low).ravel()[which] * share
    codes, values = _stages(policy, table.codes.ravel()[which], level, shape)
    return Rows(table.cumulative, choices, codes, values, policy.draws)


def _stages(policy: Policy, ops: I64, level: F64, shape: Shape) -> tuple[I64, F64]:
    """The stage of each op at each level, for both signs."""
    programs = Programs.empty(2 * len(ops), 1)
    programs.codes[:, 0] = np.repeat(ops, 2)
    signs = np.tile([1.0, -1.0], len(ops))
    levels = np.repeat(level, 2)
    for code in np.unique(ops):
        mine = programs.codes[:, 0] == code
        programs.parameters[mine, 0] = (
            by_code(int(code)).range(policy.space).parameter(levels[mine], signs[mine])
        )
    codes, values = _placed(programs, shape, policy.space, policy.resampling)
    cutout = programs.codes[:, 0] == OPS["Cutout"].code
    values[cutout, 0, 0] = np.floor(programs.parameters[cutout, 0] * min(shape[:2]) + _SLACK)
    return codes[:, 0], np.ascontiguousarray(values[:, 0])


def compiled_on_device(  # noqa: PLR0917  (what Policy.apply has)
    cupy: Any, policy: Policy, images: Any, ids: object, seed: int, epoch: int, stream: Any
) -> Compiled | None:
    """Draw and compile for a batch that is on the device; None: that is to be done on the host."""
    if not on_device(images):
        return None
    shape = shape_of(images)
    held = _table(cupy, policy.at(epoch), shape)
    if held is None:
        return None
    rows, arrays = held
    mine = _halves(cupy, ids)
    n = len(images)
    if len(mine) != n:
        raise ValueError(f"{n} images but {len(mine)} ids or programs: give one per image")
    rng.Stream(np.zeros((0, 2), np.uint64), seed, epoch)  # checks them
    slots = rows.draws * rows.choices.shape[1]
    with stream if stream is not None else cupy.cuda.get_current_stream():
        codes = cupy.empty((n, slots), np.int64)
        values = cupy.empty((n, slots, VALUES), np.float64)
        if n and slots:
            _kernel(cupy.cuda.Device().id)(
                (-(-n // _BLOCK),),
                (_BLOCK,),
                (
                    cupy.asarray(mine), np.int64(n), np.uint32(seed & 0xFFFFFFFF),
                    np.uint32(seed >> 32), np.uint32(epoch), np.int32(rows.draws),
                    np.int32(rows.choices.shape[1]), np.int32(len(rows.edges)), *arrays,
                    np.float64(shape.width), np.float64(shape.height), codes, values,
                ),
            )  # fmt: skip
    nothing = Programs.empty(0, 0)
    return Compiled(shape, policy.space, policy.resampling, codes, values, nothing.keys, nothing)


def _halves(cupy: Any, ids: object) -> Any:
    """Of ids that are on the device too: the kernel reads two halves each, and plain numbers are fewer."""
    if not on_device(ids):
        return rng.halves(ids)
    there = cupy.asarray(ids)
    check_place(cupy, there)
    halves = there.dtype == np.uint64 and there.shape[1:] == (2,)
    return cupy.ascontiguousarray(there) if halves else rng.halves(there.get())


_tables: dict[tuple[int, int, Shape], tuple[Policy, Any]] = {}
_one_at_a_time = Lock()


def _table(cupy: Any, policy: Policy, shape: Shape) -> tuple[Rows, tuple[Any, ...]] | None:
    """The table on the device; kept for the policies seen last, by the object: to compare them takes longer."""
    key = (cupy.cuda.Device().id, id(policy), shape)
    with _one_at_a_time:
        if key not in _tables:
            rows = rows_of(policy, shape)
            if len(_tables) >= _KEPT:
                oldest = next(iter(_tables))
                cupy.cuda.Device(oldest[0]).synchronize()  # other streams may still read it
                del _tables[oldest]
            if rows is None:
                _tables[key] = (policy, None)
            else:
                plain = (rows.edges, rows.choices.view(np.uint8), rows.codes, rows.values)
                arrays = tuple(cupy.asarray(np.ascontiguousarray(each)) for each in plain)
                cupy.cuda.get_current_stream().synchronize()  # other streams will read them
                _tables[key] = (policy, (rows, arrays))
        found: tuple[Rows, tuple[Any, ...]] | None = _tables[key][1]
    return found


@cache
def _kernel(_device: int) -> Any:
    source = files("augment.engine").joinpath("draw.cu").read_text("utf-8")
    options = ("--std=c++14", "--fmad=false", f"-DBLOCK={_BLOCK}")
    return _cupy().RawModule(code=source, options=options).get_function("draw")
