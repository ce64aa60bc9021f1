"""Files for Airflow and Dagster, which use what `pipeline.integrations` has for them."""

from __future__ import annotations

from typing import Any

from pipeline import __version__
from pipeline.render.timing import portable
from pipeline.render.workload import Workload, fill

__all__ = ["airflow", "dagster"]


def airflow(work: Workload) -> dict[str, str]:
    """A DAG of one task, for the folder of DAGs."""
    name = f"gristmill_{work.config.name.replace('-', '_')}"
    return {
        f"{name}.py": fill("airflow.py.j2", **_common(work, "Airflow"), dag=f"gristmill_{work.config.name}")
    }


def dagster(work: Workload) -> dict[str, str]:
    """Definitions: the three tables as assets, and a schedule."""
    name = f"gristmill_{work.config.name.replace('-', '_')}"
    return {f"{name}.py": fill("dagster.py.j2", **_common(work, "Dagster"), job=name)}


def _common(work: Workload, reader: str) -> dict[str, Any]:
    options = work.options
    return {
        "version": __version__,
        "pipeline": work.config.name,
        "config": str(work.path),
        "overrides": list(work.overrides),
        "cron": portable(options.cron, reader) if options.cron else None,
        "timezone": options.timezone,
        "retries": 2 if options.retries is None else options.retries,
        "rejects": options.rejects,
        "address": options.address,
        "command": options.command or "gristmill",
    }
