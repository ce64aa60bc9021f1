"""HTTP for the pages: the standard library's server, a thread per request, everything bounded.

No framework: the readers are few, and what counts is that nothing has to be installed and nothing is served
that was not meant to be. There are no files behind paths: only :class:`pipeline.ui.app.App` answers.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from lake.errors import InputError
from pipeline.ui.app import App
from pipeline.ui.messages import Request, Response

__all__ = ["Server"]

_log = logging.getLogger("gristmill.ui")

AT_ONCE = 32
"""Requests that are answered at the same time; more wait in the listening queue."""
TURNED_AWAY = 1.0
"""Seconds that one more waits for a place before its connection is closed."""
PATIENCE = 20.0
"""Seconds that a browser may take to send its request, or to take the answer."""
LARGEST_FORM = 4096
LONGEST = 4096  # characters of an address


class Server:
    """A server for an app.

    Args:
        app: that answers.
        host: to listen at.
        port: to listen at; 0 takes a free one.

    Raises:
        InputError: the port is taken, or the address is not this machine's.
    """

    def __init__(self, app: App, host: str, port: int) -> None:
        slots = threading.BoundedSemaphore(AT_ONCE)

        class Handler(_Handler):
            answer = staticmethod(app.answer)

        class Listener(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
            daemon_threads = True
            request_queue_size = 64

            def process_request(self, request: Any, client_address: Any) -> None:
                # Not for ever: whoever holds all places must not keep the server from ending.
                if slots.acquire(timeout=TURNED_AWAY):
                    super().process_request(request, client_address)
                else:
                    self.shutdown_request(request)

            def process_request_thread(self, request: Any, client_address: Any) -> None:
                try:
                    super().process_request_thread(request, client_address)
                finally:
                    slots.release()

            def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  (the base's)
                _log.debug("a connection broke", exc_info=True)

        try:
            self._http = Listener((host, port), Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise InputError(
                "cannot listen there", where=f"{host}:{port}", why=why, hint="try --port 0"
            ) from error
        self.host = host
        self.port = int(self._http.server_address[1])

    @property
    def url(self) -> str:
        """Where the page is, for a browser on this machine."""
        if self.host in {"0.0.0.0", "::"}:  # noqa: S104  (what is listened at, not a choice)
            name = socket.gethostname()
        else:
            name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.port}/"

    def run(self) -> None:
        """Answer until :meth:`stop`."""
        try:
            self._http.serve_forever(poll_interval=0.2)
        finally:
            self._http.server_close()

    def stop(self) -> None:
        """End :meth:`run`, from another thread."""
        self._http.shutdown()

    def close(self) -> None:
        """Give the port back, where :meth:`run` was never called."""
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One connection, which has one request."""

    timeout = PATIENCE
    answer: Any

    def version_string(self) -> str:
        """Not which Python this is."""
        return "gristmill"

    def do_GET(self) -> None:
        self._respond(self._ask("GET", {}))

    def do_HEAD(self) -> None:
        self._respond(self._ask("GET", {}), body=False)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_FORM:
            self._respond(Response(413, b"too large", "text/plain; charset=utf-8"))
            return
        sent = self.rfile.read(int(length)).decode("utf-8", "replace")
        self._respond(self._ask("POST", dict(parse_qsl(sent, max_num_fields=20))))

    def _ask(self, method: str, form: dict[str, str]) -> Response:
        began = time.perf_counter()
        try:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=50))
        except ValueError:
            return Response(400, b"this is no address", "text/plain; charset=utf-8")
        if len(self.path) > LONGEST:
            return Response(414, b"this address is too long", "text/plain; charset=utf-8")
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = unquote(parts.path, errors="replace")
        response: Response = self.answer(Request(method, path, query, headers, form))
        # Never the query: it may hold the token.
        spent = 1000 * (time.perf_counter() - began)
        _log.info("%s %s %d %.0f ms", method, ascii(path)[1:-1], response.status, spent)
        return response

    def _respond(self, response: Response, *, body: bool = True) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", response.kind)
        self.send_header("Content-Length", str(len(response.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if body:
            self.wfile.write(response.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base's)
        """The base logs whole addresses, and those may hold the token."""
