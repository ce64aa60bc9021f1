"""From a policy and a stream of random numbers to programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from augment import rng
from augment.engine.programs import ABSENT, Programs
from augment.ops import find
from augment.policy.levels import drawn
from augment.policy.memo import Memo
from augment.policy.schedule import Schedule

if TYPE_CHECKING:
    from augment.policy import Policy

__all__ = ["draw"]

# Draw indices of one drawn sub-policy: 0 says which; choice j has 1 + 5 j .. 5 + 5 j: whether, level, sign,
# x, y. The strides are fixed, so that a policy with another number of choices draws the same numbers.
_STRIDE = 64
_PER_CHOICE = 5
_LAW = 5  # numbers of an augment.policy.levels.Law
_FAIR = 0.5
_MOST_CELLS = 1 << 22  # of distinct draws: rows x sub-policies held at once

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


class _Table:
    """A policy without schedules as arrays (sub-policies x choices), padded with ``ABSENT``."""

    def __init__(self, policy: Policy) -> None:
        shape = (len(policy.subpolicies), max(len(sub.choices) for sub in policy.subpolicies))
        self.codes = np.full(shape, ABSENT, np.int64)
        self.probability, self.laws = np.zeros(shape), np.zeros((*shape, _LAW))
        self.signed = np.ones(shape, bool)
        # As augment.ops.Range has them; mirrored: half of the draws go from zero the other way.
        self.zero, self.width = np.zeros(shape), np.zeros(shape)
        self.mirrored, self.whole = np.zeros(shape, bool), np.zeros(shape, bool)
        for s, sub in enumerate(policy.subpolicies):
            for j, choice in enumerate(sub.choices):
                op = find(choice.spelt)
                span = op.range(policy.space)
                self.codes[s, j] = op.code
                self.probability[s, j] = _number(choice.probability)
                self.laws[s, j] = choice.law(policy.space)
                self.signed[s, j] = choice.signed
                self.zero[s, j], self.width[s, j] = span.zero, span.full - span.zero
                self.whole[s, j] = span.whole
                self.mirrored[s, j] = choice.signed and span.signed
        # The blocks of random bits of each turn, of two draws each; see augment.rng.
        turns, blocks = np.arange(policy.draws) * (_STRIDE // 2), np.arange(1 + _PER_CHOICE * shape[1] // 2)
        self.blocks = (turns[:, None] + blocks).astype(np.uint32)
        self.weights = np.array([_number(sub.weight) for sub in policy.subpolicies], np.float64)
        self.cumulative = np.cumsum(self.weights) / self.weights.sum()

    def pick(self, u: F64, taken: Sequence[I64] = ()) -> I64:
        """Sub-policies by weight, none of those taken. The last edge may be just under 1: hence the minimum."""
        if not taken:
            found = np.searchsorted(self.cumulative, u, side="right")
            return np.minimum(found, len(self.cumulative) - 1).astype(np.int64)
        made = np.empty(len(u), np.int64)
        rows = max(1, _MOST_CELLS // len(self.weights))
        for start in range(0, len(u), rows):
            part = slice(start, start + rows)
            left = np.repeat(self.weights[None], len(u[part]), axis=0)
            for one in taken:
                left[np.arange(len(left)), one[part]] = 0.0
            edges = np.cumsum(left, axis=1)
            aim = u[part] * edges[:, -1]
            # A product may round up to the last edge: the last one with a weight then.
            last = len(self.weights) - 1 - np.argmax(left[:, ::-1] > 0, axis=1)
            made[part] = np.minimum((edges <= aim[:, None]).sum(axis=1), last)
        return made


_tables = Memo(_Table)
_custom = Memo(lambda policy: any("." in choice.op for sub in policy.subpolicies for choice in sub.choices))


def _table(policy: Policy) -> _Table:
    """Made once for each policy; but a custom op may be written anew, in a notebook, with another range."""
    return _Table(policy) if _custom(policy) else _tables(policy)


def _number(value: float | Schedule) -> float:
    if isinstance(value, Schedule):
        raise TypeError("a policy with schedules has no draws of its own: take Policy.at(epoch)")
    return value


def draw(policy: Policy, stream: rng.Stream) -> Programs:
    """The programs of one epoch, one per record of the stream."""
    table = _table(policy)
    n, draws, length = len(stream), policy.draws, table.codes.shape[1]
    numbers = stream.pairs(table.blocks.ravel()).reshape(n, draws, 2 * table.blocks.shape[1])
    if policy.distinct:
        taken: list[I64] = []
        for turn in range(draws):
            taken.append(table.pick(numbers[:, turn, 0], taken))
        chosen = np.stack(taken, axis=1) if taken else np.empty((n, 0), np.int64)
    else:
        chosen = table.pick(numbers[:, :, 0])
    u = numbers[:, :, 1 : 1 + _PER_CHOICE * length].reshape(n, draws, length, _PER_CHOICE)
    codes = np.where(u[..., 0] < table.probability[chosen], table.codes[chosen], ABSENT)
    level = drawn(u[..., 1].ravel(), table.laws[chosen].reshape(-1, _LAW), policy.bins).reshape(u.shape[:3])
    far = table.width[chosen] * level
    far = np.where((u[..., 2] >= _FAIR) & table.mirrored[chosen], -far, far)
    value = table.zero[chosen] + far
    value = np.where(table.whole[chosen], np.rint(value), value)
    slots = (n, draws * length)
    return Programs(
        codes.reshape(slots), np.where(codes == ABSENT, 0.0, value).reshape(slots), u[..., 3].reshape(slots),
        u[..., 4].reshape(slots), stream.keys(range(slots[1])),
    )  # fmt: skip
