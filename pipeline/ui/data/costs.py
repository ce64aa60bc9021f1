"""What runs took and saved; in money where prices are given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from lake.errors import ConfigError
from pipeline.ui.data.runs import RunLine, newest
from pipeline.ui.site import Site

__all__ = ["Cost", "Costs", "Prices", "costs"]

RUNS = 60
"""The last runs that are shown."""

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Prices:
    """What things cost, in any currency; nothing unless given.

    Attributes:
        core_hour: of one worker.
        gib_month: of storing a GiB for a month.
        label: of labelling a row.
    """

    core_hour: float = 0.0
    gib_month: float = 0.0
    label: float = 0.0

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Prices:
        """Those of an address.

        Raises:
            ConfigError: one is no price.
        """
        found = {}
        for each in fields(cls):
            text = query.get(each.name, "").strip()
            try:
                found[each.name] = float(text) if text else 0.0
            except ValueError:
                found[each.name] = math.nan
            if not 0 <= found[each.name] < 1e12:  # noqa: PLR2004  (more than anybody pays)
                raise ConfigError(f"{each.name} is no price", hint="give a number from 0 on, such as 0.05")
        return cls(**found)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took and saved.

    Attributes:
        line: the run.
        work: seconds of its steps, summed over workers.
        bytes: of its tables afterwards.
        compute: price of its work.
        storage: price of keeping its tables for a month.
        saved: price of the labels that nobody needs to make.
    """

    line: RunLine
    work: float
    bytes: int
    compute: float
    storage: float
    saved: float


@dataclass(frozen=True, slots=True)
class Costs:
    """What the last runs took and saved, newest first."""

    prices: Prices
    rows: list[Cost]

    @property
    def last(self) -> Cost | None:
        """The newest."""
        return self.rows[0] if self.rows else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return asdict(self)


def costs(site: Site, prices: Prices | None = None) -> Costs:
    """What the last runs took and saved."""
    prices = prices or Prices()
    rows = []
    for record, line in newest(site, RUNS):
        work = sum(float(step.get("seconds") or 0.0) for step in record["steps"])
        size = sum(int(table["bytes"]) for table in (record.get("tables") or {}).values())
        rows.append(
            Cost(
                line,
                work,
                size,
                work / _HOUR * prices.core_hour,
                size / 2**30 * prices.gib_month,
                line.repeats * prices.label,
            )
        )
    return Costs(prices, rows)
