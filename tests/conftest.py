from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from small import write_corpus

# How long an example takes says more about the machine than about the code. What decides whether a change lands
# draws the same examples each time; everybody else looks for new ones.
settings.register_profile("searching", deadline=None)
settings.register_profile("landing", deadline=None, derandomize=True)
settings.load_profile(os.environ.get("GRISTMILL_EXAMPLES", "searching"))


# A shell without job control has what it starts in the background ignore Ctrl-C, with all its children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with the longest tests first, so that no worker is left alone with one at the end."""
    seconds: Counter[Path] = Counter()
    for item in items:
        kinds = {mark.name for mark in item.iter_markers()}
        seconds[item.path] += 20 if kinds & {"ray", "slow"} else 1
    items.sort(key=lambda item: -seconds[item.path])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with texts, pictures and `small.yaml`, which reads both."""
    write_corpus(tmp_path)
    return tmp_path
