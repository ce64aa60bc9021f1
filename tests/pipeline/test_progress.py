from __future__ import annotations

import io
import json

import pytest

from pipeline.progress import Bars, JsonLines, Lines, Progress, Silent, choose


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(progress: Progress) -> None:
    progress.start_step("clean: 1 dedup.MinHash", 3)
    for _ in range(3):
        progress.advance("clean: 1 dedup.MinHash", 1, 1000)
    progress.finish()
    progress.finish()


@pytest.mark.parametrize("kind", [Silent, Lines, JsonLines, Bars])
def test_any_progress_takes_a_step_twice(kind: type) -> None:
    stream = io.StringIO()
    progress = kind() if kind is Silent else kind(stream)
    work(progress)
    once = len(stream.getvalue())
    work(progress)
    progress.advance("another", 1, 1)
    progress.finish()
    assert (len(stream.getvalue()) > once) is (kind is not Silent)


def test_lines_are_few() -> None:
    stream = io.StringIO()
    work(Lines(stream, every=3600))
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("clean: 1 dedup.MinHash: 3/3 parts, 3,000 rows in ")
    stream = io.StringIO()
    work(Lines(stream, every=0))
    assert len(stream.getvalue().splitlines()) == 4


def test_a_step_without_parts_says_nothing() -> None:
    stream = io.StringIO()
    progress = Lines(stream)
    progress.start_step("ingest: repeats", 0)
    progress.finish()
    assert stream.getvalue() == ""


def test_json_lines_add_up() -> None:
    stream = io.StringIO()
    work(JsonLines(stream))
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [each["event"] for each in events] == ["start", "advance", "advance", "advance", "finish"]
    assert [(each["done"], each["rows"]) for each in events[1:]] == [(1, 1000), (2, 2000), (3, 3000), (3, 3000)]


def test_bars_name_the_step_and_honour_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    work(Bars(stream))
    assert "clean: 1 dedup.MinHash" in stream.getvalue()
    assert "3,000 rows" in stream.getvalue()
    assert "\x1b[3" not in stream.getvalue()  # no colour; the cursor may move


def test_the_choice() -> None:
    assert isinstance(choose(quiet=True, json_lines=True), Silent)
    assert isinstance(choose(json_lines=True, stream=Terminal()), JsonLines)
    assert isinstance(choose(stream=Terminal()), Bars)
    assert isinstance(choose(stream=io.StringIO()), Lines)
