"""Policies in words."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

from augment.ops import Range, Space, find
from augment.policy.levels import Normal
from augment.policy.schedule import Schedule

if TYPE_CHECKING:
    from augment.policy import Policy
    from augment.policy.choices import Choice, SubPolicy

__all__ = ["explain", "reach", "table"]

Extent = float | tuple[float, float]


def explain(policy: Policy) -> str:
    """One line for the whole, and one per sub-policy."""
    lines = [
        f"  {share:5.1f} %  {_sub_policy(sub, policy.space)}"
        for share, sub in zip(_shares(policy), policy.subpolicies, strict=True)
    ]
    return "\n".join([_head(policy), *lines])


def table(policy: Policy) -> str:
    """The same as an HTML table."""
    rows = []
    for number, (share, sub) in enumerate(zip(_shares(policy), policy.subpolicies, strict=True), 1):
        for place, c in enumerate(sub.choices):
            first = (f"{number}", f"{share:.1f} %") if place == 0 else ("", "")
            p = c.probability
            often = p.words(_plain) if isinstance(p, Schedule) else f"{p:.2f}"
            cells = (*first, c.op, often, reach(c, policy.space))
            rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    heads = "".join(f"<th>{h}</th>" for h in ("#", "share", "op", "p", "magnitude"))
    return f"<table><caption>{escape(_head(policy))}</caption><tr>{heads}</tr>{''.join(rows)}</table>"


def _shares(policy: Policy) -> list[float]:
    """How often each sub-policy is drawn in epoch 0, in percent."""
    weights = [sub.weight_at(0) for sub in policy.subpolicies]
    total = sum(weights) or 1.0
    return [100 * weight / total for weight in weights]


def _head(policy: Policy) -> str:
    many = len(policy.subpolicies)
    levels = (
        "any levels" if policy.bins is None else f"magnitudes of the {policy.space} space in {policy.bins} bins"
    )
    noun = "sub-policy" if many == 1 else "sub-policies"
    different = " that differ" if policy.distinct else ""
    what = f"{policy.name or 'policy'}: {policy.draws} of {many} {noun}{different} per image"
    ends = "" if policy.until is None else f", none from epoch {policy.until} on"
    return f"{what}{ends}, {levels}, {policy.resampling} resampling"


def _sub_policy(sub: SubPolicy, space: Space) -> str:
    said = "; then ".join(_choice(choice, space) for choice in sub.choices)
    return f"{said}; weight {sub.weight.words(_plain)}" if isinstance(sub.weight, Schedule) else said


def _choice(choice: Choice, space: Space) -> str:
    p = choice.probability
    often = p.words(_often) if isinstance(p, Schedule) else _often(p)
    how = reach(choice, space)
    return f"{choice.op}: {often}{', ' if how else ''}{how}"


def _plain(value: Extent) -> str:
    return f"{value:.4g}" if not isinstance(value, tuple) else " to ".join(_plain(end) for end in value)


def _often(value: Extent) -> str:
    if value in (0, 1):
        return "always" if value else "never"
    return f"{100 * value:.0f} % of the time" if not isinstance(value, tuple) else _plain(value)


def reach(choice: Choice, space: Space) -> str:
    """How far a choice goes: empty where its op has no magnitude."""
    if not find(choice.spelt).has_magnitude:
        return ""
    span = find(choice.spelt).range(space)

    def say(value: Extent) -> str:
        ends = value if isinstance(value, tuple) else (value,)
        return " to ".join(_end(choice, span, end) for end in dict.fromkeys(ends))

    value = choice.extent
    if isinstance(value, Schedule):
        return value.words(say).replace("+0", "0")
    if isinstance(value, Normal):
        mean = value.mean.words(say) if isinstance(value.mean, Schedule) else say(value.mean)
        unit = span.scale * (1.0 if choice.parameter is not None else abs(span.full - span.zero))
        return f"{mean} give or take {value.std * unit:.3g}{_limits(choice, value, say)}".replace("+0", "0")
    return say(value).replace("+0", "0")


def _limits(choice: Choice, value: Normal, say: Callable[[Extent], str]) -> str:
    low, high = value.low, value.high
    if choice.parameter is None:
        low, high = low or 0.0, 1.0 if high is None else high
    if high is None:
        return "" if low is None else f", at least {say(low)}"
    if low is None:
        return f", at most {say(high)}"
    return f", within {say((low, high))}"


def _end(choice: Choice, span: Range, end: float) -> str:
    """One level, or parameter, in words; both of its directions where it has two."""
    if choice.parameter is None:
        values = [float(span.parameter(end, sign)) for sign in ((-1, 1) if span.signed else (1,))]
    else:
        end = float(round(end)) if span.whole else end
        values = [2 * span.zero - end, end] if choice.mirrored and span.signed else [end]
    values = [value * span.scale for value in values]
    if len(values) > 1 and span.zero == 0 and values[1]:
        return "±" + span.words.replace(":+", ":").format(p=values[1])
    return " or ".join(dict.fromkeys(span.words.format(p=value) for value in values))
