"""What one may say about a rendering."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Literal

from lake.errors import ConfigError

__all__ = ["Options", "Rejects"]

Rejects = Literal["fail", "skip", "pass"]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_CLAIM = re.compile(r"(?P<name>[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?):(?P<path>/[^\s:]+)")
_KUBERNETES = frozenset({"rayjob", "cronjob", "raycronjob"})
_CRON = frozenset({"cronjob", "raycronjob", "systemd"})
_USED = {
    "image": _KUBERNETES,
    "namespace": _KUBERNETES,
    "secrets": _KUBERNETES,
    "service_account": _KUBERNETES,
    "claim": _KUBERNETES,
    "cpus": _KUBERNETES,
    "memory": _KUBERNETES,
    "workers": frozenset({"rayjob", "raycronjob"}),
    "address": frozenset({"cronjob", "systemd", "airflow"}),
    "user": frozenset({"systemd"}),
    "command": frozenset({"systemd", "airflow", "dagster"}),
    "cron": frozenset({*_CRON, "airflow", "dagster"}),
    "timezone": frozenset({*_CRON, "airflow", "dagster"}),
    "jitter": frozenset({"systemd"}),
}
"""Which targets look at an option; those that are not here are for all."""


@dataclass(frozen=True)
class Options:
    """How a pipeline is rendered.

    Args:
        cron: when it runs: five fields, or ``@daily`` and so on.
        timezone: IANA name of the time zone that the fields are read in.
        jitter: seconds over which starts are spread.
        image: container image that holds Gristmill, and for Ray its head and workers too.
        namespace: of Kubernetes.
        address: of a cluster's dashboard: submit the run there in place of doing it.
        secrets: names of Kubernetes Secrets whose keys become variables of the pods; values are never rendered.
        service_account: of the pods.
        claim: ``NAME:/path``: a PersistentVolumeClaim, and where the pods see it.
        cpus: cores of a worker, or of the pod that runs without a cluster; more where ``resources`` say so.
        memory: bytes of the same.
        workers: most worker pods of each kind.
        retries: starts after a failed one; ``None``: 2, and 0 for Ray jobs.
        rejects: what exit code 3 is to the scheduler: a failure, a skipped task (Airflow), or a success.
        user: whom systemd runs it as; the owner of the configuration unless given.
        command: how `gristmill` is called there; several words are split as by a shell.
    """

    cron: str | None = None
    timezone: str = "UTC"
    jitter: float = 0.0
    image: str | None = None
    namespace: str = "default"
    address: str | None = None
    secrets: tuple[str, ...] = ()
    service_account: str | None = None
    claim: str | None = None
    cpus: float = 4.0
    memory: int = 16 << 30
    workers: int = 4
    retries: int | None = None
    rejects: Rejects = "fail"
    user: str | None = None
    command: str | None = None

    def check(self, target: str) -> None:
        """Refuse what this target would not look at, and what it must have but does not.

        Raises:
            ConfigError: with the option.
        """
        for each in fields(self):
            wanted = _USED.get(each.name)
            if wanted is not None and target not in wanted and getattr(self, each.name) != each.default:
                known = ", ".join(sorted(wanted))
                raise ConfigError(
                    f"{target} has no use for it", where=_flag(each.name), hint=f"it is for {known}"
                )
        if target in _CRON and self.cron is None:
            raise ConfigError(f"{target} needs a time", where="--cron", hint='such as --cron "0 2 * * *"')
        if target in _KUBERNETES and not self.image:
            raise ConfigError(
                f"{target} needs an image that holds Gristmill",
                where="--image",
                hint="docs/schedulers.md has a Dockerfile",
            )
        self._names()
        self._rejects(target)

    def volume(self) -> tuple[str, str] | None:
        """The claim's name and the path where pods see it."""
        if self.claim is None:
            return None
        found = _CLAIM.fullmatch(self.claim)
        if found is None:
            raise ConfigError(
                f"{self.claim!r} is no claim", where="--claim", hint="write NAME:/path, as in data:/data"
            )
        return found["name"], found["path"].rstrip("/")

    def _names(self) -> None:
        if not _LABEL.fullmatch(self.namespace):
            raise ConfigError(f"{self.namespace!r} is no namespace", where="--namespace", hint="a-z, 0-9 and -")
        for flag, name in [("--secret", each) for each in self.secrets] + [
            ("--service-account", self.service_account or "default")
        ]:
            if not _SUBDOMAIN.fullmatch(name):
                hint = "the name of an object in the namespace; no key or value stands here"
                raise ConfigError("this is no name in Kubernetes", where=flag, hint=hint)
        self.volume()

    def _rejects(self, target: str) -> None:
        if self.rejects == "skip" and target != "airflow":
            raise ConfigError(
                "only Airflow knows skipped tasks", where="--rejects skip", hint="use fail or pass"
            )
        if self.rejects == "pass" and target in _KUBERNETES:
            raise ConfigError(
                "a pod that exits with 3 has failed, whatever one says about it",
                where="--rejects pass",
                hint="allow them: --set allowed_rejects=1",
            )


def _flag(name: str) -> str:
    return "--" + {"secrets": "secret"}.get(name, name).replace("_", "-")
