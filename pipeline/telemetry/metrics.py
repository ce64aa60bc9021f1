"""Three ways to Prometheus: a file for node_exporter, an address while a run lives, a push gateway."""

from __future__ import annotations

import errno
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from lake.errors import ConfigError
from pipeline.telemetry.courier import Courier, send
from pipeline.telemetry.datasets import is_web, plain_uri
from pipeline.telemetry.events import Event, Observer, RunFailed, RunFinished, RunStarted, StageCommitted
from pipeline.telemetry.live import Live
from pipeline.telemetry.samples import Sample, registry, text

__all__ = ["Address", "Gateway", "TextFile", "exporter", "serve", "target", "write_textfile"]

_log = logging.getLogger(__name__)

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):(?P<port>\d{1,5})\Z")
_HIGHEST_PORT = 65535
_BETWEEN = 10.0  # seconds between two deliveries of a run that gets on; commits and the end go at once


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file for node_exporter's textfile collector, replaced as a whole."""

    path: str


@dataclass(frozen=True, slots=True)
class Address:
    """Serve ``/metrics`` here; loopback unless a host is given."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Gateway:
    """A Prometheus push gateway."""

    url: str


def target(text_: str) -> TextFile | Address | Gateway:
    """What ``--metrics`` names.

    >>> target(":9464"), target("http://gateway:9091")
    (Address(host='127.0.0.1', port=9464), Gateway(url='http://gateway:9091'))
    >>> target("out/gristmill.prom")
    TextFile(path='out/gristmill.prom')

    Raises:
        ConfigError: none of the three.
    """
    if text_.startswith(("http://", "https://")):
        if not is_web(text_):
            raise ConfigError(
                "this is no address of a push gateway", where=plain_uri(text_), hint="http://HOST:9091"
            )
        return Gateway(text_.rstrip("/"))
    if (found := _ADDRESS.match(text_)) is not None:
        port = int(found["port"])
        if port > _HIGHEST_PORT:
            raise ConfigError(f"there is no port {port}", where=text_)
        return Address(found["host"].strip("[]") or "127.0.0.1", port)
    if text_.endswith(".prom"):
        return TextFile(text_)
    raise ConfigError(
        "metrics go to FILE.prom, HOST:PORT or the URL of a push gateway",
        where=plain_uri(text_),
        hint="node_exporter reads files whose name ends in .prom",
    )


def write_textfile(path: str, content: bytes) -> None:
    """Replace a file as a whole: node_exporter never reads half of one.

    Raises:
        OSError: it cannot be written.
    """
    place = Path(path)
    number, beside = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}-")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        Path(beside).chmod(0o644)  # mkstemp's 0o600 would hide it from node_exporter
        Path(beside).replace(place)
    except BaseException:
        with suppress(OSError):
            Path(beside).unlink()
        raise


class Server(Protocol):
    """What answers scrapes."""

    port: int

    def stop(self) -> None:
        """Give the port back."""
        ...


class _Server:
    def __init__(self, server: Any, thread: Any) -> None:
        self._server, self._thread = server, thread
        self.port: int = server.server_port

    def stop(self) -> None:
        """See :class:`Server`."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1.0)


def serve(ask: Callable[[], Iterable[Sample]], where: Address) -> Server:
    """Answer scrapes on a thread until the server is stopped.

    Raises:
        OSError: the port is taken, or the address is not this machine's.
    """
    from prometheus_client import start_http_server

    try:
        return _Server(*start_http_server(where.port, where.host, registry(ask)))
    except UnicodeError as error:  # of a host such as `..`
        raise OSError(errno.EINVAL, "no name of a host") from error


class _Deliveries:
    """Sends the samples of a run on: at its start, at commits, at the end, and now and then between."""

    def __init__(self, live: Live, where: str, deliver: Callable[[bytes, str], None]) -> None:
        self._live, self._deliver = live, deliver
        self._courier = Courier(where)
        self._pipeline = ""
        self._next = 0.0

    def on(self, event: Event) -> None:
        """See :class:`pipeline.telemetry.events.Observer`."""
        self._live.on(event)
        self._pipeline = event.pipeline
        ends = isinstance(event, RunFinished | RunFailed)
        soon = isinstance(event, RunStarted | StageCommitted) or time.monotonic() >= self._next
        if ends or (soon and not self._courier.busy):
            self._next = time.monotonic() + _BETWEEN
            self._courier.take(self._send)

    def _send(self) -> None:
        self._deliver(text(self._live.samples()), self._pipeline)

    def close(self) -> None:
        """See :class:`pipeline.telemetry.events.Observer`."""
        self._courier.close()


class _Served:
    """Serves the samples of a run from its first event until it is closed."""

    def __init__(self, live: Live, where: Address) -> None:
        self._live = live
        self._server: Server | None = None
        try:
            self._server = serve(live.samples, where)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            _log.warning("metrics cannot be served at %s:%d: %s", where.host, where.port, reason)
        else:
            _log.info("metrics at http://%s:%d/metrics", where.host, self._server.port)

    @property
    def port(self) -> int | None:
        """Where it listens; none where it could not."""
        return self._server.port if self._server else None

    def on(self, event: Event) -> None:
        """See :class:`pipeline.telemetry.events.Observer`."""
        self._live.on(event)

    def close(self) -> None:
        """See :class:`pipeline.telemetry.events.Observer`."""
        if self._server is not None:
            self._server.stop()
            self._server = None


def _push(gateway: Gateway) -> Callable[[bytes, str], None]:
    def deliver(content: bytes, pipeline: str) -> None:
        url = f"{gateway.url}/metrics/job/gristmill/pipeline/{quote(pipeline, safe='')}"
        send("PUT", url, content, {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    return deliver


def exporter(where: TextFile | Address | Gateway, live: Live) -> Observer:
    """The observer that brings the samples of a run there."""
    if isinstance(where, Address):
        return _Served(live, where)
    if isinstance(where, Gateway):
        return _Deliveries(live, plain_uri(where.url), _push(where))
    path = where.path
    return _Deliveries(live, path, lambda content, _: write_textfile(path, content))
