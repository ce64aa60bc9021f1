"""All that is to observe a run, opened and closed together: what the command line's options ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Literal

from pipeline.telemetry.cost import Prices
from pipeline.telemetry.events import Observer
from pipeline.telemetry.lineage import Lineage
from pipeline.telemetry.logs import LogObserver, Place, logging_to

__all__ = ["observing"]


@contextmanager
def observing(
    *,
    metrics: str | None = None,
    lineage: str | None = None,
    log_format: Literal["json", "text"] | None = None,
    log_file: str | None = None,
    prices: Prices | None = None,
) -> Iterator[tuple[Observer, ...]]:
    """The observers that are asked for, for ``Pipeline.run(observers=...)``; closed at the end of the block.

    Args:
        metrics: ``FILE.prom``, ``HOST:PORT`` or the URL of a push gateway.
        lineage: a file, or the URL of an OpenLineage service. ``OPENLINEAGE_DISABLED=true`` turns it off.
        log_format: ``json`` writes JSON lines to stderr; ``text`` lines for a person; None changes nothing.
        log_file: the log goes to this file instead.
        prices: for the metric of the cost.

    Raises:
        ConfigError: an address that is none.
        InputError: the log's file cannot be opened.
    """
    place = Place()
    with ExitStack() as held:
        observers: list[Observer] = [LogObserver(place)]
        if log_format is not None or log_file is not None:
            held.enter_context(logging_to(place, log_format or "text", log_file))
        if metrics is not None:
            from pipeline.telemetry.live import Live
            from pipeline.telemetry.metrics import exporter, target

            observers.append(exporter(target(metrics), Live(prices)))
        if lineage is not None and os.environ.get("OPENLINEAGE_DISABLED", "").lower() != "true":
            observers.append(Lineage(lineage))
        held.callback(_close, observers)
        yield tuple(observers)


def _close(observers: list[Observer]) -> None:
    """Close all at once: two that nobody answers take no longer than one."""

    def close(observer: Observer) -> None:
        with suppress(Exception):
            observer.close()

    with ThreadPoolExecutor(len(observers)) as pool:
        list(pool.map(close, observers))
