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
PER_LAKE = 5  # so many kills before a run may end and is compared


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
    for round_ in range(MOMENTS // PER_LAKE):
        lake = corpus / f"lake-{round_}"
        for moment in range(PER_LAKE):
            process = start(corpus, lake, "ray")
            time.sleep(rng.uniform(0.3, 1.0) * whole)
            if moment % 2 and (workers := workers_of(process.pid)):
                os.kill(rng.choice(workers), signal.SIGKILL)
                killed["worker"] += 1
                finish(process)  # the runner retries the task
            else:
                killed["driver"] += kill_driver(process)
        finish(start(corpus, lake, "ray"))
        assert contents(lake) == wanted
    assert killed["driver"] >= 6
    assert killed["worker"] >= 6


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_ray_and_local_give_the_same_tables(corpus):
    Pipeline.load(corpus / "small.yaml").run()
    assert finish(start(corpus, corpus / "on-ray", "ray")) == "ok"
    assert contents(corpus / "on-ray") == contents(corpus / "lake")
    assert finish(start(corpus, corpus / "on-ray", "ray")) == "unchanged"
