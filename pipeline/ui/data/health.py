"""Whether the lake is sound, and what maintenance would do: a look at the files, in the background."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from lake.delta.pending import pending
from lake.delta.snapshot import snapshot
from lake.maintenance import Finding, verify
from pipeline.ui.site import Site
from pipeline.upkeep import Action, maintain

__all__ = ["Health", "health"]

MOST_FILES = 5_000
"""Files of a lake that are looked at for a page; the commands look at any number."""

_FRESH = 300  # seconds for which a look at the files holds


@dataclass(frozen=True, slots=True)
class Health:
    """How the lake is.

    Attributes:
        files: of the newest versions of all tables.
        commits: under way, or left half done by a run that was killed.
        checked: whether each file was looked at.
        findings: what is wrong with them.
        actions: what ``gristmill maintain run`` would do.
        pending: while the files are looked at.
    """

    files: int
    commits: int
    checked: bool
    findings: list[Finding]
    actions: list[Action]
    pending: bool = False

    @property
    def bytes(self) -> int:
        """That maintenance would free."""
        return sum(action.bytes for action in self.actions)

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {**asdict(self), "bytes": self.bytes}


def health(site: Site) -> Health:
    """What is wrong, and what would help; where there are too many files, only what the logs say."""
    lake = site.lake
    found = {name: snapshot(lake.storage, name) for name in lake.tables()}
    files = sum(len(each.parts()) for each in found.values() if each is not None)
    commits = len(pending(lake.storage))
    if not found or files > MOST_FILES or not lake.storage.local:
        return Health(files, commits, not found, [], [])
    versions = tuple((name, each.version) for name, each in found.items() if each is not None)
    key = ("health", versions, int(time.monotonic() / _FRESH))
    looked = site.memory.soon(key, lambda: (verify(lake), list(maintain(lake, dry_run=True).actions)))
    if looked is None:
        return Health(files, commits, checked=False, findings=[], actions=[], pending=True)
    findings, actions = looked
    return Health(files, commits, checked=True, findings=findings, actions=actions)
