"""The command: how it begins, what it prints, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest

from lake import Lake

GRISTMILL = str(Path(sys.executable).with_name("gristmill"))


def start(*arguments: str) -> tuple[subprocess.Popen[str], dict]:
    process = subprocess.Popen(
        [GRISTMILL, "ui", "--port", "0", "--json", "-v", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    text = ""
    while not text.rstrip().endswith("}"):
        line = process.stdout.readline()
        assert line, process.stderr.read()
        text += line
    return process, json.loads(text)


def test_the_command_ends_cleanly(lake: Lake) -> None:
    process, told = start("--lake", str(lake.uri))
    assert told["token"] is None
    port = int(told["url"].rstrip("/").rpartition(":")[2])
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/runs")
    assert connection.getresponse().status == 200
    connection.close()
    process.terminate()
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "GET /runs 200" in log
    assert "Traceback" not in log
    with socket.socket() as again:  # the port is free at once
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


def test_other_addresses_get_a_token_that_no_log_keeps(lake: Lake) -> None:
    process, told = start("--lake", str(lake.uri), "--host", "0.0.0.0")
    try:
        port = int(told["url"].rstrip("/").rpartition(":")[2])
        statuses = []
        for path in ("/", f"/?token={told['token']}"):
            connection = HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", path)
            statuses.append(connection.getresponse().status)
            connection.close()
        assert statuses == [401, 303]
    finally:
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "GET / 303" in log
    assert told["token"] not in log


def test_a_token_of_ones_own_is_not_printed(lake: Lake, tmp_path: Path, monkeypatch) -> None:
    from click.testing import CliRunner

    from pipeline.cli import cli
    from pipeline.ui import Server

    file = tmp_path / "token"
    file.write_text("correct-horse-battery-staple\n")
    file.chmod(0o644)
    monkeypatch.setattr(Server, "run", Server.close)  # it would go on for ever
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    try:
        done = CliRunner().invoke(
            cli, ["ui", "--lake", str(lake.uri), "--port", "0", "--token-file", str(file)]
        )
    finally:
        for each, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(each, handler)
    assert done.exit_code == 0
    assert "http://127.0.0.1:" in done.stderr
    assert "correct-horse" not in done.output
    assert "chmod 600" in done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        (["--lake", "{folder}"], 1, "no _gristmill.json"),
        (["--lake", "{lake}", "--token-file", "{folder}/none"], 1, "token cannot be read"),
        (["--lake", "{lake}", "--token-file", "{folder}/short"], 2, "shorter than 16"),
        (["--lake", "{lake}", "--port", "{port}"], 1, "cannot listen there"),
        (["--lake", "{lake}", "--host", "203.0.113.9", "--port", "0"], 1, "cannot listen there"),
        (["--lake", "{lake}", "--host", "no such host", "--port", "0"], 1, "cannot listen there"),
    ],
)
def test_what_cannot_be_served_is_told(lake: Lake, shown, tmp_path: Path, wrong) -> None:
    arguments, code, told = wrong
    from click.testing import CliRunner

    from pipeline.cli import cli

    (tmp_path / "short").write_text("short")
    named = {"folder": str(tmp_path), "lake": str(lake.uri), "port": str(shown.server.port)}
    done = CliRunner().invoke(cli, ["ui", *(each.format(**named) for each in arguments)])
    assert done.exit_code == code
    assert told in done.stderr
