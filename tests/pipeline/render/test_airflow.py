"""The operator and the rendered DAG in a real Airflow: `make test-integrations` has one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("airflow")
ROOT = Path(__file__).parents[3]
GRISTMILL = str(Path(sys.executable).parent / "gristmill")


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a database; a run of a DAG is written there."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    airflow(home, "db", "migrate")
    return home


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def airflow(home: Path, *words: str) -> str:
    command = [str(Path(sys.executable).parent / "airflow"), *words]
    done = subprocess.run(command, env=environment(home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def operator(config: Path | str, **more: Any) -> Any:
    from pipeline.integrations.airflow import GristmillOperator

    return GristmillOperator(task_id="run", config=str(config), command=GRISTMILL, **more)


def test_the_summary_has_rows_and_versions_and_no_content(corpus: Path) -> None:
    summary = operator(corpus / "small.yaml").execute({})
    assert summary["status"] == "ok"
    assert summary["tables"]["train"]["rows"] > 0
    for step in summary["steps"]:
        assert step["rows_in"] == step["rows_kept"] + sum(step["drops"].values())
    report = json.loads(next((corpus / "lake").glob("_reports/*/run.json")).read_text())
    assert summary["tables"]["raw"]["version"] == report["tables"]["raw"]["version"]
    assert not {"config", "learned"} & set(summary)
    again = operator(corpus / "small.yaml").execute({})
    assert again["status"] == "unchanged"


@pytest.mark.parametrize("rejects", ["fail", "skip"])
def test_rejects_fail_or_skip(corpus: Path, rejects: str) -> None:
    with pytest.raises(Exception, match="unreadable") as caught:
        operator(corpus / "small.yaml", overrides=["allowed_rejects=0"], rejects=rejects).execute({})
    assert caught.type.__name__ == f"Airflow{rejects.title()}Exception"


def test_rejects_may_pass(corpus: Path) -> None:
    summary = operator(corpus / "small.yaml", overrides=["allowed_rejects=0"], rejects="pass").execute({})
    assert summary["status"] == "rejects"


def test_a_wrong_configuration_is_not_tried_again(corpus: Path) -> None:
    with pytest.raises(Exception, match="unknown key") as caught:
        operator(corpus / "small.yaml", overrides=["seeed=1"]).execute({})
    assert caught.type.__name__ == "AirflowFailException"


def test_a_killed_task_ends_its_run_and_the_next_one_goes_on(corpus: Path) -> None:
    task = operator(corpus / "small.yaml")
    found: list[BaseException] = []

    def work() -> None:
        try:
            task.execute({})
        except Exception as error:  # noqa: BLE001
            found.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    deadline = time.monotonic() + 120
    while not (corpus / "lake").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    task.on_kill()
    worker.join(60)
    assert not worker.is_alive()
    assert task._call._process.returncode != 0
    assert "130" in str(found[0])
    assert operator(corpus / "small.yaml").execute({})["status"] == "ok"


def test_the_rendered_dag_loads_and_runs(corpus: Path, airflow_home: Path) -> None:
    from pipeline.render import render

    for old in (airflow_home / "dags").glob("*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    given = {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "command": GRISTMILL}
    files = render(corpus / "small.yaml", "airflow", ["seed=3"], **given)
    for name, text in files.items():
        (airflow_home / "dags" / name).write_text(text)
    errors = airflow(airflow_home, "dags", "list-import-errors", "--output", "json")
    assert "Traceback" not in errors
    airflow(airflow_home, "dags", "reserialize")
    assert "gristmill_small" in airflow(airflow_home, "dags", "list", "--output", "json")
    airflow(airflow_home, "dags", "test", "gristmill_small")
    (report,) = (corpus / "lake").glob("_reports/*/run.json")
    run = json.loads(report.read_text())
    assert (run["status"], run["config"]["seed"]) == ("ok", 3)
