"""Runs killed at random moments on Ray, driver or worker, end with the tables of an undisturbed run."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from killing import finish, kill_driver, kill_worker, start
from small import contents, write_corpus

from pipeline import Pipeline
from pipeline.matching.shuffle import IN_PROCESS

MOMENTS = int(os.environ.get("GRISTMILL_KILLS", "2"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests here: their lakes lie elsewhere."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def wanted(corpus: Path) -> dict[str, list[str]]:
    """The tables of an undisturbed run in this process."""
    Pipeline.load(corpus / "small.yaml").run()
    return contents(corpus / "lake")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ray_gives_the_tables_of_one_process_though_a_driver_or_worker_is_killed(corpus, wanted, tmp_path):
    began = time.monotonic()
    assert finish(start(corpus, tmp_path / "timed", "ray")) == "ok"
    whole = time.monotonic() - began
    assert contents(tmp_path / "timed") == wanted
    assert finish(start(corpus, tmp_path / "timed", "ray")) == "unchanged"
    rng = random.Random(21)
    killed = {"driver": 0, "worker": 0}
    lakes = 0
    while sum(killed.values()) < MOMENTS or min(killed.values()) < max(1, MOMENTS // 4):
        lakes += 1
        assert lakes <= 2 * MOMENTS, "the runs end before they can be killed"
        lake = tmp_path / f"lake-{lakes}"
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


@pytest.mark.parametrize("where", ["local", pytest.param("ray", marks=pytest.mark.ray)])
@pytest.mark.timeout(300)
def test_the_shuffle_gives_the_tables_of_one_process(corpus, wanted, tmp_path, monkeypatch, where):
    monkeypatch.setenv(IN_PROCESS, "0")
    assert finish(start(corpus, tmp_path / "shuffled", where)) == "ok"
    assert contents(tmp_path / "shuffled") == wanted


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_workers_killed_in_the_shuffle_change_nothing(corpus, wanted, tmp_path, monkeypatch):
    monkeypatch.setenv(IN_PROCESS, "0")
    rng = random.Random(5)
    killed = 0
    for number in range(3 * MOMENTS):
        process = start(corpus, tmp_path / f"lake-{number}", "ray")
        killed += kill_worker(process, rng.uniform(0, 3), rng)
        finish(process)
        assert contents(tmp_path / f"lake-{number}") == wanted
        if killed == MOMENTS // 2:
            return
    raise AssertionError("the runs end before their workers can be killed")
