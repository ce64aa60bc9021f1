"""Deliveries that a run does not wait for: one thread, in order, given up where nobody answers."""

from __future__ import annotations

import logging
import queue
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit

__all__ = ["Courier", "send"]

_log = logging.getLogger(__name__)

PATIENCE = 5.0  # seconds for one delivery while the run goes on
_AT_THE_END = 1.5  # seconds for all that is left when the run is over
_OF_NOBODY = 0.75  # the same where nothing was ever delivered
_MOST_WAITING = 1000
_RETRY_AFTER = 30.0  # seconds of peace after a failure


class Courier:
    """Carries out deliveries on a thread of its own.

    After a failure it warns once and lets ``_RETRY_AFTER`` pass before the next try; what comes
    meanwhile is left out, but for the last of all: that is how the run ended.

    Args:
        where: what the warning names; without secrets.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.delivered = 0
        self.left_out = 0
        self._warned = False
        self._resting_until = 0.0
        self._waiting: queue.Queue[Callable[[], object] | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._work, name="gristmill-telemetry", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether deliveries wait: a newer state need not be sent on top of them."""
        return not self._waiting.empty()

    def take(self, delivery: Callable[[], object]) -> None:
        """Deliver it soon; left out where too many wait."""
        try:
            self._waiting.put_nowait(delivery)
        except queue.Full:
            self.left_out += 1

    def close(self) -> None:
        """Wait a moment for what is on the way, less where nothing was ever delivered."""
        began = time.monotonic()
        with suppress(queue.Full):
            self._waiting.put(None, timeout=_OF_NOBODY)
        self._thread.join(max(0.0, _OF_NOBODY - (time.monotonic() - began)))
        if self.delivered:
            self._thread.join(max(0.0, _AT_THE_END - (time.monotonic() - began)))
        if self._thread.is_alive() and not self._warned:
            self._warn("no answer in time")

    def _work(self) -> None:
        last: Callable[[], object] | None = None  # left out, and nothing has been delivered since
        while (delivery := self._waiting.get()) is not None:
            done = time.monotonic() >= self._resting_until and self._try(delivery)
            self.left_out += not done
            last = None if done else delivery
        if last is not None and self._try(last):
            self.left_out -= 1

    def _try(self, delivery: Callable[[], object]) -> bool:
        try:
            delivery()
        except Exception as error:  # noqa: BLE001  (whatever it is, it is not the run's business)
            self._resting_until = time.monotonic() + _RETRY_AFTER
            if not self._warned:
                self._warn(_reason(error))
            return False
        self.delivered += 1
        return True

    def _warn(self, reason: str) -> None:
        self._warned = True
        _log.warning("telemetry does not reach %s: %s; the run goes on without", self.where, reason)


def _reason(error: Exception) -> str:
    """Why, without the address, which may hold a secret."""
    if isinstance(error, HTTPError):
        return f"HTTP {error.code}"
    if isinstance(error, URLError):
        inner = error.reason
        return (inner.strerror or type(inner).__name__) if isinstance(inner, OSError) else "bad address"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def send(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """One HTTP request; ``user:password@`` of the address becomes basic authentication.

    Raises:
        OSError: nobody answers within ``PATIENCE`` seconds, or the answer is an error or sends on elsewhere.
    """
    parts = urlsplit(url)
    whom, _, host = parts.netloc.rpartition("@")
    sent = dict(headers)
    if whom:
        sent["Authorization"] = f"Basic {b64encode(unquote(whom).encode()).decode()}"
    plain = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    request = urllib.request.Request(plain, body, sent, method=method)  # noqa: S310  (http or https: see who reads it)
    with _opener().open(request, timeout=PATIENCE) as answer:
        answer.read()


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would take the login to another host, and make an empty GET of a POST."""

    def redirect_request(self, *_: object) -> None:
        """None: the answer is then an error."""


@cache
def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Stay)
