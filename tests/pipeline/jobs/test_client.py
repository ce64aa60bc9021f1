"""The client against servers that are no Ray, or a bad day of it."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import ConfigError, EngineError
from pipeline.jobs.client import Cluster, UnreachableError
from pipeline.jobs.job import Job
from pipeline.jobs.websocket import follow


@contextmanager
def answering(status: int, body: bytes, headers: dict[str, str] | None = None) -> Iterator[tuple[str, list]]:
    """A server that gives every request one answer, and the headers that it was sent."""
    seen: list = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(dict(self.headers))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def test_addresses_as_people_write_them():
    assert Cluster.at("head").address == "http://head:8265"
    assert Cluster.at("head:80/").address == "http://head:80"
    assert Cluster.at("https://ray.example/team/").address == "https://ray.example:443/team"
    assert Cluster.at("http://[::1]:9").address == "http://[::1]:9"


@pytest.mark.parametrize(
    "address", ["auto", "ray://head:10001", "ftp://head", "http://", "head:port", "http://a:b@c"]
)
def test_addresses_that_are_none(address):
    with pytest.raises(ConfigError) as caught:
        Cluster.at(address)
    assert "http://head:8265" in str(caught.value)


def test_a_token_is_not_shown():
    assert "hush" not in repr(Cluster.at("head", "hush"))


def test_nobody_there():
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(UnreachableError, match="no Ray cluster answers"):
        Cluster.at(f"127.0.0.1:{port}").version()


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"<html>", "not JSON"),
        (200, b"{}", "names no version"),
        (404, b"no such page", "no such page"),
        (302, b"", "sends on"),
        (401, b"", "none was given"),
        (403, b"", "none was given"),
    ],
)
def test_somebody_else_there(status, body, words):
    with answering(status, body) as (address, _), pytest.raises(EngineError, match=words):
        Cluster.at(address).version()


def test_a_token_is_sent_and_never_elsewhere():
    with answering(200, b'{"ray_version": "9"}') as (other, elsewhere):
        with (
            answering(302, b"", {"Location": other}) as (address, seen),
            pytest.raises(EngineError, match=other),
        ):
            Cluster.at(address, "hush").version()
        assert seen[0]["Authorization"] == "Bearer hush"
        assert elsewhere == []


def test_a_wrong_token_is_named_as_such_and_not_shown():
    with (
        answering(403, b"Forbidden") as (address, _),
        pytest.raises(EngineError, match="is not the cluster") as caught,
    ):
        Cluster.at(address, "hush").jobs()
    assert "hush" not in str(caught.value)


def test_the_values_of_an_environment_stay_at_the_border():
    job = {
        "submission_id": "a", "status": "FAILED", "message": "exit code 3\nthe log", "driver_exit_code": 3,
        "runtime_env": {"env_vars": {"KEY": "hush"}}, "start_time": 1000, "end_time": None,
    }  # fmt: skip
    with answering(200, json.dumps([job, {"submission_id": None, "status": "RUNNING"}]).encode()) as (
        address,
        _,
    ):
        [record] = Cluster.at(address).jobs()
    assert "hush" not in repr(record)
    assert (record.exit_code, record.started, record.message) == (3, 1.0, "exit code 3")


def test_a_cluster_that_comes_back_is_waited_for(monkeypatch):
    """A proxy that says 502 for a moment does not end the watching."""
    monkeypatch.setattr("pipeline.jobs.job._POLL", 0.01)
    done = json.dumps({"submission_id": "a", "status": "SUCCEEDED"}).encode()
    answers = iter([(502, b""), (503, b"busy"), (200, done)])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = next(answers)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert Job(Cluster.at(f"http://127.0.0.1:{server.server_port}"), "a").wait() == 0
        server.shutdown()
        thread.join()


def test_a_job_that_the_cluster_does_not_know_is_not_waited_for():
    with (
        answering(404, b"Job a does not exist") as (address, _),
        pytest.raises(EngineError, match="no job 'a'"),
    ):
        Job(Cluster.at(address), "a").wait()


def frame(text: bytes, code: int = 1) -> bytes:
    size = len(text)
    if size < 126:
        return struct.pack("!BB", 0x80 | code, size) + text
    if size < 1 << 16:
        return struct.pack("!BBH", 0x80 | code, 126, size) + text
    return struct.pack("!BBQ", 0x80 | code, 127, size) + text


@contextmanager
def socket_server(pieces: list[bytes], *, status: bytes = b"101") -> Iterator[int]:
    """A server that opens one WebSocket and sends these bytes, each by itself."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(4096)
                connection.sendall(b"HTTP/1.1 " + status + b" Switching\r\nUpgrade: websocket\r\n\r\n")
                for piece in pieces:
                    connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def followed(port: int, *, timeout: float = 5.0, over: bool = False) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    return "".join(follow(connection, "/tail", {}, lambda: over))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=300), max_size=6), st.integers(1, 400))
def test_texts_arrive_whole_however_the_wire_cuts_them(texts, step):
    sent = b"".join(frame(text.encode()) + frame(b"are you there", 9) for text in texts) + frame(b"", 8)
    with socket_server([sent[at : at + step] for at in range(0, len(sent), step)]) as port:
        assert followed(port) == "".join(texts)


def test_a_long_text_and_one_cut_inside_a_letter():
    text = "ä" * 40_000
    whole = text.encode()
    with socket_server([frame(whole), frame(whole[:3]), frame(whole[3:4], 0), frame(b"", 8)]) as port:
        assert followed(port) == text + "ää"


def test_a_connection_that_breaks_says_so():
    with (
        socket_server([frame(b"one"), frame(b"two")[:3]]) as port,
        pytest.raises(ConnectionError, match="broke off"),
    ):
        followed(port)


def test_a_server_that_opens_no_socket_says_so():
    with socket_server([], status=b"403") as port, pytest.raises(ConnectionError, match="HTTP 403"):
        followed(port)


def test_a_silent_socket_of_a_job_that_is_over_ends():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 101 Switching\r\n\r\n" + frame(b"last")[:3])
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        assert followed(server.getsockname()[1], timeout=0.1, over=True) == ""
        thread.join()


@pytest.mark.parametrize(
    "address", ["http://me:sesame@head:8265", "http://head?token=sesame", "http://me:sesame@h:99999"]
)
def test_a_login_in_an_address_is_not_repeated(address):
    with pytest.raises(ConfigError) as raised:
        Cluster.at(address)
    assert "sesame" not in str(raised.value)
    assert "//" in str(raised.value)


def test_a_token_in_the_environment_that_no_header_can_hold_is_told(monkeypatch):
    from click.testing import CliRunner

    from pipeline.cli import cli

    monkeypatch.setenv("RAY_AUTH_TOKEN", "ses\name")
    done = CliRunner().invoke(cli, ["jobs", "list", "--address", "http://127.0.0.1:9"])
    assert done.exit_code == 2
    assert "RAY_AUTH_TOKEN holds no token" in done.output
