"""Runs that are killed at random moments and started again end with the tables of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from small import contents

from pipeline import Pipeline

VICTIM = Path(__file__).parents[1] / "support" / "victim.py"
MOMENTS = 20
PER_LAKE = 5  # so many kills before a run may end and is compared


def start(corpus: Path, lake: Path, where: str) -> subprocess.Popen:
    command = [sys.executable, "-P", str(VICTIM), str(corpus / "small.yaml"), str(lake), where]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err.decode()
    return out.decode().strip()


def kill_driver(process: subprocess.Popen) -> bool:
    alive = process.poll() is None
    process.kill()
    process.communicate()
    return alive


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_driver_changes_nothing(corpus):
    Pipeline.load(corpus / "small.yaml").run()
    wanted = contents(corpus / "lake")
    began = time.monotonic()
    assert finish(start(corpus, corpus / "timed", "local")) == "ok"
    whole = time.monotonic() - began
    assert contents(corpus / "timed") == wanted
    rng = random.Random(20)
    killed = 0
    for round_ in range(MOMENTS // PER_LAKE):
        lake = corpus / f"lake-{round_}"
        for _ in range(PER_LAKE):
            process = start(corpus, lake, "local")
            time.sleep(rng.uniform(0.25, 1.0) * whole)
            killed += kill_driver(process)
        finish(start(corpus, lake, "local"))
        assert contents(lake) == wanted
        assert not list((lake / "_pending").glob("*.json"))
    assert killed >= MOMENTS // 2, "the kills came too late to prove anything"


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a Ray cluster of two cores."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "include_dashboard": False, "node_ip_address": "127.0.0.1"}
    cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=True)
    yield cluster.address
    cluster.shutdown()


def workers_of(address: str) -> list[int]:
    """The processes that run tasks of the cluster at `address`."""
    port = address.rpartition(":")[2]
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                raylet = Path("/proc", parent, "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if words[0].startswith(b"ray::") and port.encode() in raylet and b"raylet" in raylet:
                found.append(int(entry.name))
    return found


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_driver_or_worker_on_ray_changes_nothing(corpus, cluster):
    Pipeline.load(corpus / "small.yaml").run()
    wanted = contents(corpus / "lake")
    began = time.monotonic()
    assert finish(start(corpus, corpus / "timed", cluster)) == "ok"
    whole = time.monotonic() - began
    assert contents(corpus / "timed") == wanted
    rng = random.Random(21)
    killed = {"driver": 0, "worker": 0}
    for round_ in range(MOMENTS // PER_LAKE):
        lake = corpus / f"lake-{round_}"
        for moment in range(PER_LAKE):
            process = start(corpus, lake, cluster)
            time.sleep(rng.uniform(0.3, 1.0) * whole)
            if moment % 2 and (workers := workers_of(cluster)):
                os.kill(rng.choice(workers), signal.SIGKILL)
                killed["worker"] += 1
                finish(process)  # the runner retries the task
            else:
                killed["driver"] += kill_driver(process)
        finish(start(corpus, lake, cluster))
        assert contents(lake) == wanted
    assert killed["driver"] >= 6
    assert killed["worker"] >= 6


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_ray_and_local_give_the_same_tables(corpus, cluster):
    Pipeline.load(corpus / "small.yaml").run()
    assert finish(start(corpus, corpus / "on-ray", cluster)) == "ok"
    assert contents(corpus / "on-ray") == contents(corpus / "lake")
    assert finish(start(corpus, corpus / "on-ray", cluster)) == "unchanged"
