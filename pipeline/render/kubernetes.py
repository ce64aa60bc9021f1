"""KubeRay's RayJob and RayCronJob, and a plain CronJob."""

from __future__ import annotations

from typing import Any

from pipeline import __version__
from pipeline.render.timing import portable
from pipeline.render.workload import Pod, Workload, fill

__all__ = ["cronjob", "raycronjob", "rayjob"]

# What KubeRay and Kubernetes leave of a name for what they append to it.
_LONGEST = {"RayJob": 47, "RayCronJob": 36, "CronJob": 52}
_HOUR = 3600


def rayjob(work: Workload) -> dict[str, str]:
    """A run on a cluster of its own, which goes with it."""
    return _ray(work, "RayJob")


def raycronjob(work: Workload) -> dict[str, str]:
    """The same at fixed times, by KubeRay itself."""
    return _ray(work, "RayCronJob", schedule=portable(str(work.options.cron), "KubeRay"))


def cronjob(work: Workload) -> dict[str, str]:
    """A run at fixed times: in the pod, or submitted from it to a cluster that is there."""
    name = work.name(_LONGEST["CronJob"])
    text = fill(
        "cronjob.yaml.j2",
        **_common(work, name),
        schedule=portable(str(work.options.cron), "Kubernetes"),
        timezone=_zone(work),
        deadline=int(min(work.gap(), _HOUR)),  # a fire that is missed is let go before the next
        retries=2 if work.options.retries is None else work.options.retries,
        address=work.options.address,
        pod_shape=_alone(work),
    )
    return {f"{name}.cronjob.yaml": text}


def _ray(work: Workload, kind: str, schedule: str | None = None) -> dict[str, str]:
    name = work.name(_LONGEST[kind])
    cpu, gpu = work.pods()
    text = fill(
        "rayjob.yaml.j2",
        **_common(work, name),
        kind=kind,
        schedule=schedule,
        timezone=_zone(work),
        groups=[("cpu", cpu), *([("gpu", gpu)] if gpu else [])],
        workers=work.options.workers,
        retries=work.options.retries or 0,
        head=cpu,
    )
    return {f"{name}.{kind.lower()}.yaml": text}


def _alone(work: Workload) -> Pod:
    """The pod that does everything itself."""
    cpu, gpu = work.pods()
    return cpu if gpu is None else Pod(max(cpu.cpus, gpu.cpus), max(cpu.memory, gpu.memory), gpu.gpus)


def _common(work: Workload, name: str) -> dict[str, Any]:
    options = work.options
    return {
        "name": name,
        "pipeline": work.config.name,
        "version": __version__,
        "namespace": options.namespace,
        "image": options.image,
        "secrets": options.secrets,
        "service_account": options.service_account,
        "volume": options.volume(),
        "text": work.shipped(),
    }


def _zone(work: Workload) -> str:
    # "UTC" is a link that small images of the operator may lack; Kubernetes documents this name.
    return "Etc/UTC" if work.options.timezone == "UTC" else work.options.timezone
