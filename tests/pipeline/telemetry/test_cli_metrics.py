from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from watching import Watched, parsed, value

from pipeline.cli import cli


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("GRISTMILL_LAKE", "GRISTMILL_METRICS", "GRISTMILL_PRICES", "OPENLINEAGE_URL"):
        monkeypatch.delenv(name, raising=False)


def gristmill(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def test_a_lake_is_scraped_without_a_daemon(watched: Watched, tmp_path: Path) -> None:
    config = ["--config", str(watched.folder / "small.yaml")]
    printed = gristmill("metrics", *config, "--waiting", "--price", "label=0.5")
    assert printed.exit_code == 0, printed.output
    found = parsed(printed.stdout)
    assert value(found, "table_rows", table="train") == watched.report.run["tables"]["train"]["rows"]
    assert value(found, "files_waiting") == 0
    assert value(found, "cost", kind="labels_saved") == 0.5 * watched.report.figures.repeats
    written = gristmill("metrics", *config, "--waiting", "--price", "label=0.5", "--output", "lake.prom")
    assert written.exit_code == 0
    assert written.stdout == ""
    assert parsed((tmp_path / "lake.prom").read_bytes()) == found
    listed = json.loads(gristmill("metrics", *config, "--json").stdout)
    rows = {each["labels"].get("table"): each["value"] for each in listed if each["name"] == "table_rows"}
    assert rows["raw"] == watched.report.run["tables"]["raw"]["rows"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output", "lake.txt"], "FILE.prom"),
        (["--output", ":9000"], "--output takes FILE.prom"),
        (["--serve", "x.prom"], "--serve takes HOST:PORT"),
        (["--serve", ":0", "--output", "x.prom"], "exclude each other"),
        (["--waiting"], "--waiting needs --config"),
        (["--price", "core=1"], "no price is called 'core'"),
    ],
)
def test_wrong_use(arguments: list[str], said: str) -> None:
    done = gristmill("metrics", "--lake", "lake", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_run_with_a_wrong_address_does_not_begin(watched: Watched) -> None:
    for option, wrong in (("--metrics", "nowhere"), ("--lineage", "ftp://host/x"), ("--price", "x=1")):
        done = gristmill("run", str(watched.folder / "small.yaml"), option, wrong)
        assert done.exit_code == 2, done.output
    done = gristmill("run", str(watched.folder / "small.yaml"), "--log-file", "none/x.log")
    assert done.exit_code == 1
    assert "the log cannot be written" in done.stderr


def test_a_trial_leaves_alone_what_the_environment_watches(
    watched: Watched, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("GRISTMILL_METRICS", str(tmp_path / "real.prom"))
    monkeypatch.setenv("OPENLINEAGE_URL", str(tmp_path / "real.jsonl"))
    config = [
        str(watched.folder / "small.yaml"),
        "--set",
        f"lake={tmp_path / 'lake'}",
        "--limit",
        "3",
        "--quiet",
    ]
    assert gristmill("run", *config).exit_code == 0
    assert not list(tmp_path.glob("real.*"))
    assert gristmill("run", *config, "--metrics", str(tmp_path / "typed.prom")).exit_code == 0
    found = parsed((tmp_path / "typed.prom").read_bytes())
    assert {dict(labels)["lake"] for _, labels in found} == {str(tmp_path / "lake-trial")}


def test_a_run_says_what_it_cost(watched: Watched) -> None:
    config = str(watched.folder / "small.yaml")
    shown = gristmill("run", config, "--price", "core_hour=0.04", "--price", "currency=eur")
    assert re.search(r"compute +\S+ EUR  .* x 0.04 an hour; a worker is a core", shown.stdout)
    asked = json.loads(gristmill("run", config, "--json", "--price", "label=2").stdout)
    assert asked["cost"]["lines"][0]["amount"] == 2 * watched.report.figures.repeats


def test_it_serves_until_it_is_told_to_stop(watched: Watched) -> None:
    command = [
        str(Path(sys.executable).with_name("gristmill")),
        "metrics",
        "--lake",
        str(watched.pipeline.lake.uri),
    ]
    process = subprocess.Popen([*command, "--serve", ":0"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        address = process.stderr.readline().split()[-1]
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert value(parsed(answer.read()), "lake_up") == 1
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert err == ""
