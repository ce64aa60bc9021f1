"""A corpus of a million texts, one per cent more, and the time and memory that the pipeline takes for each.

::

    python -P benchmarks/incremental.py [--rows 1000000] [--words 120] [--more 0.01] [--rounds 3] [--folder DIR]

Texts are words of a Zipf-like vocabulary. One in five is an earlier one with two words in a hundred replaced,
so that there are families. Each run is a whole process, ``gristmill run``, from Parquet files to the table;
its peak memory, mapped files included, and the anonymous part of it are read from ``/proc``.

The rows that come later are added several times to the same lake (a copy is put back in between), and the
quickest run counts. As many are also added to a corpus of no more than that: what this takes (the start of the
process, the plan, the sketches of the new rows, the commits) does not depend on the corpus; the rest does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

VOCABULARY = 50_000
# As a user has it: Python keeps compiled modules. Without them each process compiles ours anew, 0.3 s.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
CONFIG = """
name: many
lake: {lake}
source: {{lake.Files: {{paths: {files}, text: text}}}}
steps:
  - {step}
sink: {{lake.Table: {{name: train}}}}
"""


def texts(rows: int, words: int, seed: int) -> pa.Array:
    rng = np.random.default_rng(seed)
    vocabulary = pa.array([f"{np.base_repr(n * 2654435761 % 2**32, 36).lower()}" for n in range(VOCABULARY)])
    ids = np.minimum(rng.pareto(0.9, (rows, words)) * 20, VOCABULARY - 1).astype(np.int32)
    copies = np.flatnonzero(rng.random(rows) < 0.2)
    copies = copies[copies > 0]
    ids[copies] = ids[(rng.random(len(copies)) * copies).astype(np.int64)]
    changed = rng.random((len(copies), words)) < 0.02
    ids[copies] = np.where(changed, rng.integers(0, VOCABULARY, changed.shape), ids[copies])
    offsets = np.arange(0, rows * words + 1, words, dtype=np.int32)
    return pc.binary_join(pa.ListArray.from_arrays(offsets, vocabulary.take(pa.array(ids.ravel()))), " ")


def write(folder: Path, rows: int, words: int, seed: int, each: int = 50_000) -> float:
    folder.mkdir(parents=True, exist_ok=True)
    size = 0
    for start in range(0, rows, each):
        column = texts(min(each, rows - start), words, seed + start)
        size += column.nbytes
        pq.write_table(pa.table({"text": column}), folder / f"part-{seed}-{start:09}.parquet")
    return size / 1e6


def watch(pid: int, most: dict[str, int], done: threading.Event) -> None:
    """Keep the most of a process's memory, kB; what the system counts for a child begins with its parent's."""
    while not done.wait(0.1):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        for line in status.splitlines():
            name, _, said = line.partition(":")
            if name in most:
                most[name] = max(most[name], int(said.split()[0]))


class Ran(NamedTuple):
    """Seconds; seconds of processor time; peak memory and peak of anonymous memory (GB); the run as JSON."""

    seconds: float
    cpu: float
    peak: float
    anonymous: float
    report: dict

    @property
    def inside(self) -> float:
        """Seconds from the plan on, without the start of the process and the report."""
        return float(self.report["seconds"])


def run(config: Path) -> Ran:
    most, done = {"VmHWM": 0, "RssAnon": 0}, threading.Event()
    started = time.perf_counter()
    command = [str(Path(sys.executable).with_name("gristmill")), "run", str(config), "--json"]
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
        watcher = threading.Thread(target=watch, args=(process.pid, most, done))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        done.set()
        watcher.join()
        out.seek(0)
        told = out.read().decode()
    assert os.waitstatus_to_exitcode(status) == 0, told[-300:]
    cpu = usage.ru_utime + usage.ru_stime
    return Ran(seconds, cpu, most["VmHWM"] / 1e6, most["RssAnon"] / 1e6, json.loads(told))


def told(name: str, ran: Ran) -> Ran:
    times = f"{ran.seconds:8.2f} s (processor {ran.cpu:.2f} s, from the plan on {ran.inside:.2f} s)"
    print(f"{name:16} {times}   peak {ran.peak:.2f} GB, of which anonymous {ran.anonymous:.2f} GB")
    for step in ran.report.get("steps", []):
        kept = f"{step['rows_in']:>10,} in {step['rows_kept']:>10,} kept"
        print(f"    {step['step']:24} {kept} {step['seconds']:8.2f} s")
    return ran


def more(folder: Path, name: str, extra: int, words: int, rounds: int) -> Ran:
    """Add rows to the lake of a configuration; the quickest of some rounds, each on the same lake."""
    config, lake, before = folder / f"{name}.yaml", folder / f"{name}-lake", folder / f"{name}-before"
    shutil.copytree(lake, before, copy_function=os.link)
    write(folder / name, extra, words, 999_999_937)
    ran = []
    for _ in range(rounds):
        shutil.rmtree(lake)
        shutil.copytree(before, lake, copy_function=os.link)
        ran.append(run(config))
    shutil.rmtree(before)
    best = told(f"{extra:,} more", min(ran, key=lambda each: each.seconds))
    print("    rounds: " + ", ".join(f"{each.seconds:.2f}" for each in ran) + " s")
    return best._replace(cpu=min(each.cpu for each in ran))


def configure(folder: Path, name: str, step: str) -> Path:
    config = folder / f"{name}.yaml"
    config.write_text(CONFIG.format(lake=folder / f"{name}-lake", files=folder / name, step=step))
    return config


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--words", type=int, default=120)
    parser.add_argument("--more", type=float, default=0.01)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--step", default="dedup.MinHash: {threshold: 0.8}")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--keep", action="store_true")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="gristmill-many-"))
    try:
        size = write(folder / "many", asked.rows, asked.words, 1)
        config = configure(folder, "many", asked.step)
        load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
        print(f"{time.strftime('%Y-%m-%d %H:%M')}, load {load}; {platform.machine()}, {os.cpu_count()} cores")
        print(f"{asked.rows:,} texts, {size:,.0f} MB")
        # Kernels are compiled once for a machine: not here.
        extra = round(asked.rows * asked.more)
        write(folder / "few", extra or 1000, asked.words, 1)
        few = configure(folder, "few", asked.step)
        told(f"{extra or 1000:,} alone", run(few))
        whole = told("all of it", run(config))
        if asked.more:
            alone = more(folder, "few", extra, asked.words, asked.rounds)
            part = more(folder, "many", extra, asked.words, asked.rounds)
            for name in ("seconds", "cpu", "inside"):
                of, one, many = (getattr(each, name) for each in (whole, alone, part))
                print(
                    f"{name:8} {100 * asked.more:g} % of the rows take {many:.2f} of {of:.2f} s, "
                    f"{100 * many / of:.1f} %; {one:.2f} s do not depend on the corpus, "
                    f"{many - one:.2f} s do: {100 * (many - one) / of:.1f} %"
                )
            told("nothing new", run(config))
        print("load " + ", ".join(f"{each:.1f}" for each in os.getloadavg()))
    finally:
        if not asked.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
