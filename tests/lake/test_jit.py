"""Kernels on disk: whatever lies there, the code that runs is that of the source, and it runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = """
from lake.jit import kernel

@kernel
def _factor():
    return {factor}

@kernel
def total(a):
    t = 0
    for i in range(a.size):
        t += a[i] * _factor()
    return t
"""
ASK = "print(m.total(np.arange(4, dtype=np.int32)), m.total(np.arange(4, dtype=np.int64)))"
KILLED = """
from numba.core.caching import IndexDataCacheFile as File
import os
def once(name):
    write = getattr(File, name)
    def written(*given):
        write(*given)
        os._exit(9)
    setattr(File, name, written)
once("_save_index"), once("_save_data")
"""


def run(folder: Path, code: str = ASK, first: str = "") -> str:
    """What another process prints."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "NUMBA_CACHE_DIR": ""}
    program = f"{first}\nimport numpy as np, m\n{code}"
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert not found.stderr, found.stderr[-500:]
    return found.stdout.strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module whose kernels lie on disk, compiled for two types."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "m.py").write_text(SOURCE.format(factor=1))
    assert run(folder) == "6 6"
    return folder


@pytest.fixture
def module(made: Path, tmp_path: Path) -> Path:
    """A copy of it, with the times of all files."""
    subprocess.run(["cp", "-rp", f"{made}/.", str(tmp_path)], check=True)
    return tmp_path


def files(folder: Path, ending: str) -> list[Path]:
    return sorted((folder / "__pycache__").glob(f"*total*.{ending}"))


def test_a_kernel_that_lies_there_is_not_compiled_again(module: Path) -> None:
    asked = "s = m.total.stats; print(sum(s.cache_hits.values()), sum(s.cache_misses.values()))"
    assert run(module, f"{ASK}\n{asked}") == "6 6\n2 0"


@pytest.mark.parametrize(("ending", "kept"), [("nbi", 0), ("nbc", 0.5)])
def test_a_damaged_file_is_made_anew(module: Path, ending: str, kept: float) -> None:
    for file in files(module, ending):
        whole = file.read_bytes()
        file.write_bytes(whole[: int(kept * len(whole))])
    assert run(module) == "6 6"
    assert run(module, f"{ASK}\nprint(sum(m.total.stats.cache_hits.values()))") == "6 6\n2"


def test_code_for_other_types_is_not_taken(module: Path) -> None:
    one, other = files(module, "nbc")
    mine, theirs = one.read_bytes(), other.read_bytes()
    one.write_bytes(theirs)
    other.write_bytes(mine)
    assert run(module) == "6 6"


def test_a_process_that_is_killed_leaves_no_code_of_yesterday(module: Path) -> None:
    (module / "m.py").write_text(SOURCE.format(factor=2))
    run(module, first=KILLED)  # between index and code
    assert run(module) == "12 12"
    assert len(files(module, "nbc")) == 2  # what was there before has gone


def test_a_disk_that_is_full_stops_nobody(module: Path) -> None:
    (module / "m.py").write_text(SOURCE.format(factor=3))
    full = """
from numba.core.caching import IndexDataCacheFile as File
def full(*given):
    raise OSError(28, "No space left on device")
File._open_for_write = full
"""
    assert run(module, first=full) == "18 18"
    for file in files(module, "nbi"):
        file.write_bytes(b"")
    assert run(module, first=full) == "18 18"
    assert run(module) == "18 18"


WAIT = """
import sys, time, pathlib
pathlib.Path(sys.argv[1]).touch()
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.005)
"""
SLOWLY = """
import time
from numba.core import compiler
build = compiler.compile_extra
def slowly(*given, **named):
    time.sleep(1.0)
    return build(*given, **named)
compiler.compile_extra = slowly
"""


def begin(folder: Path, number: int, first: str, code: str) -> subprocess.Popen:
    """A process that imports everything, then waits for the others."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "NUMBA_CACHE_DIR": ""}
    program = f"{first}\nimport numpy as np, m\n{WAIT}\n{code}"
    command = [sys.executable, "-c", program, str(folder / f"ready-{number}"), str(folder / "go")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(folder: Path, count: int) -> None:
    while len(list(folder.glob("ready-*"))) < count:
        time.sleep(0.01)


@pytest.mark.parametrize("killed", [False, True])
def test_of_many_that_begin_at_once_one_compiles(tmp_path: Path, killed: bool) -> None:
    (tmp_path / "m.py").write_text(SOURCE.format(factor=1))
    told = f"{ASK}\ns = m.total.stats\nprint(sum(s.cache_hits.values()), sum(s.cache_misses.values()))"
    first = begin(tmp_path, 0, SLOWLY, f"print('at it', flush=True)\n{told}")
    wait_for(tmp_path, 1)
    (tmp_path / "go").touch()
    while not list(
        (tmp_path / "__pycache__").glob("*total*.turn")
    ):  # it has its turn, and compiles for a second
        assert first.poll() is None
        time.sleep(0.005)
    others = [begin(tmp_path, number, "", told) for number in (1, 2)]
    wait_for(tmp_path, 3)
    if killed:
        first.kill()
    outs = [process.communicate() for process in (first, *others)]
    assert all(not err for _, err in outs)
    found = [out.split()[-4:] for out, _ in outs[killed:]]
    assert all(each[:2] == ["6", "6"] for each in found)
    assert sum(int(each[3]) for each in found) == 2  # of two types, once for all
    assert not list((tmp_path / "__pycache__").glob("*.turn"))


NO_LOCKS = """
import errno, fcntl, time
def flock(*given):
    raise OSError(errno.ENOSYS, "Function not implemented")
def sleep(seconds):
    raise AssertionError("waits for nobody")
fcntl.flock, time.sleep = flock, sleep
"""


def test_a_disk_without_locks_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(SOURCE.format(factor=1))
    assert run(tmp_path, first=NO_LOCKS) == "6 6"
    assert len(files(tmp_path, "nbc")) == 2
