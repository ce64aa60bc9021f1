"""A request and a response, as values: what lies between HTTP and the pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from types import MappingProxyType

__all__ = ["HTML", "JSON", "Request", "Response"]

HTML = "text/html; charset=utf-8"
JSON = "application/json; charset=utf-8"

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Request:
    """What a browser asks for.

    Attributes:
        method: ``GET`` or ``POST``.
        path: decoded, without the query.
        query: decoded; of a name given twice the last value.
        headers: by lower-case name.
        form: of a ``POST``.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)

    def cookie(self, name: str) -> str:
        """The value of a cookie; empty where there is none."""
        try:
            found = SimpleCookie(self.headers.get("cookie", "")).get(name)
        except CookieError:
            return ""
        return found.value if found else ""

    @property
    def json(self) -> bool:
        """Whether JSON is wanted."""
        return self.path == "/api" or self.path.startswith("/api/")


@dataclass(frozen=True, slots=True)
class Response:
    """What it is given."""

    status: int
    body: bytes = b""
    kind: str = HTML
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def see(cls, where: str, headers: Mapping[str, str] = _NONE) -> Response:
        """Go there instead."""
        return cls(303, headers={"Location": where, **headers})
