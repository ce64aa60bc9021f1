"""A corpus of a million texts, one per cent more, and the time and memory that the pipeline takes for each.

::

    python -P benchmarks/incremental.py [--rows 1000000] [--words 120] [--more 0.01] [--folder DIR] [--keep]

Texts are words of a Zipf-like vocabulary. One in five is an earlier one with two words in a hundred replaced,
so that there are families. Each run is a whole process, ``gristmill run``, from Parquet files to the table;
its peak memory is what the system counted, mapped files included; anonymous memory is read from ``/proc``.
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

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

VOCABULARY = 50_000
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


def anonymous(pid: int, most: list[int], done: threading.Event) -> None:
    while not done.wait(0.2):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        held = [int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")]
        most[0] = max([most[0], *held])


def run(config: Path) -> tuple[float, float, float, dict]:
    """Seconds, peak memory, peak of anonymous memory (GB), and the run as JSON."""
    most, done = [0], threading.Event()
    started = time.perf_counter()
    command = [str(Path(sys.executable).with_name("gristmill")), "run", str(config), "--json"]
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        watcher = threading.Thread(target=anonymous, args=(process.pid, most, done))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        done.set()
        watcher.join()
        out.seek(0)
        told = out.read().decode()
    assert os.waitstatus_to_exitcode(status) == 0, told[-300:]
    return seconds, usage.ru_maxrss / 1e6, most[0] / 1e6, json.loads(told)


def told(name: str, ran: tuple[float, float, float, dict]) -> float:
    seconds, peak, anonymous_, report = ran
    print(f"{name:16} {seconds:8.1f} s   peak {peak:.2f} GB, of which anonymous {anonymous_:.2f} GB")
    for step in report.get("steps", []):
        kept = f"{step['rows_in']:>10,} in {step['rows_kept']:>10,} kept"
        print(f"    {step['step']:24} {kept} {step['seconds']:8.1f} s")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--words", type=int, default=120)
    parser.add_argument("--more", type=float, default=0.01)
    parser.add_argument("--step", default="dedup.MinHash: {threshold: 0.8}")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--keep", action="store_true")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="gristmill-many-"))
    try:
        size = write(folder / "texts", asked.rows, asked.words, 1)
        config = folder / "many.yaml"
        config.write_text(CONFIG.format(lake=folder / "lake", files=folder / "texts", step=asked.step))
        print(f"{platform.machine()}, {os.cpu_count()} cores; {asked.rows:,} texts, {size:,.0f} MB")
        whole = told("all of it", run(config))
        if asked.more:
            extra = round(asked.rows * asked.more)
            write(folder / "texts", extra, asked.words, 999_999_937)
            part = told(f"{extra:,} more", run(config))
            print(f"    that is {100 * part / whole:.1f} % of the time for {100 * asked.more:g} % of the rows")
            told("nothing new", run(config))
    finally:
        if not asked.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
