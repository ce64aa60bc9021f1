"""What this process may use of the machine: cores, and memory.

A container is given less than the machine has, by control groups of the system (cgroups, version 1 or 2). It is
killed when it takes more memory than that, whatever the machine has left; and more threads than its share of
the processors only wait for each other.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = ["cores", "free_memory", "memory"]

_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_UNKNOWN = 8 << 30  # bytes that are taken for free where nothing says how many are
_NO_LIMIT = 1 << 60  # version 1 says so many bytes, or more, where there is none


def cores() -> int:
    """Count the cores that this process may use: at least one."""
    return max(1, min(len(os.sched_getaffinity(0)), _share(_PROC, _GROUPS)))


def memory() -> int:
    """Bytes of memory that this process and its group may have."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([total, *(limit for limit, _ in _limits(_PROC, _GROUPS))])


def free_memory() -> int:
    """Bytes that may still be used: what the system estimates, or the control group leaves where that is less.

    What a group uses for the cache of files counts as free: the system takes it back.
    """
    left = [limit - used for limit, used in _limits(_PROC, _GROUPS)]
    return max(0, min([_available(_PROC), *left]))


def _available(proc: Path) -> int:
    with suppress(OSError):
        for line in (proc / "meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable"):
                return 1024 * int(line.split()[1])
    return _UNKNOWN


@cache
def _share(proc: Path, mount: Path) -> int:
    """The cores that the quota of a group makes, rounded up; it does not change while a process runs."""
    found = [1 << 16]
    for group, modern in _groups(proc, mount, "cpu"):
        with suppress(OSError, ValueError):
            if modern:
                quota, period = (group / "cpu.max").read_text("ascii").split()
            else:
                quota, period = (
                    (group / f"cpu.cfs_{each}_us").read_text("ascii") for each in ("quota", "period")
                )
            if int(quota) > 0:  # "max" is no number, and -1 no quota
                found.append(math.ceil(int(quota) / int(period)))
    return min(found)


def _limits(proc: Path, mount: Path) -> Iterator[tuple[int, int]]:
    """The limit of each group that has one, and what is used of it, in bytes."""
    for group, modern in _groups(proc, mount, "memory"):
        limit, used = ("max", "current") if modern else ("limit_in_bytes", "usage_in_bytes")
        with suppress(OSError, ValueError):
            most = int((group / f"memory.{limit}").read_text("ascii"))
            if most >= _NO_LIMIT:
                continue
            lines = (line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
            told = {name: int(value) for name, value in lines}
            total = "" if modern else "total_"  # with the groups below
            cached = sum(told.get(f"{total}{each}_file", 0) for each in ("active", "inactive"))
            yield most, max(0, int((group / f"memory.{used}").read_text("ascii")) - cached)


def _groups(proc: Path, mount: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """The folders of the groups that this process is in, outwards, and whether they are of version 2.

    In a container the path may be the host's, of which only the end is mounted: what is not there is left out.
    """
    try:
        lines = (proc / "self" / "cgroup").read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        modern = not controllers
        if modern or controller in controllers.split(","):
            root = mount if modern else mount / controller
            inside = (root / path.lstrip("/")).relative_to(root)
            for each in (inside, *inside.parents):
                yield root / each, modern
