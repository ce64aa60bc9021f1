"""Runs on three nodes, through faults, end with the tables of an undisturbed run in one process."""

from __future__ import annotations

import pytest
import ray_nodes
from small import CONFIG, contents, write_pictures, write_texts

from lake.errors import EngineError
from pipeline import Pipeline, engine
from pipeline.matching.shuffle import IN_PROCESS
from pipeline.progress import Silent

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.timeout(1200)]

# A split for nearly each file: every pass has several parts.
MANY = CONFIG.replace("texts/*.jsonl", "texts/*.jsonl, split_bytes: 4000").replace(
    "paths: pictures", "paths: pictures, split_bytes: 4000"
)


@pytest.fixture
def corpus(tmp_path):
    write_texts(tmp_path / "texts", files=8, rows=12)
    write_pictures(tmp_path / "pictures", per_class=12)
    (tmp_path / "small.yaml").write_text(MANY)
    return tmp_path


@pytest.fixture
def wanted(corpus):
    Pipeline.load(corpus / "small.yaml").run(runner=engine.local(1))
    return contents(corpus / "lake")


def run(corpus, lake, made, progress=None):
    with ray_nodes.runner(made) as runner:
        return Pipeline.load(corpus / "small.yaml", [f"lake={corpus / lake}"]).run(
            runner=runner, progress=progress
        )


@pytest.mark.parametrize("shuffled", [False, True], ids=["in one process", "shuffled"])
def test_a_node_killed_in_the_middle_of_every_pass_changes_nothing(corpus, wanted, monkeypatch, shuffled):
    env = {IN_PROCESS: "0"} if shuffled else {}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with ray_nodes.cluster(3, env=env) as made:
        dies = ray_nodes.NodeDies(made)
        assert run(corpus, "dying", made, dies).status == "ok"
    assert contents(corpus / "dying") == wanted
    told = "\n".join(dies.killed)
    passes = [
        "ingest: read",
        "clean: 2 dedup.MinHash",
        "write clean",
        "train: 3 augment.Learned",
        "write train",
    ]
    if shuffled:
        passes += ["keys", "buckets", "pairs"]
    assert all(each in told for each in passes), told


def test_one_node_and_three_nodes_give_the_tables_of_one_process(corpus, wanted):
    for nodes in (1, 3):
        with ray_nodes.cluster(nodes) as made:
            assert run(corpus, f"on-{nodes}", made).status == "ok"
            assert run(corpus, f"on-{nodes}", made).status == "unchanged"
        assert contents(corpus / f"on-{nodes}") == wanted


def test_an_object_store_that_is_full_changes_nothing(corpus, wanted):
    import ray

    head = {"object_store_memory": 80 << 20}
    with ray_nodes.cluster(2, head=head) as made:
        ray.init(address=made.address, log_to_driver=False)
        held = [ray.put(bytes(8 << 20)) for _ in range(20)]  # twice what it holds: the rest lies on the disk
        assert run(corpus, "full", made).status == "ok"
        assert all(len(ray.get(each)) == 8 << 20 for each in held)
        del held
        ray.shutdown()
    assert contents(corpus / "full") == wanted


def test_a_head_that_is_restarted_ends_the_run_soon_and_the_next_run_goes_on(corpus, wanted):
    class HeadDies(Silent):
        def advance(self, name, n=1, rows=0):
            if "write clean" in name:
                ray_nodes.kill_head(made)

    with ray_nodes.cluster(3) as made:
        with pytest.raises(EngineError, match=r"has gone|lost") as caught:
            run(corpus, "again", made, HeadDies())
        assert "same command" in caught.value.hint
    with ray_nodes.cluster(3) as made:
        assert run(corpus, "again", made).status == "ok"
    assert contents(corpus / "again") == wanted


def test_a_worker_killed_for_memory_changes_nothing(corpus, tmp_path, monkeypatch):
    from ray_nodes import used_share

    marks = tmp_path / "marks"
    marks.mkdir()
    (marks / "first").touch()  # the run in one process shall eat nothing
    text = MANY.replace(
        "steps:\n", f"plugins: [hungry]\nsteps:\n  - hungry.Hungry: {{marks: {marks}, gigabytes: 4}}\n"
    )
    (corpus / "small.yaml").write_text(text)
    Pipeline.load(corpus / "small.yaml").run(runner=engine.local(1))
    wanted = contents(corpus / "lake")
    for mark in marks.iterdir():
        mark.unlink()
    used, total = used_share()
    limit = {
        "RAY_memory_usage_threshold": f"{(used + (3 << 30)) / total:.3f}",
        "RAY_memory_monitor_refresh_ms": "50",
    }
    with ray_nodes.cluster(2, env=limit) as made:
        assert run(corpus, "killed", made).status == "ok"
    assert contents(corpus / "killed") == wanted
    # One attempt more than there are batches to work on: the first one was killed.
    tried = len(list(marks.iterdir()))
    for mark in marks.iterdir():
        mark.unlink()
    (marks / "first").touch()
    Pipeline.load(corpus / "small.yaml", [f"lake={corpus / 'count'}"]).run(runner=engine.local(1))
    assert tried > len(list(marks.iterdir())) - 1
