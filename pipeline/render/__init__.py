"""A pipeline in the words of a scheduler that is there already: KubeRay, Kubernetes, systemd, Airflow, Dagster.

::

    options     what one may say about a rendering
    timing      a cron expression for systemd, and for those that read cron otherwise than we do
    workload    what is rendered: the configuration, checked against where it will run
    kubernetes, systemd, orchestrators
                the targets; their files are made from `templates/`
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lake.errors import ConfigError
from pipeline.render.options import Options

__all__ = ["TARGETS", "Options", "render"]

TARGETS = {
    "rayjob": "pipeline.render.kubernetes",
    "cronjob": "pipeline.render.kubernetes",
    "raycronjob": "pipeline.render.kubernetes",
    "systemd": "pipeline.render.systemd",
    "airflow": "pipeline.render.orchestrators",
    "dagster": "pipeline.render.orchestrators",
}
"""What can be rendered, and the module that does; its function has the target's name."""


def render(config: str | Path, target: str, overrides: Sequence[str] = (), **options: Any) -> dict[str, str]:
    """The files that have a scheduler run a pipeline. Nothing is written, nothing is asked.

    Args:
        config: path of the configuration.
        target: one of :data:`TARGETS`.
        overrides: ``path=value`` each, as ``--set`` takes them.
        **options: the fields of :class:`Options`.

    Returns:
        The texts of the files by their names.

    Raises:
        ConfigError: the configuration or an option is wrong, or the scheduler cannot do exactly that; with why.

    >>> sorted(render("configs/quickstart.yaml", "systemd", cron="@daily", user="mill"))
    ['gristmill-quickstart.service', 'gristmill-quickstart.timer']
    """
    from importlib import import_module

    from pipeline.render.workload import Workload

    if target not in TARGETS:
        from pipeline.config.strictyaml import suggest

        hint = suggest(target, list(TARGETS)) or f"targets: {', '.join(TARGETS)}"
        raise ConfigError(f"there is no target {target!r}", hint=hint)
    chosen = Options(**options)
    chosen.check(target)
    made = getattr(import_module(TARGETS[target]), target)(Workload.read(config, overrides, chosen))
    files: dict[str, str] = made
    return files
