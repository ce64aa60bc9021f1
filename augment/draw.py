"""From a policy and a stream of random numbers to programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from augment import rng
from augment.cpu import ABSENT, Programs
from augment.ops import NAMES, OPS

if TYPE_CHECKING:
    from augment.policy import Policy

__all__ = ["draw"]

# Draw indices of one drawn sub-policy: 0 says which; choice j has 1 + 5 j .. 5 + 5 j: whether, level, sign,
# x, y. The strides are fixed, so that a policy with another number of choices draws the same numbers.
_STRIDE = 64
_PER_CHOICE = 5
_FAIR = 0.5

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


class _Table:
    """A policy as arrays (sub-policies x choices), padded with ``ABSENT``."""

    def __init__(self, policy: Policy) -> None:
        shape = (len(policy.subpolicies), max(len(sub.choices) for sub in policy.subpolicies))
        self.codes = np.full(shape, ABSENT, np.int64)
        self.probability, self.low, self.high = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for s, sub in enumerate(policy.subpolicies):
            for j, choice in enumerate(sub.choices):
                self.codes[s, j] = OPS[choice.op].code
                self.probability[s, j] = choice.probability
                self.low[s, j], self.high[s, j] = choice.levels
        weights = np.array([sub.weight for sub in policy.subpolicies], np.float64)
        self.cumulative = np.cumsum(weights) / weights.sum()

    def pick(self, u: F64) -> I64:
        """Sub-policies by weight. The last edge may come out just under 1: hence the minimum."""
        found = np.searchsorted(self.cumulative, u, side="right")
        return np.minimum(found, len(self.cumulative) - 1).astype(np.int64)


def draw(policy: Policy, stream: rng.Stream) -> Programs:
    """The programs of one epoch, one per record of the stream."""
    table = _Table(policy)
    n, length = len(stream), table.codes.shape[1]
    programs = Programs.empty(n, policy.draws * length)
    for turn in range(policy.draws):
        base = turn * _STRIDE
        chosen = table.pick(stream.uniforms([base])[:, 0])
        numbers = stream.uniforms(range(base + 1, base + 1 + _PER_CHOICE * length))
        for j in range(length):
            u = numbers[:, _PER_CHOICE * j : _PER_CHOICE * (j + 1)]
            slot = turn * length + j
            codes = table.codes[chosen, j]
            codes[u[:, 0] >= table.probability[chosen, j]] = ABSENT
            level = _levels(u[:, 1], table.low[chosen, j], table.high[chosen, j], policy.bins)
            sign = np.where(u[:, 2] < _FAIR, 1.0, -1.0)
            programs.codes[:, slot] = codes
            programs.parameters[:, slot] = _parameters(codes, level, sign, policy)
            programs.x[:, slot], programs.y[:, slot] = u[:, 3], u[:, 4]
    return programs


def _levels(u: F64, low: F64, high: F64, bins: int | None) -> F64:
    share = u if bins is None else np.floor(u * bins) / (bins - 1)
    level: F64 = low + (high - low) * share
    return level


def _parameters(codes: I64, level: F64, sign: F64, policy: Policy) -> F64:
    values = np.zeros(len(codes))
    for code in np.unique(codes[codes != ABSENT]):
        mine = codes == code
        span = OPS[NAMES[code]].range(policy.space)
        values[mine] = span.parameter(level[mine], sign[mine])
    return values
