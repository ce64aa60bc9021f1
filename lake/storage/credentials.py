"""Where settings and credentials come from: what is given, the environment, a profile.

Keys themselves are not read here unless they were given: pyarrow and delta-rs each walk the usual chain of
their cloud (environment, profile, web identity, the machine's own role), and walk it anew when a key runs out.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["YES", "Chain", "aws_files", "aws_profile", "fingerprint"]

YES = {"1", "true", "yes", "on"}


class Chain:
    """Settings of one cloud by name: those given first, then the environment's.

    >>> Chain("AWS_", {"aws_region": "eu-west-1"}).get("region", "default_region")
    'eu-west-1'
    """

    def __init__(self, prefix: str, options: Mapping[str, str]) -> None:
        self._prefix = prefix
        self._given = {key.lower().removeprefix(prefix.lower()): value for key, value in options.items()}

    def given(self, *names: str) -> str | None:
        """The first of ``names`` among the options (names without prefix, in small letters)."""
        return next((self._given[name] for name in names if self._given.get(name)), None)

    def get(self, *names: str) -> str | None:
        """The first of ``names`` that is set, each in the options before the environment."""
        for name in names:
            value = self._given.get(name) or os.environ.get(f"{self._prefix}{name.upper()}")
            if value:
                return value
        return None

    def yes(self, *names: str) -> bool:
        """Whether a switch is on."""
        return (self.get(*names) or "").lower() in YES


def aws_files() -> tuple[Path, Path]:
    """The files of the AWS profiles: credentials, configuration."""
    home = Path("~/.aws").expanduser()
    return (
        Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials"),
        Path(os.environ.get("AWS_CONFIG_FILE") or home / "config"),
    )


def aws_profile() -> dict[str, str]:
    """Region, endpoint and keys of the profile in use, as its files are at this moment.

    delta-rs has no profiles: one without keys (``credential_process``, single sign-on) it cannot use.
    """
    name = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
    found: dict[str, str] = {}
    for file, section in zip(aws_files(), (name, f"profile {name}"), strict=True):
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # the chains say what is wrong with it
        for title in (section, name):
            if parser.has_section(title):
                found |= dict(parser.items(title))
    return {name: value for name, value in found.items() if value}


def fingerprint(prefixes: tuple[str, ...], files: Iterable[str | Path | None]) -> int:
    """Changes when the environment's settings or one of the files do; tells nothing about them."""
    named = tuple(sorted((k, v) for k, v in os.environ.items() if k.upper().startswith(prefixes)))
    return hash((named, tuple(_stamp(file) for file in files if file)))


def _stamp(file: str | Path) -> tuple[int, int] | None:
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
