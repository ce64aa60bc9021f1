from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import ConfigError
from pipeline import engine
from pipeline.cli import cli
from pipeline.size import MEASURED, Cluster, Pass, Workload, curve, estimate, passes, simulate, smallest

QUIET = Cluster(spread=0.0, failures=0.0, dispatch=0.0, per_part=0.0, start=0.0)
WORKS = st.builds(
    Workload,
    kind=st.sampled_from(["text", "image"]),
    size=st.floats(1e9, 1e11),
    rows=st.floats(1e6, 1e8),
    copies=st.integers(0, 3),
)
few = settings(max_examples=10, deadline=None)


@few
@given(WORKS, st.integers(1, 64))
def test_more_nodes_never_take_longer_on_an_undisturbed_cluster(work, nodes):
    cluster = replace(QUIET, nodes=nodes)
    more = replace(cluster, nodes=nodes + 1)
    plan = passes(work, cluster)
    assert simulate(plan, more).seconds <= simulate(plan, cluster).seconds * (1 + 1e-9)


@few
@given(WORKS, st.floats(1.1, 10))
def test_more_work_takes_longer_and_costs_more(work, times):
    cluster = replace(QUIET, nodes=4, dispatch=0.001, per_part=0.002)
    one, more = (
        estimate(work, cluster),
        estimate(replace(work, size=work.size * times, rows=work.rows * times), cluster),
    )
    assert more.core_hours > one.core_hours
    assert more.hours > one.hours
    assert more.cost > one.cost
    assert more.lake_bytes > one.lake_bytes


@few
@given(WORKS, st.sampled_from(["dispatch", "per_part", "start", "spread", "failures"]))
def test_no_trouble_makes_a_run_shorter(work, trouble):
    worse = replace(QUIET, nodes=3, **{trouble: 0.5})
    calm = replace(QUIET, nodes=3)
    # Stragglers have a mean of 1: a pass of few tasks may be lucky by a little.
    luck = 0.9 if trouble == "spread" else 1.0
    assert simulate(passes(work, worse), worse).seconds >= luck * simulate(passes(work, calm), calm).seconds


@given(st.integers(1, 200), st.integers(1, 20), st.floats(0.1, 10), st.floats(0, 50))
@settings(deadline=None, max_examples=30)
def test_equal_tasks_without_trouble_run_in_rounds(tasks, slots, compute, alone):
    cluster = replace(QUIET, nodes=1, cores=slots)
    made = simulate([Pass("one", tasks, compute, 0.0, alone)], cluster)
    assert made.seconds == pytest.approx(-(-tasks // slots) * compute + alone)
    assert made.busy == pytest.approx(tasks * compute)


def test_a_pass_of_very_many_tasks_goes_on_at_the_rate_of_its_beginning():
    cluster = Cluster(nodes=2, cores=8, dispatch=0.0)
    times = [simulate([Pass("one", tasks, 1.0, 0.0)], cluster).seconds for tasks in (60_000, 600_000)]
    assert times[1] == pytest.approx(10 * times[0], rel=0.02)


def test_storage_and_dispatch_are_bounds_that_no_node_removes():
    moved = Pass("moves", 10_000, 0.01, 1e9)
    slow = Cluster(nodes=1000, storage=10e9, dispatch=0.0, start=0.0)
    assert simulate([moved], slow).seconds >= 10_000 * 1e9 / 10e9
    sent = Pass("sent", 50_000, 0.001, 0.0)
    assert simulate([sent], Cluster(nodes=1000, dispatch=0.01)).seconds >= 500


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_what_a_second_real_worker_brings_is_what_the_simulator_says_within_15_percent(spread):
    """Tasks that wait instead of computing: what is compared is the scheduling, whatever else runs here."""
    draw = np.random.default_rng(0)
    times = 0.1 * np.exp(draw.normal(-0.5 * spread**2, spread, 24))
    real, thought = [], []
    for workers in (1, 2):
        runner = engine.local(workers)
        started = time.perf_counter()
        list(runner.map(time.sleep, times.tolist()))
        real.append(time.perf_counter() - started)
        runner.close()
        cluster = replace(QUIET, cores=workers, spread=spread)
        thought.append(simulate([Pass("waits", 24, 0.1, 0.0)], cluster).seconds)
    assert real[0] / real[1] == pytest.approx(thought[0] / thought[1], rel=0.15)


def test_the_smallest_cluster_meets_its_deadline_and_one_node_less_does_not():
    work = Workload("text", 5e11, 1e8)
    found = smallest(work, Cluster(), hours=1.5)
    assert found.hours <= 1.5
    assert found.cluster.nodes > 1
    assert estimate(work, replace(Cluster(), nodes=found.cluster.nodes - 1)).hours > 1.5


def test_a_deadline_that_no_cluster_meets_names_the_driver():
    with pytest.raises(ConfigError, match="is done in 1 hours") as caught:
        smallest(Workload("text", 1e13, 1e10), Cluster(), hours=1.0)
    assert "only the driver does" in caught.value.why


def test_limits_are_told():
    told = " ".join(estimate(Workload("text", 1e13, 1e10), Cluster(nodes=64)).warnings)
    assert "2,147,483,647 rows" in told
    assert "the driver needs" in told


def test_efficiency_falls_with_the_nodes():
    points = curve(passes(Workload("text", 1e12, 1e9)), QUIET, [1, 4, 16, 64])
    assert points[0].efficiency == 1.0
    assert all(a.efficiency >= b.efficiency - 1e-9 for a, b in pairwise(points))


def test_every_pass_of_both_kinds_has_a_measured_rate():
    for kind in ("text", "image"):
        for name in ("ingest", "sketch", "write", "driver"):
            assert MEASURED.of(kind, name).seconds > 0


def test_the_verb_prints_its_assumptions_and_json():
    said = CliRunner().invoke(cli, ["size", "100GB", "--nodes", "4"], standalone_mode=False)
    assert "core seconds a GB" in said.output
    assert "efficiency" in said.output
    said = CliRunner().invoke(cli, ["size", "100GB", "--nodes", "4", "--json"], standalone_mode=False)
    made = json.loads(said.output)
    assert made["estimates"][0]["nodes"] == 4
    assert made["curve"][0]["efficiency"] == 1.0
