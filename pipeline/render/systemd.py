"""A service and a timer of systemd."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from lake.errors import ConfigError
from pipeline import __version__
from pipeline.render.timing import calendars
from pipeline.render.workload import Workload, fill

__all__ = ["systemd"]


def systemd(work: Workload) -> dict[str, str]:
    """The service, which is one run, and the timer that starts it."""
    options, name = work.options, f"gristmill-{work.config.name}"
    values = {"name": name, "pipeline": work.config.name, "version": __version__}
    service = fill(
        "systemd.service.j2",
        **values,
        command=" ".join(_quoted(each).replace("$", "$$") for each in _command(work)),
        user=options.user or _owner(work.path),
        folder=_printable(str(work.path.parent)),
        writable=[_quoted(f"-{each}") for each in _written(work)],
        retries=2 if options.retries is None else options.retries,
        devices=work.pods()[1] is not None,
        window=int(work.gap() * 0.9),
        passing="3 130" if options.rejects == "pass" else "130",
    )
    timer = fill(
        "systemd.timer.j2",
        **values,
        calendars=calendars(str(options.cron), options.timezone),
        cron=options.cron,
        timezone=options.timezone,
        jitter=f"{options.jitter:g}",
    )
    return {f"{name}.service": service, f"{name}.timer": timer}


def _command(work: Workload) -> list[str]:
    given = work.options.command
    command = shlex.split(given) if given else [str(Path(sys.executable).parent / "gristmill")]
    if not command[0].startswith("/"):
        raise ConfigError("systemd wants the full path of the program", where=f"--command {given}")
    if work.options.address:
        command += ["submit", str(work.path), "--address", work.options.address]
    else:
        command += ["run", str(work.path), "--quiet", "--wait", "90"]
    return command + [word for each in work.overrides for word in ("--set", each)]


def _written(work: Workload) -> list[str]:
    """Folders that a run must be able to write: where the lake stands or will stand."""
    if "://" in work.config.lake or work.options.address:
        return []
    return [str(Path(work.config.lake).absolute().parent)]


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (OSError, KeyError) as error:
        raise ConfigError("whom shall it run as?", where=str(path), hint="--user NAME") from error


def _quoted(word: str) -> str:
    """A word among others on a line of a unit."""
    plain = _printable(word.replace("\\", "\\\\").replace('"', '\\"'))
    return plain if plain == word and not set(word) & set(" ';#") else f'"{plain}"'


def _printable(text: str) -> str:
    """A value of a unit: a per cent sign means itself.

    Raises:
        ConfigError: it has more than one line.
    """
    if not text.isprintable():
        raise ConfigError("a unit cannot hold this", why="it has characters that cannot be printed")
    return text.replace("%", "%%")
