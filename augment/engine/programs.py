"""What happens to each image of a batch, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augment.ops import Applied, Program, by_code, find

__all__ = ["ABSENT", "Programs"]

ABSENT = -1
"""The code of a slot in which nothing happens (Identity, 0, is an op that was chosen)."""

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class Programs(Sequence[tuple[Applied, ...]]):
    """One program per image, as arrays; reads like a sequence of tuples of ``Applied``.

    Attributes:
        codes: int64 (n, slots); ``ABSENT`` where a slot is not used.
        parameters: float64 (n, slots).
        x: float64 (n, slots): the places of Cutouts, shares of the width.
        y: float64 (n, slots): shares of the height.
        keys: uint32 (n, slots, 4): see :meth:`augment.rng.Stream.keys`.

    >>> Programs.of([[Applied("Rotate", 12.4)], []])[0][0].op
    'Rotate'
    """

    codes: I64
    parameters: F64
    x: F64
    y: F64
    keys: U32

    @classmethod
    def empty(cls, n: int, slots: int) -> Programs:
        """Programs in which nothing happens."""
        return cls(
            np.full((n, slots), ABSENT, np.int64), np.zeros((n, slots)), np.full((n, slots), 0.5),
            np.full((n, slots), 0.5), np.zeros((n, slots, 4), np.uint32),
        )  # fmt: skip

    @classmethod
    def of(cls, programs: Sequence[Program]) -> Programs:
        """The arrays of programs given as sequences of ``Applied``."""
        if isinstance(programs, cls):
            return programs
        made = cls.empty(len(programs), max((len(p) for p in programs), default=0))
        for i, program in enumerate(programs):
            for slot, step in enumerate(program):
                made.codes[i, slot] = find(step.op).code
                made.parameters[i, slot], made.x[i, slot], made.y[i, slot] = step.parameter, step.x, step.y
                made.keys[i, slot] = step.key
        return made

    def take(self, index: Sequence[int] | I64) -> Programs:
        """The programs at these positions."""
        i = np.asarray(index, np.int64)
        return Programs(self.codes[i], self.parameters[i], self.x[i], self.y[i], self.keys[i])

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return self.take(np.arange(len(self))[i])
        return tuple(
            Applied(by_code(int(code)).name, float(p), float(x), float(y), tuple(key.tolist()))
            for code, p, x, y, key in zip(
                self.codes[i], self.parameters[i], self.x[i], self.y[i], self.keys[i], strict=True
            )
            if code != ABSENT
        )

    def __reduce__(self) -> Any:
        """Pickle by names: codes of custom ops mean something in this process only."""
        return _unpickled, (list(self),)

    def __iter__(self) -> Iterator[tuple[Applied, ...]]:
        return (self[i] for i in range(len(self)))


def _unpickled(programs: Sequence[Program]) -> Programs:
    from augment.custom import trust

    for name in {step.op for program in programs for step in program}:
        trust(name)
    return Programs.of(programs)
