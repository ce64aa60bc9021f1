from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from small import write_corpus

# How long an example takes says more about the machine than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with texts, pictures and `small.yaml`, which reads both."""
    write_corpus(tmp_path)
    return tmp_path
