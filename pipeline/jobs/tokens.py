"""Where the token of a cluster is found."""

from __future__ import annotations

import os
from pathlib import Path

from lake.errors import ConfigError

__all__ = ["token_of"]


def token_of(token_file: str | Path | None = None) -> str | None:
    """The token that is named; none where none is. Ray's own order, but for the file in the home folder.

    That one is Ray's for a cluster of this machine: it is not sent to any address unless Ray's mode says so.

    Raises:
        ConfigError: the file cannot be read, or is empty.
    """
    if token_file is None and (given := os.environ.get("RAY_AUTH_TOKEN")):
        if not _sendable(given.strip()):
            raise ConfigError("RAY_AUTH_TOKEN holds no token", hint="one line of ASCII letters and digits")
        return given.strip()
    name = str(token_file) if token_file else os.environ.get("RAY_AUTH_TOKEN_PATH")
    if name is None:
        own = Path.home() / ".ray" / "auth_token"
        if os.environ.get("RAY_AUTH_MODE", "").lower() != "token" or not own.is_file():
            return None
        name = str(own)
    try:
        token = Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError("the token cannot be read", where=name, why=why) from error
    if not _sendable(token):
        raise ConfigError(
            "the file holds no token", where=name, hint="one line, as in ~/.ray/auth_token on the head"
        )
    return token


def _sendable(token: str) -> bool:
    """Whether it can stand in a header."""
    return bool(token) and token.isascii() and token.isprintable()
