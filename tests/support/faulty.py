"""An HTTP proxy that does harm: between a client and a real object store, it refuses, delays or cuts."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "proxy-connection"}


@dataclass(frozen=True)
class Request:
    """What a client asked for; ``number`` counts from one, the names of the headers are in small letters."""

    number: int
    method: str
    path: str
    headers: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class Refuse:
    """Answer so, without asking the store."""

    status: int
    code: str
    message: str = "Please reduce your request rate."


@dataclass(frozen=True)
class Cut:
    """Break the connection: before the store hears of it, or after it has done it (a lost answer)."""

    after: bool = False


@dataclass(frozen=True)
class Delay:
    """Pass it on, but late."""

    seconds: float


Fault = Refuse | Cut | Delay
Rule = Callable[[Request], Fault | None]

SLOW_DOWN = Refuse(503, "SlowDown")
EXPIRED = Refuse(400, "ExpiredToken", "The provided token has expired.")


def nothing(request: Request) -> Fault | None:
    """No fault at all."""
    return None


class Proxy:
    """``rule`` may be replaced at any moment; ``seen`` lists the requests with the fault that each met."""

    def __init__(self, target: str, rule: Rule = nothing) -> None:
        self.target = urlsplit(target).netloc
        self.rule = rule
        self.seen: list[tuple[Request, Fault | None]] = []
        self.mend: Callable[[str, bytes], bytes] = lambda path, answer: answer  # what an emulator lacks
        self._lock = threading.Lock()
        self.url = ""

    def judge(self, method: str, path: str, headers: dict[str, str]) -> Fault | None:
        with self._lock:
            request = Request(len(self.seen) + 1, method, path, headers)
            fault = self.rule(request)
            self.seen.append((request, fault))
        return fault

    def faults(self) -> int:
        return sum(fault is not None for _, fault in self.seen)


@contextmanager
def faulty(target: str, rule: Rule = nothing) -> Iterator[Proxy]:
    """Serve on a free port of 127.0.0.1 in front of ``target``, an ``http://host:port``."""
    proxy = Proxy(target, rule)

    class Handler(_Handler):
        mine = proxy

    server = _Server(("127.0.0.1", 0), Handler)
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Clients that went away are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mine: Proxy

    def _any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        fault = self.mine.judge(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
        if isinstance(fault, Delay):
            time.sleep(fault.seconds)
        if isinstance(fault, Refuse):
            self._refuse(fault)
        elif isinstance(fault, Cut) and not fault.after:
            self._cut()
        else:
            self._pass_on(body, cut=isinstance(fault, Cut))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = _any  # noqa: N815  (the base class's names)

    def _chunks(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return b""
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _refuse(self, fault: Refuse) -> None:
        text = f"<Error><Code>{fault.code}</Code><Message>{fault.message}</Message></Error>".encode()
        self.send_response(fault.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _cut(self) -> None:
        # A reset, not an orderly end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        with suppress(OSError):
            self.connection.close()

    def _pass_on(self, body: bytes, *, cut: bool) -> None:
        store = http.client.HTTPConnection(self.mine.target, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP | {"expect"}}
        store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            store.putheader(name, value)
        store.putheader("Content-Length", str(len(body)))
        store.endheaders(body)
        answer = store.getresponse()
        data = self.mine.mend(self.path, answer.read())
        store.close()
        if cut:
            self._cut()
            return
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *arguments) -> None:
        """Quiet."""
