"""Runs killed at random moments on Ray, driver or worker, end with the tables of an undisturbed run."""

from __future__ import annotations

import os
import random
import time

import pytest
from killing import finish, kill_driver, kill_worker, start
from small import contents

from pipeline import Pipeline
from pipeline.matching.shuffle import IN_PROCESS

MOMENTS = int(os.environ.get("GRISTMILL_KILLS", "4"))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_driver_or_worker_on_ray_changes_nothing(corpus):
    Pipeline.load(corpus / "small.yaml").run()
    wanted = contents(corpus / "lake")
    began = time.monotonic()
    assert finish(start(corpus, corpus / "timed", "ray")) == "ok"
    whole = time.monotonic() - began
    assert contents(corpus / "timed") == wanted
    rng = random.Random(21)
    killed = {"driver": 0, "worker": 0}
    lakes = 0
    while sum(killed.values()) < MOMENTS or min(killed.values()) < MOMENTS // 4:
        lakes += 1
        assert lakes <= 2 * MOMENTS, "the runs end before they can be killed"
        lake = corpus / f"lake-{lakes}"
        process = start(corpus, lake, "ray")
        time.sleep(rng.uniform(0.4, 0.95) * whole)
        if kill_driver(process):
            killed["driver"] += 1
        else:
            whole *= 0.85  # the machine has become faster than it was
        process = start(corpus, lake, "ray")
        killed["worker"] += kill_worker(process, rng.uniform(0, 0.2) * whole, rng)
        finish(process)  # the runner retries the task
        assert contents(lake) == wanted


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_ray_and_local_give_the_same_tables(corpus):
    Pipeline.load(corpus / "small.yaml").run()
    assert finish(start(corpus, corpus / "on-ray", "ray")) == "ok"
    assert contents(corpus / "on-ray") == contents(corpus / "lake")
    assert finish(start(corpus, corpus / "on-ray", "ray")) == "unchanged"


@pytest.mark.parametrize("where", ["local", pytest.param("ray", marks=pytest.mark.ray)])
@pytest.mark.timeout(300)
def test_the_shuffle_gives_the_tables_of_one_process(corpus, monkeypatch, where):
    Pipeline.load(corpus / "small.yaml").run()
    monkeypatch.setenv(IN_PROCESS, "0")
    assert finish(start(corpus, corpus / "shuffled", where)) == "ok"
    assert contents(corpus / "shuffled") == contents(corpus / "lake")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_workers_killed_in_the_shuffle_change_nothing(corpus, monkeypatch):
    Pipeline.load(corpus / "small.yaml").run()
    wanted = contents(corpus / "lake")
    monkeypatch.setenv(IN_PROCESS, "0")
    rng = random.Random(5)
    killed = 0
    for number in range(3 * MOMENTS):
        process = start(corpus, corpus / f"lake-{number}", "ray")
        killed += kill_worker(process, rng.uniform(0, 3), rng)
        finish(process)
        assert contents(corpus / f"lake-{number}") == wanted
        if killed == MOMENTS // 2:
            return
    raise AssertionError("the runs end before their workers can be killed")
