"""Fires that are jobs of a real cluster: each becomes one job, whatever happens to the job or the scheduler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from killing import children
from small import contents
from stores import aws, make_bucket, moto

from lake.lake import Lake
from pipeline import Pipeline
from pipeline.jobs import Record
from pipeline.schedule import book, control
from pipeline.schedule.book import Standing
from pipeline.schedule.spec import Schedule

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.timeout(900)]


class Site:
    """A cluster and a bucket that both sides see; a project with a schedule of which one fire is due."""

    def __init__(self, head, endpoint: str, folder: Path) -> None:
        self.head, self.folder = head, folder
        bucket = self.bucket = make_bucket(endpoint, f"b{os.getpid()}-{time.monotonic_ns()}")
        text = (folder / "gated.yaml").read_text()
        for file in (folder / "texts").iterdir():
            Lake(f"{bucket}/texts").storage.write(file.name, file.read_bytes())
        text = text.replace("lake: ./lake", f"lake: {bucket}/lake")
        (folder / "gated.yaml").write_text(text.replace("texts/*.jsonl", f"{bucket}/texts/*.jsonl"))
        self.lake = Lake(f"{bucket}/lake")
        then = datetime.now(UTC) - timedelta(days=1)
        spec = Schedule(
            name="gated", cron="0 0 * * *", config=str(folder / "gated.yaml"), retries=2, backoff=0,
            address=head.cluster.address, maintain=True,
        )  # fmt: skip
        assert book.put(self.lake, Standing(spec, "active", then, then))

    def start(self) -> subprocess.Popen[bytes]:
        program = Path(sys.executable).with_name("gristmill")
        env = {**os.environ, "PYTHONPATH": str(self.folder / "code"), "RAY_AUTH_TOKEN": f"{self.head.token}\n"}
        with (self.folder / "scheduler.log").open("ab") as log:
            return subprocess.Popen(
                [str(program), "schedule", "start", "gated.yaml", "--once"],
                cwd=self.folder, env=env, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def is_as_undisturbed(self) -> bool:
        """Whether the table is that of a run in this process."""
        other = f"{self.bucket}/undisturbed"
        Pipeline.load(self.folder / "gated.yaml", [f"lake={other}"]).run()
        return contents(self.lake.uri)["train"] == contents(other)["train"]

    def states(self) -> list[str]:
        return [event.state for event in book.events(self.lake, "gated")]

    def jobs(self) -> list[Record]:
        """Those that run the pipeline; the probes of the preflight are others."""
        return [each for each in self.head.cluster.jobs() if each.metadata.get("gristmill") == "run"]

    def until(self, there: Callable[[], object], *running: subprocess.Popen[bytes]) -> None:
        while not there():
            assert all(each.poll() is None for each in running), (self.folder / "scheduler.log").read_text()
            time.sleep(0.2)


@pytest.fixture
def site(head_at_storage, gated, monkeypatch) -> Iterator[Site]:
    head, endpoint = head_at_storage
    for name, value in aws(endpoint).items():
        monkeypatch.setenv(name, value)
    before = {record.id for record in head.cluster.jobs()}
    yield Site(head, endpoint, gated)
    for record in head.cluster.jobs():
        if record.id not in before:
            head.cluster.stop(record.id) if not record.over else head.cluster.delete(record.id)


@pytest.fixture(scope="module")
def head_at_storage(new_head) -> Iterator[tuple[object, str]]:
    """A head whose jobs have the keys of a bucket, as a cluster's machines have."""
    with moto() as endpoint:
        head = new_head(aws(endpoint))
        try:
            head.start()
            yield head, endpoint
        finally:
            head.kill()
            shutil.rmtree(head.folder, ignore_errors=True)


def test_a_fire_is_one_job(site):
    served = site.start()
    assert served.wait() == 0, (site.folder / "scheduler.log").read_text()
    (job,) = site.jobs()
    (fire,) = control.history(site.lake, "gated")
    assert (fire.state, fire.attempt, fire.detail) == ("done", 1, f"job {job.id}")
    assert job.status == "SUCCEEDED"
    assert job.id.endswith(f"-{fire.time:%Y%m%dT%H%M%SZ}-1")
    assert (site.folder / "fire").read_text() == fire.time.isoformat()  # a step on the cluster knows it
    assert site.is_as_undisturbed()
    # And again: there is nothing to do.
    assert site.start().wait() == 0
    assert len(site.jobs()) == 1


def test_a_job_that_fails_is_tried_again(site):
    (site.folder / "broken").touch()
    assert site.start().wait() == 0, (site.folder / "scheduler.log").read_text()
    assert site.states() == ["claimed", "retry", "claimed", "done"]
    assert [(each.status, each.id[-2:]) for each in site.jobs()] == [("FAILED", "-1"), ("SUCCEEDED", "-2")]
    assert site.is_as_undisturbed()


def test_who_takes_a_fire_over_finds_its_job(site):
    (site.folder / "closed").touch()
    first = site.start()
    site.until((site.folder / "reached").exists, first)
    (run,) = children(first.pid)
    first.kill()
    first.wait()
    site.until(lambda: not Path(f"/proc/{run}").exists())
    (job,) = site.jobs()
    assert job.status == "RUNNING"
    second = site.start()  # the lease of the dead one must run out: a minute
    while site.states() != ["claimed", "claimed"]:
        if second.poll() is not None:
            assert second.returncode == 0
            second = site.start()
        time.sleep(0.2)
    (site.folder / "closed").unlink()
    assert second.wait() == 0, (site.folder / "scheduler.log").read_text()
    (fire,) = control.history(site.lake, "gated")
    assert (fire.state, fire.attempt, fire.lost, fire.detail) == ("done", 1, 1, f"job {job.id}")
    assert [(each.id, each.status) for each in site.jobs()] == [(job.id, "SUCCEEDED")]
    assert site.is_as_undisturbed()
