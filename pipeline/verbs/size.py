"""How large a cluster a job needs, and what more nodes would bring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pipeline.verbs.common import common, emit_json, say

if TYPE_CHECKING:
    from pipeline.size import Cluster, Estimate, Rates, Workload

__all__ = ["size"]

_NODES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
_ROW_BYTES = {"text": 900.0, "image": 60_000.0}


class _Bytes(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """``10TB`` as a number."""
        from pipeline.config.resources import size as bytes_of

        try:
            return float(bytes_of(value)) if isinstance(value, str) else float(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(short_help="How large a cluster a job needs.")
@click.argument("amount", type=_Bytes(), metavar="[BYTES]", required=False)
@click.option(
    "--kind", type=click.Choice(["text", "image"]), default="text", show_default=True, help="Of rows."
)
@click.option(
    "--rows", type=click.FloatRange(min=1), help="Records. Default: by 900 bytes a text, 60 KB an image."
)
@click.option("--copies", type=click.IntRange(min=0), default=1, show_default=True, help="Of each image.")
@click.option("--split", type=_Bytes(), default="64MiB", show_default=True, help="split_bytes of the source.")
@click.option(
    "--hours", type=click.FloatRange(min=0, min_open=True), help="A deadline: how many nodes meet it?"
)
@click.option("--nodes", type=click.IntRange(min=1), help="A cluster: how long does it take?")
@click.option("--cores", type=click.IntRange(min=1), default=16, show_default=True, help="Of a node.")
@click.option("--memory", type=_Bytes(), default="64GiB", show_default=True, help="Of a node.")
@click.option("--price", type=click.FloatRange(min=0), default=0.8, show_default=True, help="A node, an hour.")
@click.option("--measure", is_flag=True, help="Measure this machine first (two minutes).")
@common
def size(
    *,
    amount: float | None,
    kind: str,
    rows: float | None,
    copies: int,
    split: float,
    hours: float | None,
    nodes: int | None,
    cores: int,
    memory: float,
    price: float,
    measure: bool,
    as_json: bool,
) -> None:
    """Say how many nodes, how much memory and disk, how long and how dear, by measured throughputs.

    Without BYTES, for 100 GB, 10 TB and 1 PB. With --hours, the smallest cluster that is done in time; with
    neither --hours nor --nodes, the largest whose nodes still bring half of what the first one does.
    """
    if hours and nodes:
        raise click.UsageError("--hours and --nodes exclude each other.")
    from pipeline import size as sizing

    kinds: Any = kind
    rates = sizing.MEASURED
    if measure:
        from pipeline.size.measure import measure as measured

        say("measuring this machine ...")
        rates = measured([kinds])
    cluster = sizing.Cluster(nodes=nodes or 1, cores=cores, memory=memory, price=price)
    found = []
    for each in [amount] if amount else [1e11, 1e13, 1e15]:
        work = sizing.Workload(kinds, each, rows or each / _ROW_BYTES[kind], copies, split)
        found.append(_found(work, cluster, hours, nodes, rates))
    first = found[0]
    curve = sizing.curve(sizing.passes(first.work, cluster, rates), cluster, _NODES) if amount else ()
    if as_json:
        sources = [
            {"name": r.name, "core_seconds_per_gb": r.seconds, "fixed_seconds": r.fixed, "source": r.source}
            for r in rates.every
            if r.kind == kind
        ]
        points = [vars(point) for point in curve]
        emit_json({"estimates": [each.to_dict() for each in found], "curve": points, "rates": sources})
        return
    click.echo(_table(found))
    for one in found:
        for warning in one.warnings:
            click.echo(f"  {_amount(one.work.size)}: {warning}")
    if curve:
        click.echo("\n nodes      hours  efficiency  driver alone")
        for point in curve:
            click.echo(
                f"{point.nodes:>6,} {point.hours:>10,.2f} {point.efficiency:>10.0%} {point.driver:>13.0%}"
            )
    click.echo("\n" + _assumptions(rates, kind, cluster, first.work))


def _found(work: Workload, cluster: Cluster, hours: float | None, nodes: int | None, rates: Rates) -> Estimate:
    """For the cluster that is there, the smallest for the deadline, or the largest that works half the time."""
    from dataclasses import replace

    from pipeline.size import curve, estimate, passes, smallest

    if hours:
        return smallest(work, cluster, hours, rates)
    if not nodes:
        points = curve(passes(work, cluster, rates), cluster, _NODES)
        good = [point.nodes for point in points if point.efficiency >= 0.5]  # noqa: PLR2004  (half)
        cluster = replace(cluster, nodes=max(good, default=1))
    return estimate(work, cluster, rates)


def _table(found: list[Estimate]) -> str:
    lines = ["   size        rows   parts  nodes   cores    hours  core-hours  driver RAM  lake disk      cost"]
    for each in found:
        work, cluster = each.work, each.cluster
        lines.append(
            f"{_amount(work.size):>7} {work.rows:>11.3g} {work.parts:>7,} {cluster.nodes:>6,} "
            f"{cluster.slots:>7,} {each.hours:>8,.2f} {each.core_hours:>11,.1f} "
            f"{_amount(each.driver_bytes):>11} {_amount(each.lake_bytes):>10} {each.cost:>9,.0f}"
        )
    return "\n".join(lines)


def _amount(number: float) -> str:
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if number < 1000:  # noqa: PLR2004  (the step of the units)
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} PB"


def _assumptions(rates: Rates, kind: str, cluster: Cluster, work: Workload) -> str:
    steps = {"text": "pipeline.filters.Quality, dedup.MinHash", "image": "dedup.PHash, augment.Apply"}[kind]
    lines = [f"Assumed ({steps}; CPUs only: no throughput of a GPU has been measured here):"]
    lines += [
        f"  {rate.name:<7} {rate.seconds:>7.1f} core seconds a GB, {rate.fixed:.2f} s a run   {rate.source}"
        for rate in rates.every
        if rate.kind == kind
    ]
    node = f"{cluster.cores} cores, {_amount(cluster.memory)}, {cluster.price:g} an hour"
    lines += [
        f"  the driver: {cluster.dispatch * 1e3:g} ms a task, {cluster.per_part * 1e3:g} ms a part to commit",
        "  the driver works on one core, though some of what it does can use more",
        f"  stragglers: log-normal, sigma {cluster.spread:g}; a node fails {cluster.failures:g} times an hour",
        f"  storage: {_amount(cluster.bandwidth)}/s a node, {_amount(cluster.storage)}/s in all",
        f"  split_bytes: {_amount(work.split)}; a node: {node}",
    ]
    return "\n".join(lines)
