from __future__ import annotations

from pathlib import Path

import pytest
from small import write_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with texts, pictures and `small.yaml`, which reads both."""
    write_corpus(tmp_path)
    return tmp_path
