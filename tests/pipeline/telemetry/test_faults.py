"""Nothing that observes a run can end it or hold it up; and a run that fails says so, without its records."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from small import contents, write_texts
from watching import CONFIG, Recorder, Watched, parsed, value

from lake.errors import ConfigError, EngineError
from lake.op import Op
from lake.schema import no_drops
from pipeline import Pipeline, telemetry
from pipeline.telemetry import courier
from pipeline.telemetry.courier import send
from pipeline.telemetry.events import RunFailed, RunFinished
from pipeline.telemetry.lineage import Lineage
from pipeline.telemetry.live import Live
from pipeline.telemetry.metrics import Gateway, exporter

SECRET = "a-sentence-of-a-record"


class Explodes(Op):
    """Quotes a record in its error, as foreign code does."""

    def apply(self, table):
        if table.num_rows:
            raise ValueError(f"cannot parse {SECRET}: {table['text'][0].as_py()}")
        return self._outcome(table)

    def __call__(self, table):
        return table

    def _outcome(self, table):
        from lake.op import Outcome

        return Outcome(table, no_drops())


class Interrupts(Explodes):
    def apply(self, table):
        if table.num_rows:
            raise KeyboardInterrupt
        return self._outcome(table)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that takes connections and never answers."""
    held: list[socket.socket] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def take() -> None:
            try:
                while True:
                    held.append(listener.accept()[0])
            except OSError:
                pass

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    for each in held:
        each.close()


@pytest.fixture
def closed() -> str:
    """An address where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("where", ["nobody", "closed"])
def test_a_dead_endpoint_costs_a_moment_and_one_warning(
    where: str, watched: Watched, caplog, request, monkeypatch
) -> None:
    assert courier._OF_NOBODY <= courier._AT_THE_END < 2
    monkeypatch.setattr(courier, "PATIENCE", 1e4)  # who waits for a delivery waits for hours
    url = request.getfixturevalue(where).replace("http://", "http://me:planted-password@")
    for made in (Lineage(url), exporter(Gateway(url), Live())):
        caplog.clear()
        for event in watched.recorder.events:
            made.on(event)
        made.close()
        warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(warnings) == 1
        assert "the run goes on" in warnings[0].getMessage()
        assert "planted-password" not in caplog.text


def test_two_dead_endpoints_take_no_longer_than_one(monkeypatch) -> None:
    """Each waits for the other: one after the other they would never end."""
    both, ended = threading.Barrier(2), []

    def close(_: object) -> None:
        both.wait()
        ended.append(True)

    monkeypatch.setattr(Lineage, "close", close)
    monkeypatch.setattr("pipeline.telemetry.metrics._Deliveries.close", close)
    with telemetry.observing(metrics="http://127.0.0.1:9", lineage="http://127.0.0.1:9"):
        pass
    assert ended == [True, True]


def test_a_service_that_dies_on_the_way_is_left_behind(service, nobody, monkeypatch) -> None:
    monkeypatch.setattr(courier, "PATIENCE", 1e4)
    sent = courier.Courier("somewhere")
    sent.take(lambda: courier.send("POST", service.url, b"{}", {}))
    while not sent.delivered:
        time.sleep(0.01)
    sent.take(lambda: courier.send("POST", nobody, b"{}", {}))
    sent.close()
    assert sent.delivered == 1


def test_a_run_with_dead_endpoints_ends_as_one_without(few, nobody, closed, tmp_path) -> None:
    few.run()
    before = contents(few.lake.uri)
    write_texts(tmp_path / "other" / "texts", files=1, rows=8)
    (tmp_path / "other" / "small.yaml").write_text(CONFIG)
    other = Pipeline.load(tmp_path / "other" / "small.yaml", ["steps=[]"])
    with telemetry.observing(metrics=closed, lineage=nobody) as observers:
        assert other.run(observers=observers).status == "ok"
    assert {name: len(rows) for name, rows in contents(other.lake.uri).items()} == {
        name: len(rows) for name, rows in before.items()
    }
    assert contents(other.lake.uri)["train"] == before["train"]


class Broken:
    def __init__(self) -> None:
        self.told = 0

    def on(self, event: object) -> None:
        self.told += 1
        raise RuntimeError(SECRET)

    def close(self) -> None:
        raise RuntimeError(SECRET)


def test_an_observer_that_raises_is_told_no_more(few, caplog) -> None:
    broken, recorder = Broken(), Recorder()
    assert few.run(observers=[broken, recorder]).status == "ok"
    assert broken.told == 1
    assert isinstance(recorder.events[-1], RunFinished)
    assert [r.getMessage() for r in caplog.records] == ["Broken is told no more: RuntimeError"]


def test_a_place_that_cannot_be_written_is_one_warning(few, caplog, tmp_path) -> None:
    gone = tmp_path / "none"
    with telemetry.observing(metrics=str(gone / "x.prom"), lineage=str(gone / "x.jsonl")) as observers:
        assert few.run(observers=observers).status == "ok"
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 2
    assert all("No such file" in each for each in warnings)


def failing(few: Pipeline, folder: Path, step: Op, expected: type[BaseException]) -> dict[str, str]:
    """What is left of a run that fails, by file."""
    bad = Pipeline.of(few.config.model_copy(update={"steps": (step,)}))
    log, lineage, prom = folder / "log.jsonl", folder / "lineage.jsonl", folder / "out.prom"
    with (
        pytest.raises(expected),
        telemetry.observing(
            metrics=str(prom), lineage=str(lineage), log_format="json", log_file=str(log)
        ) as observers,
    ):
        bad.run(observers=observers)
    return {path.name: path.read_text() for path in (log, lineage, prom)}


def test_a_run_that_fails_says_where_and_what_but_no_record(few, tmp_path) -> None:
    left = failing(few, tmp_path, Explodes(), ValueError)
    assert not any(SECRET in content or "cannot parse" in content for content in left.values())
    events = [json.loads(line) for line in left["lineage.jsonl"].splitlines()]
    assert [(each["job"]["name"], each["eventType"]) for each in events] == [
        ("small", "START"),
        ("small.ingest", "START"),
        ("small.ingest", "COMPLETE"),
        ("small.train", "START"),
        ("small.train", "FAIL"),
        ("small", "FAIL"),
    ]
    assert events[-1]["run"]["facets"]["errorMessage"]["message"] == "ValueError"
    assert events[-2]["inputs"] == events[-3]["inputs"] != []
    found = parsed(left["out.prom"])
    assert value(found, "run_success") == 0
    assert value(found, "run_active") == 0
    assert not any(name == "gristmill_stage_active" for name, _ in found)
    last = json.loads(left["log.jsonl"].splitlines()[-1])
    assert last["event"] == "run.failed"
    assert last["level"] == "error"
    assert last["error"] == "ValueError"
    assert last["stage"] == "train"
    # What was committed before stays, and the lake's own samples tell of it.
    assert value(found, "table_rows", table="raw") > 0


class Loses(Explodes):
    def apply(self, table):
        return self._outcome(table.slice(1))


def test_an_error_of_ours_says_what_happened(few, tmp_path) -> None:
    left = failing(few, tmp_path, Loses(), EngineError)
    message = json.loads(left["lineage.jsonl"].splitlines()[-1])["run"]["facets"]["errorMessage"]["message"]
    assert message.startswith("EngineError: ")
    assert "were accounted for" in message


def test_an_interrupted_run_is_aborted(few, tmp_path) -> None:
    left = failing(few, tmp_path, Interrupts(), KeyboardInterrupt)
    events = [json.loads(line) for line in left["lineage.jsonl"].splitlines()]
    assert [each["eventType"] for each in events[-2:]] == ["ABORT", "ABORT"]


def test_a_run_with_nothing_to_do_still_says_that_it_ran(few) -> None:
    few.run()
    recorder = Recorder()
    few.run(observers=[recorder])
    assert [type(event).__name__ for event in recorder.events] == ["RunStarted", "RunFinished"]
    assert recorder.events[-1].status == "unchanged"


def test_a_run_that_waits_for_another_has_not_begun(few) -> None:
    from lake.errors import ConcurrentRunError

    recorder = Recorder()
    few.run()
    with few.lake.lock("small"), pytest.raises(ConcurrentRunError):
        few.run(observers=[recorder])
    assert not any(isinstance(event, RunFailed) for event in recorder.events)
    assert recorder.events == []


def test_a_login_is_not_taken_to_where_an_answer_sends(service) -> None:
    """And no event counts as delivered that became an empty GET on the way."""

    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(302)
            self.send_header("Location", f"{service.url}/taken")
            self.end_headers()

        do_PUT = do_POST  # noqa: N815  (the server's own name)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        for method in ("POST", "PUT"):
            with pytest.raises(OSError, match="302") as raised:
                send(method, f"http://127.0.0.1:{server.server_port}", b"x", {"Authorization": "Bearer sesame"})
            raised.value.close()
        server.shutdown()
    assert service.requests == []


def test_a_gateway_that_was_away_for_a_moment_learns_how_the_run_ended(watched: Watched) -> None:
    """Or it would show a run under way until the next one."""
    taken: list[bytes] = []
    first = threading.Event()

    class Busy(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if first.is_set():
                taken.append(body)
            self.send_response(200 if first.is_set() else 503)
            self.end_headers()
            first.set()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        pushed = exporter(Gateway(f"http://127.0.0.1:{server.server_port}"), Live())
        begun, *others = watched.recorder.events
        pushed.on(begun)
        assert first.wait(60)
        for event in others:
            pushed.on(event)
        pushed.close()
        pushed._courier._thread.join()  # however slow this machine is
        server.shutdown()
    assert value(parsed(taken[-1]), "run_active") == 0
    assert value(parsed(taken[-1]), "run_success") == 1


@pytest.mark.parametrize("address", ["http://[::1", "http://host:port", "http://:9091"])
def test_an_address_that_is_none_is_told_before_the_run(address: str) -> None:
    for option in ({"lineage": address}, {"metrics": address}):
        with pytest.raises(ConfigError), telemetry.observing(**option):
            pass


def test_a_host_that_is_none_is_a_warning(few, caplog) -> None:
    with telemetry.observing(metrics="..:9464") as observers:
        assert few.run(observers=observers).status == "ok"
    assert "metrics cannot be served" in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_log_on_a_full_disk_is_one_line_and_no_failure(few, capsys) -> None:
    with telemetry.observing(log_file="/dev/full") as observers:
        assert few.run(observers=observers).status == "ok"
    assert capsys.readouterr().err.count("\n") == 1
