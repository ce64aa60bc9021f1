"""The Python of the documents runs, in order."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
RUN = ["augmentation.md"]


@pytest.mark.parametrize("name", RUN)
def test_the_python_of_a_page_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    module = types.ModuleType(f"page_{Path(name).stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # custom ops are found in their module
    for block in blocks:
        exec(compile(block, name, "exec"), module.__dict__)
    assert capsys.readouterr().out
