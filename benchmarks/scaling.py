"""Each pass of a run on one core and on two, locally and on Ray with one node and with three.

    python -P benchmarks/scaling.py                 # the passes: seconds, efficiency, equal tables
    python -P benchmarks/scaling.py --parts 2000    # what a task costs the driver, and its memory
    python -P benchmarks/scaling.py --memory        # what a worker holds, by the size of its part

Efficiency is the time on one core by twice the time on two. The tables of all runs are compared row for row.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import Pipeline, engine
from pipeline.progress import Silent
from pipeline.size import Cluster, Pass, simulate
from pipeline.size.measure import drawn_pictures, drawn_texts

CONFIG = """\
name: scaling
lake: ./lake
source:
  - lake.Files: {paths: texts, split_bytes: SPLIT}
  - lake.Files: {paths: pictures, split_bytes: SPLIT}
steps:
  - pipeline.filters.Quality: {preset: plain}
  - dedup.MinHash: {threshold: 0.8}
  - dedup.PHash: {}
  - augment.Apply: {copies: 1}
"""


class Clock(Silent):
    """Seconds by the clock of each pass; the rest is the driver's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._turned = time.perf_counter()
        self._name = "driver, between the passes"

    def _turn(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[self._name] += now - self._turned
        self._turned, self._name = now, name

    def start_step(self, name: str, total: int | None) -> None:
        self._turn(name if not total or total == 1 else f"{name} ({total})")

    def finish(self) -> None:
        self._turn("driver, between the passes")


@contextmanager
def on_ray(nodes: int, cores: int) -> Iterator[engine.Runner]:
    """So many nodes on this machine, with so many cores each."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            made.add_node(num_cpus=cores)
        runner = engine.ray(made.address)
        list(runner.map(_imported, range(4 * nodes * cores)))  # workers are there, libraries loaded
        yield runner
        runner.close()
    finally:
        made.shutdown()


def _imported(_: int) -> None:
    import augment  # noqa: F401
    import dedup  # noqa: F401

    time.sleep(0.2)


@contextmanager
def here(workers: int) -> Iterator[engine.Runner]:
    """Threads of this process, kept to as many cores: the kernels inside a step take all that they may."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:workers])
    runner = engine.local(workers)
    try:
        yield runner
    finally:
        runner.close()
        os.sched_setaffinity(0, before)


def digest(lake: Path) -> str:
    """Of all rows of all tables but ``_runs``, which holds times."""
    from lake.lake import Lake

    whole = hashlib.blake2b()
    opened = Lake(str(lake))
    for name in sorted(opened.tables()):
        if name != "_runs":
            rows = sorted(
                json.dumps(row, sort_keys=True, default=_short)
                for row in opened.table(name).to_table().to_pylist()
            )
            whole.update(json.dumps([name, rows]).encode())
    return whole.hexdigest()


def _short(value: object) -> str:
    return hashlib.blake2b(value).hexdigest() if isinstance(value, bytes) else str(value)


def timed(folder: Path, name: str, place: Callable[[], Any]) -> dict[str, float]:
    """The passes of one run."""
    shutil.rmtree(folder / "lake", ignore_errors=True)
    with place() as runner:
        clock = Clock()
        Pipeline.load(folder / "scaling.yaml").run(runner=runner, progress=clock)
        clock.finish()
    print(f"{name}: {sum(clock.seconds.values()):.1f} s", file=sys.stderr)
    return dict(clock.seconds)


def compare(texts: int, pictures: int, parts: int, rounds: int) -> None:
    """All places, in turns; of each pass the quickest round."""
    places: dict[str, Callable[[], Any]] = {
        "local, 1 core": lambda: here(1),
        "local, 2 cores": lambda: here(2),
        "Ray, 1 node of 1": lambda: on_ray(1, 1),
        "Ray, 1 node of 2": lambda: on_ray(1, 2),
        "Ray, 3 nodes of 1": lambda: on_ray(3, 1),
    }
    best: dict[str, dict[str, float]] = {}
    digests: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="scaling-") as name:
        folder = Path(name)
        size = drawn_texts(folder / "texts", texts) + drawn_pictures(folder / "pictures", pictures)
        (folder / "scaling.yaml").write_text(CONFIG.replace("SPLIT", str(size // parts)))
        timed(folder, "warm-up", places["local, 2 cores"])
        for number in range(rounds):
            for place, start in places.items():
                seconds = timed(folder, place, start)
                if number == 0:  # it takes as long as the run
                    digests.add(digest(folder / "lake"))
                before = best.setdefault(place, seconds)
                best[place] = {each: min(took, before.get(each, took)) for each, took in seconds.items()}
    if len(digests) != 1:
        raise SystemExit("the tables differ")
    _print(best, texts, pictures, size)


def _print(best: dict[str, dict[str, float]], texts: int, pictures: int, size: int) -> None:
    names = list(best)
    what = f"{texts:,} texts and {pictures:,} pictures, {size / 1e6:.0f} MB"
    print(f"\n{what}; load {os.getloadavg()[0]:.1f} at the end; all tables are equal.")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.\n")
    print("| seconds | " + " | ".join(names) + " | efficiency, local | efficiency, Ray | Ray, simulated |")
    print("|---|" + "---|" * (len(names) + 3))
    thought = {each: _thought(each, best[names[2]][each]) for each in best[names[0]]}
    thought["all"] = sum(thought.values())
    for each, simulated in thought.items():
        row = [sum(best[n].values()) if each == "all" else best[n].get(each, float("nan")) for n in names]
        shown = " | ".join(f"{seconds:.2f}" for seconds in row)
        shares = (row[0] / 2 / row[1], row[2] / 2 / row[3], row[2] / 2 / simulated)
        print(f"| {each} | {shown} | " + " | ".join(f"{share:.0%}" for share in shares) + " |")


def _thought(name: str, seconds: float) -> float:
    """The seconds on two cores that the simulator of `gristmill size` gives, from those on one."""
    if not name.endswith(")"):
        return seconds  # one task, or the driver
    tasks = int(name.rpartition("(")[2].rstrip(")"))
    plan = [Pass(name, tasks, seconds / tasks, 0.0)]
    one, two = (
        simulate(plan, Cluster(nodes=1, cores=cores, start=0.0, failures=0.0)).seconds for cores in (1, 2)
    )
    return seconds * two / one


def _nothing(item: tuple[int, bytes]) -> bytes:
    return item[1][:200]


def many(parts: int) -> None:
    """What so many small tasks cost the driver: time a task, and memory."""
    with on_ray(1, 2) as runner:
        for count in (parts // 10, parts, 5 * parts):
            before, cpu, started = _resident(), time.process_time(), time.perf_counter()
            for _ in runner.map(_nothing, [(number, b"x" * 2000) for number in range(count)]):
                pass
            wall, cpu = time.perf_counter() - started, time.process_time() - cpu
            each = f"{wall / count * 1e3:.2f} ms a task by the clock, {cpu / count * 1e3:.2f} ms of the driver"
            held = f"driver {before / 1e6:.0f} MB before, {_resident() / 1e6:.0f} MB after"
            print(f"{count:,} parts: {each}; {held}")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory() -> None:
    """Peak resident memory of processes that run a whole job of one part, by the size of that part."""
    print("| kind | part in the lake, MB | peak, MB |\n|---|---|---|")
    for kind, counts in (("texts", (1_000, 20_000, 80_000)), ("pictures", (20, 400, 1_600))):
        for count in counts:
            with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
                out = subprocess.run(
                    [sys.executable, "-P", __file__, "--one", kind, str(count), folder],
                    capture_output=True,
                    check=True,
                )
                print(
                    f"| {kind} | " + " | ".join(f"{float(v):.1f}" for v in out.stdout.split()) + " |",
                    flush=True,
                )


def one(kind: str, count: int, folder: Path) -> None:
    """A job of a single part, in this process."""
    from lake.lake import Lake

    (drawn_texts if kind == "texts" else drawn_pictures)(folder / "data", count)
    steps = "[{dedup.MinHash: {}}]" if kind == "texts" else "[{dedup.PHash: {}}, {augment.Apply: {copies: 1}}]"
    source = f"{{lake.Files: {{paths: data, split_bytes: {1 << 40}}}}}"
    (folder / "one.yaml").write_text(f"name: one\nlake: lake\nsource: {source}\nsteps: {steps}\n")
    Pipeline.load(folder / "one.yaml").run(runner=engine.local(1))
    part = max(part.bytes for part in Lake(str(folder / "lake")).table("raw").parts())
    print(part / 1e6, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--pictures", type=int, default=2_000)
    parser.add_argument("--splits", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--parts", type=int)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args.one[0], int(args.one[1]), Path(args.one[2]))
    elif args.memory:
        memory()
    elif args.parts:
        many(args.parts)
    else:
        compare(args.texts, args.pictures, args.splits, args.rounds)


if __name__ == "__main__":
    main()
