"""From a policy and a stream of random numbers to programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from augment import rng
from augment.engine.programs import ABSENT, Programs
from augment.ops import by_code, find
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
_FAIR = 0.5
_MOST_CELLS = 1 << 22  # of distinct draws: rows x sub-policies held at once

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


class _Table:
    """A policy without schedules as arrays (sub-policies x choices), padded with ``ABSENT``."""

    def __init__(self, policy: Policy) -> None:
        shape = (len(policy.subpolicies), max(len(sub.choices) for sub in policy.subpolicies))
        self.codes = np.full(shape, ABSENT, np.int64)
        self.probability, self.laws = np.zeros(shape), np.zeros((*shape, 5))
        self.signed = np.ones(shape, bool)
        for s, sub in enumerate(policy.subpolicies):
            for j, choice in enumerate(sub.choices):
                self.codes[s, j] = find(choice.spelt).code
                self.probability[s, j] = _number(choice.probability)
                self.laws[s, j] = choice.law(policy.space)
                self.signed[s, j] = choice.signed
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
    n, length = len(stream), table.codes.shape[1]
    programs = Programs.empty(n, policy.draws * length)
    taken: list[I64] = []
    for turn in range(policy.draws):
        base = turn * _STRIDE
        chosen = table.pick(stream.uniforms([base])[:, 0], taken)
        if policy.distinct:
            taken.append(chosen)
        numbers = stream.uniforms(range(base + 1, base + 1 + _PER_CHOICE * length))
        for j in range(length):
            u = numbers[:, _PER_CHOICE * j : _PER_CHOICE * (j + 1)]
            slot = turn * length + j
            codes = table.codes[chosen, j]
            codes[u[:, 0] >= table.probability[chosen, j]] = ABSENT
            level = drawn(u[:, 1], table.laws[chosen, j], policy.bins)
            sign = np.where((u[:, 2] < _FAIR) | ~table.signed[chosen, j], 1.0, -1.0)
            programs.codes[:, slot] = codes
            programs.parameters[:, slot] = _parameters(codes, level, sign, policy)
            programs.x[:, slot], programs.y[:, slot] = u[:, 3], u[:, 4]
    programs.keys[:] = stream.keys(range(programs.codes.shape[1]))
    return programs


def _parameters(codes: I64, level: F64, sign: F64, policy: Policy) -> F64:
    values = np.zeros(len(codes))
    for code in np.unique(codes[codes != ABSENT]):
        mine = codes == code
        span = by_code(int(code)).range(policy.space)
        values[mine] = span.parameter(level[mine], sign[mine])
    return values
