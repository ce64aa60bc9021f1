"""What Airflow's operator does with an address: submit, follow, tell, and stop; on a real head."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.integrations.process import Call, Outcome

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def call(head: Any, folder: Path, **more: Any) -> Call:
    return Call(
        str(folder / "gated.yaml"),
        address=f"http://127.0.0.1:{head.ports[0]}",
        command=str(Path(sys.executable).parent / "gristmill"),
        options=["--shared-filesystem", "--no-preflight"],
        env={"RAY_AUTH_TOKEN": head.token, "PYTHONPATH": str(folder / "code")},
        **more,
    )


def test_a_job_is_followed_told_once_and_stopped(head: Any, gated: Path) -> None:
    lines: list[str] = []
    first = call(head, gated, once="scheduled__2026-11-30T02:30:00+01:00")
    ended = first.carry_out(lines.append)
    assert ended.code == 0, ended.answer
    assert any("rows read" in line for line in lines)
    again = call(head, gated, once="scheduled__2026-11-30T02:30:00+01:00").carry_out(lines.append)
    assert (again.code, again.summary["job"]) == (0, ended.summary["job"])

    (gated / "closed").touch()
    (gated / "reached").unlink()
    (gated / "texts" / "new.jsonl").write_text('{"text": "a river and a mill"}\n')
    found: list[Outcome] = []
    third = call(head, gated, once="another")
    worker = threading.Thread(target=lambda: found.append(third.carry_out(lines.append)))
    worker.start()
    deadline = time.monotonic() + 120
    while not (gated / "reached").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    third.stop()
    worker.join(60)
    assert not worker.is_alive()
    assert found[0].code != 0
    deadline = time.monotonic() + 60
    while head.cluster.jobs()[-1].status != "STOPPED":
        assert time.monotonic() < deadline
        time.sleep(0.2)
