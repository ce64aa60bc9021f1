"""From a configuration to a job: what it is called, what it takes along, whether it runs already."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lake.errors import ConfigError
from pipeline import __version__
from pipeline.config import Config, dump, load
from pipeline.doctor import Check
from pipeline.jobs import package, secrets
from pipeline.jobs.client import Cluster, Record
from pipeline.jobs.job import Job
from pipeline.jobs.preflight import PreflightError, Task, Wanted, ask, judge
from pipeline.jobs.probe import digest as digest_of
from pipeline.pipeline import Pipeline

__all__ = ["Options", "Parcel", "check", "prepare", "submit"]

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WAIT = 90  # seconds for the lock of a run that died: in an object store its lease must run out first
_OURS = ("working_dir", "py_modules")
_GLOB = re.compile(r"[*?\[{]")


@dataclass(frozen=True)
class Options:
    """How a job is submitted.

    Args:
        overrides: ``path=value`` each, as ``--set`` takes them.
        once: a name for this occasion, such as a date: a job of this name that succeeded is not run again.
        limit: a trial on so many rows of each source.
        workers: most tasks at a time.
        autoscaling: whether the cluster adds nodes on demand; none: ask it.
        shared_filesystem: local paths mean the same on every node as here.
        ship: further files or folders of Python modules to take along.
        env: names of variables of this process that the job needs; their values stand in no log.
        runtime_env: more of Ray's runtime environment (``pip``, ``env_vars``, ``container``).
        install: have the cluster install what it lacks of our dependencies, by pip.
        python: the command that starts Python on the head.
        driver_cpus: cores kept for the driver, which makes all decisions; without, it takes none from tasks.
        driver_memory: bytes kept for it.
        preflight: ask the cluster first whether it is fit.
        strict: let its warnings fail too.
        patience: seconds for the preflight.
    """

    overrides: Sequence[str] = ()
    once: str | None = None
    limit: int | None = None
    workers: int | None = None
    autoscaling: bool | None = None
    shared_filesystem: bool = False
    ship: Sequence[str | Path] = ()
    env: Sequence[str] = ()
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    install: bool = False
    python: str = "python"
    driver_cpus: float = 0.0
    driver_memory: int = 0
    preflight: bool = True
    strict: bool = False
    patience: float = 180.0


@dataclass(frozen=True)
class Parcel:
    """A job that is ready to be sent.

    Args:
        name: of the job, without the number of the attempt.
        command: what the head starts.
        files: the packages: our code, the working folder.
        wanted: what the run needs of a cluster.
        metadata: that the cluster keeps with the job.
        options: how it is submitted.
    """

    name: str
    command: tuple[str, ...]
    files: tuple[package.Package, package.Package]
    wanted: Wanted
    metadata: Mapping[str, str]
    options: Options

    def last(self, cluster: Cluster) -> tuple[int, Record | None]:
        """The last attempt at this job that the cluster remembers, and its number; 0 and none at first."""
        attempts = {
            int(number): record
            for record in cluster.jobs()
            for head, _, number in [record.id.rpartition("-")]
            if head == self.name and number.isdecimal()
        }
        return max(attempts.items(), default=(0, None), key=lambda one: one[0])

    def environment(self) -> dict[str, Any]:
        """The runtime environment, without the secrets."""
        code, folder = self.files
        found = {**self.options.runtime_env, "working_dir": folder.uri, "py_modules": [code.uri]}
        if self.options.install:
            already = found.get("pip") or []
            more = dict(already) if isinstance(already, Mapping) else {"packages": already}
            packages = [*(more.get("packages") or []), *package.requirements()]
            found["pip"] = {**more, "packages": packages}
        return found

    def send(self, cluster: Cluster, attempt: int) -> Job:
        """Start the job; where somebody else was quicker, theirs is meant."""
        env = self.environment()
        if self.options.env:
            name, kept = secrets.packed(secrets.collect(self.options.env))
            cluster.upload(name, kept)
            env["env_vars"] = {**(env.get("env_vars") or {}), secrets.NAMED: name}
            env["worker_process_setup_hook"] = secrets.HOOK
        request: dict[str, Any] = {
            "entrypoint": shlex.join(self.command),
            "runtime_env": env,
            "metadata": dict(self.metadata),
        }
        if self.options.driver_cpus:
            request["entrypoint_num_cpus"] = self.options.driver_cpus
        if self.options.driver_memory:
            request["entrypoint_memory"] = self.options.driver_memory
        name = f"{self.name}-{attempt}"
        return Job(cluster, name, attached=not cluster.submit(name, request))


def prepare(config: str | Path | Config | Pipeline, options: Options) -> Parcel:
    """Read, check and pack; asks no cluster.

    Raises:
        ConfigError: the configuration, or an option, is wrong.
    """
    path = Path(config).absolute() if isinstance(config, str | Path) else None
    read = _read(config, options)
    key = _key(options)
    places = _local(read)
    if places and not (options.shared_filesystem and path):
        raise _not_there(places, path)
    run = ["run", str(path) if places and path else package.CONFIG, "--address", "auto", "--wait", str(_WAIT)]
    text = None
    if path is None:
        text = dump(read)
    elif not places:
        text = path.read_text(encoding="utf-8")
    for override in options.overrides:
        run += ["--set", override]
    for flag, value in (("--limit", options.limit), ("--workers", options.workers)):
        run += [] if value is None else [flag, str(value)]
    if options.autoscaling is not None:
        run.append("--autoscaling" if options.autoscaling else "--no-autoscaling")
    secrets.collect(options.env)
    _sound(options)
    told = json.dumps([read.to_dict(), __version__, options.limit], sort_keys=True, default=str)
    digest = hashlib.blake2b(told.encode(), digest_size=4).hexdigest()
    return Parcel(
        name="-".join(["gristmill", read.name, digest, *key]),
        command=(options.python, "-m", "pipeline.jobs.driver", *run),
        files=(package.code(), package.workdir(text, read.plugins, options.ship)),
        wanted=_wanted(read, options, path if places else None),
        metadata={"gristmill": "run", "pipeline": read.name, "version": __version__},
        options=options,
    )


def check(
    config: str | Path | Config | Pipeline, address: str, token: str | None = None, **options: Any
) -> list[Check]:
    """Whether a cluster is fit for a run: all findings. Nothing is run but the probe.

    Args:
        config: as for :func:`submit`.
        address: as for :func:`submit`.
        token: as for :func:`submit`.
        **options: the fields of :class:`Options`.

    Raises:
        EngineError: the cluster does not answer.
    """
    parcel = prepare(config, Options(**options))
    return _checked(parcel, Cluster.at(address, token))


def submit(
    config: str | Path | Config | Pipeline,
    address: str,
    token: str | None = None,
    *,
    told: Callable[[list[Check]], None] | None = None,
    **options: Any,
) -> Job:
    """Run a pipeline as a job on a Ray cluster; give the job, which may have just begun.

    ::

        job = submit("gristmill.yaml", "http://head:8265", once="2026-11-30")
        for text in job.logs(follow=True):
            print(text, end="")
        assert job.wait() == 0

    The same configuration has the same name, so a second submit while it runs gives the running job, and
    two at one moment start one. Once it has ended, the next submit starts the next attempt; with ``once``,
    not if an attempt has succeeded.

    Args:
        config: path of a configuration, or the value.
        address: of the cluster's dashboard, such as ``http://head:8265``.
        token: for clusters with token authentication.
        told: is given the findings of the preflight.
        **options: the fields of :class:`Options`.

    Raises:
        ConfigError: the configuration or an option is wrong, or its paths mean nothing to the cluster.
        EngineError: the cluster does not answer, or does not know the token.
        PreflightError: the cluster is not fit for the run.
    """
    chosen = Options(**options)
    parcel = prepare(config, chosen)
    cluster = Cluster.at(address, token)
    cluster.version()
    attempt, record = parcel.last(cluster)
    if record is not None and (not record.over or (chosen.once and record.status == "SUCCEEDED")):
        return Job(cluster, record.id, attached=True)
    if chosen.preflight:
        checks = _checked(parcel, cluster)
        if told is not None:
            told(checks)
        bad = {"fail", "warn"} if chosen.strict else {"fail"}
        if failed := [each for each in checks if each.status in bad]:
            raise PreflightError(failed, cluster.address)
    else:
        _upload(parcel, cluster)
    return parcel.send(cluster, attempt + 1)


def _checked(parcel: Parcel, cluster: Cluster) -> list[Check]:
    cluster.version()
    _upload(parcel, cluster)
    options = parcel.options
    seen = ask(cluster, parcel.environment(), parcel.wanted, python=options.python, patience=options.patience)
    return judge(seen, parcel.wanted)


def _upload(parcel: Parcel, cluster: Cluster) -> None:
    for each in parcel.files:
        cluster.upload(each.name, each.data)


def _read(config: str | Path | Config | Pipeline, options: Options) -> Config:
    if isinstance(config, str | Path):
        return load(config, options.overrides)
    if options.overrides:
        raise ConfigError("overrides are for a file", hint="change the value: config.model_copy(update=...)")
    return config.config if isinstance(config, Pipeline) else config


def _key(options: Options) -> list[str]:
    if options.once is None:
        return []
    if not _KEY.fullmatch(options.once):
        raise ConfigError(
            f"{options.once!r} is no name for an occasion",
            where="--once",
            hint="letters, digits, dots, - and _, at most 64, as in 2026-11-30",
        )
    return [options.once]


def _sound(options: Options) -> None:
    """Refuse what would undo our part of the runtime environment."""
    taken = [*_OURS, "worker_process_setup_hook"] if options.env else _OURS
    for name in taken:
        if name in options.runtime_env:
            raise ConfigError(
                f"{name!r} is Gristmill's own",
                where="runtime environment",
                hint="take modules along with --ship PATH, install others with pip",
            )


def _local(config: Config) -> list[str]:
    """The paths of a configuration that mean something on this machine only; globs up to their folder."""
    return [
        place for place in (_place(each, config.base) for each in [config.lake, *_sources(config)]) if place
    ]


def _sources(config: Config) -> list[str]:
    return [
        path
        for source in config.source
        for path in ([source.paths] if isinstance(source.paths, str) else source.paths)
    ]


def _place(path: str, base: Path) -> str | None:
    path = path.removeprefix("file://")
    if "://" in path:
        return None
    parts = Path(base, path).expanduser().absolute().parts
    fixed = next((at for at, part in enumerate(parts) if _GLOB.search(part)), len(parts))
    return str(Path(*parts[:fixed]))


def _not_there(places: Sequence[str], path: Path | None) -> ConfigError:
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    shared = "--shared-filesystem" if path else "shared_filesystem=True and the file's path; a schedule cannot"
    return ConfigError(
        "the lake or a source is a folder of this machine, which the cluster does not see",
        where=None if path is None else str(path),
        why=f"{places[0]}{more}",
        hint="use s3:// for the lake and the sources; where each node sees these folders at the same place, "
        f"say {shared}",
    )


def _wanted(config: Config, options: Options, path: Path | None) -> Wanted:
    tasks = [Task("the driver", options.driver_cpus, memory=options.driver_memory)]
    if not config.resources:
        tasks.append(Task("a task", cpus=1.0))
    for label, asked in config.resources.items():
        needs = asked.needs()
        tasks.append(Task(label, needs.cpus, needs.gpus, needs.memory, dict(needs.custom)))
    tasks += [Task(label, gpus=1.0) for label in _on_cuda(config) if label not in config.resources]
    return Wanted(
        requirements=tuple(package.requirements()),
        modules=("pipeline", *config.plugins),
        tasks=tuple(task for task in tasks if task.amounts()),
        read=tuple(filter(None, (_place(each, config.base) for each in _sources(config)))) if path else (),
        write=tuple(filter(None, [_place(config.lake, config.base)])) if path else (),
        digests={str(path): digest_of(path)} if path else {},
        autoscaling=options.autoscaling,
    )


def _on_cuda(config: Config) -> list[str]:
    """The steps that say ``device: cuda``: without a GPU they would fail, and late."""
    return [
        label
        for step in config.to_dict()["steps"]
        for label, settings in step.items()
        if settings.get("device") == "cuda"
    ]
