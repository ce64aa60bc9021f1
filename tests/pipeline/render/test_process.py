"""`gristmill` as a child of other programs: its answer, its end, and what it must not tell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.integrations.process import Call, Outcome

GRISTMILL = str(Path(sys.executable).parent / "gristmill")


def begun(call: Call, sign: Path) -> tuple[threading.Thread, list[Outcome]]:
    """A call that is being carried out, and has come as far as the sign; and where its outcome will be."""
    found: list[Outcome] = []
    worker = threading.Thread(target=lambda: found.append(call.carry_out(lambda _: None)))
    worker.start()
    deadline = time.monotonic() + 120
    while not sign.exists():
        assert time.monotonic() < deadline
        assert worker.is_alive()
        time.sleep(0.02)
    return worker, found


def test_a_run_that_is_terminated_gives_its_locks_back_and_goes_on_later(corpus: Path) -> None:
    call = Call(str(corpus / "small.yaml"), command=GRISTMILL)
    worker, found = begun(call, corpus / "lake")
    assert call._process is not None
    os.kill(call._process.pid, signal.SIGTERM)
    worker.join(60)
    assert found[0].code == 130
    assert "interrupted" in found[0].complaint
    lines: list[str] = []
    ended = Call(str(corpus / "small.yaml"), ("seed=3",), command=GRISTMILL).carry_out(lines.append)
    assert (ended.code, ended.summary["status"]) == (0, "ok")
    told = json.dumps(ended.summary) + "".join(lines)
    texts = [row for file in (corpus / "texts").glob("*.jsonl") for row in file.read_text().splitlines()]
    assert not [row for row in texts if len(row) > 60 and row[20:60] in told]


def test_one_that_does_not_listen_is_killed_with_its_children(tmp_path: Path) -> None:
    script = tmp_path / "deaf"
    script.write_text('#!/bin/sh\ntrap "" INT\nsleep 60 & echo $! > "$0.child"\nwait; sleep 60\n')
    script.chmod(0o755)
    call = Call("any.yaml", command=str(script), patience=0.2)
    worker, found = begun(call, tmp_path / "deaf.child")
    call.stop()
    worker.join(10)
    assert found[0].code == -signal.SIGKILL
    child = int((tmp_path / "deaf.child").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}/status").exists() and "zombie" not in Path(f"/proc/{child}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert call.carry_out(lambda _: None).code == 130  # a call that was stopped starts nothing more


def test_an_interruption_ends_the_process(tmp_path: Path) -> None:
    script = tmp_path / "slow"
    script.write_text("#!/bin/sh\necho up >&2\nexec sleep 60\n")
    script.chmod(0o755)
    call = Call("any.yaml", command=str(script))

    def interrupted(line: str) -> None:
        raise KeyboardInterrupt(line)

    with pytest.raises(KeyboardInterrupt, match="up"):
        call.carry_out(interrupted)
    assert call._process is not None
    assert call._process.poll() == -signal.SIGINT


def test_errors_are_told_in_one_line() -> None:
    answer = {"error": {"where": "a.yaml:1:2", "message": "unknown key", "hint": "seed", "why": None}}
    assert Outcome(2, answer).complaint == "gristmill ended with exit code 2: a.yaml:1:2: unknown key: seed"
    assert "unreadable" in Outcome(3, {"run": "r"}).complaint
    assert Outcome(-9).complaint == "gristmill ended with exit code -9"


def test_other_programs_need_gristmill_without_dependencies() -> None:
    code = "import pipeline.integrations.process, sys; print(*{each.partition('.')[0] for each in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pydantic", "pyarrow", "numpy", "yaml", "click", "lake"} & set(done.stdout.split())
