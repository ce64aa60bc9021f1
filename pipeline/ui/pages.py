"""HTML of the views: the look and the words are those of the report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from jinja2 import ChoiceLoader, Environment, FileSystemLoader

from pipeline.report import words
from pipeline.report.html import TEMPLATES as REPORT
from pipeline.report.html import compared
from pipeline.report.html import environment as report_environment
from pipeline.ui import charts
from pipeline.ui.site import Site

if TYPE_CHECKING:
    from pipeline.ui.app import Query, View

__all__ = ["ICON", "TABS", "failed", "render", "style"]

TEMPLATES = Path(__file__).parent / "templates"

TABS = (
    ("overview", "/", "Overview"),
    ("runs", "/runs", "Runs"),
    ("lineage", "/lineage", "Lineage"),
    ("drops", "/drops", "Drops"),
    ("clusters", "/clusters", "Clusters"),
    ("policies", "/policies", "Policies"),
    ("costs", "/costs", "Costs"),
    ("schedules", "/schedules", "Schedules"),
    ("health", "/health", "Health"),
)

ICON = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="#0b6b5d"/>'
    b'<circle cx="8" cy="8" r="2.2" fill="#fff"/></svg>'
)


@lru_cache(maxsize=1)
def style() -> bytes:
    """The one style sheet: that of the report, and what pages need beyond it."""
    return b"".join(file.read_bytes() for file in (REPORT / "page.css", TEMPLATES / "ui.css"))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    base = report_environment()
    made = base.overlay(loader=ChoiceLoader([FileSystemLoader(TEMPLATES), FileSystemLoader(REPORT)]))
    own = {"moment": _moment, "money": _money, "path": lambda text: quote(str(text), safe="")}
    made.filters = {**base.filters, **own}
    drawn = {"flow": charts.flow, "bars": charts.bars, "compared": compared}
    made.globals = {**base.globals, "tabs": TABS, "link": link, **drawn}
    return made


def render(site: Site, view: View, query: Query, data: Any, csrf: str) -> bytes:
    """The page of a view."""
    return _page(f"{view.template}.html.j2", site=site, tab=view.tab, query=query, data=data, csrf=csrf)


def failed(site: Site | None, status: int, error: Mapping[str, str | None]) -> bytes:
    """The page of an error: what, where, why, and what to do. Without a site nothing of the lake is told."""
    return _page("failed.html.j2", site=site, tab="", status=status, error=error)


def _page(template: str, *, site: Site | None, tab: str, **values: Any) -> bytes:
    text = (
        _environment()
        .get_template(template)
        .render(site=site, tab=tab, lake=words.masked(str(site.lake.uri)) if site else "", **values)
    )
    return text.encode("utf-8", "replace")


def link(path: str, **query: object) -> str:
    """An address with what is not None behind the question mark.

    >>> link("/drops", step="2 dedup.MinHash", at=None)
    '/drops?step=2+dedup.MinHash'
    """
    given = {name.rstrip("_"): str(value) for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def _money(value: float) -> str:
    """An amount: to the cent, or with three digits where it is less than that.

    >>> _money(1234.5), _money(0.00172), _money(0)
    ('1,234.50', '0.00172', '0.00')
    """
    return f"{value:,.2f}" if value >= 0.1 or not value else f"{value:.3g}"  # noqa: PLR2004  (three digits by then)


def _moment(value: object) -> str:
    """A time to the minute, in UTC.

    >>> _moment("2026-11-30T14:50:20+00:00")
    '2026-11-30 14:50 UTC'
    """
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return words.cut(str(value), 40)
    return f"{found.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
