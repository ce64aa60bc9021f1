"""Pages and JSON: a request in, a response out. Whoever is let in by the guard gets a view of the lake."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from lake.errors import (
    ConcurrentRunError,
    ConfigError,
    GristmillError,
    InputError,
    MissingPartError,
    MissingTableError,
)
from pipeline.ui import pages
from pipeline.ui.data import costs, drops, families, health, lineage, overview, policies, runs, schedules
from pipeline.ui.guard import Forbidden, Guard
from pipeline.ui.messages import HTML, JSON, Request, Response
from pipeline.ui.paging import Place
from pipeline.ui.site import Site

__all__ = ["App", "Query", "View"]

_log = logging.getLogger("gristmill.ui")

_LONGEST = 1000  # characters of a value

_STRICT = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
# A report brings its styles along, and its own policy, which allows them alone.
_REPORT = _STRICT | {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox"
}
_STATUS: tuple[tuple[type[GristmillError], int], ...] = (
    (ConfigError, 400),
    (InputError, 404),
    (MissingTableError, 404),
    (MissingPartError, 410),
    (ConcurrentRunError, 409),
)


@dataclass(frozen=True, slots=True)
class Query:
    """What an address asks of a view: the names in its path, and those behind the question mark."""

    values: Mapping[str, str]

    def text(self, name: str) -> str | None:
        """A value; None where it is empty or missing.

        Raises:
            ConfigError: it is far too long.
        """
        value = self.values.get(name, "")
        if len(value) > _LONGEST or "\x00" in value:
            raise ConfigError(f"{name} is no such value", hint="take the addresses that the pages link to")
        return value or None

    def place(self, name: str = "at") -> Place | None:
        """Where a page begins."""
        value = self.text(name)
        return Place.read(value) if value else None

    def number(self, name: str, most: int = 10**9) -> int:
        """A number from 0 on; 0 where it is missing.

        Raises:
            ConfigError: it is none.
        """
        value = self.text(name) or "0"
        if not re.fullmatch(r"[0-9]{1,10}", value) or int(value) > most:
            raise ConfigError(f"{name} is no number", hint="take the addresses that the pages link to")
        return int(value)


@dataclass(frozen=True, slots=True)
class View:
    """What stands behind an address, as a page and as JSON under ``/api``.

    Attributes:
        path: with the names of its variable parts in braces.
        template: of the page.
        tab: of the navigation that it belongs to.
        data: reads it.
    """

    path: str
    template: str
    tab: str
    data: Callable[[Site, Query], Any]

    def match(self, path: str) -> dict[str, str] | None:
        """The variable parts of a path; None where it is not one of this view."""
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path)
        found = re.fullmatch(pattern, path)
        return found.groupdict() if found else None


def _drops(site: Site, query: Query) -> drops.Drops:
    keep = {name: value for name in drops.FILTERS if (value := query.text(name))}
    return drops.drops(site, query.place(), keep)


def _row(site: Site, query: Query) -> drops.Fates:
    return drops.fates(site, (query.text("id") or "").strip())


def _family(site: Site, query: Query) -> families.Family:
    return families.family(site, query.text("step"), query.text("name") or "")


VIEWS = (
    View("/", "overview", "overview", lambda site, _: overview.overview(site)),
    View("/runs", "runs", "runs", lambda site, query: runs.runs(site, query.text("before"))),
    View("/runs/{run}", "run", "runs", lambda site, query: runs.run(site, query.text("run") or "")),
    View("/lineage", "lineage", "lineage", lambda site, query: lineage.lineage(site, query.text("run"))),
    View("/files", "files", "lineage", lambda site, query: lineage.files(site, query.place())),
    View("/drops", "drops", "drops", _drops),
    View("/row", "row", "drops", _row),
    View(
        "/clusters",
        "clusters",
        "clusters",
        lambda site, query: families.families(site, query.text("step"), query.number("from")),
    ),
    View("/clusters/{name}", "cluster", "clusters", _family),
    View("/policies", "policies", "policies", lambda site, query: policies.policies(site, query.place())),
    View("/costs", "costs", "costs", lambda site, query: costs.costs(site, costs.Prices.read(query.values))),
    View("/schedules", "schedules", "schedules", lambda site, _: schedules.schedules(site)),
    View(
        "/schedules/{name}",
        "schedule",
        "schedules",
        lambda site, query: schedules.schedule(site, query.text("name") or ""),
    ),
    View("/health", "health", "health", lambda site, _: health.health(site)),
)

_REPORT_OF = View(
    "/runs/{run}/report", "", "runs", lambda site, query: runs.report_page(site, query.values["run"])
)
_CHANGE = View("/schedules/{name}/{action}", "", "schedules", lambda _site, _query: None)


class App:
    """Answers requests.

    Args:
        site: the lake on show.
        guard: who may see it.
    """

    def __init__(self, site: Site, guard: Guard) -> None:
        self.site = site
        self.guard = guard

    def answer(self, request: Request) -> Response:
        """The answer to a request; every error is one too."""
        try:
            response = self.guard.admit(request) or self._route(request)
        except Forbidden as error:
            response = self._failed(request, error.status, {"what": error.what, "hint": error.hint})
        except GristmillError as error:
            status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
            told = {"what": error.what, "where": error.where, "why": error.why, "hint": error.hint}
            response = self._failed(request, status, told)
        except Exception as error:  # noqa: BLE001  (the border: a foreign text may quote a record, its kind cannot)
            _log.exception("%s failed", ascii(request.path))
            hint = "This is a bug. The log of `gristmill ui --verbose` shows where."
            response = self._failed(
                request, 500, {"what": f"Internal error: {type(error).__name__}.", "hint": hint}
            )
        return dataclasses.replace(response, headers=_STRICT | dict(response.headers))

    def warm(self) -> None:
        """Import what the pages need, so that the first visitor does not wait for it."""
        try:
            families.matchings(self.site)
        except GristmillError:  # whoever asks for the page will be told
            _log.debug("could not be warmed up", exc_info=True)

    def _route(self, request: Request) -> Response:
        path = request.path if request.path == "/" else request.path.rstrip("/")
        if request.method == "POST":
            return self._post(request, path)
        if path in _FIXED:
            return _FIXED[path]()
        if (parts := _REPORT_OF.match(path)) is not None:
            return Response(200, _REPORT_OF.data(self.site, Query(parts)), HTML, _REPORT)
        wanted = _OVERVIEW.get(path) or (path.removeprefix("/api") if request.json else path)
        for view in VIEWS:
            if (parts := view.match(wanted)) is not None:
                return self._show(request, view, Query({**request.query, **parts}))
        return self._failed(request, 404, {"what": "There is no such page.", "hint": "Take one of the links."})

    def _show(self, request: Request, view: View, query: Query) -> Response:
        found = view.data(self.site, query)
        if request.json:
            return _json(202 if getattr(found, "pending", False) else 200, found.to_dict())
        return Response(200, pages.render(self.site, view, query, found, self.guard.csrf))

    def _post(self, request: Request, path: str) -> Response:
        parts = _CHANGE.match(path)
        if parts is None:
            raise Forbidden(405, "Nothing can be changed here.", "Open the page instead.")
        if not self.site.actions:
            raise Forbidden(403, "This page only shows.", "Start it with `gristmill ui --allow-actions`.")
        self.guard.allow_change(request)
        schedules.change(self.site, parts["name"], parts["action"])
        return Response.see(f"/schedules/{quote(parts['name'], safe='')}")

    def _failed(self, request: Request, status: int, error: Mapping[str, str | None]) -> Response:
        error = dict.fromkeys(("what", "where", "why", "hint")) | dict(error)
        if request.json:
            return _json(status, {"error": error})
        # Who is not let in learns nothing of the lake, not even its name.
        site = None if status in {401, 421} else self.site
        return Response(status, pages.failed(site, status, error))


def _named() -> Response:
    return _json(200, {"views": ["/api/overview", *(f"/api{view.path}" for view in VIEWS if view.path != "/")]})


_OVERVIEW = {"/api/overview": "/", "/overview": "/"}
_FIXED: dict[str, Callable[[], Response]] = {
    "/healthz": lambda: Response(200, b"ok\n", "text/plain; charset=utf-8"),
    "/style.css": lambda: Response(
        200, pages.style(), "text/css; charset=utf-8", {"Cache-Control": "max-age=300"}
    ),
    "/icon.svg": lambda: Response(200, pages.ICON, "image/svg+xml", {"Cache-Control": "max-age=86400"}),
    "/api": _named,
}


def _json(status: int, value: object) -> Response:
    text = json.dumps(_finite(value), ensure_ascii=False, default=_plain, allow_nan=False)
    return Response(status, text.encode("utf-8", "replace"), JSON)


def _finite(value: object) -> object:
    """The value with null for the numbers that JSON has no word for: a rule may have measured NaN."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: object) -> object:
    """JSON for what the values hold beyond JSON."""
    isoformat = getattr(value, "isoformat", None)
    if isoformat is not None:
        return isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return list(value) if isinstance(value, (set, frozenset, tuple)) else str(value)
