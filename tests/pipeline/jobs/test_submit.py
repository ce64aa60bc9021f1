"""What is refused before, or without, a cluster; and the command line around it."""

from __future__ import annotations

import json
import socket

import pytest
from click.testing import CliRunner

from lake.errors import ConfigError
from pipeline import Pipeline
from pipeline.cli import cli
from pipeline.jobs import secrets
from pipeline.jobs.client import Record
from pipeline.jobs.job import exit_code, explained
from pipeline.jobs.parcel import Options, prepare

REMOTE = """\
name: docs
lake: s3://bucket/lake
source: {lake.Files: {paths: s3://bucket/raw/*.jsonl}}
steps: [{dedup.MinHash: {threshold: 0.8}}]
"""


@pytest.fixture
def remote(tmp_path):
    (tmp_path / "c.yaml").write_text(REMOTE)
    return tmp_path / "c.yaml"


def run(*arguments, **env):
    return CliRunner().invoke(cli, [str(each) for each in arguments], env=env, prog_name="gristmill")


def test_the_name_of_a_job_follows_from_what_it_does(remote, tmp_path):
    name = prepare(remote, Options()).name
    assert name.startswith("gristmill-docs-")
    remote.write_text("# a remark\n" + REMOTE)
    assert prepare(remote, Options()).name == name
    assert prepare(Pipeline.load(remote), Options()).name == name
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "c.yaml").write_text(REMOTE)
    assert prepare(tmp_path / "elsewhere" / "c.yaml", Options()).name == name
    assert prepare(remote, Options(once="2026-11-30")).name == f"{name}-2026-11-30"
    assert prepare(remote, Options(overrides=["seed=3"])).name != name
    assert prepare(remote, Options(limit=9)).name != name


def test_attempts_are_told_apart(remote):
    class Remembers:
        def jobs(self):
            parcel, dated = (prepare(remote, Options(once=once)).name for once in (None, "5"))
            names = (f"{parcel}-2", f"{parcel}-10", f"{dated}-1", "other-99", parcel)
            return [Record(name, "FAILED") for name in names]

    assert prepare(remote, Options()).last(Remembers())[0] == 10
    assert prepare(remote, Options(once="5")).last(Remembers())[0] == 1
    assert prepare(remote, Options(once="6")).last(Remembers()) == (0, None)


def test_a_local_lake_or_source_is_refused(remote, tmp_path):
    for override in ("lake=./lake", "source.paths=data/**/*.jsonl", "lake=file:///mnt/lake"):
        with pytest.raises(ConfigError, match="does not see") as caught:
            prepare(remote, Options(overrides=[override]))
        assert "--shared-filesystem" in caught.value.hint
    parcel = prepare(remote, Options(overrides=["source.paths=data/**/*.jsonl"], shared_filesystem=True))
    assert parcel.wanted.read == (str(tmp_path / "data"),)
    assert str(remote) in parcel.command
    with pytest.raises(ConfigError, match="does not see"):  # a value has no file that the cluster could read
        prepare(Pipeline.load(remote, ["lake=./lake"]), Options(shared_filesystem=True))


def test_what_the_steps_need_is_asked_for(remote):
    resources = "resources={dedup.MinHash: {cpus: 2, memory: 4GiB, gpus: 1}}"
    tasks = prepare(remote, Options(overrides=[resources], driver_cpus=3)).wanted.tasks
    assert {task.label: task.amounts() for task in tasks} == {
        "the driver": {"CPU": 3},
        "dedup.MinHash": {"CPU": 2, "GPU": 1, "memory": float(4 << 30)},
    }


def test_secrets_are_in_nothing_that_is_kept(remote, monkeypatch):
    monkeypatch.setenv("KEY", "hush-hush")
    parcel = prepare(remote, Options(env=["KEY"]))
    kept = json.dumps([parcel.environment(), parcel.command, dict(parcel.metadata), parcel.name])
    assert "hush-hush" not in kept
    assert not any(b"hush-hush" in each.data for each in parcel.files)
    name, data = secrets.packed({"KEY": "hush-hush"})
    assert name != secrets.packed({"KEY": "hush-hush"})[0]
    assert json.loads(data) == {"KEY": "hush-hush"}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["mine"], {"packages": ["mine"]}),
        ({"packages": ["mine"], "pip_check": False}, {"packages": ["mine"], "pip_check": False}),
        ({"packages": None, "pip_version": "==25.3"}, {"packages": [], "pip_version": "==25.3"}),
        (None, {"packages": []}),
    ],
)
def test_installing_adds_to_what_the_user_installs(remote, given, kept):
    found = prepare(remote, Options(install=True, runtime_env={"pip": given})).environment()["pip"]
    ours = found.pop("packages")
    packages = kept.pop("packages")
    assert found == kept
    assert ours[: len(packages)] == packages
    assert any(each.startswith("deltalake") for each in ours[len(packages) :])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--address", "ray://head:10001"], "not to Ray itself"),
        (["--address", "head", "--once", "no spaces"], "no name for an occasion"),
        (["--address", "head", "--env", "NOT_SET_ANYWHERE"], "is not set here"),
        (["--address", "head", "--token-file", "/nowhere/token"], "token cannot be read"),
        (["--address", "head", "--runtime-env", "/nowhere/env"], "cannot be read"),
        (["--address", "head", "--driver-memory", "much"], "must be a size"),
        (["--address", "head", "--set", "steps.1.treshold=1"], "treshold"),
        (["--address", "head", "--ship", "/nowhere/x.py"], "cannot be shipped"),
        ([], "--address"),
    ],
)
def test_a_wrong_command_line(remote, arguments, words):
    done = run("submit", remote, *arguments)
    assert done.exit_code == 2
    assert words in done.stderr


@pytest.mark.parametrize("text", ["- a list", "{", "working_dir: .", "py_modules: []"])
def test_a_wrong_runtime_environment(remote, tmp_path, text):
    (tmp_path / "env.yaml").write_text(text)
    done = run("submit", remote, "--address", "head", "--runtime-env", tmp_path / "env.yaml")
    assert done.exit_code == 2, done.output


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff\xfe"])
def test_a_token_file_without_a_token(remote, tmp_path, content):
    (tmp_path / "token").write_bytes(content)
    done = run("submit", remote, "--address", "head", "--token-file", tmp_path / "token")
    assert done.exit_code == 2


def test_nobody_there(remote):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = run("submit", remote, "--address", f"127.0.0.1:{port}", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["message"] == "no Ray cluster answers"


@pytest.mark.parametrize(
    ("status", "code", "wanted", "said"),
    [
        ("SUCCEEDED", 0, 0, False),
        ("FAILED", 1, 1, False),
        ("FAILED", 2, 2, False),
        ("FAILED", 3, 3, False),
        ("STOPPED", None, 130, False),
        ("FAILED", -9, 1, True),  # killed
        ("FAILED", 127, 1, True),  # no such command
        ("FAILED", None, 1, True),  # never started
        ("FAILED", 0, 1, True),
    ],
)
def test_exit_codes(status, code, wanted, said):
    record = Record("a", status, "why", code)
    assert exit_code(record) == wanted
    assert (explained(record) is not None) is said
