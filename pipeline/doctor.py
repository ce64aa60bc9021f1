"""Is this machine, and this installation, fit to run? ``gristmill doctor`` asks here.

>>> {check.name for check in checks()} >= {"python", "packages", "import folders"}
True
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

__all__ = ["Check", "checks"]

PACKAGES = ("augment", "dedup", "lake", "pipeline")
DISTRIBUTION = "gristmill"
_OLDEST = (3, 11)
_LOW_MEMORY = 2 << 30
_LOW_DISK = 1 << 30
_GIB = 1 << 30
_CUPY = {12: "cupy-cuda12x", 13: "cupy-cuda13x"}  # by the CUDA that they are made for

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer."""

    name: str
    status: Status
    detail: str
    hint: str = ""

    def to_dict(self) -> dict[str, str]:
        """The fields, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        line = f"{self.status:<4}  {self.name}: {self.detail}"
        return f"{line}\n      do:  {self.hint}" if self.hint else line


def checks(lake: str | None = None, *, ray: bool = False, address: str | None = None) -> list[Check]:
    """All checks. None changes anything, but one makes an unnamed file in the lake's folder.

    Args:
        lake: folder or URL of a lake to look at.
        ray: start or reach Ray too, which takes seconds.
        address: of the Ray cluster; none: a local one.
    """
    found = [_python(), *_packages(), _extras(), _folders(), _cores(), _memory(), _gpu()]
    found += list(_lake(lake)) if lake is not None else []
    if ray or address:
        found.append(_ray(address))
    return found


def _python() -> Check:
    mine = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < _OLDEST:
        return Check("python", "fail", mine, f"use Python {_OLDEST[0]}.{_OLDEST[1]} or later")
    return Check("python", "ok", f"{mine} on {sys.platform}")


def _packages() -> Iterator[Check]:
    """Every dependency, by the installed metadata, with its version."""
    missing: list[str] = []
    present: list[str] = []
    for name, extra in _requirements():
        if extra is None:
            found = _version(name)
            (present if found else missing).append(f"{name} {found}" if found else name)
    if missing:
        hint = f"pip install --force-reinstall {DISTRIBUTION}"
        yield Check("packages", "fail", f"missing: {', '.join(missing)}", hint)
    elif present:
        yield Check("packages", "ok", ", ".join(present))
    else:
        hint = f"pip install {DISTRIBUTION}, or pip install -e . in a checkout"
        yield Check("packages", "warn", f"{DISTRIBUTION} is not installed, only importable", hint)


def _extras() -> Check:
    """Optional packages: absent ones are no fault."""
    words = []
    for name, extra in _requirements():
        if extra is not None:
            found = _version(name)
            how = f"absent (pip install '{DISTRIBUTION}[{extra}]')"
            words.append(f"{name} {found or how}")
    return Check("extras", "ok", ", ".join(words) or "none")


def _requirements() -> list[tuple[str, str | None]]:
    """Names of the required packages, each with the extra that it belongs to."""
    import re

    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return []
    found = []
    for line in lines:
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if name:
            found.append((name.group(), extra.group(1) if extra else None))
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _folders() -> Check:
    """The four packages have common names: another folder of that name may come first on ``sys.path``."""
    name = "import folders"
    homes = {package: _home(package) for package in PACKAGES}
    missing = [package for package, home in homes.items() if home is None]
    if missing:
        return Check(name, "fail", f"cannot be found: {', '.join(missing)}", f"pip install {DISTRIBUTION}")
    ours = Path(__file__).resolve().parents[1]
    strangers = {package: home for package, home in homes.items() if home is not None and home.parent != ours}
    shadows = [f"{package} at {home}" for package, home in strangers.items()]
    # When another `pipeline` comes first this file is not running at all, unless it was imported by its path;
    # a shadow that stands in the working folder would win as soon as someone starts `python -m`.
    here = Path.cwd().resolve()
    if here != ours:
        shadows += [f"{package} at {here / package}" for package in PACKAGES if _is_package(here / package)]
    if strangers:
        hint = "rename that folder, or start `gristmill` from another one"
        return Check(name, "fail", f"not ours: {'; '.join(dict.fromkeys(shadows))} (ours: {ours})", hint)
    if shadows:
        hint = "use the `gristmill` command, not `python -m`, in this folder; or rename it"
        return Check(name, "warn", f"may hide ours: {'; '.join(shadows)}", hint)
    return Check(name, "ok", f"all in {ours}")


def hidden() -> Check | None:
    """The finding where other folders hide our packages from this process; None where none does."""
    found = _folders()
    return found if found.status == "fail" else None


def _home(package: str) -> Path | None:
    spec = find_spec(package)
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or ())
    origin = places[0] if places else spec.origin
    return Path(origin).resolve() if origin else None


def _is_package(path: Path) -> bool:
    return (path / "__init__.py").is_file() or path.with_suffix(".py").is_file()


def _cores() -> Check:
    from lake.machine import cores  # our packages may be what is hidden

    return Check("cores", "ok", str(cores()))


def _memory() -> Check:
    """Total memory, or what the control group allows, which is what kills a run in a container."""
    from lake.machine import memory

    total = memory()
    detail = f"{total / _GIB:.1f} GiB"
    if total < _LOW_MEMORY:
        return Check("memory", "warn", detail, "run with --workers 1")
    return Check("memory", "ok", detail)


def _gpu() -> Check:
    command = shutil.which("nvidia-smi")
    if command is None:
        return Check("gpu", "ok", "none (everything runs on the CPU)")
    try:
        done = _ask(command, "--query-gpu=name,memory.total", "--format=csv,noheader")
        if done.returncode:
            return Check("gpu", "warn", f"nvidia-smi fails with {done.returncode}", "check the driver")
        named = "; ".join(line.strip() for line in done.stdout.splitlines()) or "none"
        return _cuda(named, _ask(command).stdout)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("gpu", "warn", f"nvidia-smi fails: {type(error).__name__}", "check the driver")


def _ask(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  (the path comes from PATH, the arguments are ours)
        [command, *arguments], capture_output=True, text=True, timeout=20, check=False
    )


def _cuda(gpus: str, told: str) -> Check:
    """Whether CuPy is made for a CUDA that the driver knows: one for 13 does not start on a driver for 12.

    Args:
        gpus: their names.
        told: what nvidia-smi says when asked nothing: the newest CUDA that its driver runs stands in the head.
    """
    import re

    newest = re.search(r"CUDA (?:UMD )?Version:?\s*(\d+)\.(\d+)", told)
    if newest is None:
        return Check("gpu", "ok", gpus)
    major, detail = int(newest[1]), f"{gpus}; the driver runs CUDA up to {newest[1]}.{newest[2]}"
    fitting = max((each for each in _CUPY if each <= major), default=None)
    if fitting is None:
        return Check("gpu", "warn", detail, f"update the driver to one for CUDA {min(_CUPY)} or later")
    install = f"pip install '{DISTRIBUTION}[cuda{fitting}]'"
    found = {each: name for each, name in _CUPY.items() if _version(name)}
    if not found:
        return Check("gpu", "ok", f"{detail}; to use it: {install}")
    if len(found) > 1:
        names = " ".join(found.values())
        hint = f"pip uninstall {names}, then {install}"
        return Check("gpu", "fail", f"{detail}; {' and '.join(found.values())} overwrite each other", hint)
    ((made_for, name),) = found.items()
    if made_for > major:
        hint = f"pip uninstall {name}, then {install}; or update the driver"
        return Check("gpu", "fail", f"{detail}, but {name} needs CUDA {made_for}", hint)
    return Check("gpu", "ok", f"{detail}; {name} {_version(name)}")


def _lake(uri: str) -> Iterator[Check]:
    """Is it there, may we write, is there room?"""
    if "://" in uri and not uri.startswith("file://"):
        yield _remote(uri)
        return
    folder = Path(os.path.expanduser(uri.removeprefix("file://"))).absolute()  # noqa: PTH111  (never raises)
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        yield Check("lake", "fail", f"{place} is not a folder", "name another one")
        return
    free = shutil.disk_usage(place).free
    room = f"{free / _GIB:.1f} GiB free"
    low = "free some space" if free < _LOW_DISK else ""
    yield Check("disk", "warn" if low else "ok", room, low)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        hint = "change the folder's owner or mode, or name another one"
        yield Check("lake", "fail", f"{place}: no permission to write ({error.strerror})", hint)
        return
    there = "writable" if place == folder else f"not there yet, {place} is writable"
    yield Check("lake", "ok", f"{folder}: {there}")


def _remote(uri: str) -> Check:
    from lake.errors import GristmillError
    from lake.storage import open_storage, redact

    shown = redact(uri)
    try:
        open_storage(uri).folders()
    except GristmillError as error:
        why = f" ({error.why})" if error.why else ""
        return Check("lake", "fail", f"{shown} cannot be listed: {error.what}{why}", error.hint or "")
    return Check("lake", "ok", f"{shown} can be listed")


def _ray(address: str | None) -> Check:
    if find_spec("ray") is None:
        return Check("ray", "fail", "not installed", f"pip install '{DISTRIBUTION}[ray]'")
    from lake.errors import GristmillError
    from pipeline import engine

    runner = engine.ray(address)
    try:
        answers = [answer for _, answer in runner.map(abs, [-1])]
    except GristmillError as error:
        return Check("ray", "fail", error.what, error.hint or "")
    finally:
        runner.close()
    where = address or "a local cluster"
    return Check("ray", "ok" if answers == [1] else "fail", f"{where} answers")
