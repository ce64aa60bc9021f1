"""Runs in processes of their own, and ways to kill them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

VICTIM = Path(__file__).with_name("victim.py")


def start(corpus: Path, lake: Path, where: str) -> subprocess.Popen:
    command = [sys.executable, "-P", str(VICTIM), str(corpus / "small.yaml"), str(lake), where]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def finish(process: subprocess.Popen, patience: float = 300) -> str:
    out, err = process.communicate(timeout=patience)
    assert process.returncode == 0, err.decode()
    return out.decode().strip()


def kill_driver(process: subprocess.Popen) -> bool:
    alive = process.poll() is None
    process.kill()
    process.communicate()
    return alive


def children(pid: int) -> list[int]:
    """The living children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == pid and state != "Z":
                    found.append(int(entry.name))
    return found


def workers_of(driver: int) -> list[int]:
    """The processes that run tasks for a driver with a Ray of its own: children of its raylet."""
    found = []
    for pid in (worker for raylet in children(driver) for worker in children(raylet)):
        with suppress(FileNotFoundError, ProcessLookupError):
            title = Path("/proc", str(pid), "cmdline").read_bytes()
            if title.startswith(b"ray::") and b"Agent" not in title:
                found.append(pid)
    return found


def kill_worker(process: subprocess.Popen, later: float, rng: random.Random) -> bool:
    """Kill a worker, some time after the first one has come; false where the run was over by then."""
    while not workers_of(process.pid) and process.poll() is None:
        time.sleep(0.02)
    time.sleep(later)
    workers = workers_of(process.pid)
    if not workers or process.poll() is not None:
        return False
    with suppress(ProcessLookupError):
        os.kill(rng.choice(workers), signal.SIGKILL)
        return True
    return False
