"""What a container may use: in real control groups where this machine lets us make one, and as files say it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lake import machine

LIMIT = 384 << 20
ASK = """
import sys
from pathlib import Path
for file in sys.argv[1:]:
    Path(file).write_text("0")  # this process
from lake.machine import cores, free_memory, memory
before = free_memory()
held = bytearray(100 << 20)
print(memory(), before, free_memory(), cores())
"""


def group(controller: str, values: dict[str, str]) -> Iterator[Path]:
    """A control group of our own: version 1, or 2."""
    old = Path("/sys/fs/cgroup", controller)
    folder = (old if old.is_dir() else old.parent) / f"gristmill-test-{os.getpid()}"
    try:
        folder.mkdir()
        for name, value in values.items():
            if (folder / name).exists():
                (folder / name).write_text(value)
        if not any((folder / name).exists() for name in values):
            raise PermissionError(f"no controller {controller} for new groups")
    except OSError as error:
        with suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    yield folder
    folder.rmdir()


@pytest.fixture
def small() -> Iterator[Path]:
    yield from group("memory", {"memory.limit_in_bytes": str(LIMIT), "memory.max": str(LIMIT)})


@pytest.fixture
def slow() -> Iterator[Path]:
    yield from group("cpu", {"cpu.cfs_quota_us": "50000", "cpu.max": "50000 100000"})


def ask(*groups: Path) -> list[int]:
    command = [sys.executable, "-P", "-c", ASK, *(str(each / "cgroup.procs") for each in groups)]
    return [int(word) for word in subprocess.check_output(command, text=True).split()]


def test_a_control_group_limits_what_is_free(small: Path) -> None:
    whole, before, after, _ = ask(small)
    assert whole == LIMIT
    assert LIMIT / 2 < before <= LIMIT
    assert 90 << 20 < before - after < 140 << 20  # what the process has taken


def test_a_quota_limits_the_cores(slow: Path) -> None:
    assert ask(slow)[3] == 1


def test_without_a_group_the_machine_counts() -> None:
    whole, before, _, cores = ask()
    assert before <= whole <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 1 <= cores <= len(os.sched_getaffinity(0))


def laid(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


STAT = "anon 1\nactive_file 100\ninactive_file 50\ntotal_active_file 1000\ntotal_inactive_file 500\n"


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        ({}, []),
        ({"proc/self/cgroup": "0::/\n"}, []),  # the outermost group has no files of that name
        (
            {
                "proc/self/cgroup": "0::/pod/box\n",
                "groups/pod/box/memory.max": "max\n",
                "groups/pod/box/memory.current": "600\n",
                "groups/pod/box/memory.stat": STAT,
                "groups/pod/memory.max": "5000\n",  # the pod's limit holds for its containers
                "groups/pod/memory.current": "700\n",
                "groups/pod/memory.stat": STAT,
            },
            [(5000, 550)],
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/x\n3:memory:/docker/of-the-host\n0::/\n",
                "groups/memory/memory.limit_in_bytes": "9000\n",  # a container sees its own group as the root
                "groups/memory/memory.usage_in_bytes": "2500\n",
                "groups/memory/memory.stat": STAT,
            },
            [(9000, 1000)],
        ),
        (
            {
                "proc/self/cgroup": "3:memory:/\n",
                "groups/memory/memory.limit_in_bytes": f"{2**63 - 4096}\n",
                "groups/memory/memory.usage_in_bytes": "2500\n",
                "groups/memory/memory.stat": STAT,
            },
            [],
        ),
    ],
)
def test_limits_of_both_versions(tmp_path: Path, files: dict[str, str], limits: list[tuple[int, int]]) -> None:
    laid(tmp_path, files)
    assert list(machine._limits(tmp_path / "proc", tmp_path / "groups")) == limits


@pytest.mark.parametrize(
    ("files", "share"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/a\n", "groups/a/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/a\n", "groups/a/cpu.max": "250000 100000\n"}, 3),
        (
            {
                "proc/self/cgroup": "2:cpu,cpuacct:/a/b\n",
                "groups/cpu/a/b/cpu.cfs_quota_us": "-1\n",
                "groups/cpu/a/b/cpu.cfs_period_us": "100000\n",
                "groups/cpu/a/cpu.cfs_quota_us": "20000\n",
                "groups/cpu/a/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
    ],
)
def test_shares_of_both_versions(tmp_path: Path, files: dict[str, str], share: int | None) -> None:
    laid(tmp_path, files)
    found = machine._share(tmp_path / "proc", tmp_path / "groups")
    assert found == share if share else found > 1000


def test_nothing_is_free_beyond_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_limits", lambda *_: iter([(100, 150)]))
    assert machine.free_memory() == 0
