"""Runs that are killed at random moments and started again end with the tables of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from small import contents

from pipeline import Pipeline

VICTIM = Path(__file__).parents[1] / "support" / "victim.py"
MOMENTS = 20


def start(corpus: Path, lake: Path, where: str) -> subprocess.Popen:
    command = [sys.executable, "-P", str(VICTIM), str(corpus / "small.yaml"), str(lake), where]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=60)
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
    for number in range(MOMENTS // 2):
        lake = corpus / f"lake-{number}"
        for _ in range(2):
            process = start(corpus, lake, "local")
            time.sleep(rng.uniform(0.3, 0.95) * whole)
            killed += kill_driver(process)
        finish(start(corpus, lake, "local"))
        assert contents(lake) == wanted
        assert not list((lake / "_pending").glob("*.json"))
    assert killed >= MOMENTS // 2, "the kills came too late to prove anything"


def children(pid: int) -> list[int]:
    """The living children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == pid and state != "Z":
                    found.append(int(entry.name))
    return found


def workers_of(driver: int) -> list[int]:
    """The processes that run tasks for a driver with a Ray of its own: children of its raylet."""
    found = []
    for pid in (worker for raylet in children(driver) for worker in children(raylet)):
        with suppress(FileNotFoundError, ProcessLookupError):
            title = Path("/proc", str(pid), "cmdline").read_bytes()
            if title.startswith(b"ray::") and b"Agent" not in title:
                found.append(pid)
    return found


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_driver_or_worker_on_ray_changes_nothing(corpus):
    Pipeline.load(corpus / "small.yaml").run()
    wanted = contents(corpus / "lake")
    began = time.monotonic()
    assert finish(start(corpus, corpus / "timed", "ray")) == "ok"
    whole = time.monotonic() - began
    assert contents(corpus / "timed") == wanted
    rng = random.Random(21)
    killed = {"driver": 0, "worker": 0}
    for number in range(MOMENTS // 2):
        lake = corpus / f"lake-{number}"
        process = start(corpus, lake, "ray")
        time.sleep(rng.uniform(0.4, 0.95) * whole)
        killed["driver"] += kill_driver(process)
        process = start(corpus, lake, "ray")
        killed["worker"] += kill_worker(process, rng.uniform(0, 0.2) * whole, rng)
        finish(process)  # the runner retries the task
        assert contents(lake) == wanted
    assert killed["driver"] >= MOMENTS // 4
    assert killed["worker"] >= MOMENTS // 4


def kill_worker(process: subprocess.Popen, later: float, rng: random.Random) -> bool:
    """Kill a worker, some time after the first one has come; false where the run was over by then."""
    while not workers_of(process.pid) and process.poll() is None:
        time.sleep(0.02)
    time.sleep(later)
    workers = workers_of(process.pid)
    if not workers or process.poll() is not None:
        return False
    with suppress(ProcessLookupError):
        os.kill(rng.choice(workers), signal.SIGKILL)
        return True
    return False


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_ray_and_local_give_the_same_tables(corpus):
    Pipeline.load(corpus / "small.yaml").run()
    assert finish(start(corpus, corpus / "on-ray", "ray")) == "ok"
    assert contents(corpus / "on-ray") == contents(corpus / "lake")
    assert finish(start(corpus, corpus / "on-ray", "ray")) == "unchanged"
