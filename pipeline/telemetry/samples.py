"""Samples of the catalogue's metrics, and what turns them into Prometheus' text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pipeline.telemetry.catalogue import METRICS

__all__ = ["Sample", "registry", "text"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric.

    Attributes:
        name: of the catalogue.
        value: seconds, bytes, rows or a ratio, as the name says.
        labels: those of the catalogue.
    """

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


class _Gauges(Collector):
    """Asks for the samples at every scrape."""

    def __init__(self, ask: Callable[[], Iterable[Sample]]) -> None:
        self._ask = ask

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: the registry must not ask for samples only to learn their names."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All families that have a sample, in the order of the catalogue."""
        found: dict[str, list[Sample]] = {}
        for sample in self._ask():
            found.setdefault(sample.name, []).append(sample)
        for name, metric in METRICS.items():
            if name not in found:
                continue
            labels = ("lake", *metric.labels)
            family = GaugeMetricFamily(metric.full_name, metric.help, labels=labels)
            for sample in found[name]:
                family.add_metric([sample.labels[label] for label in labels], sample.value)
            yield family


def registry(ask: Callable[[], Iterable[Sample]]) -> CollectorRegistry:
    """A registry with these samples and nothing else.

    Args:
        ask: gives the samples of the moment; called at each scrape, on the scraper's thread.
    """
    made = CollectorRegistry(auto_describe=False)
    made.register(_Gauges(ask))
    return made


def text(samples: Iterable[Sample]) -> bytes:
    """The samples in Prometheus' text format.

    >>> print(text([Sample("lake_up", 1.0, {"lake": "/data/lake"})]).decode(), end="")
    # HELP gristmill_lake_up 1 if there is a lake and it can be read, else 0.
    # TYPE gristmill_lake_up gauge
    gristmill_lake_up{lake="/data/lake"} 1.0
    """
    found = list(samples)
    return generate_latest(registry(lambda: found))
