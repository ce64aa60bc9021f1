from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from small import write_corpus

# How long an example takes says more about the machine than about the code. What decides whether a change lands
# draws the same examples each time; everybody else looks for new ones.
settings.register_profile("searching", deadline=None)
settings.register_profile("landing", deadline=None, derandomize=True)
settings.load_profile(os.environ.get("GRISTMILL_EXAMPLES", "searching"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with texts, pictures and `small.yaml`, which reads both."""
    write_corpus(tmp_path)
    return tmp_path
