"""Globs find what ``glob.glob`` finds; a folder that cannot be listed is an error instead of an empty one."""

from __future__ import annotations

import glob
import os
import random
from pathlib import Path

import pytest

from lake.errors import InputError
from lake.formats import places
from lake.formats.places import find

NAMES = ["a", "b", "ab", ".h", "a.txt", "b.txt", "[x]"]
PARTS = ["*", "**", "a*", "?", "[ab]", "*.txt", ".*", "a", "ab", "[!a]*", "**a", "[[]x]", ".h"]


@pytest.mark.parametrize("seed", range(30))
def test_a_pattern_finds_what_glob_finds(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    folders = [tmp_path]
    for _ in range(12):
        path = rng.choice(folders) / rng.choice(NAMES)
        if os.path.lexists(path):
            continue
        kind = rng.choice(["folder", "folder", "file", "file", "link", "dangling"])
        if kind == "folder":
            path.mkdir()
            folders.append(path)
        elif kind == "file":
            path.write_text("x")
        else:
            path.symlink_to(rng.choice(NAMES) if kind == "link" else "nowhere")
    for _ in range(20):
        pattern = os.path.normpath(
            f"{tmp_path}/{'/'.join(rng.choice(PARTS) for _ in range(rng.randint(1, 3)))}"
        )
        if glob.has_magic(pattern):
            found, wanted = (
                {name for name in names if not Path(name).is_dir() and name[-1] != "/"}
                for names in (places._matches(pattern), glob.glob(pattern, recursive=True))  # noqa: PTH207 (the oracle)
            )
            assert found == wanted, pattern


@pytest.mark.parametrize("pattern", ["**/*.txt", "*/*.txt", "**", "inner/*"])
def test_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    for name in (tmp_path / "a.txt", inner / "b.txt"):
        name.write_text("x")
    assert [Path(each.path).name for each in find(pattern, tmp_path)][-1] == "b.txt"
    listed = os.listdir

    def refused(path: str) -> list[str]:
        if "inner" in path:
            raise OSError(5, "Input/output error", path)
        return listed(path)

    monkeypatch.setattr(os, "listdir", refused)  # the tests may run as root, whom no mode keeps out
    with pytest.raises(InputError, match="cannot list a folder"):
        find(pattern, tmp_path)
