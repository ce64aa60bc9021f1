"""Runs killed at random moments on Ray, driver or worker, end with the tables of an undisturbed run."""

from __future__ import annotations

import random
import time

import pytest
from killing import finish, kill_driver, kill_worker, start
from small import contents

from pipeline import Pipeline

MOMENTS = 20


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


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_ray_and_local_give_the_same_tables(corpus):
    Pipeline.load(corpus / "small.yaml").run()
    assert finish(start(corpus, corpus / "on-ray", "ray")) == "ok"
    assert contents(corpus / "on-ray") == contents(corpus / "lake")
    assert finish(start(corpus, corpus / "on-ray", "ray")) == "unchanged"
