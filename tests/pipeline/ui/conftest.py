"""A served lake, and a browser without a window, driven over its debugging pipe."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from small import write_pictures, write_texts

from lake import Lake
from pipeline import Pipeline
from pipeline.ui import App, Guard, Server, Site, paging

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SILENCE = 30.0  # seconds after which the browser counts as stuck
EVIL = "<script>alert(1)</script>"

CONFIG = """
name: small
lake: ./lake
seed: 5
source:
  - lake.Files: {paths: texts/*.jsonl, text: text, label: label}
  - lake.Files: {paths: pictures, label: folder}
steps:
  - pipeline.filters.Length: {min: 45, unit: words}
  - dedup.MinHash: {threshold: 0.7}
  - augment.Learned: {copies: 1, folds: 2, levels: 2, min_per_class: 4, max_rows: 24, resolution: 16}
sink: {lake.Table: {name: train}}
"""


def fill(folder: Path) -> Lake:
    """A lake after two runs, whose texts, labels and places hold HTML."""
    write_texts(folder / "texts", files=3)
    write_pictures(folder / "pictures", per_class=8)
    words = " ".join(f"word{n}" for n in range(60))
    rows = [
        {"text": f"{EVIL} {words}", "label": f"{EVIL}<b>"},
        {"text": f"{EVIL} {words} end", "label": f"{EVIL}<b>"},
        {"text": f"{EVIL} short", "label": "'\"><img src=x onerror=alert(2)>"},
    ]
    (folder / "texts" / "evil<img src=x>&.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "gristmill.yaml").write_text(CONFIG)
    pipeline = Pipeline.load(folder / "gristmill.yaml")
    pipeline.run()
    (folder / "texts" / "late.jsonl").write_text(json.dumps({"text": f"{words} late", "label": "1"}) + "\n")
    pipeline.run()
    return Lake(folder / "lake")


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return fill(tmp_path_factory.mktemp("ui"))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Served:
    server: Server

    def get(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET", body: str | None = None
    ) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def settled(self, path: str) -> Answer:
        """The answer once what it needs in the background is there."""
        until = time.monotonic() + 60
        while (answer := self.get(f"/api{path}")).status == 202:
            assert time.monotonic() < until, path
            time.sleep(0.05)
        return answer


@contextmanager
def serving(site: Site, guard: Guard | None = None, host: str = "127.0.0.1") -> Iterator[Served]:
    server = Server(App(site, guard or Guard.of(host, None)), host, 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield Served(server)
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(scope="session", autouse=True)
def _unhurried() -> Iterator[None]:
    """A page finds its rows however busy this machine is; what a hurried one does is asked for by its tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paging, "SECONDS", 60.0)
        yield


@pytest.fixture(scope="session")
def shown(lake: Lake) -> Iterator[Served]:
    """Everything shown."""
    with serving(Site(lake, show_content=True)) as served:
        yield served


@pytest.fixture(scope="session")
def bare(lake: Lake) -> Iterator[Served]:
    """Served as by default: no contents."""
    with serving(Site(lake)) as served:
        yield served


# ------------------------------------------------------------------------------------------- browser


@dataclass
class Tab:
    """A page that was opened: what it said, and ways to ask it."""

    browser: Browser
    session: str
    complaints: list[str] = field(default_factory=list)

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **values)

    def evaluate(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **named)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def html(self) -> str:
        root = self.call("DOM.getDocument", depth=0)["root"]["nodeId"]
        found: str = self.call("DOM.getOuterHTML", nodeId=root)["outerHTML"]
        return found

    def follow(self, act: Callable[[], object]) -> None:
        """Do what leads to another page, and wait for it."""
        self.browser.wait_for_load(self.session, act)

    def leave(self) -> None:
        self.call("Page.close")

    def picture(self, *, whole: bool = True) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])


class Browser:
    """Chromium without a window. Messages end in a zero byte, in both directions."""

    def __init__(self, folder: Path) -> None:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()

        command = [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--hide-scrollbars", f"--user-data-dir={folder}", "--remote-debugging-pipe", "about:blank"),
        ]
        quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
        # The browser reads from 3 and writes to 4. High numbers first: ours may be 3 or 4 themselves.
        high = [(os.POSIX_SPAWN_DUP2, to_read, 203), (os.POSIX_SPAWN_DUP2, to_write, 204)]
        low = [(os.POSIX_SPAWN_DUP2, 203, 3), (os.POSIX_SPAWN_DUP2, 204, 4)]
        shut = [(os.POSIX_SPAWN_CLOSE, number) for number in (203, 204)]
        self.pid = os.posix_spawn(command[0], command, os.environ, file_actions=[*quiet, *high, *low, *shut])
        os.close(to_read)
        os.close(to_write)
        self._number = 0
        self._left = b""
        self._tabs: dict[str, Tab] = {}
        self._loaded: set[str] = set()

    def call(self, method: str, session: str = "", **values: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": values}
        os.write(
            self._write, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        )
        while True:
            found = self._next()
            if found.get("id") == self._number:
                assert "error" not in found, found
                result: dict[str, Any] = found["result"]
                return result

    def open(
        self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False, scripts: bool = True
    ) -> Tab:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = self._tabs[session] = Tab(self, session)
        for name in ("Page", "Runtime", "Log", "Network", "Audits", "DOM"):
            tab.call(f"{name}.enable")
        tab.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.call("Emulation.setEmulatedMedia", features=[scheme])
        if not scripts:
            tab.call("Emulation.setScriptExecutionDisabled", value=True)
        self.wait_for_load(session, lambda: tab.call("Page.navigate", url=url))
        return tab

    def wait_for_load(self, session: str, act: Callable[[], object]) -> None:
        self._loaded.discard(session)
        act()
        while session not in self._loaded:
            self._next()

    def close(self) -> None:
        os.write(self._write, b'{"id": 0, "method": "Browser.close"}\0')
        until = time.monotonic() + 20
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.05)
        os.close(self._write)
        os.close(self._read)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            assert select.select([self._read], [], [], SILENCE)[0], "the browser says nothing"
            more = os.read(self._read, 1 << 20)
            assert more, "the browser is gone"
            self._left += more
        message, _, self._left = self._left.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        self._note(found)
        return found

    def _note(self, found: dict[str, Any]) -> None:
        """Keep what a page complains about, and who has loaded."""
        method, values = found.get("method"), found.get("params") or {}
        tab = self._tabs.get(found.get("sessionId", ""))
        if tab is None:
            return
        if method == "Page.loadEventFired":
            self._loaded.add(tab.session)
        elif method == "Log.entryAdded" and values["entry"]["level"] in {"error", "warning"}:
            tab.complaints.append(values["entry"]["text"])
        elif method in {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Audits.issueAdded"}:
            tab.complaints.append(json.dumps(values)[:500])
        elif method == "Network.loadingFailed":
            tab.complaints.append(f"not loaded: {values.get('errorText')}")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    made = Browser(tmp_path_factory.mktemp("chromium"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def serve() -> Any:
    """Serve any site: ``with serve(Site(lake)) as served``."""
    return serving


@pytest.fixture
def copied(lake: Lake, tmp_path: Path) -> Lake:
    """A copy of the lake that a test may change."""
    shutil.copytree(lake.uri, tmp_path / "lake")
    return Lake(tmp_path / "lake")
