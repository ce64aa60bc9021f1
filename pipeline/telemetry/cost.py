"""What a run costs, and what it saves: arithmetic over a run's record, with every assumption said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from lake.errors import ConfigError
from pipeline.report.figures import figures

__all__ = ["Cost", "Line", "Prices", "cost"]

_HOUR = 3600.0
_GIB = float(1 << 30)
_CURRENCY_LETTERS = 3


@dataclass(frozen=True, slots=True)
class Prices:
    """What things cost. None of them has a default: what is not priced is not counted.

    Attributes:
        core_hour: one core for one hour.
        gpu_hour: one GPU for one hour.
        gib_month: one GiB (2**30 bytes) stored for one month.
        label: one label by a person.
        currency: three letters.

    >>> Prices.parse(["core_hour=0.04", "currency=EUR"])
    Prices(core_hour=0.04, gpu_hour=None, gib_month=None, label=None, currency='EUR')
    """

    core_hour: float | None = None
    gpu_hour: float | None = None
    gib_month: float | None = None
    label: float | None = None
    currency: str = "USD"

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Prices:
        """Read ``name=value``, as ``--price`` takes them.

        Raises:
            ConfigError: no such name, or no such price.
        """
        known = [each.name for each in fields(cls)]
        found: dict[str, Any] = {}
        for text in texts:
            name, equals, value = (part.strip() for part in text.partition("="))
            if name not in known or not equals:
                raise ConfigError(f"no price is called {name!r}", hint=f"NAME=VALUE with {', '.join(known)}")
            found[name] = _currency(value) if name == "currency" else _price(name, value)
        return cls(**found)

    @property
    def known(self) -> bool:
        """Whether there is anything to count."""
        return any(price is not None for price in (self.core_hour, self.gpu_hour, self.gib_month, self.label))


def _price(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{name} is no price", why=f"{text!r} is not a number of 0 or more")
    return value


def _currency(text: str) -> str:
    if len(text) != _CURRENCY_LETTERS or not (text.isascii() and text.isalpha()):
        raise ConfigError("currency has three letters, such as EUR")
    return text.upper()


@dataclass(frozen=True, slots=True)
class Line:
    """One item.

    Attributes:
        kind: ``compute``, ``gpu``, ``storage_month`` or ``labels_saved``.
        amount: in the currency; for labels what was *not* spent.
        how: the multiplication in words, with what it assumes.
    """

    kind: str
    amount: float
    how: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run costs.

    >>> run = {"seconds": 1800.0, "steps": [{"stage": "ingest", "step": "files", "rows_in": 5, "rows_kept": 3,
    ...        "drops": {"exact-duplicate": 2}}], "tables": {}}
    >>> print(cost(run, Prices(core_hour=0.04, label=0.1), workers=4).render())
    cost of the run       0.0800 USD
      compute             0.0800 USD  1,800.0 s x 4 cores x 0.04 an hour; a worker is a core for the whole run
      labels saved         0.200 USD  2 rows that repeat a kept one x 0.1; each would have been labelled once
    """

    lines: tuple[Line, ...]
    currency: str

    @property
    def spent(self) -> float:
        """By the run itself: computing, without storage (by the month) and without what was saved."""
        return sum(line.amount for line in self.lines if line.kind in {"compute", "gpu"})

    def to_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        lines = [{"kind": line.kind, "amount": line.amount, "how": line.how} for line in self.lines]
        return {"currency": self.currency, "spent": self.spent, "lines": lines}

    def render(self) -> str:
        """For a terminal."""
        rows = [f"{'cost of the run':<17} {_money(self.spent):>10} {self.currency}"]
        for line in self.lines:
            name = line.kind.replace("_", " ")
            rows.append(f"  {name:<15} {_money(line.amount):>10} {self.currency}  {line.how}")
        return "\n".join(rows)


def cost(run: Mapping[str, Any], prices: Prices, *, workers: int | None, gpus: int = 0) -> Cost:
    """Count a run's record (``run.json``).

    Args:
        run: the record.
        prices: what is not priced is left out.
        workers: cores held for the whole run; where nobody knows, the seconds at work in the steps are taken.
        gpus: held for the whole run.
    """
    lines: list[Line] = []
    found = figures(run)
    seconds = float(run.get("seconds") or 0.0)
    if prices.core_hour is not None:
        lines.append(_compute(seconds, workers, sum(step.seconds for step in found.steps), prices.core_hour))
    if prices.gpu_hour is not None and gpus:
        amount = seconds * gpus / _HOUR * prices.gpu_hour
        how = f"{seconds:,.1f} s x {gpus} GPUs x {prices.gpu_hour:g} an hour; held for the whole run"
        lines.append(Line("gpu", amount, how))
    if prices.gib_month is not None:
        gib = sum(table["bytes"] for table in (run.get("tables") or {}).values()) / _GIB
        how = f"{gib:,.3f} GiB x {prices.gib_month:g} a month; newest versions alone, without requests"
        lines.append(Line("storage_month", gib * prices.gib_month, how))
    if prices.label is not None:
        saved = found.repeats
        how = f"{saved:,} rows that repeat a kept one x {prices.label:g}; each would have been labelled once"
        lines.append(Line("labels_saved", saved * prices.label, how))
    return Cost(tuple(lines), prices.currency)


def _money(amount: float) -> str:
    """Three digits where it is little: a small run costs a small part of a cent."""
    return f"{amount:,.2f}" if amount >= 1 or amount == 0 else f"{amount:#.3g}"


def _compute(seconds: float, workers: int | None, at_work: float, price: float) -> Line:
    if workers is None:
        how = f"{at_work:,.1f} s at work in steps x {price:g} an hour; idle cores are not counted"
        return Line("compute", at_work / _HOUR * price, how)
    how = f"{seconds:,.1f} s x {workers} cores x {price:g} an hour; a worker is a core for the whole run"
    return Line("compute", seconds * workers / _HOUR * price, how)
