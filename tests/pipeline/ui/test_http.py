"""The pages over HTTP, from a real server."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest

from lake import Lake
from pipeline.ui import App, Guard, Server, Site
from pipeline.ui.app import VIEWS, _json
from pipeline.ui.server import AT_ONCE

GRISTMILL = str(Path(sys.executable).with_name("gristmill"))
EVIL = "<script>alert(1)</script>"
PAGES = [view.path for view in VIEWS if "{" not in view.path and view.path != "/row"]
VOID = {"meta", "link", "input", "img", "br"}


class Strict(HTMLParser):
    """Counts tags that are not closed, finds scripts, styles and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.bad: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name.startswith("on") or name == "style":
                self.bad.append(f"{tag} {name}")
            if name in {"href", "src", "action"}:
                self.links.append(value)
        if tag not in VOID and tag not in {"rect", "path"}:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        if tag in {"rect", "path"}:
            return
        if not self.open or self.open.pop() != tag:
            self.bad.append(f"/{tag}")


def test_a_measure_that_is_no_number_is_null_in_json() -> None:
    body = _json(200, {"rows": [{"value": float("nan"), "threshold": 1.5}], "at": (float("inf"), 2)}).body
    assert json.loads(body) == {"rows": [{"value": None, "threshold": 1.5}], "at": [None, 2]}


def crawl(served) -> dict[str, str]:
    """Every page that can be reached, by its address."""
    for path in ("/drops", "/clusters", "/schedules", "/health"):
        served.settled(path)
    found, left = {}, ["/"]
    while left:
        path = left.pop()
        if path in found or path == "/row":  # where the form in the header goes
            continue
        answer = served.get(path)
        assert answer.status == 200, (path, answer.status, answer.text[:2000])
        found[path] = answer.text
        page = answer.headers["content-type"].startswith("text/html")
        if not page or path.endswith("/report"):
            continue
        alike = 0
        for link in Strict(answer.text).links:
            if link.startswith(("/row?", "/clusters/")):
                alike += 1
                if alike > 2:
                    continue
                served.settled(link)
            if link.startswith("/"):
                left.append(link)
    return found


@pytest.fixture(scope="module")
def pages(shown) -> dict[str, str]:
    return crawl(shown)


def test_every_link_leads_somewhere(pages: dict[str, str]) -> None:
    kinds = {re.sub(r"[0-9a-f]{32}|\d{8}T\d{6}-[0-9a-f]{8}", "*", path.partition("?")[0]) for path in pages}
    assert {"/", "/runs", "/runs/*", "/runs/*/report", "/lineage", "/files", "/drops", "/row"} <= kinds
    assert {"/clusters", "/clusters/*", "/policies", "/costs", "/schedules", "/health", "/style.css"} <= kinds


def test_pages_are_whole_and_run_nothing(pages: dict[str, str]) -> None:
    for path, text in pages.items():
        if path.startswith("/api") or not text.startswith("<!DOCTYPE"):
            continue
        page = Strict(text)
        assert page.open == [], path
        assert page.bad == [], path
        assert "script" not in page.tags, path
        assert page.tags.count("h1") == 1, path
        for link in page.links:
            assert link == "" or link.startswith(("/", "#", "data:image/")), (path, link)


def test_what_records_hold_is_text(pages: dict[str, str]) -> None:
    """HTML in texts, labels and file names is shown as it was written."""
    html = {path: text for path, text in pages.items() if text.startswith("<!DOCTYPE")}
    for path, text in html.items():
        assert EVIL not in text, path
        assert "<img src=x" not in text, path
    assert any("&lt;script&gt;alert(1)" in text for path, text in html.items() if path.startswith("/drops"))
    assert any("evil&lt;img src=x&gt;&amp;.jsonl" in text for path, text in html.items() if path == "/files")


@pytest.mark.parametrize(
    "path", ["/runs", "/drops", "/row", "/clusters", "/lineage", "/costs", "/schedules/x", "/x"]
)
def test_what_addresses_hold_is_text(shown, path: str) -> None:
    evil = quote(f'">{EVIL}')
    for query in ("at", "id", "step", "rule", "run", "before", "from", "label", "stage", "pipeline"):
        answer = shown.get(f"{path}?{query}={evil}")
        assert answer.status in {200, 400, 404}
        assert EVIL not in answer.text
    answer = shown.get(f"/runs/{evil}")
    assert answer.status == 404
    assert EVIL not in answer.text


def test_without_content_nothing_of_a_record_is_told(bare) -> None:
    for path, text in crawl(bare).items():
        for content in ("alert(1)", "word17", "onerror", "data:image"):
            assert content not in text, (path, content)


def test_headers(shown) -> None:
    for path in [*PAGES, "/nope", "/api/runs", "/style.css"]:
        headers = shown.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert "python" not in headers["server"].lower()
    assert shown.get("/").headers["cache-control"] == "no-store"


def test_the_report_is_shut_in_a_sandbox(shown, bare) -> None:
    [run, *_] = shown.get("/api/runs").json["lines"]
    open_, hidden = (served.get(f"/runs/{run['run']}/report") for served in (shown, bare))
    for answer in (open_, hidden):
        assert answer.status == 200
        assert "sandbox" in answer.headers["content-security-policy"]
    assert "alert(1)" in open_.text
    assert "alert(1)" not in hidden.text
    assert "withheld" in hidden.text


@pytest.mark.parametrize("page", PAGES)
def test_json_is_what_the_page_shows(shown, page: str) -> None:
    path = "/api/overview" if page == "/" else f"/api{page}"
    answer = shown.settled(path.removeprefix("/api"))
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert isinstance(answer.json, dict)


def test_json_of_drops_goes_page_by_page(shown, lake: Lake) -> None:
    rows, at = [], ""
    while at is not None:
        found = shown.settled(f"/drops?at={at}").json
        rows += found["rows"]
        at = found["next"]
    assert len(rows) == lake.table("_drops").count()


@pytest.mark.parametrize(
    "path",
    [
        *("/../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/runs/..%2f..", "/runs/../_runs/x", "/runs/%00"),
        *(
            "/static/../../app.py",
            "/templates/base.html.j2",
            "/ui.css",
            "/runs/%2e%2e/report",
            "/runs/..%5c..%5cx/report",
        ),
        *(
            "/clusters/..%2f..",
            "/schedules/..%2fx",
            "/api/runs/..%2f..%2f_delta_log",
            "//etc/passwd",
            "/api/nope",
        ),
    ],
)
def test_no_way_to_files(shown, path: str) -> None:
    answer = shown.get(path)
    assert answer.status in {400, 404}
    assert b"root:" not in answer.body


@pytest.mark.parametrize(
    "path", ["/drops?at=1.2", "/drops?at=9999999.0.0", "/clusters?from=-1", "/costs?label=x", "/row"]
)
def test_errors_are_pages(shown, path: str) -> None:
    answer = shown.get(path)
    assert answer.status in {400, 404}
    assert "What to do" in answer.text
    twin = shown.get(f"/api{path}")
    assert twin.status == answer.status
    assert twin.json["error"]["what"]


def test_an_error_of_ours_tells_no_content(lake: Lake, serve, monkeypatch) -> None:
    from pipeline.ui.data import health

    def broken(_: object) -> None:
        raise KeyError("a secret text")

    monkeypatch.setattr(health, "verify", broken)
    with serve(Site(lake)) as served:
        answer = served.get("/health")
        while "being looked at" in answer.text:
            time.sleep(0.02)
            answer = served.get("/health")
    assert answer.status == 500
    assert "KeyError" in answer.text
    assert "secret" not in answer.text


def test_a_broken_lake_is_told(copied: Lake, serve) -> None:
    part = copied.table("_drops").parts()[0]
    (Path(copied.uri) / "_drops" / part.path).unlink()
    with serve(Site(copied)) as served:
        answer = served.get("/drops")
        assert answer.status == 410
        assert "a part of the table is gone" in answer.text.lower()
        assert served.get("/").status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_other_methods_are_refused(shown, method: str) -> None:
    assert shown.get("/", method=method).status == 501


def test_head_has_no_body(shown) -> None:
    answer = shown.get("/runs", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 1000


def test_another_host_is_turned_away(shown) -> None:
    for host in ("evil.example", "evil.example:80", ""):
        answer = shown.get("/", {"Host": host})
        assert answer.status == 421
        assert "ui0" not in answer.text  # not even where the lake is
    assert shown.get("/api/runs", {"Host": "evil.example"}).status == 421


def test_the_token(lake: Lake, serve) -> None:
    token = "correct-horse-battery-staple"
    with serve(Site(lake), Guard.of("127.0.0.1", token)) as served:
        for path in ("/", "/api/runs", "/style.css", "/runs/x/report", "/nope"):
            answer = served.get(path)
            assert answer.status == 401
            assert str(lake.uri) not in answer.text
            assert answer.headers.get("set-cookie") is None
        assert served.get("/healthz").status == 200
        first = served.get(f"/drops?rule=x&token={token}")
        assert (first.status, first.headers["location"]) == (303, "/drops?rule=x")
        cookie = first.headers["set-cookie"].partition(";")[0]
        assert served.get("/drops?rule=x", {"Cookie": cookie}).status == 200
        assert served.get("/api/runs", {"Authorization": f"Bearer {token}"}).status == 200
        assert served.get("/", {"Cookie": cookie + "x"}).status == 401


def test_nothing_can_be_changed_unless_allowed(shown) -> None:
    assert shown.get("/schedules/x/pause", method="POST", body="csrf=x").status == 403
    assert shown.get("/runs", method="POST", body="").status == 405
    assert shown.get("/runs", method="POST", body="x" * 10_000).status == 413


def test_schedules_are_paused_and_resumed(copied: Lake, serve) -> None:
    from pipeline.schedule import control
    from pipeline.schedule.spec import Schedule

    now = datetime.now(UTC)
    control.register(copied, Schedule(name="nightly", cron="0 2 * * *", timezone="Europe/Berlin"), now)
    with serve(Site(copied, actions=True)) as served:
        [line] = served.settled("/schedules").json["lines"]
        assert (line["name"], line["state"]) == ("nightly", "active")
        assert now < datetime.fromisoformat(line["next"]) <= now + timedelta(hours=25)
        page = served.get("/schedules/nightly").text
        csrf = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
        assert csrf is not None
        assert served.get("/schedules/nightly/pause", method="POST", body="csrf=0").status == 403
        assert control.known(copied, "nightly").state == "active"
        for action, state in (("pause", "paused"), ("resume", "active")):
            evil = {"Origin": "http://evil.example"}
            body = f"csrf={csrf[1]}"
            assert served.get(f"/schedules/nightly/{action}", evil, "POST", body).status == 403
            answer = served.get(f"/schedules/nightly/{action}", method="POST", body=body)
            assert (answer.status, answer.headers["location"]) == (303, "/schedules/nightly")
            assert control.known(copied, "nightly").state == state
        assert served.get("/schedules/nightly/stop", method="POST", body=body).status == 404
        assert served.get("/schedules/none/pause", method="POST", body=body).status == 404


def test_pages_go_on_while_a_run_commits(copied: Lake, serve) -> None:
    """A page in the middle of the ledger shows the version that the first page showed."""
    with serve(Site(copied)) as served:
        before = served.settled("/drops").json
        table = copied.table("_drops")
        gone = [part for part in table.parts() if part.partition["stage"] == "clean"]
        from lake.lake import Change

        change = Change("_drops", table.schema(), (), tuple(gone), partition_by=("pipeline", "stage"))
        copied.commit([change], app="test", version=1)
        after = served.settled(f"/drops?at={before['next']}").json
        assert after["version"] == before["version"]
        assert len(before["rows"]) + len(after["rows"]) == before["total"]
        assert served.settled("/drops").json["total"] < before["total"]


def test_a_slow_client_holds_up_nobody(shown) -> None:
    slow = [socket.create_connection(("127.0.0.1", shown.server.port)) for _ in range(8)]
    try:
        for each in slow:
            each.sendall(b"GET / HT")
        assert shown.get("/healthz").status == 200
    finally:
        for each in slow:
            each.close()


def test_what_is_no_http_does_no_harm(shown) -> None:
    for sent in (
        b"\x16\x03\x01\x00\xff\n\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b"\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", shown.server.port), timeout=10) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
    assert shown.get("/healthz").status == 200
    assert shown.get("/drops?" + "a" * 5000).status == 414
    assert shown.get("/drops?" + "&".join(f"a{n}=1" for n in range(60))).status == 400


def test_idle_connections_on_all_places_do_not_keep_the_server_from_ending(lake: Lake) -> None:
    server = Server(App(Site(lake), Guard.of("127.0.0.1", None)), "127.0.0.1", 0)
    serving = threading.Thread(target=server.run)
    serving.start()
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(AT_ONCE + 2)]
    time.sleep(0.3)
    server.stop()
    serving.join(0.5)
    ended = not serving.is_alive()
    for each in idle:
        each.close()
    assert ended
