"""What stands between a user and a cluster: TLS, proxies that know no WebSocket, servers of another kind."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner

from lake.errors import EngineError
from pipeline.cli import cli
from pipeline.jobs import job as module
from pipeline.jobs.client import Cluster, UnreachableError
from pipeline.jobs.job import Job
from pipeline.jobs.websocket import NoSocketError

REMOTE = """\
name: docs
lake: s3://bucket/lake
source: {lake.Files: {paths: s3://bucket/raw/*.jsonl}}
"""
LOG = "a line\nthe last\n"


class Fake:
    """As much of a head as a submit sees. Its jobs succeed when they have been looked at twice."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.tails = 0
        self.answers: bytes | None = None  # instead of all else
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, answer = fake.answer(self.command, self.path, self._body())
                body = fake.answers if fake.answers is not None else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815  (the server's own names)

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.cluster = Cluster.at(f"http://127.0.0.1:{self.port}")

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        if path.startswith("/api/packages"):
            return (200, {}) if method == "PUT" else (404, {})
        if path.endswith("/tail"):  # to a proxy that knows no WebSocket it is a page like any other
            self.tails += 1
            return 404, {}
        if method == "POST" and self.answers is None:
            name = json.loads(body)["submission_id"]
            self.jobs[name] = {"submission_id": name, "status": "PENDING", "metadata": {"gristmill": "run"}}
            return 200, {"submission_id": name}
        return 200, self._page(path) if self.answers is None else None

    def _page(self, path: str) -> object:
        if path == "/api/version":
            return {"ray_version": "9"}
        if path == "/api/jobs/":
            return list(self.jobs.values())
        name, _, logs = path.removeprefix("/api/jobs/").partition("/")
        record = dict(self.jobs[name])
        if logs:
            return {"logs": LOG if record["status"] == "SUCCEEDED" else LOG[:7]}
        self.jobs[name]["status"] = "RUNNING" if record["status"] == "PENDING" else "SUCCEEDED"
        return record


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    monkeypatch.setattr(module, "_POLL", 0.01)
    monkeypatch.setattr(module, "_POLL_LOG", 0.01)
    made = Fake()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def submit(tmp_path, address: str, *more: str, **env: str):
    (tmp_path / "c.yaml").write_text(REMOTE)
    arguments = ["submit", str(tmp_path / "c.yaml"), "--address", address, "--no-preflight", *more]
    return CliRunner().invoke(cli, arguments, env=env, prog_name="gristmill")


def test_submit_over_https(fake, proxy, tmp_path):
    with proxy.before(fake.port) as address:
        done = submit(tmp_path, address, SSL_CERT_FILE=str(proxy.certificate))
    assert done.exit_code == 0, done.output
    assert done.stdout == LOG
    assert len(fake.jobs) == 1


def test_a_certificate_that_is_not_trusted_is_named_as_such(fake, proxy, tmp_path):
    with proxy.before(fake.port) as address:
        done = submit(tmp_path, address, "--json")
        error = json.loads(done.stdout)["error"]
        assert done.exit_code == 1
        assert error["message"] == "the certificate of the cluster is not trusted"
        assert "SSL_CERT_FILE" in error["hint"]
        # It is not waited for: it would not get better.
        with pytest.raises(EngineError) as caught:
            Job(Cluster.at(address), "a").wait()
        assert not isinstance(caught.value, UnreachableError)
        # The name is part of it.
        other = address.replace("127.0.0.1", "localhost")
        done = submit(tmp_path, other, "--json", SSL_CERT_FILE=str(proxy.certificate))
    assert "localhost" in json.loads(done.stdout)["error"]["why"]
    assert fake.jobs == {}


def test_https_where_there_is_none(fake, tmp_path):
    done = submit(tmp_path, f"https://127.0.0.1:{fake.port}", "--json")
    assert json.loads(done.stdout)["error"]["message"] == "the cluster does not speak HTTPS at this port"


def test_a_log_comes_through_a_proxy_without_websockets(fake):
    fake.jobs["a"] = {"submission_id": "a", "status": "PENDING"}
    assert "".join(Job(fake.cluster, "a").logs(follow=True)) == LOG
    assert fake.tails > 1  # it was tried


def test_a_log_of_a_job_that_is_over_ends_though_its_socket_breaks(fake, monkeypatch):
    def tail(*_: object) -> Iterator[str]:
        yield LOG[:3]
        raise ConnectionError("broke off")

    fake.jobs["a"] = {"submission_id": "a", "status": "SUCCEEDED"}
    monkeypatch.setattr(Cluster, "tail", tail)
    assert "".join(Job(fake.cluster, "a").logs(follow=True)) == LOG


ANSWERS = [b"null", b"[1]", b'"x"', b"7", b'[{"submission_id": "a"}]', b'{"submission_id": 1}', b"<html>"]


@pytest.mark.parametrize("body", ANSWERS)
def test_an_answer_of_another_kind_is_no_internal_error(fake, body):
    fake.answers = body
    for ask in (fake.cluster.version, fake.cluster.jobs, *(
        lambda name=name: getattr(fake.cluster, name)("a") for name in ("log", "stop")
    )):  # fmt: skip
        with pytest.raises(EngineError, match="no Jobs API"):
            ask()
    if body != b"null":
        with pytest.raises(EngineError, match="no Jobs API"):
            fake.cluster.job("a")


@pytest.mark.parametrize("answer", [b"\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1\r\n\r\n"])
def test_a_socket_to_something_else(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(NoSocketError):
            list(Cluster.at(f"http://127.0.0.1:{server.getsockname()[1]}").tail("a"))
        thread.join()


def test_a_name_that_no_host_can_have(tmp_path):
    done = submit(tmp_path, f"http://{'a' * 70}.example", "--json")
    assert json.loads(done.stdout)["error"]["message"] == "no Ray cluster answers"


def test_among_ten_thousand_jobs(fake, tmp_path):
    """The one that was there already is found; the environments of all others come along, as Ray has it."""
    env = {"env_vars": {"KEY": "v" * 200}, "working_dir": "gcs://_ray_pkg_0123456789abcdef.zip"}
    other = {"status": "SUCCEEDED", "runtime_env": env, "start_time": 1, "metadata": {"gristmill": "run"}}
    fake.jobs = {
        f"gristmill-docs-0-{n}": {**other, "submission_id": f"gristmill-docs-0-{n}"} for n in range(9999)
    }
    first = submit(tmp_path, fake.cluster.address, "--no-wait", "--once", "today", "--json")
    again = submit(tmp_path, fake.cluster.address, "--no-wait", "--once", "today", "--json")
    told = [json.loads(done.stdout) for done in (first, again)]
    assert [each["attached"] for each in told] == [False, True]
    assert told[0]["job"] == told[1]["job"]
    assert len(fake.jobs) == 10_000
