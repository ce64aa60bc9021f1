from __future__ import annotations

from pathlib import Path

import pytest
from following import Folder, lines


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Two files that share a text, and the configuration of a lake that follows them."""
    made = Folder(tmp_path)
    made.write("b.jsonl", lines([(0, 0), (3, 1), (6, 2)]))
    made.write("m.jsonl", lines([(3, 9), (9, 1)]))
    return made
