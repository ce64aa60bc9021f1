"""Constant load for a long time: memory, files, processes, ports and latency stay flat.

`GRISTMILL_SOAK_MINUTES` (30) says for how long; less than 5 is too short to judge. New files come every few
seconds; one process runs the pipeline again and again, as a scheduler would in its own; a second one maintains
the lake; a third one reads. The figures go to stdout, as a table.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from small import sentence

from lake.lake import Lake
from lake.maintenance import verify

MINUTES = float(os.environ.get("GRISTMILL_SOAK_MINUTES", "30"))
EVERY = 4.0  # seconds between two new files
ROWS = 20  # of a file
WARM = max(0.25, min(0.5, 2.5 / MINUTES))  # of the time: caches fill, and the first files grow old enough to go

RUNS = """
import json, sys, time
from dedup import MinHash
from lake import Files
from pipeline import Pipeline, engine
from pipeline.filters import Length
lake, base, every = sys.argv[1], sys.argv[2], float(sys.argv[3])
made = Pipeline(name="soak", lake=lake, base=base, source=Files(paths="texts/*.jsonl", text="text"),
                steps=[Length(min=10), MinHash(threshold=0.8)])
runner = engine.local(2)
while True:
    began = time.monotonic()
    report = made.run(runner=runner, wait=60)
    took = time.monotonic() - began
    print(json.dumps({"took": took, "status": report.status}), flush=True)
    time.sleep(max(0.0, every - took))
"""

MAINTAINS = """
import json, sys, time
from lake.lake import Lake
from lake.maintenance import Retention
from pipeline.upkeep import maintain
lake, minutes = Lake(sys.argv[1]), float(sys.argv[2])
days = minutes / 1440
kept = Retention(files_hours=minutes / 60, log_days=days, runs_days=days, reports_days=days)
while True:
    began = time.monotonic()
    said = maintain(lake, kept, force=True, wait=60)
    print(json.dumps({"took": time.monotonic() - began, "actions": len(said.actions), "busy": len(said.busy)}),
          flush=True)
    time.sleep(5)
"""

READS = """
import json, sys, time
from lake.lake import Lake
table = Lake(sys.argv[1]).table("train")
while True:
    began = time.monotonic()
    rows = 0
    if table.exists:
        for batch in table.scan(columns=["_id"]):
            rows += batch.num_rows
    print(json.dumps({"took": time.monotonic() - began, "rows": rows}), flush=True)
    time.sleep(2)
"""


@dataclass(frozen=True)
class Sample:
    """What a process holds at a moment, and how large the lake is."""

    seconds: float
    rss_mib: float
    open_files: int
    threads: int
    children: int
    ports: int


def listening(pid: int) -> int:
    """Sockets of a process that wait for somebody to call."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    lines = [
        line.split()
        for kind in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]
    ]
    return sum(1 for line in lines if line[3] == "0A" and line[9] in inodes)


def sample(pid: int, began: float) -> Sample:
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    children = sum(
        len(task.read_text().split()) for task in Path(f"/proc/{pid}/task").glob("*/children") if task.exists()
    )
    return Sample(
        round(time.monotonic() - began, 1),
        int(status["VmRSS"].split()[0]) / 1024,
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        int(status["Threads"]),
        children,
        listening(pid),
    )


def growth(times: list[float], values: list[float]) -> tuple[float, float]:
    """By how much a fitted line grows over the time after the warm-up; and the mean of the values there."""
    x, y = np.array(times), np.array(values)
    late = x >= x[0] + (x[-1] - x[0]) * WARM
    slope = np.polyfit(x[late], y[late], 1)[0]
    return float(slope * (x[late][-1] - x[late][0])), float(y[late].mean())


def lines_of(path: Path) -> list[dict[str, float]]:
    """What a child said, each with the time at which it had said it by."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + 600)
def test_nothing_grows_under_constant_load(tmp_path: Path) -> None:
    texts, lake = tmp_path / "texts", Lake(tmp_path / "lake")
    texts.mkdir()
    rng = random.Random(11)
    known: list[list[str]] = []

    def arrive(number: int) -> None:
        lines = []
        for _ in range(ROWS):
            again = known and rng.random() < 0.2
            words = [*rng.choice(known), "again"] if again else sentence(rng, 50)
            known.append(words)
            del known[:-500]
            lines.append(json.dumps({"text": " ".join(words)}))
        path = texts / f".{number}"
        path.write_text("\n".join(lines) + "\n")
        path.rename(texts / f"{number:06}.jsonl")  # whole or not at all, as it should arrive

    arrive(0)
    minutes = MINUTES / 10  # what is older goes
    codes = {
        "runs": [RUNS, lake.uri, str(tmp_path), str(EVERY)],
        "maintains": [MAINTAINS, lake.uri, str(minutes)],
        "reads": [READS, lake.uri],
    }
    outs = {name: tmp_path / f"{name}.out" for name in codes}
    running = {}
    for name, code in codes.items():
        with outs[name].open("w") as out, (tmp_path / f"{name}.err").open("w") as err:
            running[name] = subprocess.Popen([sys.executable, "-P", "-c", *code], stdout=out, stderr=err)
    while any(len(lines_of(out)) < 2 for out in outs.values()):  # all are at work
        time.sleep(0.5)
        for name, process in running.items():
            assert process.poll() is None, (tmp_path / f"{name}.err").read_text()
    began = time.monotonic()
    samples: dict[str, list[Sample]] = {name: [] for name in codes}
    files: list[tuple[float, int]] = []
    number = 1
    try:
        while time.monotonic() - began < MINUTES * 60:
            arrive(number)
            number += 1
            time.sleep(EVERY)
            for name, process in running.items():
                assert process.poll() is None, (tmp_path / f"{name}.err").read_text()
                samples[name].append(sample(process.pid, began))
            # Not Path.rglob: a folder that goes meanwhile is an error there.
            files.append((time.monotonic() - began, sum(len(names) for _, _, names in os.walk(lake.uri))))
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait(timeout=30)
    found = {name: lines_of(out) for name, out in outs.items()}
    table(samples, files, found, number)
    check(samples, files, found)
    lake.recover()
    assert verify(lake) == []
    last = found["reads"][-1]["rows"]
    assert last > 0
    assert lake.table("raw").count() <= number * ROWS


def table(
    samples: dict[str, list[Sample]],
    files: list[tuple[float, int]],
    found: dict[str, list[dict[str, float]]],
    number: int,
) -> None:
    """The figures, ten rows of them for each process, as Markdown."""
    say = sys.stdout.write
    say(f"\n{MINUTES:g} minutes, {number} files of {ROWS} rows\n\n")
    say("| process | s | RSS MiB | open files | threads | children | ports |\n|---|---|---|---|---|---|---|\n")
    for name, taken in samples.items():
        for each in taken[:: max(1, len(taken) // 10)]:
            say(
                f"| {name} | {each.seconds:.0f} | {each.rss_mib:.0f} | {each.open_files} | {each.threads} "
                f"| {each.children} | {each.ports} |\n"
            )
    say("\n| what | times | first tenth s | last tenth s | most s |\n|---|---|---|---|---|\n")
    for name, lines in found.items():
        took = [line["took"] for line in lines if line.get("status") != "unchanged"]
        tenth = max(1, len(took) // 10)
        first, last = np.median(took[tenth : 2 * tenth] or took), np.median(took[-tenth:])
        say(f"| {name} | {len(took)} | {first:.2f} | {last:.2f} | {max(took):.2f} |\n")
    say(f"\nfiles in the lake: {[count for _, count in files[:: max(1, len(files) // 10)]]}\n")


def check(
    samples: dict[str, list[Sample]], files: list[tuple[float, int]], found: dict[str, list[dict[str, float]]]
) -> None:
    """What a leak would break. The lake grows, since rows come; what is asked is that nothing else does."""
    for name, taken in samples.items():
        times = [each.seconds for each in taken]
        rss, mean = growth(times, [each.rss_mib for each in taken])
        assert rss < 0.2 * mean + 10, f"{name}: resident memory grew by {rss:.0f} MiB of {mean:.0f}"
        for what in ("open_files", "threads", "children", "ports"):
            grown, mean = growth(times, [getattr(each, what) for each in taken])
            # The pools of Arrow and delta-rs fill slowly; what leaks with every run is ten times as much.
            assert grown < 0.25 * mean + 2, f"{name}: {what} grew by {grown:.1f} of {mean:.1f}"
        assert max(each.ports for each in taken) == 0
    for name, lines in found.items():
        took = [line["took"] for line in lines if line.get("status") != "unchanged"]
        grown, mean = growth([float(n) for n in range(len(took))], took)
        # A run looks through the index of all earlier rows: some growth is the work itself.
        assert grown < 0.5 * mean + 0.3, f"{name}: latency grew by {grown:.2f} s of {mean:.2f} s"
    grown, mean = growth([at for at, _ in files], [float(count) for _, count in files])
    assert grown < 0.3 * mean, f"files in the lake grew by {grown:.0f} of {mean:.0f}"
