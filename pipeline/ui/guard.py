"""Who may see the page: nobody but this machine's browser, or who knows the token.

The checks, and what each is against:

- the Host header must name this machine: a web page elsewhere whose name was made to point here (DNS
  rebinding) would otherwise read the lake through its visitor's browser;
- on any address but loopback a token is needed. It is taken from ``?token=`` once, and then from a cookie, so
  that it stays out of histories, logs and referrers; programs send it as ``Authorization: Bearer``;
- what changes something is a POST with a token of its own, from the same origin.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode, urlsplit

from lake.errors import ConfigError
from pipeline.ui.messages import Request, Response

__all__ = ["SHORTEST", "Forbidden", "Guard", "is_loopback", "new_token"]

SHORTEST = 16
"""Characters of a token."""

_COOKIE = "gristmill"


class Forbidden(Exception):  # noqa: N818  (an answer, not a fault)
    """A request that is turned away."""

    def __init__(self, status: int, what: str, hint: str) -> None:
        super().__init__(what)
        self.status = status
        self.what = what
        self.hint = hint


def new_token() -> str:
    """A token that nobody can guess: 256 bits."""
    return secrets.token_urlsafe(32)


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("::1")
    (True, True, False, True)
    """
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


@dataclass(frozen=True)
class Guard:
    """Decides about each request.

    Args:
        host: the address that the server listens at.
        token: that is needed; None on loopback.
        names: further host names by which the server may be reached.

    Raises:
        ConfigError: no token on an address that others reach, or one that is too short.
    """

    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    names: frozenset[str] = frozenset()
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                "a token is needed on an address that other machines reach",
                where=f"--host {self.host}",
                hint="give --token-file FILE, or listen on 127.0.0.1",
            )
        if self.token is not None and (len(self.token) < SHORTEST or not self.token.isascii()):
            raise ConfigError(
                f"the token is shorter than {SHORTEST} ASCII characters", hint="take a longer one"
            )

    @classmethod
    def of(cls, host: str, token: str | None, names: Iterable[str] = ()) -> Guard:
        """With the names that this machine has."""
        own = {"localhost", host.lower(), *(name.lower() for name in names)}
        if not is_loopback(host):
            own |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        return cls(host, token, frozenset(own))

    # Requests

    def admit(self, request: Request) -> Response | None:
        """Let a request in (None), or answer it.

        Raises:
            Forbidden: it is turned away.
        """
        if not self._host_is_ours(request.headers.get("host", "")):
            raise Forbidden(
                421,
                "This address is not one that this page is served under.",
                "Open it under the address that `gristmill ui` printed, or start it with --allow-host NAME.",
            )
        if request.path == "/healthz" or self.token is None:
            return None
        if given := request.query.get("token"):
            if not _same(given, self.token):
                raise _unknown()
            rest = {name: value for name, value in request.query.items() if name != "token"}
            where = quote("/" + request.path.lstrip("/")) + ("?" + urlencode(rest) if rest else "")
            cookie = f"{_COOKIE}={self._session}; Path=/; HttpOnly; SameSite=Strict"
            return Response.see(where, {"Set-Cookie": cookie})
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(bearer.strip(), self.token):
            return None
        if _same(request.cookie(_COOKIE), self._session):
            return None
        raise _unknown()

    def allow_change(self, request: Request) -> None:
        """Let a POST through.

        Raises:
            Forbidden: it does not come from a page of ours.
        """
        origin = request.headers.get("origin")
        host = request.headers.get("host", "")
        ours = origin is None or urlsplit(origin).netloc.lower() == host.lower()
        if not ours or not _same(request.form.get("csrf", ""), self.csrf):
            raise Forbidden(
                403,
                "This does not come from a page of this server.",
                "Open the page again and press the button.",
            )

    @property
    def csrf(self) -> str:
        """What a form of ours carries."""
        return hmac.new(self._secret, b"csrf", hashlib.sha256).hexdigest()

    @property
    def _session(self) -> str:
        """The cookie's value: it follows from the token, so it outlives a restart, but does not tell it."""
        return hmac.new((self.token or "").encode(), b"gristmill ui session", hashlib.sha256).hexdigest()

    def _host_is_ours(self, header: str) -> bool:
        """Whether the Host header names us; ports may differ (a tunnel has its own)."""
        try:
            name = (urlsplit(f"//{header}").hostname or "").rstrip(".")
        except ValueError:
            return False
        address = _address(name)
        if address is not None:  # no name, so nobody can make it point elsewhere
            return address.is_loopback or self.token is not None
        return name in self.names


def _same(given: str, wanted: str) -> bool:
    """Compare in a time that tells nothing."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())


def _unknown() -> Forbidden:
    return Forbidden(
        401,
        "This page needs a token.",
        "Open the address with `?token=...` that `gristmill ui` printed when it was started.",
    )
