"""From programs to what a kernel executes: few stages per image, with what can be fused fused.

- *Geometry.* Consecutive warps are multiplied into one inverse matrix, and the image is resampled once. That is
  not the same as two resamplings (which lose more): it is what a chain of geometric ops means here. A single
  one is exactly Pillow's.
- *Channel matrices.* Consecutive ones are multiplied, and applied with one rounding.
- *Lookup tables.* Consecutive ones stay separate stages here and become one table in the kernel, since some
  depend on the image's histogram, which is pushed through the tables before. Exactly equal to one op after
  the other.
- What does nothing (a factor of 1, a colour op on a grey image) is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from augment.engine.programs import ABSENT, Programs
from augment.ops import Applied, Op, Placed, Shape, Space, by_code, describe
from augment.ops.table import VALUES

__all__ = ["CALLS", "CODES", "MATRIX", "WARP", "Compiled", "Resampling", "Stage", "compile_programs"]

Resampling = Literal["nearest", "bilinear"]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]

WARP, MATRIX = 1, 19
CODES = {"warp": WARP, "colour": 7, "stencil": 9, "erase": 15, "matrix": MATRIX}
"""The stages that several ops share; all others have their op's code."""

CALLS = 100
"""Codes from here on are functions of their own."""

_RGB = 3


@dataclass(frozen=True, slots=True)
class Stage:
    """What is done at once to one image.

    Attributes:
        kind: ``warp``, ``table``, ``matrix``, ``colour``, ``stencil``, ``erase`` or ``call``.
        ops: the ops that it carries out, in order.
    """

    kind: str
    ops: tuple[Applied, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """Programs for images of one shape, ready for an executor.

    Attributes:
        shape: of the images.
        space: of the parameters.
        resampling: of the warps.
        codes: int64 (n, k); ``ABSENT`` where nothing is to be done.
        values: float64 (n, k, 12): an inverse matrix (9), a channel matrix (12), a rectangle (4), parameters.
        keys: uint32 (n, k, 4): the random bits of a called function.
        programs: what it was made from.
        fused: whether consecutive warps and matrices are one.
    """

    shape: Shape
    space: Space
    resampling: Resampling
    codes: I64
    values: F64
    keys: U32
    programs: Programs
    fused: bool = True

    def __reduce__(self) -> Any:
        """Pickle what it was made from: codes of custom ops mean something in this process only."""
        return _again, (self.programs, self.shape, self.space, self.resampling, self.fused)

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, index: Sequence[int] | I64 | slice) -> Compiled:
        """The stages of these images."""
        i = np.arange(len(self))[index] if isinstance(index, slice) else np.asarray(index, np.int64)
        return Compiled(
            self.shape, self.space, self.resampling, self.codes[i], self.values[i], self.keys[i],
            self.programs.take(i), self.fused,
        )  # fmt: skip

    def run(self, images: Any, *, partners: Any = None, device: str = "cpu") -> Any:
        """Carry them out: images (n, h, w, c) of the shape compiled for, new ones back; partners for mixing."""
        from augment.engine import cpu

        cpu.check_device(device)
        if device == "cuda":
            from augment.engine import cuda

            return cuda.run(self, images, partners=partners)
        return cpu.run(self, images, partners=partners)

    def stages(self, i: int) -> list[Stage]:
        """What is done to image ``i``, stage by stage."""
        found: list[Stage] = []
        for step in self.programs[i]:
            kind = self._kind(step)
            if not kind:
                continue
            joins = (
                found
                and found[-1].kind == kind
                and (kind == "table" or (self.fused and kind in {"warp", "matrix"}))
            )
            if joins:
                found[-1] = Stage(kind, (*found[-1].ops, step))
            else:
                found.append(Stage(kind, (step,)))
        return found

    def _kind(self, step: Applied) -> str:
        op = _found(step)
        if (
            op.kind == "identity"
            or _idle(op, self.shape)
            or (op.neutral is not None and step.parameter == op.neutral)
        ):
            return ""
        return "table" if op.kind == "lut" else op.kind

    def explain(self, i: int | None = None) -> str:
        """What was fused: for one image, or, with a summary, for the first five.

        >>> from augment import Policy
        >>> choices = [{"op": "Rotate", "magnitude": 0.1}, {"op": "FlipX"}, {"op": "Invert"}]
        >>> policy = Policy(subpolicies=[choices])
        >>> print(policy.compile([1], size=(32, 32), seed=4).explain(0))
        warp     one resampling of 2 ops: Rotate 13.5° · FlipX
        table    Invert
        """
        if i is None:
            return self._summary()
        lines = []
        for stage in self.stages(i):
            many = {"warp": "one resampling of", "table": "one table of", "matrix": "one matrix of"}.get(
                stage.kind, ""
            )
            what = f"{many} {len(stage.ops)} ops: " if len(stage.ops) > 1 else ""
            lines.append(f"{stage.kind:<9}{what}{describe(stage.ops, self.space)}")
        return "\n".join(lines) or "unchanged"

    def _summary(self) -> str:
        count = len(self)
        ops = sum(len(self.programs[i]) for i in range(count))
        stages = sum(len(self.stages(i)) for i in range(count))
        h, w, c = self.shape[:3]
        head = f"{count} images of {h} x {w} x {c}: {ops} ops, {stages} passes"
        shown = [f"[{i}]\n{self.explain(i)}" for i in range(min(count, 5))]
        return "\n".join([head, *shown])


def compile_programs(
    programs: Programs,
    shape: Shape,
    *,
    space: Space = "wide",
    resampling: Resampling = "nearest",
    fuse: bool = True,
) -> Compiled:
    """Compile programs for images of one shape.

    Args:
        programs: one per image.
        shape: of the images.
        space: of their parameters.
        resampling: of the warps.
        fuse: False: every warp and every matrix is applied on its own.

    Raises:
        ValueError: an op does not work on the pixels of one image.
    """
    codes, values = _placed(programs, shape, space, resampling)
    n, k = codes.shape
    made, into, keys = (
        np.full((n, k), ABSENT, np.int64),
        np.zeros((n, k, VALUES)),
        np.zeros((n, k, 4), np.uint32),
    )
    length, last = np.zeros(n, np.int64), np.full(n, ABSENT, np.int64)
    for slot in range(k):
        code = codes[:, slot]
        present = code > 0
        merged = present & (code == last) & ((code == WARP) | (code == MATRIX)) & fuse
        rows, own = np.flatnonzero(merged), np.flatnonzero(present & ~merged)
        for which, product in ((WARP, _warps), (MATRIX, _matrices)):
            some = rows[code[rows] == which]
            if len(some):
                into[some, length[some] - 1] = product(into[some, length[some] - 1], values[some, slot])
        at = length[own]
        made[own, at], into[own, at], keys[own, at] = code[own], values[own, slot], programs.keys[own, slot]
        length[own] += 1
        last[present] = code[present]
    still = (made == WARP) & (into[:, :, :9] == np.eye(3).ravel()).all(axis=2)
    made[still] = ABSENT
    used = int(length.max(initial=0))
    return Compiled(
        shape, space, resampling, np.ascontiguousarray(made[:, :used]), np.ascontiguousarray(into[:, :used]),
        np.ascontiguousarray(keys[:, :used]), programs, fuse,
    )  # fmt: skip


def _again(programs: Programs, shape: Shape, space: Space, resampling: Resampling, fused: bool) -> Compiled:
    return compile_programs(programs, shape, space=space, resampling=resampling, fuse=fused)


def _placed(programs: Programs, shape: Shape, space: Space, resampling: Resampling) -> tuple[I64, F64]:
    """Codes of stages and their values, op by op, before anything is fused."""
    codes = np.full(programs.codes.shape, ABSENT, np.int64)
    values = np.zeros((*codes.shape, VALUES))
    for code in np.unique(programs.codes[programs.codes > 0]):
        op = by_code(int(code))
        if op.kind == "text":
            raise ValueError(f"{op.name} works on texts: a policy for texts is applied with Policy.apply_texts")
        if _idle(op, shape):
            continue
        mine = programs.codes == code
        if op.neutral is not None:
            mine &= programs.parameters != op.neutral
        placed = Placed(
            programs.parameters[mine], programs.x[mine], programs.y[mine], programs.keys[mine], shape, space
        )
        found = op.place(placed)
        codes[mine] = CODES.get(op.kind, op.code)
        values[mine, : found.shape[1]] = found
        if op.kind == "call" and op.moves:
            values[mine, VALUES - 1] = resampling == "bilinear"
    return codes, values


def _idle(op: Op, shape: Shape) -> bool:
    """Whether it can do nothing to such images."""
    return (op.kind == "colour" and shape.channels == 1) or (op.kind == "matrix" and shape.channels != _RGB)


def _found(step: Applied) -> Op:
    from augment.ops import find

    return find(step.op)


def _warps(first: F64, then: F64) -> F64:
    """The inverse matrix of both: the output looks through the second, then through the first."""
    made = np.zeros_like(first)
    product = _product(first[:, :9].reshape(-1, 3, 3), then[:, :9].reshape(-1, 3, 3))
    # Never by a negative number: what is in front of the camera stays there. It is 0 where the output's corner
    # lies on the horizon.
    scale = np.abs(product[:, 2:, 2:])
    made[:, :9] = (product / np.where(scale > 0, scale, 1.0)).reshape(-1, 9)
    return made


def _matrices(first: F64, then: F64) -> F64:
    last = np.broadcast_to([[[0.0, 0.0, 0.0, 1.0]]], (len(first), 1, 4))
    return _product(then.reshape(-1, 3, 4), np.concatenate([first.reshape(-1, 3, 4), last], axis=1)).reshape(
        -1, VALUES
    )


def _product(a: F64, b: F64) -> F64:
    """Products of matrices, summed in a fixed order: BLAS's order and fused additions depend on the machine."""
    total = a[:, :, :1] * b[:, :1]
    for k in range(1, b.shape[1]):
        total = total + a[:, :, k : k + 1] * b[:, k : k + 1]
    return total
