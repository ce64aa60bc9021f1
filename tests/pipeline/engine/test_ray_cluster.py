"""The runner on a cluster of three nodes: what it asks for, how much is in flight, pools of actors."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray_nodes
from ray_work import fails, mark, slow_where, where
from ray_work import pid as pid_of

from lake.errors import EngineError
from pipeline.engine import Needs, Pool

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def made():
    with ray_nodes.cluster(1) as one:
        ray_nodes.add_node(one, resources={"accelerator": 2})
        yield one


@pytest.fixture(scope="module")
def runner(made):
    with ray_nodes.runner(made) as one:
        yield one


POOL = Needs(cpus=0.25, custom=(("accelerator", 1.0),), pool=Pool(idle_seconds=1.5, concurrency=1))


@pytest.mark.parametrize(
    ("needs", "word"),
    [
        (Needs(gpus=1), "1 GPU"),
        (Needs(memory=1 << 50), "1048576.0 GiB of memory"),
        (Needs(cpus=2), "2 CPU"),
        (Needs(custom=(("tpu", 1.0),)), "1 tpu"),
        (Needs(gpus=1, pool=Pool()), "1 GPU"),
    ],
)
def test_what_no_node_has_is_refused_at_once(runner, needs, word):
    with pytest.raises(EngineError, match="no node of the cluster has") as caught:
        list(runner.map(pid_of, [1, 2], needs))
    assert word in caught.value.what
    assert "--autoscaling" in caught.value.hint


def test_a_request_of_the_user_is_where_the_task_runs(runner):
    import ray

    here = {node["NodeID"] for node in ray.nodes() if node["Resources"].get("accelerator")}
    found = {node for _, node in runner.map(where, range(4), Needs(custom=(("accelerator", 1.0),)))}
    assert found == here


def test_at_most_two_tasks_a_core_are_in_flight(runner, tmp_path):
    items = [(str(tmp_path), number) for number in range(30)]
    results = runner.map(mark, items)
    next(results)
    time.sleep(1.0)  # who reads slowly is not run ahead of
    started = len(list(tmp_path.iterdir()))
    assert started <= 2 * 2 + 1
    assert len(list(results)) == 29


def test_more_nodes_take_more_tasks_while_a_pass_runs(made, runner):
    nodes = set()
    extra = None
    for _, node in runner.map(slow_where, range(40)):
        nodes.add(node)
        extra = extra or ray_nodes.add_node(made)
    made.remove_node(extra)
    assert len(nodes) == 3


def test_a_pool_keeps_its_actors_between_passes_and_gives_them_back_when_idle(runner):
    import ray

    first = set()
    deadline = time.monotonic() + 180
    while len(first) < 2 and time.monotonic() < deadline:  # the second one may come late
        first = {pid for _, (_, pid) in runner.map(pid_of, range(12), POOL)}
    assert len(first) == 2
    runner.usage()
    passes = [{pid for _, (_, pid) in runner.map(pid_of, range(12), POOL)} for _ in range(2)]
    assert passes == [first, first]
    used = runner.usage()
    assert used["actors"] == 4  # two passes of two
    assert 0.2 < used["busy"] <= 1
    assert used["device_busy"] is None  # there is no GPU here
    deadline = time.monotonic() + 15
    while ray.available_resources().get("accelerator", 0) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ray.available_resources()["accelerator"] == 2


def test_the_work_of_a_killed_actor_is_done_by_others(runner):
    got = []
    for _, (item, pid) in runner.map(pid_of, range(16), POOL):
        got.append(item)
        if len(got) == 3:
            os.kill(pid, signal.SIGKILL)
    assert sorted(got) == list(range(16))


def test_an_error_in_an_actor_is_told_as_one_in_a_task(runner):
    for needs in (POOL, Needs()):
        with pytest.raises(EngineError, match="a Ray task failed") as caught:
            list(runner.map(fails, [1, 2, 3], needs))
        assert "ValueError: no" in caught.value.why


def test_a_cluster_that_grows_is_waited_for_told_what_comes_and_let_go_at_the_end(made):
    from ray.experimental.internal_kv import _internal_kv_get

    def hinted():
        return json.loads(_internal_kv_get(b"autoscaler_resource_request") or "[]")

    needs = Needs(custom=(("tpu", 1.0),))
    with ray_nodes.runner(made, autoscaling=True) as grows, ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: list(grows.map(pid_of, range(4), needs)))
        deadline = time.monotonic() + 30
        while not hinted() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert hinted() == [{"CPU": 1.0, "tpu": 1.0}] * 4
        assert not done.done()  # no node has it yet
        ray_nodes.add_node(made, resources={"tpu": 1})
        assert {index for index, _ in done.result(60)} == set(range(4))
        assert hinted() == []


def test_an_address_where_nobody_listens_is_told_soon():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    code = f"from pipeline import engine; list(engine.ray({address!r}).map(abs, [1]))"
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=False, text=True)
    assert f"no Ray cluster answers at {address}" in done.stderr
    assert time.monotonic() - started < 30
