"""Looks at a cluster from inside, as a job: ``python gristmill_probe.py WANTED`` prints one line of JSON.

It is shipped as a file of its own and needs the standard library and Ray only, in any Python from 3.8 on: what
it is to find out is whether there is more.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import platform
import shutil
import sys
import time
from typing import Any, Callable, Dict, Iterable  # noqa: UP035  (an old Python has them here)

MARK = "GRISTMILL-PROBE "
"""Begins the line that holds the result; whatever else a job prints stands around it."""

_NODES = 64  # asked at most, of each kind of node some
_PATIENCE = 60.0  # seconds for all of them to answer

Found = Dict[str, Any]  # noqa: UP006  (evaluated, by an old Python too)


def packages(requirements: Iterable[str]) -> list[Found]:
    """What this Python has of each requirement: name, wanted, found, and whether that will do."""
    from importlib import metadata

    from packaging.requirements import Requirement

    found = []
    for text in requirements:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            version = None
        fits = version is not None and wanted.specifier.contains(version, prereleases=True)
        found.append({"name": wanted.name, "wanted": str(wanted.specifier), "found": version, "fits": fits})
    return found


def path(name: str) -> Found:
    """Whether a place can be read and written here; of one that is not there yet, its nearest parent."""
    nearest = name
    while not os.path.exists(nearest) and os.path.dirname(nearest) != nearest:  # noqa: PTH110, PTH120
        nearest = os.path.dirname(nearest)  # noqa: PTH120
    return {
        "there": nearest == name,
        "readable": os.access(nearest, os.R_OK),
        "writable": os.access(nearest, os.W_OK),
        "digest": digest(name) if os.path.isfile(name) else None,  # noqa: PTH113
    }


def digest(name: Any) -> str:
    """16 hex digits of a file's content."""
    with open(name, "rb") as file:  # noqa: PTH123
        return hashlib.blake2b(file.read(), digest_size=8).hexdigest()


def look(wanted: Found) -> Found:
    """What this node has."""
    import ray

    here: Any = ray._private.worker._global_node  # noqa: SLF001
    disk = shutil.disk_usage(here.get_session_dir_path())
    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "ray": ray.__version__,
        "packages": packages(wanted["requirements"]),
        "paths": {name: path(name) for name in wanted["paths"]},
        "disk": {"total": disk.total, "free": disk.free},
    }


def code(wanted: Found) -> Found:
    """Whether our code and the user's can be imported where the driver will run, and from where."""
    found = {}
    for name in wanted["modules"]:
        try:
            module = importlib.import_module(name)
            found[name] = {"file": getattr(module, "__file__", None), "error": None}
        except BaseException as error:  # noqa: BLE001  (whatever a module does when imported is what we ask for)
            found[name] = {"file": None, "error": f"{type(error).__name__}: {error}"}
    return found


def grows() -> bool:
    """Whether the cluster adds nodes by itself, as far as it tells."""
    try:
        from ray._private.state import state

        return state.get_max_resources_from_cluster_config() is not None
    except Exception:  # noqa: BLE001  (not Ray's public face: what it cannot tell is no)
        return False


def now(_wanted: Found) -> float:
    """The clock of this node."""
    return time.time()


def chosen(nodes: Iterable[Found]) -> list[Found]:
    """So many of the nodes, those of a rare kind first."""
    kinds: dict[Any, list[Found]] = {}
    for node in nodes:
        kind = tuple(sorted((k, v) for k, v in node["Resources"].items() if not k.startswith("node:")))
        kinds.setdefault(kind, []).append(node)
    ranked = [(place, node) for group in kinds.values() for place, node in enumerate(group)]
    return [node for _, node in sorted(ranked, key=lambda one: (one[0], one[1]["NodeID"]))[:_NODES]]


def main(wanted: Found) -> None:
    """Ask every node, and print what they say."""
    import ray as plain
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray: Any = plain  # its types know less than it can do
    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    task = ray.remote(num_cpus=0, max_retries=0)

    def on(node: Found, function: Callable[[Found], Any]) -> Any:
        where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        return task(function).options(scheduling_strategy=where).remote(wanted)

    asked = {node["NodeID"]: on(node, look) for node in chosen(nodes)}
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=_PATIENCE)
    answers = []
    for node in nodes:
        answer = {"id": node["NodeID"], "address": node["NodeManagerAddress"], "resources": node["Resources"]}
        if node["NodeID"] in asked:
            try:
                answer.update(ray.get(asked[node["NodeID"]], timeout=0))
                before = time.time()
                theirs = ray.get(on(node, now), timeout=10)
                answer["skew"] = theirs - (before + time.time()) / 2
            except Exception as error:  # noqa: BLE001  (a node that does not answer is a finding)
                answer["error"] = "{}: {}".format(type(error).__name__, str(error).partition("\n")[0])
        answers.append(answer)
    result = {"nodes": answers, "driver": look(wanted), "code": code(wanted), "grows": grows()}
    sys.stdout.write("\n" + MARK + json.dumps(result) + "\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
