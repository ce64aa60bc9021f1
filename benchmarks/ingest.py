"""JSON lines to Parquet: Gristmill (ids, sources, accounts of bad rows) against bare pyarrow.

Bare pyarrow only parses and writes: it is the ceiling, not a peer. ``lake.Files`` reads and writes with
the same writer; ``ingest`` is the whole stage of a run, with splits in parallel, exact duplicates found
and dropped, and the commit. All in one process, in turns; the best of the rounds counts.

    python benchmarks/ingest.py --mb 1000
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.json as arrow_json
import pyarrow.parquet as pq

from lake.files import Files
from lake.lake import Lake
from pipeline import engine
from pipeline.config import Config
from pipeline.plan import make_plan
from pipeline.progress import Silent
from pipeline.run import Run
from pipeline.stages.context import Context

WORDS = 20_000


def make(path: Path, megabytes: int) -> None:
    """Reviews of 100 to 3,000 characters with a label, an id and a URL, as ``json.dumps`` writes them."""
    draw = random.Random(7)
    letters = "eeeetttaaoooinnshhrrdlucmfwypvbgk"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 10))) for _ in range(WORDS)]
    words += ['"quoted"', "naïve", "line\nbreak", "日本", "tab\t"]
    texts = [" ".join(draw.choices(words, k=draw.randint(20, 500))) for _ in range(2000)]
    size, number = 0, 0
    with path.open("w", encoding="utf-8") as out:
        while size < megabytes * 1_000_000:
            row = {
                "id": number,
                "url": f"https://example.org/reviews/{number % 977}/{number:09d}.html",
                "label": draw.choice(["positive", "negative", "neutral"]),
                "text": f"{number} {draw.choice(texts)}",
            }
            line = json.dumps(row, ensure_ascii=bool(number % 2)) + "\n"
            size += len(line)
            out.write(line)
            number += 1


def bare(source: Path, target: Path, compression: str) -> int:
    """Arrow's own streaming reader, into Parquet."""
    rows = 0
    options = arrow_json.ReadOptions(block_size=4 << 20)
    with (
        arrow_json.open_json(source, read_options=options) as reader,
        pq.ParquetWriter(target, reader.schema, compression=compression) as writer,
    ):
        for batch in reader:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def ours(source: Path, target: Path, compression: str) -> int:
    """Discover, read, write: what a run does for its raw table, without the commit."""
    rows = 0
    files = Files(paths=str(source))
    with pq.ParquetWriter(target, files.schema(), compression=compression) as writer:
        for split in files.discover({}):
            for outcome in files.read(split):
                writer.write_table(outcome.table)
                rows += outcome.table.num_rows + outcome.drops.num_rows
    return rows


def ingest(source: Path, target: Path, _: str) -> int:
    """The stage of a run, into a new lake."""
    config = Config(name="bench", lake=str(target), source=Files(paths=str(source)))
    runner = engine.local()
    run = Run(config, Context(Lake(target), runner, Silent()), "bench")
    run.ingest(make_plan(config, "bench").jobs)
    runner.close()
    raw, drops = Lake(target).table("raw"), Lake(target).table("_drops")
    return raw.count() + (drops.count() if drops.exists else 0)


def timed(work: Callable[[Path, Path, str], int], source: Path, compression: str) -> tuple[float, int]:
    target = source.with_suffix(".parquet")
    started = time.perf_counter()
    rows = work(source, target, compression)
    seconds = time.perf_counter() - started
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    return seconds, rows


def cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=1000, help="size of the input in MB (10**6 bytes)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compression", choices=["zstd", "snappy"], default="zstd")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "reviews.jsonl"
        make(source, args.mb)
        size = source.stat().st_size / 1e6
        works = {"bare pyarrow": bare, "lake.Files": ours, "ingest": ingest}
        best = dict.fromkeys(works, float("inf"))
        for _ in range(args.rounds):
            counts = set()
            for name, work in works.items():
                seconds, rows = timed(work, source, args.compression)
                best[name] = min(best[name], seconds)
                counts.add(rows)
            if len(counts) != 1:
                raise SystemExit(f"row counts differ: {counts}")
    print(f"{size:.0f} MB of JSON lines, {rows} rows, {args.compression}, best of {args.rounds}")
    print(f"{cpu()}, {len(os.sched_getaffinity(0))} cores, pyarrow {pa.__version__}")
    for name, seconds in best.items():
        print(f"{name:14}{size / seconds:8.0f} MB/s{best['bare pyarrow'] / seconds:8.2f} of bare")


if __name__ == "__main__":
    main()
