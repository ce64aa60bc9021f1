from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lake.errors import ConfigError
from pipeline.jobs import package

ROOT = Path(__file__).parents[3]


def names(made: package.Package) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(made.data)).namelist()


def test_the_code_is_the_same_bytes_each_time_and_holds_what_a_wheel_holds():
    made = package.code()
    assert made.data == package.code().data
    assert made.name == package.code().name
    held = set(names(made))
    sources = {
        path.relative_to(ROOT).as_posix()
        for top in ("augment", "dedup", "lake", "pipeline")
        for path in (ROOT / top).rglob("*.py")
        if "configs" not in path.parts
    }
    assert sources <= held
    assert not [name for name in held if "__pycache__" in name or name.startswith("pipeline/configs")]
    assert "pipeline/py.typed" in held
    assert any(name.startswith("pipeline/report/templates/") for name in held)
    assert len(made.data) < 8 << 20


def test_the_code_runs_where_only_the_zip_is(tmp_path):
    zipfile.ZipFile(io.BytesIO(package.code().data)).extractall(tmp_path)
    where = "import pipeline, lake; print(pipeline.__file__, lake.__file__)"
    command = [sys.executable, "-c", where]
    done = subprocess.run(
        command,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(place.startswith(str(tmp_path)) for place in done.stdout.split())
    command = [sys.executable, "-m", "pipeline.jobs.driver", "--version"]
    done = subprocess.run(
        command,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("gristmill ")


def test_requirements_are_those_of_the_distribution_and_ray():
    found = package.requirements()
    assert any(each.startswith("pyarrow") for each in found)
    assert any(each.startswith("ray") for each in found)
    assert not [each for each in found if "extra" in each or each.startswith("editables")]


def test_plugins_of_your_own_go_along_and_installed_ones_do_not(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "ours" / "deep").mkdir(parents=True)
    (tmp_path / "ours" / "__init__.py").write_text("")
    (tmp_path / "ours" / "deep" / "steps.py").write_text("")
    (tmp_path / "ours" / "words.txt").write_text("")
    (tmp_path / "ours" / "__pycache__").mkdir()
    (tmp_path / "ours" / "__pycache__" / "steps.py").write_text("")
    (tmp_path / "beside.py").write_text("")
    made = package.workdir(
        "name: x", ["mine", "ours.deep.steps", "yaml", "pipeline.filters"], [tmp_path / "beside.py"]
    )
    ours = ["gristmill.yaml", "gristmill_probe.py"]
    theirs = ["beside.py", "mine.py", "ours/__init__.py", "ours/deep/steps.py", "ours/words.txt"]
    assert sorted(names(made)) == sorted([*ours, *theirs])
    assert "gristmill.yaml" not in names(package.workdir(None, []))


def test_what_cannot_be_shipped(tmp_path, monkeypatch):
    (tmp_path / "lake.py").write_text("")
    with pytest.raises(ConfigError, match="hide"):
        package.workdir("", [], [tmp_path / "lake.py"])
    with pytest.raises(ConfigError, match="no such file"):
        package.workdir("", [], [tmp_path / "none.py"])
    monkeypatch.setattr(package, "_MOST", 10)
    with pytest.raises(ConfigError, match="too large"):
        package.workdir("", [], [])


def test_hidden_files_beside_a_plugin_stay_here(tmp_path, monkeypatch):
    """Keys lie in them."""
    for name in ("__init__.py", ".env", ".aws/credentials", "inner/.secret"):
        path = tmp_path / "mine_too" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("sesame")
    monkeypatch.syspath_prepend(str(tmp_path))
    made = package.workdir(None, ["mine_too"], [tmp_path / "mine_too"])
    assert set(names(made)) == {"gristmill_probe.py", "mine_too/__init__.py"}
