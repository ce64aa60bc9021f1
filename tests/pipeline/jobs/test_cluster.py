"""Jobs on a real cluster of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from small import contents

from lake.errors import EngineError
from pipeline import Pipeline, jobs

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def command(*arguments: object) -> list[str]:
    return [str(Path(sys.executable).parent / "gristmill"), *map(str, arguments)]


def environment(gated: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(gated / "code"), **more}


def gristmill(head, gated, *arguments, **env) -> subprocess.CompletedProcess:
    where = ["--address", head.cluster.address]
    full = environment(gated, **{"RAY_AUTH_TOKEN": head.token, **env})
    return subprocess.run(
        command(*arguments, *where), env=full, capture_output=True, text=True, timeout=400, check=False
    )


def submit(head, gated, **options) -> jobs.Job:
    chosen = {"shared_filesystem": True, "preflight": False, **options}
    return jobs.submit(gated / "gated.yaml", head.cluster.address, head.token, **chosen)


def reached(gated: Path, job: jobs.Job) -> None:
    while not (gated / "reached").exists():
        assert not job.record().over, job.cluster.log(job.id)
        time.sleep(0.1)


def wanted(gated: Path) -> dict[str, list[str]]:
    """The tables of an undisturbed run in this process."""
    Pipeline.load(gated / "gated.yaml", [f"lake={gated / 'undisturbed'}"]).run()
    (gated / "reached").unlink()
    return contents(gated / "undisturbed")


def test_a_job_is_a_run(head, gated):
    """Preflight, plugin, log, exit code, tables; and a second submit with the same --once does nothing."""
    tables = wanted(gated)
    arguments = ["submit", gated / "gated.yaml", "--shared-filesystem", "--once", "today"]
    done = gristmill(head, gated, *arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "rows read" in done.stdout
    assert contents(gated / "lake") == tables
    again = gristmill(head, gated, *arguments, "--json")
    assert again.returncode == 0, again.stderr
    said = json.loads(again.stdout)
    assert (said["attached"], said["exit_code"], said["status"]) == (True, 0, "SUCCEEDED")
    assert re.fullmatch(r"gristmill-gated-[0-9a-f]{8}-today-1", said["job"])
    assert said["job"] in gristmill(head, gated, "jobs", "list").stdout
    assert "SUCCEEDED, exit code 0" in gristmill(head, gated, "jobs", "status", said["job"]).stdout
    assert gristmill(head, gated, "jobs", "logs", said["job"]).stdout.count("rows read") == 1
    assert not [record for record in head.cluster.jobs() if record.metadata.get("gristmill") == "preflight"]


def test_tokens(head, gated):
    for token, words in ((None, "none was given"), ("0" * 64, "is not the cluster's")):
        with pytest.raises(EngineError, match=words):
            jobs.submit(gated / "gated.yaml", head.cluster.address, token, shared_filesystem=True)
    assert gristmill(head, gated, "jobs", "list", RAY_AUTH_TOKEN="wrong").returncode == 1
    assert gristmill(head, gated, "jobs", "list", "--token-file", head.folder / "token").returncode == 0


@pytest.mark.soak
def test_a_job_behind_a_proxy_that_speaks_tls(head, gated, proxy):
    """Preflight, packages, and a log that comes through a WebSocket over TLS."""
    with proxy.before(head.ports[0]) as address:
        arguments = ["submit", gated / "gated.yaml", "--shared-filesystem", "--address", address]
        env = environment(gated, RAY_AUTH_TOKEN=head.token, SSL_CERT_FILE=str(proxy.certificate))
        done = subprocess.run(command(*arguments), env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.count("rows read") == 1
    assert contents(gated / "lake") == wanted(gated)


LOCAL = """
import os
from pipeline import engine
runner = engine.ray(workers=1)
print(list(runner.map(os.path.basename, ["a/b"])), sum(node.get("CPU", 0) for node in runner.nodes()))
runner.close()
"""


@pytest.mark.soak
def test_a_local_ray_is_a_local_one_though_a_cluster_runs_here(head):
    done = subprocess.run(
        [sys.executable, "-c", LOCAL], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.stdout == "[(0, 'b')] 1.0\n", done.stderr  # the head has two


@pytest.mark.slow
def test_a_second_submit_attaches_and_a_race_starts_one_job(head, gated):
    (gated / "closed").touch()
    found: list[jobs.Job] = []
    threads = [threading.Thread(target=lambda: found.append(submit(head, gated))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.id for job in found}) == 1
    assert sorted(job.attached for job in found) == [False, True, True, True]
    job = found[0]
    reached(gated, job)
    # Ctrl-C leaves it alone, and says how to come back.
    arguments = ["submit", gated / "gated.yaml", "--shared-filesystem", "--address", head.cluster.address]
    full = environment(gated, RAY_AUTH_TOKEN=head.token)
    watcher = subprocess.Popen(
        command(*arguments), env=full, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watcher.stderr.readline() == f"runs already: {job.id}\n"
    assert "Running entrypoint" in (watcher.stdout.readline() + watcher.stdout.readline())
    watcher.send_signal(signal.SIGINT)
    _, said = watcher.communicate(timeout=60)
    assert watcher.returncode == 130
    assert f"gristmill jobs stop {job.id}" in said
    assert job.status() == "RUNNING"
    (gated / "closed").unlink()
    assert "".join(job.logs(follow=True)).count("rows read") == 1
    assert job.wait() == 0
    following = submit(head, gated)
    assert (following.attached, following.id) == (False, f"{job.id[:-1]}2")
    assert following.wait() == 0


@pytest.mark.soak
def test_exit_codes_come_back(head, gated):
    codes = {}
    fails = ["steps.gate_steps.Gate.fails=true", f"lake={gated / 'one'}"]
    codes["failed"] = submit(head, gated, overrides=fails).wait()
    rejects = ["allowed_rejects=0", f"lake={gated / 'three'}"]
    codes["rejects"] = submit(head, gated, overrides=rejects).wait()
    # A plugin that works here and not there: the configuration is wrong where it runs.
    plugin = gated / "code" / "gate_steps.py"
    plugin.write_text(
        f"{plugin.read_text()}\nif os.getcwd() != {str(Path.cwd())!r}:\n    raise ImportError('not here')\n"
    )
    codes["config"] = submit(head, gated, overrides=[f"lake={gated / 'two'}"]).wait()
    assert codes == {"failed": 1, "rejects": 3, "config": 2}
    done = gristmill(head, gated, "submit", gated / "gated.yaml", "--shared-filesystem", "--preflight-only")
    assert done.returncode == 1
    assert "gate_steps cannot be imported there: ImportError: not here" in done.stdout


@pytest.mark.soak
def test_stopped_and_killed_jobs_go_on_where_they_stopped(head, gated):
    tables = wanted(gated)
    (gated / "closed").touch()
    job = submit(head, gated)
    reached(gated, job)
    assert job.stop()
    assert job.wait() == 130
    (gated / "reached").unlink()
    second = submit(head, gated)
    reached(gated, second)
    for pid in head.processes():
        with contextlib.suppress(OSError):
            if b"pipeline.jobs.driver" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
    assert second.wait() == 1
    (gated / "closed").unlink()
    third = submit(head, gated)
    assert third.id.endswith("-3")
    assert third.wait() == 0
    assert contents(gated / "lake") == tables


@pytest.mark.slow
def test_a_cluster_that_is_not_fit(head, gated, monkeypatch):
    resources = "resources={pipeline.filters.Length: {gpus: 1}, gate_steps.Gate: {memory: 100TiB}}"
    done = gristmill(head, gated, "submit", gated / "gated.yaml", "--shared-filesystem", "--set", resources)
    assert done.returncode == 1
    assert "2 checks failed" in done.stderr
    assert "pipeline.filters.Length needs 1 CPU, 1 GPU on one node; the most is 2 CPU, 0 GPU" in done.stderr
    assert "gate_steps.Gate needs 1 CPU, 102400.0 GiB of memory on one node" in done.stderr
    arguments = ["--set", resources, "--autoscaling", "--preflight-only", "--json"]
    done = gristmill(head, gated, "submit", gated / "gated.yaml", "--shared-filesystem", *arguments)
    assert json.loads(done.stdout)["fit"] is True
    monkeypatch.setattr(
        "pipeline.jobs.package.requirements", lambda: ["numba>=99", "no-such-package>=1", "click>=1"]
    )
    with pytest.raises(jobs.PreflightError) as caught:
        submit(head, gated, preflight=True)
    assert [check.name for check in caught.value.errors] == ["packages", "packages"]
    assert "numba>=99: " in str(caught.value)
    assert "no-such-package>=1: none on the head" in str(caught.value)
    with pytest.raises(EngineError, match="preflight failed") as caught:
        submit(head, gated, preflight=True, python="no-such-python")
    assert "--python" in caught.value.why
    assert not (gated / "lake").exists()


@pytest.mark.soak
def test_from_object_storage_with_secrets(head, gated, monkeypatch):
    """Nothing is shared but the storage: configuration, plugin and keys travel; the keys stand in no log."""
    moto = pytest.importorskip("moto.server")
    from pyarrow import fs

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        keys = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "xyzzy-storage",
            "AWS_REGION": "us-east-1",
            "GATE_SECRET": "xyzzy-gate",
        }
        for name, value in keys.items():
            monkeypatch.setenv(name, value)
        s3 = fs.S3FileSystem(
            access_key="test", secret_key="test", endpoint_override=endpoint, allow_bucket_creation=True
        )
        s3.create_dir("bucket")
        for file in (gated / "texts").iterdir():
            with s3.open_output_stream(f"bucket/texts/{file.name}") as out:
                out.write(file.read_bytes())
        (gated / "secret-wanted").touch()
        overrides = ["lake=s3://bucket/lake", "source.paths=s3://bucket/texts"]
        job = submit(head, gated, shared_filesystem=False, overrides=overrides, env=list(keys), preflight=True)
        assert job.wait() == 0, head.cluster.log(job.id)
        assert (gated / "told").read_text() == "xyzzy-gate"  # a worker knew it
        Pipeline.load(gated / "gated.yaml", ["lake=s3://bucket/other", "source.paths=s3://bucket/texts"]).run()
        assert contents("s3://bucket/lake") == contents("s3://bucket/other")
    finally:
        server.stop()
    leaks = [path for path in head.folder.rglob("*") if path.is_file() and b"xyzzy-" in path.read_bytes()]
    assert leaks == []
    assert b"xyzzy-" not in head.cluster._request("GET", "/api/jobs/")[1]


@pytest.mark.soak
def test_a_head_that_is_restarted_loses_the_job_and_nothing_else(head, gated):
    tables = wanted(gated)
    (gated / "closed").touch()
    job = submit(head, gated)
    reached(gated, job)
    head.kill()
    head.start()
    with pytest.raises(EngineError, match="knows no job"):
        job.wait()
    (gated / "closed").unlink()
    again = submit(head, gated)
    assert again.id == job.id
    assert not again.attached
    assert "".join(again.logs(follow=True)).count("rows read") == 1
    assert again.wait() == 0
    assert contents(gated / "lake") == tables
