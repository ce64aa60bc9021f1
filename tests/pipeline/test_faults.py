"""Runs that are killed at random moments and started again end with the tables of an undisturbed run."""

from __future__ import annotations

import os
import random
import time

import pytest
from killing import finish, kill_driver, start
from small import contents

from pipeline import Pipeline

MOMENTS = int(os.environ.get("GRISTMILL_KILLS", "4"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_driver_changes_nothing(corpus):
    Pipeline.load(corpus / "small.yaml").run()
    wanted = contents(corpus / "lake")
    began = time.monotonic()
    assert finish(start(corpus, corpus / "timed", "local")) == "ok"
    whole = time.monotonic() - began
    assert contents(corpus / "timed") == wanted
    rng = random.Random(20)
    killed = lakes = 0
    while killed < MOMENTS:
        lakes += 1
        assert lakes <= 2 * MOMENTS, "the runs end before they can be killed"
        lake = corpus / f"lake-{lakes}"
        for _ in range(2):
            process = start(corpus, lake, "local")
            time.sleep(rng.uniform(0.3, 0.95) * whole)
            if kill_driver(process):
                killed += 1
            else:
                whole *= 0.85  # the machine has become faster than it was
        finish(start(corpus, lake, "local"))
        assert contents(lake) == wanted
        assert not list((lake / "_pending").glob("*.json"))
