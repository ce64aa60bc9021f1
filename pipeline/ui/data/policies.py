"""The policies that runs learned or pinned, in words, with what the search saw."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from pipeline.learned import TABLE
from pipeline.report.figures import Screen, screens
from pipeline.ui.data.runs import without_labels
from pipeline.ui.paging import Place, newest_first, page
from pipeline.ui.site import Site

__all__ = ["Learned", "Policies", "policies"]


@dataclass(frozen=True, slots=True)
class Learned:
    """A policy.

    Attributes:
        pipeline: whose.
        step: that learned it, or applies it.
        key: of the stage that learned it.
        explained: in words; none where its ops are of a plugin that is not loaded here.
        screen: what the search saw; none for a policy that was given.
        policy: as JSON.
        evidence: as JSON; labels are counted unless content may be shown.
    """

    pipeline: str
    step: str
    key: str
    explained: str | None
    screen: Screen | None
    policy: dict[str, Any]
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Policies:
    """A page of policies, newest first."""

    rows: list[Learned]
    total: int
    next: str | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        rows = [{k: v for k, v in asdict(row).items() if k != "screen"} for row in self.rows]
        return {"rows": rows, "total": self.total, "next": self.next}


def policies(site: Site, at: Place | None = None, size: int = 5) -> Policies:
    """The policies, newest first."""
    table = site.lake.table(TABLE)
    if not table.exists:
        return Policies([], 0, None)
    columns = ("pipeline", "step", "key", "policy", "evidence")
    found = page(table, at, columns, size=size, order=newest_first)
    return Policies([_learned(site, row) for row in found.rows], found.total, found.next)


def _learned(site: Site, row: dict[str, Any]) -> Learned:
    evidence = json.loads(row["evidence"])
    screen = next(iter(screens({"learned": {row["step"]: evidence}})), None)
    return Learned(
        row["pipeline"],
        row["step"],
        row["key"],
        _words(row["policy"]),
        screen,
        json.loads(row["policy"]),
        evidence if site.show_content else without_labels(evidence),
    )


def _words(policy: str) -> str | None:
    from augment import Policy

    try:
        return Policy.model_validate_json(policy).explain()
    except (ValidationError, ValueError):  # an op of a plugin: a page never imports a user's code
        return None
