"""The options with which a verb that runs a pipeline can be watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

if TYPE_CHECKING:
    from pipeline.engine import Runner
    from pipeline.report import Report
    from pipeline.telemetry.cost import Cost
    from pipeline.telemetry.events import Observer

__all__ = ["Observed", "observed", "price_option"]

F = TypeVar("F", bound=Callable[..., Any])

price_option = click.option(
    "--price",
    "prices",
    multiple=True,
    metavar="NAME=VALUE",
    envvar="GRISTMILL_PRICES",
    help="A price for the cost: core_hour, gpu_hour, gib_month, label, currency. Repeatable. "
    "Default: $GRISTMILL_PRICES.",
)
"""``--price``."""

_OPTIONS = (
    click.option(
        "--metrics",
        metavar="WHERE",
        envvar="GRISTMILL_METRICS",
        help="Metrics for Prometheus: FILE.prom, HOST:PORT to be scraped while the run lives, or the URL "
        "of a push gateway. Default: $GRISTMILL_METRICS.",
    ),
    click.option(
        "--lineage",
        metavar="WHERE",
        envvar="OPENLINEAGE_URL",
        help="OpenLineage events, to a FILE or a URL. Default: $OPENLINEAGE_URL.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        envvar="GRISTMILL_LOG_FORMAT",
        help="Log to stderr, in place of the progress with json. Default: $GRISTMILL_LOG_FORMAT.",
    ),
    click.option("--log-file", metavar="FILE", help="Log to FILE; the progress stays on stderr."),
    price_option,
)


@dataclass(frozen=True)
class Observed:
    """What the options ask for."""

    metrics: str | None
    lineage: str | None
    log_format: Literal["json", "text"] | None
    log_file: str | None
    prices: tuple[str, ...]

    @property
    def instead_of_progress(self) -> bool:
        """Whether stderr is for JSON lines alone."""
        return self.log_format == "json" and self.log_file is None

    def observers(self) -> AbstractContextManager[Sequence[Observer]]:
        """See :func:`pipeline.telemetry.observing`."""
        from pipeline.telemetry import observing
        from pipeline.telemetry.cost import Prices

        return observing(
            metrics=self.metrics,
            lineage=self.lineage,
            log_format=self.log_format,
            log_file=self.log_file,
            prices=Prices.parse(self.prices),
        )

    def cost(self, report: Report, runner: Runner) -> Cost | None:
        """Of a run that is over; none where nothing has a price."""
        from pipeline.telemetry.cost import Prices, cost
        from pipeline.telemetry.watch import workers_of

        prices = Prices.parse(self.prices)
        return cost(report.run, prices, workers=workers_of(runner)) if prices.known else None


def _typed(name: str, value: str | None) -> str | None:
    """The value, if it was typed."""
    from click.core import ParameterSource

    source = click.get_current_context().get_parameter_source(name)
    return value if source is ParameterSource.COMMANDLINE else None


def observed(function: F) -> F:
    """Add the options; the function gets them as one argument, ``observe``."""

    @wraps(function)
    def call(
        *args: Any,
        metrics: str | None,
        lineage: str | None,
        log_format: Literal["json", "text"] | None,
        log_file: str | None,
        prices: tuple[str, ...],
        **others: Any,
    ) -> Any:
        if others.get("limit") is not None:  # a trial: what the environment watches is the real lake
            metrics, lineage = _typed("metrics", metrics), _typed("lineage", lineage)
        return function(*args, observe=Observed(metrics, lineage, log_format, log_file, prices), **others)

    made: Any = call
    for option in reversed(_OPTIONS):
        made = option(made)
    found: F = made
    return found
