"""How far an op goes: what a magnitude, or a parameter, is drawn from.

One uniform number in 0 .. 1 makes one level. From a range it is stretched linearly; about a mean it goes
through the inverse of the normal distribution function, in arithmetic that is the same everywhere: + - * /
and square roots, no library's logarithm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from augment.policy.schedule import Number, Schedule

if TYPE_CHECKING:
    from augment.ops import Range

__all__ = ["Law", "Normal", "clamped", "drawn", "law_of_magnitude", "law_of_parameter", "quantile"]

F64 = npt.NDArray[np.float64]
Law = tuple[float, float, float, float, float]
"""low, high, standard deviation, least, most: a deviation of 0 means uniform from low to high; else low is the
mean, and what comes out is clipped to least .. most. All are levels."""

Extent = float | tuple[float, float]


class Normal(BaseModel):
    """Normally distributed about a mean, and clipped: timm's ``mstd``.

    Attributes:
        mean: a number, or a schedule of numbers.
        std: the standard deviation.
        low: what is less becomes this; None: 0 for a magnitude, no limit for a parameter.
        high: what is more becomes this; None: 1 for a magnitude, no limit for a parameter.

    >>> Normal(mean=0.9, std=0.05)
    Normal(mean=0.9, std=0.05, low=None, high=None)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: Number | Schedule
    std: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    low: Number | None = None
    high: Number | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"{self.low} .. {self.high}: the lower end comes first")
        if isinstance(self.mean, Schedule) and any(isinstance(value, tuple) for value in self.mean.values):
            raise ValueError("a mean is a number in every epoch, not a range")
        return self

    def at(self, epoch: int) -> Normal:
        """With the mean of one epoch."""
        if not isinstance(self.mean, Schedule):
            return self
        return self.model_copy(update={"mean": self.mean.number(epoch)})

    def within(self, low: float, high: float) -> Normal:
        """The same, clipped to these limits too."""
        least = low if self.low is None else min(max(self.low, low), high)
        most = high if self.high is None else max(min(self.high, high), low)
        return self.model_copy(update={"low": least, "high": most})

    @property
    def means(self) -> tuple[float, float]:
        """The lowest and the highest mean of all epochs."""
        return self.mean.reach if isinstance(self.mean, Schedule) else (self.mean, self.mean)


def clamped(value: Extent | Normal | Schedule, low: float, high: float) -> Extent | Normal | Schedule:
    """The same with nothing below ``low`` or above ``high``.

    >>> clamped((0.0, 0.8), 0.0, 0.5)
    (0.0, 0.5)
    """

    def clip(number: float) -> float:
        return float(min(max(number, low), high))

    if isinstance(value, Normal):
        return value.within(low, high)
    if isinstance(value, Schedule):
        return value.mapped(clip)
    return (clip(value[0]), clip(value[1])) if isinstance(value, tuple) else clip(value)


def law_of_magnitude(value: Extent | Normal) -> Law:
    """From which levels a magnitude is drawn.

    >>> law_of_magnitude((0.0, 0.5))
    (0.0, 0.5, 0.0, 0.0, 0.0)
    """
    if isinstance(value, Normal):
        low, high = 0.0 if value.low is None else value.low, 1.0 if value.high is None else value.high
        return (_mean(value), 0.0, value.std, low, high)
    low, high = value if isinstance(value, tuple) else (value, value)
    return (low, high, 0.0, 0.0, 0.0)


def law_of_parameter(value: Extent | Normal, span: Range) -> Law:
    """From which levels of a range a parameter is drawn: beyond 0 .. 1 where the range does not hold it."""
    if isinstance(value, Normal):
        least, most = value.low, value.high
        if span.full < span.zero:  # more of the parameter is a lower level
            least, most = most, least
        low = -np.inf if least is None else _level(least, span)
        high = np.inf if most is None else _level(most, span)
        return (_level(_mean(value), span), 0.0, value.std / abs(span.full - span.zero), low, high)
    low, high = value if isinstance(value, tuple) else (value, value)
    return (_level(low, span), _level(high, span), 0.0, 0.0, 0.0)


def _mean(value: Normal) -> float:
    if isinstance(value.mean, Schedule):
        raise TypeError("a policy with schedules has no draws of its own: take Policy.at(epoch)")
    return value.mean


_NUDGES = 4


def _level(parameter: float, span: Range) -> float:
    """The level from which the range makes exactly this parameter, or the next best one.

    It matters where a parameter is compared, as Solarize's is with pixels: 229.99999999999997 is not 230.
    """
    width = span.full - span.zero
    guess = (parameter - span.zero) / width
    below = above = guess
    for _ in range(_NUDGES):
        for level in (below, above):
            if span.zero + width * level == parameter:
                return level
        below, above = float(np.nextafter(below, -np.inf)), float(np.nextafter(above, np.inf))
    return guess


def drawn(u: F64, laws: F64, bins: int | None) -> F64:
    """Levels, float64 (n,).

    Args:
        u: uniform numbers in [0, 1), (n,).
        laws: one :data:`Law` per number, (n, 5).
        bins: a level from a range is one of that many evenly spaced ones; None: any. Normal ones never are.

    >>> drawn(np.array([0.5, 0.5]), np.array([[0.0, 1.0, 0, 0, 0], [0.3, 0, 0.1, 0, 1]]), None).tolist()
    [0.5, 0.3]
    """
    low, high, std = laws[:, 0], laws[:, 1], laws[:, 2]
    share = u if bins is None else np.floor(u * bins) / (bins - 1)
    level: F64 = low + (high - low) * share
    spread = std > 0
    if spread.any():
        noisy = low[spread] + std[spread] * quantile(u[spread])
        level[spread] = np.minimum(np.maximum(noisy, laws[spread, 3]), laws[spread, 4])
    return level


# Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37 (1988),
# PPND16: three quotients of polynomials, to about 16 digits. Coefficients from the highest power down.
_CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852545925, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
     5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
)  # fmt: skip
_TAIL = (
    (7.74545014278341407640e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
     3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
     0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0),
)  # fmt: skip
_FAR = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
     0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772),
    (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
     0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1.0),
)  # fmt: skip
_LEAST = 2.0**-54  # below the smallest number but 0 that a draw of 53 bits gives


def quantile(u: F64) -> F64:
    """The inverse of the standard normal distribution function; 0 counts as 2**-54.

    >>> quantile(np.array([0.5, 0.975])).round(6).tolist()
    [0.0, 1.959964]
    """
    u = np.maximum(np.asarray(u, np.float64), _LEAST)
    centred = u - 0.5
    made = np.zeros_like(u)
    near = np.abs(centred) <= 0.425  # noqa: PLR2004  (the paper's)
    q = centred[near]
    made[near] = q * _quotient(0.180625 - q * q, _CENTRE)
    p = np.minimum(u[~near], 1.0 - u[~near])
    r = np.sqrt(-_log(p))
    value = np.where(r <= 5.0, _quotient(r - 1.6, _TAIL), _quotient(r - 5.0, _FAR))  # noqa: PLR2004  (the paper's)
    made[~near] = np.where(centred[~near] < 0, -value, value)
    return made


def _quotient(x: F64, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> F64:
    above, below = (np.zeros_like(x), np.zeros_like(x))
    for a, b in zip(*coefficients, strict=True):
        above, below = above * x + a, below * x + b
    return above / below


_LN2 = 0.6931471805599453
_TERMS = 20


def _log(x: F64) -> F64:
    """The natural logarithm of positive numbers, by the series of 2 artanh((m - 1) / (m + 1))."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < 0.7071067811865476  # noqa: PLR2004  (the root of 1/2: m in 0.71 .. 1.41)
    m = np.where(low, 2.0 * mantissa, mantissa)
    s = (m - 1.0) / (m + 1.0)
    square, total = s * s, np.zeros_like(s)
    for k in range(_TERMS, -1, -1):
        total = total * square + 1.0 / (2 * k + 1)
    return (exponent - low) * _LN2 + 2.0 * s * total
