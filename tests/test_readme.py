"""What the README tells a newcomer to type, typed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    found = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in text]
    assert len(found) == 1
    return found[0]


def typed(program: str | list[str], cwd: Path) -> str:
    command = [sys.executable, "-c", program] if isinstance(program, str) else program
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


def thin_out(archive: Path) -> None:
    """Every fourth sample is enough for what is typed here; `make demo` takes them all."""
    thinner = archive.with_suffix(".thinner")
    with tarfile.open(archive) as whole, tarfile.open(thinner, "w:gz") as some:
        members = whole.getmembers()
        kept = set(sorted({Path(member.name).stem for member in members})[::4])
        for member in members:
            if Path(member.name).stem in kept:
                some.addfile(member, whole.extractfile(member))
    thinner.replace(archive)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_python_tour_runs(tmp_path):
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    [archive] = (tmp_path / "configs").rglob("fashion-mnist.tar.gz")
    thin_out(archive)
    out = typed(block("python", "import dedup"), tmp_path)
    assert "rows read" in out
    assert "(4, 32, 32, 3)" in out


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_tour_runs(tmp_path):
    gristmill = str(Path(sys.executable).with_name("gristmill"))
    said = []
    for line in block("sh", "gristmill init").splitlines():
        words = line.partition("#")[0].split()
        assert words[0] == ".venv/bin/gristmill"
        said.append(typed([gristmill, *words[1:]], tmp_path))
        if words[1] == "init":
            [archive] = (tmp_path / "shop").rglob("fashion-mnist.tar.gz")
            thin_out(archive)
    assert "report:" in said[-1]
    for verb in ("show train", "report", "history"):
        assert typed([gristmill, *verb.split(), "--lake", "shop/data-lake"], tmp_path)


def test_every_document_that_is_linked_is_there():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_is_valid(config):
    from pipeline.config import load

    assert load(config).steps


def test_the_schema_for_editors_is_current():
    import json

    from pipeline.config.jsonschema import json_schema

    written = json.loads((ROOT / "configs" / "schema.json").read_text(encoding="utf-8"))
    assert written == json_schema(), "write it anew: gristmill schema > configs/schema.json"
