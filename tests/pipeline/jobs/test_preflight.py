from __future__ import annotations

import copy
import json
import platform
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.delta.locks import TTL
from pipeline.jobs import probe
from pipeline.jobs.preflight import PreflightError, Task, Wanted, judge

GIB = 1 << 30


def machine(address: str = "10.0.0.2", **changes: object) -> dict:
    return {
        "address": address,
        "resources": {"CPU": 8.0, "memory": 16.0 * GIB},
        "python": platform.python_version(),
        "ray": "2.60.0",
        "packages": [{"name": "numba", "wanted": ">=0.61", "found": metadata.version("numba"), "fits": True}],
        "paths": {},
        "disk": {"total": 100 * GIB, "free": 50 * GIB},
        "skew": 0.01,
        **changes,
    }


def seen(*nodes: dict, **changes: object) -> dict:
    return {
        "nodes": list(nodes or (machine(),)),
        "driver": machine("driver"),
        "code": {"pipeline": {"file": "/r/_ray_pkg_1/pipeline/__init__.py", "error": None}},
        "grows": False,
        "head_skew": 0.3,
        **changes,
    }


def found(what: dict, wanted: Wanted | None = None) -> dict[str, list[str]]:
    """The names of the checks by status."""
    by: dict[str, list[str]] = {}
    for check in judge(what, wanted or Wanted()):
        by.setdefault(check.status, []).append(check.name)
        assert check.status == "ok" or check.hint
    return by


def test_a_sound_cluster():
    assert set(found(seen(machine("a"), machine("b")))) == {"ok"}


@pytest.mark.parametrize(
    ("node", "name", "status"),
    [
        ({"python": "3.9.1"}, "python", "fail"),
        ({"python": "3.98.1"}, "python", "fail"),  # and the driver has another
        ({"ray": "2.9.0"}, "ray", "fail"),
        (
            {"packages": [{"name": "deltalake", "wanted": ">=1.6", "found": None, "fits": False}]},
            "packages",
            "fail",
        ),
        ({"packages": [{"name": "numba", "wanted": "", "found": "0.1.0", "fits": True}]}, "packages", "warn"),
        ({"disk": {"total": 100 * GIB, "free": 4 * GIB}}, "disk", "fail"),
        ({"disk": {"total": 2 * GIB, "free": GIB // 2}}, "disk", "warn"),
        ({"resources": {"CPU": 8.0, "memory": float(GIB)}}, "memory", "warn"),
        ({"skew": -9.0}, "clocks", "warn"),
        ({"skew": TTL + 1}, "clocks", "fail"),
        ({"error": "died"}, "nodes", "fail"),
    ],
)
def test_one_thing_is_wrong(node, name, status):
    assert name in found(seen(machine("a"), machine("b", **node)))[status]


def test_another_python_everywhere_is_a_warning():
    other = {"python": "3.98.0"}
    assert found(seen(machine(**other), driver=machine(**other)))["warn"] == ["python"]


def test_code_that_is_not_ours_or_cannot_be_imported():
    hidden = {"pipeline": {"file": "/usr/lib/pipeline/__init__.py", "error": None}}
    assert found(seen(code=hidden))["fail"] == ["code"]
    broken = {**seen()["code"], "mine": {"file": None, "error": "ModuleNotFoundError: No module named 'x'"}}
    assert found(seen(code=broken))["fail"] == ["code"]


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4), st.integers(0, 64)), min_size=1, max_size=4),
    st.tuples(st.integers(0, 8), st.integers(0, 4), st.integers(0, 64)),
)
def test_a_task_fits_if_and_only_if_one_node_has_all_of_it(nodes, asked):
    machines = [
        machine(str(at), resources={"CPU": float(cpus), "GPU": float(gpus), "memory": float(memory * GIB)})
        for at, (cpus, gpus, memory) in enumerate(nodes)
    ]
    task = Task("step", asked[0], asked[1], asked[2] * GIB)
    fits = any(all(has >= wants for has, wants in zip(node, asked, strict=True)) for node in nodes)
    for autoscaling, status in ((False, "fail"), (True, "warn")):
        by = found(seen(*machines), Wanted(tasks=(task,), autoscaling=autoscaling))
        assert ("resources" in by.get(status, [])) is not fits


def test_a_cluster_that_says_that_it_grows_is_believed():
    gpus = Wanted(tasks=(Task("augment.Apply", gpus=1),))
    assert "resources" in found(seen(grows=True), gpus)["warn"]
    [check] = [each for each in judge(seen(), gpus) if each.status == "fail"]
    assert "augment.Apply needs 1 GPU" in check.detail
    assert "the most is 0 GPU" in check.detail


def test_paths_of_a_shared_file_system():
    good = {"there": True, "readable": True, "writable": True, "digest": "aa"}
    wanted = Wanted(read=("/data",), write=("/lake",), digests={"/c.yaml": "aa"})
    paths = {"/data": good, "/lake": {**good, "there": False}, "/c.yaml": good}
    fine = seen(machine(paths=paths), driver=machine("driver", paths=paths))
    assert set(found(fine, wanted)) == {"ok"}
    for name, change in (
        ("/data", {"there": False}),
        ("/lake", {"writable": False}),
        ("/c.yaml", {"digest": "bb"}),
    ):
        broken = copy.deepcopy(fine)
        broken["nodes"][0]["paths"][name] = {**good, **change}
        assert found(broken, wanted)["fail"] == ["paths"]


def test_everything_is_told_at_once():
    broken = machine("b", python="3.8.0", ray="2.0.0", skew=99.0, disk={"total": GIB, "free": 0})
    checks = judge(seen(machine("a"), broken), Wanted(tasks=(Task("x", gpus=1),)))
    failed = [check for check in checks if check.status == "fail"]
    assert {check.name for check in failed} == {"python", "ray", "clocks", "disk", "resources"}
    error = PreflightError(failed, "http://head:8265")
    assert all(check.detail in str(error) for check in failed)
    assert [problem.to_dict()["name"] for problem in error.errors] == [check.name for check in failed]


def test_the_probe_knows_packages_and_paths(tmp_path):
    looked = probe.packages(["numba>=0.61", "no-such-package>=1", "click<1", "ray>=1; extra == 'ray'"])
    assert [(each["name"], each["fits"]) for each in looked] == [
        ("numba", True), ("no-such-package", False), ("click", False),
    ]  # fmt: skip
    (tmp_path / "c.yaml").write_text("x")
    assert probe.path(str(tmp_path / "c.yaml"))["digest"] == probe.digest(tmp_path / "c.yaml")
    fresh = probe.path(str(tmp_path / "not" / "yet"))
    assert (fresh["there"], fresh["writable"]) == (False, True)


def test_the_probe_asks_a_node_of_each_kind_first():
    def node(number: int, **extra: float) -> dict:
        return {"NodeID": f"{number:03}", "Resources": {"CPU": 4.0, f"node:{number}": 1.0, **extra}}

    nodes = [*(node(n) for n in range(200)), node(900, GPU=1.0)]
    asked = probe.chosen(nodes)
    assert len(asked) == 64
    assert "900" in {each["NodeID"] for each in asked[:2]}


def test_the_probe_reads_in_an_old_python():
    """It has to say that Python is too old: so it may hold nothing that is newer than 3.8."""
    import ast

    source = Path(probe.__file__).read_text()
    ast.parse(source, feature_version=(3, 8))
    assert json.loads(Wanted(read=("/a",)).question())["paths"] == ["/a"]
