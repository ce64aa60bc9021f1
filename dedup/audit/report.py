"""What an audit measured, and how it is shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from dedup.audit.share import Share, percent

__all__ = ["Audit", "Bin", "Level"]

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs of about one similarity: of the S-curve."""

    low: float
    high: float
    mean: float | None
    """The mean similarity of the pairs; None where there are none."""
    share: Share
    """How many of them share a key, of how many there are."""
    theory: float | None
    """The probability of that, averaged over the pairs; None where theory has nothing to say."""

    @property
    def agrees(self) -> bool:
        """Whether theory lies in the interval, or there is nothing to compare."""
        if self.theory is None or not self.share.of:
            return True
        return self.share.low - _ROUNDING <= self.theory <= self.share.high + _ROUNDING


@dataclass(frozen=True, slots=True)
class Level:
    """What a threshold would do to the sample."""

    threshold: float
    pairs: int
    """Similar pairs."""
    rows: int
    """Rows that go, if every pair is found."""
    found: int | None
    """Rows that go by the pairs that the match found; None below its threshold."""


@dataclass(frozen=True)
class Audit:
    """What was measured.

    Attributes:
        step: the class of the match.
        explained: what it says of itself.
        threshold: of it.
        floor: down to which similarity all pairs of the sample are known.
        rows: of the data.
        sampled: rows of the sample.
        uniform: those of them that were drawn uniformly.
        compared: those of them that have something to compare.
        compared_pairs: pairs that brute force compared.
        recall: of the pairs at or above the threshold: those that the match found.
        expected: the recall by theory, averaged over these pairs; None where there is none.
        complete: of the rows that have a kept row within the threshold: those that were dropped.
        precision: of the dropped rows: those whose twin was kept and is within the threshold, computed anew.
        curve: the S-curve.
        theory: the S-curve by theory: similarity and probability.
        histogram: of the similarities: lower end of each bar and its pairs; bars are of one width.
        sweep: what other thresholds would do.
        drawn: how the sample was drawn, in words.
        limits: what the numbers cannot say.
    """

    step: str
    explained: str
    threshold: float
    floor: float
    rows: int
    sampled: int
    uniform: int
    compared: int
    compared_pairs: int
    recall: Share
    expected: float | None
    complete: Share
    precision: Share
    curve: tuple[Bin, ...]
    theory: tuple[tuple[float, float], ...]
    histogram: tuple[tuple[float, int], ...]
    sweep: tuple[Level, ...]
    drawn: str
    limits: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As ``gristmill dedup audit --json`` prints it."""
        told = asdict(self)
        for name in ("recall", "complete", "precision"):
            told[name] = getattr(self, name).to_dict()
        told["curve"] = [asdict(each) | {"share": each.share.to_dict()} for each in self.curve]
        told["histogram"] = [{"low": low, "pairs": pairs} for low, pairs in self.histogram]
        told["theory"] = [{"similarity": x, "probability": y} for x, y in self.theory]
        told["limits"] = list(self.limits)
        return told

    def render(self) -> str:
        """In words, for a terminal."""
        theory = "" if self.expected is None else f"; theory {percent(self.expected)}"
        lines = [
            f"{self.step}: {self.explained}",
            "",
            f"{self.sampled:,} of {self.rows:,} rows, {self.compared_pairs:,} pairs compared",
            f"  duplicates dropped  {self.complete}",
            f"  recall of pairs     {self.recall}{theory}",
            f"  right drops         {self.precision}",
            "",
            f"{'similarity':<16}{'pairs':>9}{'share a key':>14}{'95 % interval':>22}{'theory':>10}",
            *(_bin_line(each) for each in self.curve),
            "",
            f"{'threshold':<16}{'pairs':>9}{'rows that go':>14}{'found':>10}",
            *(_level_line(each, self.threshold) for each in self.sweep),
            "",
            self.drawn,
            *self.limits,
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Audit({self.step}, duplicates dropped {self.complete}, right drops {self.precision})"

    def _repr_html_(self) -> str:
        head = [
            ("duplicates dropped", self.complete),
            ("recall of pairs", self.recall),
            ("right drops", self.precision),
        ]
        rows = "".join(f"<tr><td>{name}</td><td>{escape(str(share))}</td></tr>" for name, share in head)
        curve = "".join(
            f"<tr><td>{each.low:g} to {each.high:g}</td><td>{each.share.of:,}</td>"
            f"<td>{percent(each.share.value)}</td><td>{percent(each.theory)}</td></tr>"
            for each in self.curve
        )
        return (
            f"<div>{escape(self.step)}: {escape(self.explained)}</div><table>{rows}</table>"
            "<table><tr><th>similarity</th><th>pairs</th><th>share a key</th><th>theory</th></tr>"
            f"{curve}</table><div>{escape(self.drawn)}</div>"
        )


def _bin_line(each: Bin) -> str:
    ends = f"{percent(each.share.low)} to {percent(each.share.high)}" if each.share.of else ""
    return (
        f"{each.low:.2f} to {each.high:.2f}    {each.share.of:>9,}{percent(each.share.value):>14}{ends:>22}"
        f"{percent(each.theory):>10}{'' if each.agrees else '  outside'}"
    )


def _level_line(each: Level, threshold: float) -> str:
    found = "" if each.found is None else f"{each.found:,}"
    here = "  the step's" if each.threshold == threshold else ""
    return f"{each.threshold:<16g}{each.pairs:>9,}{each.rows:>14,}{found:>10}{here}"
