"""Is a cluster fit for a run? Asked by a tiny job, in the environment that the run will have.

:func:`ask` sends the probe and brings back what it saw; :func:`judge` is a pure function from that to
findings. All findings come at once, each with what to do.
"""

from __future__ import annotations

import json
import platform
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

from lake.delta.locks import TTL
from lake.errors import EngineError, GristmillError
from pipeline.doctor import Check
from pipeline.jobs.client import Cluster
from pipeline.jobs.job import explained
from pipeline.jobs.package import PROBE
from pipeline.jobs.probe import MARK

__all__ = ["PreflightError", "Task", "Wanted", "ask", "judge"]

_OLDEST = (3, 11)
_SAME = ("deltalake", "numba", "numpy", "pyarrow")
_SKEW = 5.0  # seconds; the clock of an answer over HTTP is good to one
_LOW_MEMORY, _LOW_DISK = 2 << 30, 1 << 30  # as `gristmill doctor` has it
_FULL = 0.05  # of a disk free: below, Ray itself refuses to spill there
_GIB = 1 << 30
_POLL = 0.5
_SHOWN = 4  # nodes named in one finding


@dataclass(frozen=True)
class Task:
    """What a task of a step, or the driver, asks of one node; memory in bytes."""

    label: str
    cpus: float = 0.0
    gpus: float = 0.0
    memory: int = 0
    custom: Mapping[str, float] = field(default_factory=dict)

    def amounts(self) -> dict[str, float]:
        """By Ray's names, those that are asked for."""
        asked = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self.memory), **self.custom}
        return {name: amount for name, amount in asked.items() if amount}


@dataclass(frozen=True)
class Wanted:
    """What a run needs of a cluster.

    Args:
        requirements: of our distribution.
        modules: that the driver must be able to import, ours first.
        tasks: the largest of each step.
        read: paths on a shared file system that every node must be able to read.
        write: those that every node must be able to write.
        digests: of files that must be the same there as here.
        autoscaling: whether nodes may come that are not there yet; none: ask the cluster.
    """

    requirements: tuple[str, ...] = ()
    modules: tuple[str, ...] = ("pipeline",)
    tasks: tuple[Task, ...] = ()
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    autoscaling: bool | None = None

    def question(self) -> str:
        """For the probe."""
        paths = sorted({*self.read, *self.write, *self.digests})
        return json.dumps(
            {"requirements": self.requirements, "modules": self.modules, "paths": paths}, sort_keys=True
        )


class PreflightError(EngineError):
    """A cluster is not fit for the run; ``errors`` holds the checks that fail."""

    def __init__(self, checks: Sequence[Check], address: str) -> None:
        self.errors = tuple(checks)
        self.address = address
        said = "\n".join(f"  {line}" for check in self.errors for line in str(check).splitlines())
        count = len(self.errors)
        super().__init__(
            f"the cluster is not fit for this run: {count} check{'s' * (count != 1)} failed\n{said}",
            where=address,
            hint="mend these, or submit with --no-preflight to try all the same",
        )

    def __reduce__(self) -> tuple[object, ...]:
        return PreflightError, (self.errors, self.address)


def ask(
    cluster: Cluster, env: Mapping[str, Any], wanted: Wanted, *, python: str = "python", patience: float = 180.0
) -> dict[str, Any]:
    """What a cluster is like from inside.

    Args:
        cluster: whom to ask.
        env: the runtime environment of the run.
        wanted: what to look for.
        python: the command on the head that starts Python.
        patience: seconds; installing packages takes the most of them.

    Raises:
        EngineError: the probe did not come back, or not in time.
    """
    name = f"gristmill-preflight-{secrets.token_hex(4)}"
    command = shlex.join([python, PROBE, wanted.question()])
    cluster.submit(name, {"entrypoint": command, "runtime_env": env, "metadata": {"gristmill": "preflight"}})
    try:
        return _answer(cluster, name, time.monotonic() + patience, patience)
    finally:
        _remove(cluster, name)


def _answer(cluster: Cluster, name: str, deadline: float, patience: float) -> dict[str, Any]:
    while time.monotonic() < deadline:
        record = cluster.job(name)
        if record is None:
            break
        if record.over:
            lines = [line for line in cluster.log(name).splitlines() if line.startswith(MARK)]
            if lines:
                answer: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
                return {**answer, "head_skew": cluster.skew()}
            log = cluster.log(name).strip().splitlines()
            why = explained(record) or (log[-1] if log else record.message)
            raise EngineError("the preflight failed on the cluster", where=cluster.address, why=why)
        time.sleep(_POLL)
    raise EngineError(
        f"the preflight did not come back within {patience:g} s",
        where=cluster.address,
        hint="is a node alive that can start a job? `gristmill jobs list` and the dashboard show what waits; "
        "where packages must be installed first, give it longer with --preflight-timeout",
    )


def _remove(cluster: Cluster, name: str) -> None:
    with suppress(GristmillError):  # what remains of a probe harms nobody
        for turn in range(20):
            if (record := cluster.job(name)) is None or record.over:
                cluster.delete(name)
                return
            if turn == 0:
                cluster.stop(name)
            time.sleep(_POLL)


def judge(seen: Mapping[str, Any], wanted: Wanted) -> list[Check]:
    """The findings, all of them: what the probe saw against what the run needs."""
    silent = [node for node in seen["nodes"] if "error" in node]
    asked = [node for node in seen["nodes"] if "python" in node]
    driver = {**seen["driver"], "address": "the head"}
    machines = [driver, *asked]
    return [
        *_answers(silent, asked, len(seen["nodes"])),
        *_python(machines),
        *_ray(machines),
        *_packages(machines),
        *_code(seen["code"]),
        *_resources(seen, wanted),
        *_memory(asked),
        *_disk(machines),
        *_clocks(seen["head_skew"], asked),
        *_paths(machines, wanted),
    ]


def _answers(silent: Sequence[Mapping[str, Any]], asked: Sequence[Any], count: int) -> Iterator[Check]:
    for node in silent:
        hint = "look at its raylet.log, or take it out of the cluster"
        yield Check("nodes", "fail", f"{node['address']} does not answer: {node['error']}", hint)
    yield Check("nodes", "ok", f"{count} alive, {len(asked)} of them asked")


def _python(machines: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    by = _grouped(machines, lambda machine: machine["python"])
    versions = sorted({_minor(version) for version in by})
    here = platform.python_version()
    detail = "; ".join(f"{version} on {where}" for version, where in by.items())
    if versions[0] < _OLDEST:
        wanted = ".".join(map(str, _OLDEST))
        yield Check("python", "fail", f"{detail}; Gristmill needs {wanted} or newer", "use an image with it")
    elif len(versions) > 1:
        yield Check("python", "fail", f"the nodes differ: {detail}", "use the same image for all nodes")
    elif versions[0] != _minor(here):
        yield Check(
            "python", "warn", f"{detail}; {here} here", "results were checked with yours, not with theirs"
        )
    else:
        yield Check("python", "ok", detail)


def _ray(machines: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    by = _grouped(machines, lambda machine: machine["ray"])
    detail = "; ".join(f"{version} on {where}" for version, where in by.items())
    if len(by) > 1:
        yield Check("ray", "fail", f"the nodes differ: {detail}", "use the same image for all nodes")
    else:
        yield Check("ray", "ok", detail)


def _packages(machines: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    lacking: dict[tuple[str, str, str | None], list[str]] = {}
    other: dict[tuple[str, str, str], list[str]] = {}
    for machine in machines:
        for package in machine["packages"]:
            name, found = package["name"], package["found"]
            if not package["fits"]:
                lacking.setdefault((name, package["wanted"], found), []).append(machine["address"])
            elif name in _SAME and (here := _installed(name)) and _minor(here) != _minor(found):
                other.setdefault((name, found, here), []).append(machine["address"])
    for (name, wanted, found), where in lacking.items():
        detail = f"{name}{wanted}: {found or 'none'} on {_some(where)}"
        yield Check("packages", "fail", detail, "add it to the image, or submit with --install")
    for (name, found, here), where in other.items():
        detail = f"{name} {found} on {_some(where)}; {here} here"
        yield Check("packages", "warn", detail, "results were checked with yours, not with theirs")
    if not lacking and not other:
        yield Check("packages", "ok", f"{len(machines[0]['packages'])} there, as needed")


def _code(code: Mapping[str, Mapping[str, str | None]]) -> Iterator[Check]:
    for name, found in code.items():
        if found["error"]:
            yield Check("code", "fail", f"{name} cannot be imported there: {found['error']}", _code_hint(name))
    ours = code.get("pipeline", {}).get("file")
    if ours and "_ray_pkg_" not in ours:
        hint = "remove it from the image, or from PYTHONPATH"
        yield Check("code", "fail", f"another package `pipeline` hides the one that was shipped: {ours}", hint)
    elif ours:
        yield Check("code", "ok", f"{', '.join(code)} can be imported")


def _code_hint(name: str) -> str:
    if name == "pipeline":
        return "see the packages above"
    return "take along what it needs: --ship PATH for your own modules, --runtime-env FILE with pip for others"


def _resources(seen: Mapping[str, Any], wanted: Wanted) -> Iterator[Check]:
    nodes = [node["resources"] for node in seen["nodes"]]
    grows = seen.get("grows", False) if wanted.autoscaling is None else wanted.autoscaling
    for task in wanted.tasks:
        asked = task.amounts()
        if any(all(node.get(name, 0.0) >= amount for name, amount in asked.items()) for node in nodes):
            continue
        most = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in asked}
        detail = f"{task.label} needs {_amounts(asked)} on one node; the most is {_amounts(most)}"
        if grows:
            yield Check("resources", "warn", detail, "the cluster must be able to add such a node")
        else:
            hint = "ask for less under `resources:`, add such a node, or say --autoscaling if the cluster does"
            yield Check("resources", "fail", detail, hint)
    if nodes:
        total = {name: sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU", "memory")}
        yield Check("resources", "ok", f"{_amounts(total)} in all")


def _memory(asked: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    low = [node for node in asked if 0 < node["resources"].get("memory", 0.0) < _LOW_MEMORY]
    if low:
        least = min(node["resources"]["memory"] for node in low)
        detail = f"{least / _GIB:.1f} GiB for tasks on {_some([node['address'] for node in low])}"
        yield Check(
            "memory", "warn", detail, "give such a node more, or fewer CPUs, so that fewer tasks share it"
        )


def _disk(machines: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    for machine in machines:
        free, total = machine["disk"]["free"], machine["disk"]["total"]
        detail = f"{free / _GIB:.1f} of {total / _GIB:.0f} GiB free on {machine['address']}"
        if free < _FULL * total:
            yield Check("disk", "fail", detail, "free some space there: Ray does not write to a disk so full")
        elif free < _LOW_DISK:
            yield Check("disk", "warn", detail, "free some space there")


def _clocks(head: float, asked: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    skews = {"the head against this machine": head}
    skews |= {f"{node['address']} against the head": node["skew"] for node in asked if "skew" in node}
    worst = max(skews.values(), key=abs)
    for who, skew in skews.items():
        if abs(skew) > TTL:
            why = f"over the {TTL:g} s after which a lock in an object store may be taken over"
            yield Check(
                "clocks", "fail", f"{who}: {skew:+.1f} s, {why}", "let the machines set their clocks by NTP"
            )
        elif abs(skew) > _SKEW:
            yield Check("clocks", "warn", f"{who}: {skew:+.1f} s", "let the machines set their clocks by NTP")
    if abs(worst) <= _SKEW:
        yield Check("clocks", "ok", f"within {_SKEW:g} s")


def _paths(machines: Sequence[Mapping[str, Any]], wanted: Wanted) -> Iterator[Check]:
    hint = "mount the same file system at the same place on every node, or use object storage"
    for name in wanted.read:
        if missing := [m["address"] for m in machines if not _state(m, name, "there", "readable")]:
            yield Check("paths", "fail", f"{name} cannot be read on {_some(missing)}", hint)
    for name in wanted.write:
        if missing := [m["address"] for m in machines if not _state(m, name, "writable")]:
            yield Check("paths", "fail", f"{name} cannot be written on {_some(missing)}", hint)
    for name, digest in wanted.digests.items():
        if other := [m["address"] for m in machines if m["paths"][name]["digest"] != digest]:
            yield Check("paths", "fail", f"{name} is not there, or another file, on {_some(other)}", hint)


def _state(machine: Mapping[str, Any], name: str, *words: str) -> bool:
    return all(machine["paths"][name][word] for word in words)


def _grouped(machines: Sequence[Mapping[str, Any]], key: Any) -> dict[str, str]:
    groups: dict[str, list[str]] = {}
    for machine in machines:
        groups.setdefault(key(machine), []).append(machine["address"])
    return {value: _some(where) for value, where in groups.items()}


def _some(addresses: Sequence[str]) -> str:
    shown = list(dict.fromkeys(addresses))
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def _amounts(amounts: Mapping[str, float]) -> str:
    return ", ".join(
        f"{amount / _GIB:.1f} GiB of memory" if name == "memory" else f"{amount:g} {name}"
        for name, amount in amounts.items()
    )


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in version.split(".")[:2])


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def as_dicts(checks: Sequence[Check]) -> list[dict[str, str]]:
    """The checks for JSON."""
    return [asdict(check) for check in checks]
