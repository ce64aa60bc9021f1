"""Policies as values: what may happen to a row, how likely and how far."""

from __future__ import annotations

from augment.policy.choices import Choice, SubPolicy
from augment.policy.policy import Policy

__all__ = ["Choice", "Policy", "SubPolicy"]
