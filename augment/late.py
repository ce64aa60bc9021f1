"""Late augmentation: rows that name the policy which a loader applies to them, anew every epoch.

A row says which one in the column ``_policy``: the policy's digest and a seed, ``<32 hex digits>/<seed>``. It
is one value for all rows of a step, so that Parquet stores it once per row group; it stays with the rows
through compactions and copies. The policy itself stands in the lake's ``_policies`` table, or is a preset.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa

from lake.errors import ConfigError

if TYPE_CHECKING:
    from augment.policy import Policy

__all__ = ["POLICY_FIELD", "pin", "pinned", "unpin"]

POLICY_FIELD = pa.field("_policy", pa.string())
"""The column; null for rows that stay as they are."""

_PIN = re.compile(r"([0-9a-f]{32})/(0|[1-9][0-9]{0,19})")


def pin(policy: Policy, seed: int) -> str:
    """What a row says of its policy.

    >>> from augment.presets import preset
    >>> unpin(pin(preset("randaugment"), 7)) == (preset("randaugment").digest, 7)
    True
    """
    return f"{policy.digest}/{seed}"


def unpin(text: str) -> tuple[str, int]:
    """The digest of the policy, and the seed.

    Raises:
        ConfigError: the text is none of :func:`pin`.
    """
    found = _PIN.fullmatch(text)
    if found is None:
        raise ConfigError(
            "the column _policy holds something else than a policy's digest and a seed",
            hint="load with policy=None, or name the policy",
        )
    return found[1], int(found[2])


def pinned(table: pa.Table, policy: Policy, seed: int) -> pa.Table:
    """The rows with the column ``_policy``.

    >>> from augment.presets import preset
    >>> pinned(pa.table({"x": [1, 2]}), preset("randaugment"), 0).column_names
    ['x', '_policy']
    """
    if "_policy" in table.column_names:
        raise ConfigError("a second late policy", hint="a policy can draw several ops: write one policy")
    return table.append_column(
        POLICY_FIELD, pa.repeat(pa.scalar(pin(policy, seed), pa.string()), table.num_rows)
    )
