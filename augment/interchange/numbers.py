"""Numbers that survive the way there and back, and choices made of them."""

from __future__ import annotations

from dataclasses import dataclass

from augment.interchange.errors import InterchangeError, warn
from augment.ops import OPS, Range, Space
from augment.policy import Policy
from augment.policy.choices import Choice, SubPolicy
from augment.policy.levels import Normal
from augment.policy.schedule import Schedule

__all__ = ["BITS_FLOOR", "Spread", "check_same", "choice_of", "difference", "one_bit", "tidy"]

_DECIMALS = 12

BITS_FLOOR = 0.5 - 2.0**-20
"""``rint(x - BITS_FLOOR)`` is ``floor(x)``, but for 1e-6 below a whole number."""


def tidy(number: float) -> float:
    """The number to 12 decimals, so that 0.1 + 1.8 x 0.9 is 1.72 and goes back to 0.9.

    >>> tidy(0.1 + 1.8 * 0.9)
    1.72
    """
    return round(number, _DECIMALS) + 0.0


@dataclass(frozen=True, slots=True)
class Spread:
    """A level of a foreign scale: fixed, uniform from 0, or normal and clipped.

    Attributes:
        level: the level; of a uniform one its upper end; of a normal one its mean. 1 is the scale's usual end.
        std: 0: fixed; infinite: uniform.
        top: where it is clipped.
    """

    level: float
    std: float = 0.0
    top: float = 1.0

    @property
    def fixed(self) -> bool:
        """Whether every draw is the same."""
        return self.std == 0

    @property
    def clipped(self) -> float:
        """The level, at most ``top``."""
        return min(self.level, self.top)

    def over(self, zero: float, full: float) -> float | tuple[float, float] | Normal:
        """The parameter that goes linearly from ``zero`` at 0 to ``full`` at 1."""

        def at(level: float) -> float:
            return tidy(zero + (full - zero) * level)

        if self.fixed:
            return at(self.clipped)
        if self.std == float("inf"):
            if self.level > self.top:
                raise InterchangeError(f"uniform up to {10 * self.level:g}, but cut at {10 * self.top:g}")
            low, high = sorted((at(0.0), at(self.level)))
            return (low, high)
        low, high = sorted((at(0.0), at(self.top)))
        return Normal(mean=at(self.level), std=tidy(abs(full - zero) * self.std), low=low, high=high)


def choice_of(op: str, spread: Spread, zero: float, full: float, *, signed: bool, probability: float) -> Choice:
    """A choice whose parameter goes from ``zero`` to ``full``; if signed, for half of the draws the other way.

    Signed ones become magnitudes where the range of the ``autoaugment`` space holds them; others, parameters.
    """
    extent = spread.over(zero, full)
    span = OPS[op].range("autoaugment")
    if signed and span.signed and span.zero == zero:
        scale = (full - zero) / (span.full - span.zero)
        share = spread.over(0.0, scale)
        most = share.means[1] if isinstance(share, Normal) else share[1] if isinstance(share, tuple) else share
        if isinstance(share, Normal):
            most = max(most, share.high or 0.0)
            if (share.low, share.high) == (0.0, 1.0):
                share = share.model_copy(update={"low": None, "high": None})
        if most <= 1.0:
            return Choice(op=op, probability=probability, magnitude=share)
    return Choice(op=op, probability=probability, parameter=extent, mirrored=signed)


def one_bit(bits: int, where: str) -> int:
    """Pillow refuses 0 bits, and old Pillow made a black image of it: 1 bit then, with a warning."""
    if bits < 1:
        warn(f"{where}: Posterize to {bits} bits would leave a black image; 1 bit is kept")
        return 1
    return bits


def check_same(policy: Policy, again: Policy) -> None:
    """Raise unless what was written means what the policy means.

    Raises:
        InterchangeError: it does not; the message says what differs.
    """
    missing = difference(policy, again)
    if missing:
        raise InterchangeError(f"this format cannot say it: {missing}")


def difference(one: Policy, other: Policy) -> str:
    """The first thing in which two policies differ in what they do; empty where they do not.

    Names do not count, nor whether an op goes as far by its magnitude or by its parameter, nor a factor that
    all weights share, nor whether equal sub-policies are one or two. Numbers are compared to nine decimals.
    """
    one, other = _canonical(one), _canonical(other)
    for name in ("space", "draws", "distinct", "bins", "resampling", "until"):
        a, b = getattr(one, name), getattr(other, name)
        if a != b:
            return f"{name} is {a!r}, not {b!r}"
    if len(one.subpolicies) != len(other.subpolicies):
        return f"{len(one.subpolicies)} sub-policies, not {len(other.subpolicies)}"
    for number, (mine, theirs) in enumerate(zip(one.subpolicies, other.subpolicies, strict=True), 1):
        if mine != theirs:
            return f"sub-policy {number} is {_said(mine)}, not {_said(theirs)}"
    return ""


def _said(sub: SubPolicy) -> str:
    return f"{list(sub.choices)!r} with weight {sub.weight!r}"


_DIGITS = 9
_WHOLE = {"FlipX", "FlipY", "Turn"}  # pixels go to pixels, whatever the resampling


def _canonical(policy: Policy) -> Policy:
    """One of all policies that do the same."""
    total = sum(sub.weight for sub in policy.subpolicies if not isinstance(sub.weight, Schedule))
    shares: dict[tuple[Choice, ...], float] = {}
    listed: list[tuple[tuple[Choice, ...], float | Schedule]] = []
    together = not policy.scheduled and not (policy.distinct and policy.draws > 1)
    for sub in policy.subpolicies:
        spelled = tuple(_spelled(choice, policy.space) for choice in sub.choices)
        share = sub.weight if isinstance(sub.weight, Schedule) else sub.weight / total
        listed.append((spelled, share))
        if not isinstance(share, Schedule):
            shares[spelled] = shares.get(spelled, 0.0) + share
    parts = list(shares.items()) if together else listed
    subpolicies = tuple(
        SubPolicy(choices=spelled, weight=w if isinstance(w, Schedule) else round(w, _DIGITS))
        for spelled, w in parts
    )
    choices = [choice for sub in subpolicies for choice in sub.choices]
    resampled = any(
        choice.op in OPS and OPS[choice.op].kind == "warp" and choice.op not in _WHOLE for choice in choices
    )
    new: dict[str, object] = {
        "subpolicies": subpolicies,
        "bins": policy.bins if any(isinstance(choice.extent, tuple) for choice in choices) else None,
        "space": policy.space if any(choice.op.startswith("Translate") for choice in choices) else "wide",
        "resampling": policy.resampling if resampled else "nearest",
        "distinct": policy.distinct and policy.draws > 1,
    }
    return policy.model_copy(update=new)


def _spelled(choice: Choice, space: Space) -> Choice:
    """The choice by its parameter."""
    op = OPS.get(choice.op)
    if op is None or not op.has_magnitude or isinstance(choice.extent, Schedule):
        return choice
    span = op.range(space)
    signed = choice.signed and span.signed

    def at(level: float) -> float:
        value = level if choice.parameter is not None else span.zero + (span.full - span.zero) * level
        return round(value, _DIGITS) + 0.0

    extent = choice.extent
    if isinstance(extent, Normal):
        return _spelled_normal(choice, extent, span, signed=signed)
    if isinstance(extent, tuple):
        low, high = sorted((at(extent[0]), at(extent[1])))
        if signed and low == round(span.zero, _DIGITS):
            low, signed = round(2 * span.zero - high, _DIGITS) + 0.0, False
        value: float | tuple[float, float] = (low, high) if low != high else low
    else:
        value = float(round(at(extent))) if span.whole else at(extent)
        signed = signed and value != span.zero
        value = max(value, round(2 * span.zero - value, _DIGITS) + 0.0) if signed else value
    return Choice(op=choice.op, probability=choice.probability, parameter=value, mirrored=signed)


def _spelled_normal(choice: Choice, extent: Normal, span: Range, *, signed: bool) -> Choice:
    if choice.parameter is not None or isinstance(extent.mean, Schedule):
        return choice
    width = span.full - span.zero
    low, high = (0.0 if extent.low is None else extent.low), (1.0 if extent.high is None else extent.high)
    ends = sorted((round(span.zero + width * low, _DIGITS), round(span.zero + width * high, _DIGITS)))
    law = Normal(
        mean=round(span.zero + width * extent.mean, _DIGITS) + 0.0,
        std=round(abs(width) * extent.std, _DIGITS), low=ends[0] + 0.0, high=ends[1] + 0.0,
    )  # fmt: skip
    return Choice(op=choice.op, probability=choice.probability, parameter=law, mirrored=signed)
