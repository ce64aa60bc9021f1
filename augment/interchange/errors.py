"""What can go wrong when a policy changes its language."""

from __future__ import annotations

import warnings

__all__ = ["InterchangeError", "InterchangeWarning", "warn"]


class InterchangeError(ValueError):
    """A text or object that is no policy, or a policy that a format cannot express."""


class InterchangeWarning(UserWarning):
    """A policy came over with a difference; the message names the op."""


def warn(message: str) -> None:
    """Say once per place what came over with a difference."""
    warnings.warn(message, InterchangeWarning, stacklevel=3)
