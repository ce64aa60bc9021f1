"""All similar pairs of texts, exactly: ours against MinHash and against SetSimilaritySearch.

::

    python -P benchmarks/join.py --template [--rows 20000 100000]
    python -P benchmarks/join.py [--texts FILE] [--repeat 5] [--thresholds 0.5 0.8] [--peer PYTHON] [--sample N]

(``-P``: or a script of this folder could shadow a package.)

``FILE`` is a Parquet file with a column ``text``: the Debian documentation of ``benchmarks/data.py`` where it
is there, or else the Flask documentation of ``configs/samples`` with small edits. Timed are, round by round
so that all see the same machine:

- the join of ready shingle sets, with one thread and with two;
- the join of new rows with all: a hundredth, and a tenth, of the rows at the end are new;
- who goes, without the pairs of rows that go (`twins`), and whether it is who goes by all pairs;
- what MinHash does instead: shingle sets with signatures and without (one thread), then its decision.

``--template`` does so for pages of one template of 400 words: similar ones, with 3 words changed in each, and
such that are mostly not similar enough, with 7. The similar ones go through a pipeline too,
from a Parquet file to the tables, with ``pairs: twins``: the whole process of ``gristmill run``.

``--peer`` is a Python that has SetSimilaritySearch. On every ``N``-th set both must find
the same pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dedup import MinHash
from dedup.select import Edges, first
from dedup.text.join import Pairs, cost, join, twins
from dedup.text.shingle import shingle_sets
from dedup.text.signatures import sketches
from lake.ids import content_ids

DEBIAN = Path("~/.cache/gristmill/debian-docs/debian-docs.parquet").expanduser()
PEER = """
import sys, time
import numpy as np
from SetSimilaritySearch import all_pairs
sets = np.load(sys.argv[1])
offsets, hashes, threshold = sets["offsets"], sets["hashes"], float(sys.argv[2])
lists = [hashes[a:b].tolist() for a, b in zip(offsets, offsets[1:])]
start = time.perf_counter()
found = sorted((min(x, y), max(x, y), s) for x, y, s in all_pairs(lists, "jaccard", threshold))
seconds = time.perf_counter() - start
np.savez(sys.argv[1], pairs=np.array([pair[:2] for pair in found], np.int64).reshape(-1, 2),
         similarity=np.array([pair[2] for pair in found]), seconds=seconds)
"""


def rounds(calls: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Give the least seconds of each call; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeat):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(each) for name, each in seconds.items()}


def ours(column: pa.ChunkedArray, sets: Any, thresholds: list[float], repeat: int) -> None:
    addresses, sizes, _ = sets
    rows = len(sizes)
    last = {part: np.arange(rows) >= rows - rows // part for part in (100, 10)}
    print("| threshold | pairs | one thread, s | two, s | 1 % new, s | 10 % new, s | ns a hash | estimate, s |")
    print("|---|---|---|---|---|---|---|---|")
    for threshold in thresholds:
        calls: dict[str, Callable[[], object]] = {
            "one": lambda t=threshold: join(addresses, sizes, t),
            "two": lambda t=threshold: join(addresses, sizes, t, threads=2),
            "1 %": lambda t=threshold: join(addresses, sizes, t, new=last[100]),
            "10 %": lambda t=threshold: join(addresses, sizes, t, new=last[10]),
        }
        pairs = len(join(addresses, sizes, threshold).left)
        took = rounds(calls, repeat)
        each = 1e9 * took["one"] / int(sizes.sum())
        print(
            f"| {threshold} | {pairs:,} | {took['one']:.2f} | {took['two']:.2f} | {took['1 %']:.2f} "
            f"| {took['10 %']:.2f} | {each:.1f} | {cost(column.nbytes, threshold):.2f} |",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"the most memory so far, with texts and sets: {peak:.2f} GB")


def going(pairs: Pairs, rows: int) -> tuple[list[int], list[int]]:
    """Who goes, and for whom."""
    edges = Edges(pairs.left, pairs.right, pairs.similarity, pairs.similarity)
    chosen = first(edges, rows, pairs.similarity == 1.0)
    return chosen.dropped.tolist(), chosen.twin.tolist()


def walked(sets: Any, thresholds: list[float], repeat: int) -> None:
    """Time the walk, and hold it to all pairs."""
    addresses, sizes, _ = sets
    print("| threshold | rows that go | one thread, s | two, s |")
    print("|---|---|---|---|")
    for threshold in thresholds:
        found = going(twins(addresses, sizes, threshold), len(sizes))
        assert found == going(join(addresses, sizes, threshold, threads=2), len(sizes)), "others go"
        calls: dict[str, Callable[[], object]] = {
            "one": lambda t=threshold: twins(addresses, sizes, t),
            "two": lambda t=threshold: twins(addresses, sizes, t, threads=2),
        }
        took = rounds(calls, repeat)
        print(f"| {threshold} | {len(found[0]):,} | {took['one']:.2f} | {took['two']:.2f} |", flush=True)


def pages(rows: int, changed: int) -> list[str]:
    """Pages of 400 words, of which some are each page's own."""
    draw = np.random.default_rng(0)
    vocabulary, page = np.array([f"w{k}" for k in range(20_000)]), draw.integers(0, 20_000, 400)
    texts = []
    for _ in range(rows):
        mine = page.copy()
        mine[draw.integers(0, 400, changed)] = draw.integers(0, 20_000, changed)
        texts.append(" ".join(vocabulary[mine]))
    return texts


def template(rows: int, changed: int, repeat: int) -> None:
    """Time the walk over pages of one template."""
    offsets, hashes = shingle_sets(pa.chunked_array([pa.array(pages(rows, changed))]))
    sizes = np.diff(offsets)
    addresses = hashes.ctypes.data + 4 * offsets[:-1].astype(np.uint64)
    goes = len(twins(addresses, sizes, 0.8).left)
    started = time.process_time()
    took = rounds({"one": lambda: twins(addresses, sizes, 0.8)}, repeat)["one"]
    spent = (time.process_time() - started) / repeat
    print(f"| {rows:,} | {changed} | {goes:,} | {took:.2f} | {spent:.2f} |", flush=True)


PIPELINE = """
name: pages
lake: lake
source: {lake.Files: {paths: pages.parquet, text: text}}
steps:
  - dedup.Jaccard: {threshold: 0.8, pairs: twins}
sink: {lake.Table: {name: train}}
"""


def in_a_pipeline(rows: int, changed: int) -> None:
    """Time two runs over pages of one template, each into a lake of its own; the first may compile kernels."""
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.table({"text": pages(rows, changed)}), f"{folder}/pages.parquet")
        Path(folder, "pages.yaml").write_text(PIPELINE)
        command = [str(Path(sys.executable).with_name("gristmill")), "run", "pages.yaml", "--json"]
        for lake in ("first", "second"):
            before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            this = [*command, "--set", f"lake={lake}"]
            done = subprocess.run(
                this, cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            took, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    kept = json.loads(done.stdout)["steps"][-1]["rows_kept"]
    print(f"a pipeline, {rows:,} pages: {kept:,} stay; {took:.1f} s, of processor {spent:.1f} s", flush=True)


def minhash(column: pa.ChunkedArray, repeat: int) -> None:
    match = MinHash(threshold=0.8)
    table = pa.table({"_id": content_ids(column, None), "text": column})
    sketch = [match.sketch(table)]
    took = rounds(
        {
            "shingles": lambda: shingle_sets(column),
            "both": lambda: sketches(column),
            "resolve": lambda: match.resolve(sketch),
        },
        repeat,
    )
    print(
        f"shingle sets {took['shingles']:.2f} s; with signatures {took['both']:.2f} s; MinHash.resolve "
        f"{took['resolve']:.2f} s"
    )


def peer(python: str, hashes: Any, offsets: Any, every: int, thresholds: list[float]) -> None:
    """Let SetSimilaritySearch join a sample, and compare the pairs."""
    parts = [hashes[offsets[i] : offsets[i + 1]] for i in range(0, len(offsets) - 1, every)]
    parts = [np.frombuffer(raw, np.uint32) for raw in dict.fromkeys(part.tobytes() for part in parts) if raw]
    flat, sizes = np.concatenate(parts), np.array([len(part) for part in parts])
    ends = np.concatenate([[0], np.cumsum(sizes)])
    addresses = flat.ctypes.data + 4 * ends[:-1].astype(np.uint64)
    print(f"sample: {len(parts):,} distinct sets, {len(flat):,} hashes")
    for threshold in thresholds:
        with tempfile.TemporaryDirectory() as folder:
            file = f"{folder}/sets.npz"
            np.savez(file, offsets=ends, hashes=flat)
            subprocess.run([python, "-c", PEER, file, str(threshold)], check=True)
            theirs = dict(np.load(file))
        found = join(addresses, sizes, threshold)
        seconds = rounds({"ours": lambda t=threshold: join(addresses, sizes, t)}, 3)["ours"]
        assert np.array_equal(np.stack([found.left, found.right], axis=1), theirs["pairs"]), "pairs differ"
        assert np.array_equal(found.similarity, theirs["similarity"]), "similarities differ"
        print(
            f"threshold {threshold}: {len(found.left):,} pairs, the same; SetSimilaritySearch "
            f"{theirs['seconds']:.2f} s, ours {seconds:.3f} s: {theirs['seconds'] / seconds:.0f} times as fast",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=Path, default=DEBIAN)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    parser.add_argument("--peer")
    parser.add_argument("--sample", type=int, default=10)
    parser.add_argument("--template", action="store_true")
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 100_000])
    options = parser.parse_args()
    sys.path.append(str(Path(__file__).parent))  # behind the packages, which no script can shadow there
    import minhash as minhash_benchmark

    machine = f"{platform.machine()}, {minhash_benchmark.processor()}, {os.cpu_count()} cores"
    print(f"{machine}; Python {platform.python_version()}")
    if options.template:
        print("| pages | words changed | go | one thread, s | of it working, s |")
        print("|---|---|---|---|---|")
        for changed in (3, 7):
            for rows in options.rows:
                template(rows, changed, options.repeat)
        for rows in options.rows:
            in_a_pipeline(rows, 3)
        return
    if options.texts.exists():
        column = pq.read_table(options.texts, columns=["text"]).column("text")
    else:
        column = pa.chunked_array([minhash_benchmark.flask(50)])
        print("Flask documentation with small edits:", end=" ")
    offsets, hashes = shingle_sets(column)
    sizes = np.diff(offsets)
    addresses = hashes.ctypes.data + 4 * offsets[:-1].astype(np.uint64)
    print(f"{len(sizes):,} texts, {column.nbytes / 1e6:.1f} MB, {len(hashes):,} hashes")
    print(f"load {os.getloadavg()[0]:.1f}")
    ours(column, (addresses, sizes, hashes), options.thresholds, options.repeat)
    walked((addresses, sizes, hashes), options.thresholds, options.repeat)
    minhash(column, options.repeat)
    if options.peer:
        peer(options.peer, hashes, offsets, options.sample, [t for t in options.thresholds if t >= 0.5])
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
