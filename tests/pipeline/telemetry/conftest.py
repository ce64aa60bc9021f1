from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from small import write_texts
from watching import CONFIG, Watched, watched_run

from pipeline import Pipeline


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("watched")
    write_texts(folder / "texts", files=3)
    (folder / "small.yaml").write_text(CONFIG)
    return watched_run(folder)


@pytest.fixture
def few(tmp_path: Path) -> Pipeline:
    """A pipeline over one small file."""
    write_texts(tmp_path / "texts", files=1, rows=8)
    (tmp_path / "small.yaml").write_text(CONFIG)
    return Pipeline.load(tmp_path / "small.yaml", ["steps=[]"])


@dataclass
class Service:
    """An HTTP service on loopback that keeps what it is sent."""

    url: str
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service("")

    class Handler(BaseHTTPRequestHandler):
        def _take(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.requests.append((self.command, self.path, dict(self.headers), body))
            self.send_response(200)
            self.end_headers()

        do_POST = _take  # noqa: N815  (the server's own names)
        do_PUT = _take  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """The loggers as they were."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
