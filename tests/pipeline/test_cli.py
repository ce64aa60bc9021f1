from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from lake.errors import EngineError
from pipeline.cli import cli
from pipeline.config import load

ROOT = Path(__file__).parents[2]
GOOD = "name: docs\nlake: ./lake\nsource: {lake.Files: {paths: data/*.jsonl}}\nsteps: [dedup.MinHash]\n"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In an empty folder, with nothing in the environment; the loggers as they were."""
    monkeypatch.chdir(tmp_path)
    for name in ("GRISTMILL_LAKE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


def gristmill(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join([*path, name]), command


ALL = dict(commands(cli))


@pytest.mark.parametrize("verb", ALL)
def test_every_verb_and_option_is_documented(verb: str) -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    heading = f"## gristmill {verb.split(' ', maxsplit=1)[0]}"
    assert heading in text
    section = text.split(heading, 1)[1].split("\n## ", 1)[0]
    assert f"gristmill {verb}" in heading + section
    for parameter in ALL[verb].params:
        if isinstance(parameter, click.Option):
            assert all(
                f"`{name}" in section or name in {"-v", "--verbose", "--json"} for name in parameter.opts
            )
            assert all(name in section for name in parameter.secondary_opts)
        else:
            assert (parameter.metavar or parameter.human_readable_name).strip("[]").upper() in section


def test_the_documentation_knows_no_other_option() -> None:
    import re

    text = (ROOT / "docs" / "cli.md").read_text()
    every = [each for command in ALL.values() for each in command.params]
    known = {name for each in every for name in (*each.opts, *each.secondary_opts)} | {"--help", "--version"}
    assert set(re.findall(r"`(--[a-z-]+)", text)) <= known


@pytest.mark.parametrize("verb", ALL)
def test_every_verb_speaks_json_and_has_help(verb: str) -> None:
    assert {"--json", "--verbose"} <= {name for each in ALL[verb].params for name in each.opts}
    shown = gristmill(*verb.split(), "--help")
    assert shown.exit_code == 0
    assert ALL[verb].help
    assert "\b" not in shown.output


def test_help_is_light_and_tells_the_exit_codes() -> None:
    code = (
        "import sys, atexit;"
        "atexit.register(lambda: print(*{n.split('.')[0] for n in sys.modules}, file=sys.stderr));"
        "from pipeline.cli import main; main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stderr.split())
    assert "click" in loaded
    assert not loaded & {"pydantic", "pyarrow", "numpy", "yaml", "rich", "lake", "dedup", "augment", "numba"}
    for number in ("0", "1", "2", "3", "4", "130"):
        assert f"  {number}  " in done.stdout


def test_version() -> None:
    from pipeline import __version__

    assert gristmill("--version").stdout == f"gristmill {__version__}\n"


def test_an_unknown_verb_or_option_is_a_usage_error() -> None:
    for arguments, hint in [(["chek"], "'check'"), (["check", "--jsno"], "--json"), ([], "Usage")]:
        done = gristmill(*arguments)
        assert done.exit_code == 2
        assert hint in done.stderr
        assert "Traceback" not in done.output
    done = gristmill("check", "--limit", "3", "--json")
    assert (done.exit_code, json.loads(done.stdout)["exit_code"]) == (2, 2)


def test_init_writes_what_check_accepts() -> None:
    done = gristmill("init", "project")
    assert done.exit_code == 0, done.output
    assert load("project/gristmill.yaml").name == "corpus"
    first = Path("project/gristmill.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=./schema.json"
    assert json.loads(Path("project/schema.json").read_text())["required"] == ["name", "lake", "source"]
    assert gristmill("check", "project/gristmill.yaml").exit_code == 0


def test_init_overwrites_nothing_unless_told() -> None:
    Path("schema.json").write_text("mine")
    done = gristmill("init")
    assert done.exit_code == 2
    assert "schema.json" in done.stderr
    assert not Path("gristmill.yaml").exists()
    assert gristmill("init", "--force", "--json").exit_code == 0
    assert Path("schema.json").read_text() != "mine"


def test_init_quickstart_comes_with_data() -> None:
    done = gristmill("init", "--quickstart", "--json")
    assert done.exit_code == 0, done.output
    assert {Path(each).name for each in json.loads(done.stdout)["written"]} > {"gristmill.yaml", "schema.json"}
    for source in load("gristmill.yaml").source:
        paths = [source.paths] if isinstance(source.paths, str) else source.paths
        assert all(list(Path().glob(path)) for path in paths)


def test_init_where_nothing_can_be_written() -> None:
    Path("file").write_text("")
    assert gristmill("init", "file").exit_code == 2
    assert gristmill("init", "file/below").exit_code == 1


def test_check_says_ok_or_everything_that_is_wrong() -> None:
    Path("gristmill.yaml").write_text(GOOD)
    done = gristmill("check")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "docs, 1 source, 1 step" in done.stderr
    done = gristmill("check", "--json")
    assert json.loads(done.stdout)["config"]["steps"][0].keys() == {"dedup.MinHash"}
    done = gristmill("check", "--dump", "--set", "steps.1.threshold=0.5")
    Path("again.yaml").write_text(done.stdout)
    assert load("again.yaml") == load("gristmill.yaml", ["steps.1.threshold=0.5"])

    Path("bad.yaml").write_text(GOOD + "seed: x\nstpes: 1\n")
    done = gristmill("check", "bad.yaml")
    assert done.exit_code == 2
    assert "bad.yaml:5:7: must be a whole number" in done.stderr
    assert "bad.yaml:6:1: unknown key 'stpes'" in done.stderr
    assert "Traceback" not in done.output
    told = json.loads(gristmill("check", "bad.yaml", "--json").stdout)
    assert [(each["line"], each["column"]) for each in told["error"]["errors"]] == [(5, 7), (6, 1)]
    assert told["exit_code"] == 2


@pytest.mark.parametrize("verb", ["check", "plan", "run"])
def test_a_missing_configuration(verb: str) -> None:
    done = gristmill(verb)
    assert done.exit_code == 2
    assert "gristmill.yaml: there is no such file" in done.stderr
    assert "gristmill init" in done.stderr


def test_ops_lists_and_explains() -> None:
    done = gristmill("ops")
    assert done.exit_code == 0
    names = {line.split()[0] for line in done.stdout.splitlines()}
    assert {"lake.Files", "dedup.MinHash", "pipeline.filters.Quality", "augment.Apply", "lake.Table"} <= names
    told = json.loads(gristmill("ops", "--json").stdout)
    assert {each["name"] for each in told} == names
    assert all(each["summary"] for each in told)


def test_every_example_of_ops_loads() -> None:
    from pipeline.config import loads
    from pipeline.config.catalog import steps

    for entry in steps():
        shown = gristmill("ops", entry.key)
        assert shown.exit_code == 0, shown.output
        text = "name: docs\nlake: ./lake\n" + shown.stdout.split("In YAML:\n", 1)[1]
        if entry.kind != "source":
            text += "source: {lake.Files: {paths: a}}\n"
        if "..." not in text:  # a required text that only the user can know
            loads(text)
        told = json.loads(gristmill("ops", entry.key, "--json").stdout)
        assert {each["name"] for each in told["fields"]} == set(entry.cls.model_fields)


def test_ops_of_a_name_that_is_none() -> None:
    done = gristmill("ops", "dedup.MinHsh")
    assert done.exit_code == 2
    assert "did you mean 'dedup.MinHash'?" in done.stderr
    assert gristmill("ops", "--plugin", "no_such_module").exit_code == 2


def test_the_schema_accepts_what_loads_and_refuses_what_does_not() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    import yaml

    schema = json.loads(gristmill("schema").stdout)
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    for name in ("gristmill.yaml", "quickstart.yaml"):
        validator.validate(yaml.safe_load((ROOT / "configs" / name).read_text()))
    good = yaml.safe_load(GOOD)
    validator.validate(good)
    validator.validate({**good, "steps": [{"dedup.MinHash": None}, {"dedup.MinHash": {"threshold": 0.5}}]})
    for change in (
        {"steps": [{"dedup.MinHsh": {}}]},
        {"steps": [{"dedup.MinHash": {"treshold": 0.5}}]},
        {"steps": [{"dedup.MinHash": {"threshold": "high"}}]},
        {"steps": [{"lake.Files": {"paths": "a"}}]},
        {"stpes": []},
        {"name": "A B"},
        {"source": {"lake.Files": {}}},
    ):
        assert list(validator.iter_errors({**good, **change})), change


def test_doctor_answers_for_people_and_programs() -> None:
    done = gristmill("doctor", "--json", "--lake", "lake")
    told = json.loads(done.stdout)
    assert done.exit_code == int(not told["ok"])
    assert {"python", "import folders", "lake"} <= {each["name"] for each in told["checks"]}
    assert "python" in gristmill("doctor").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    done = gristmill("completion", shell)
    assert done.exit_code == 0
    assert "_GRISTMILL_COMPLETE" in done.stdout
    assert json.loads(gristmill("completion", shell, "--json").stdout)["shell"] == shell
    assert gristmill("completion", "tcsh").exit_code == 2


def test_which_lake_is_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pipeline.verbs.common import open_lake

    done = gristmill("show", "train")
    assert done.exit_code == 2
    assert "Which lake?" in done.stderr
    Path("gristmill.yaml").write_text(GOOD)
    Path("other.yaml").write_text(GOOD.replace("./lake", "./third"))
    assert str(open_lake(None, None).uri) == str(tmp_path / "lake")
    monkeypatch.setenv("GRISTMILL_LAKE", str(tmp_path / "second"))
    assert str(open_lake(None, None).uri) == str(tmp_path / "second")
    assert str(open_lake(None, "other.yaml").uri) == str(tmp_path / "third")
    assert str(open_lake(str(tmp_path / "fourth"), "other.yaml").uri) == str(tmp_path / "fourth")


def failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `check` fail in this way."""

    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr("pipeline.config.load", fail)


def test_no_traceback_unless_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(ZeroDivisionError("a secret of a record"), monkeypatch)
    done = gristmill("check")
    assert done.exit_code == 1
    assert done.stderr.startswith("internal error: ZeroDivisionError")
    assert "--verbose" in done.stderr
    assert "Traceback" not in done.output
    assert "secret" not in done.output
    assert "Traceback" in gristmill("check", "--verbose").stderr
    assert json.loads(gristmill("check", "--json").stdout)["error"]["kind"] == "InternalError"


def test_an_error_of_ours_says_what_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(EngineError("a worker failed", where="clean, part 3", hint="look there"), monkeypatch)
    done = gristmill("check")
    assert (done.exit_code, done.stderr) == (1, "error: clean, part 3: a worker failed\n  do:  look there\n")
    assert "Traceback" in gristmill("check", "-v").stderr
    told = json.loads(gristmill("check", "--json").stdout)
    assert told["error"] == {
        "kind": "EngineError",
        "message": "a worker failed",
        "where": "clean, part 3",
        "why": None,
        "hint": "look there",
    }


def test_an_error_of_the_system_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(PermissionError(13, "Permission denied", "/somewhere"), monkeypatch)
    done = gristmill("check")
    assert (done.exit_code, done.stderr) == (1, "error: /somewhere: Permission denied\n")


def test_an_interruption_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(KeyboardInterrupt(), monkeypatch)
    done = gristmill("check")
    assert done.exit_code == 130
    assert "goes on where it stopped" in done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = "from pipeline.cli import main; main(['schema'])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"BrokenPipe" not in process.stderr.read()
        assert process.wait() == 0


@pytest.mark.parametrize("arguments", [["schema"], ["run", "--json"]])
def test_a_package_that_another_folder_hides_is_named(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "__init__.py").touch()
    done = subprocess.run(
        [str(Path(sys.executable).with_name("gristmill")), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert done.returncode == 1
    told = done.stdout if "--json" in arguments else done.stderr
    assert f"not ours: lake at {tmp_path / 'lake'}" in told
    assert "Traceback" not in done.stderr
