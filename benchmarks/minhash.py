"""Texts to MinHash signatures: ours against Daft, rensa and datasketch on the same texts.

::

    python -P benchmarks/minhash.py [--texts FILE.parquet] [--chinese FILE.parquet] [--peers PYTHON]
    python -P benchmarks/minhash.py --device cuda

(``-P``: or a script of this folder could shadow a package.)

Every contestant is a process of its own, pinned to its cores; they take turns, one round each, so that a
busy moment of the machine meets all of them. Printed are each one's best round and its median by the clock,
its best round by processor seconds (which other work on the machine disturbs less), and how many times as fast
ours is. Peers live in another environment, whose interpreter ``--peers`` names; what it lacks is left out.

- ours, on one and on two cores: tokens, shingles, hashes and minima; also with shingle sets (``sketches``);
- Daft's ``minhash`` expression on a table in memory: it splits at spaces only and folds nothing; its fastest
  hash function of three;
- rensa, fed with ``text.lower().split()``, joined 5-grams;
- datasketch ``MinHash.bulk`` (``affine32``), fed with the same.

The texts are those of ``--texts`` (column ``text``), else the Debian documentation that
``benchmarks/data.py debian-docs`` made, else the Flask documentation of ``configs/samples``, replicated with
small edits. Chinese ones are of ``--chinese``, else ideographs drawn by Zipf's law; peers that split at spaces
see hardly a shingle in them, so they are not timed there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SAMPLES = Path(__file__).resolve().parents[1] / "configs" / "samples"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gristmill"
DEBIAN = CACHE / "debian-docs" / "debian-docs.parquet"
NGRAM, NUM_PERM, SEED = 5, 128, 1
PYTHON_SHARE = 20  # what Python shingles gets each n-th text only: it is slow


# ---------------------------------------------------------------- texts


def flask(megabytes: float) -> pa.Array:
    rng = random.Random(1)
    originals = []
    for path in sorted(SAMPLES.glob("flask-docs-*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            originals += [json.loads(line)["text"].split(" ") for line in file]
    out: list[str] = []
    size = 0
    while size < megabytes * 1e6:
        words = list(rng.choice(originals))
        for _ in range(1 + len(words) // 50):
            words[rng.randrange(len(words))] = f"edit{rng.randrange(10**6)}"
        out.append(" ".join(words))
        size += len(out[-1].encode())
    return pa.array(out)


def zipf(megabytes: float) -> pa.Array:
    rng = random.Random(1)
    letters = [chr(0x4E00 + i) for i in range(4000)]
    weights = [1 / (i + 1) for i in range(4000)]
    out = []
    for _ in range(int(megabytes * 1e6 / 2250)):
        text = rng.choices(letters, weights, k=rng.randint(100, 1400))
        text[12::17] = "\uff0c" * len(text[12::17])
        out.append("".join(text))
    return pa.array(out)


def take(path: Path, megabytes: float) -> pa.Array:
    """Every n-th text of a file, for about so many megabytes."""
    column = pq.read_table(path, columns=["text"]).column("text").cast(pa.large_string())
    step = max(1, int(column.nbytes / (megabytes * 1e6)))
    return column.take(pa.array(range(0, len(column), step))).combine_chunks()


def size_of(column: pa.Array) -> float:
    """Megabytes of text."""
    return sum(len(text.encode()) for text in column.to_pylist() if text) / 1e6


# ---------------------------------------------------------------- contestants


def grams(text: str) -> list[str]:
    tokens = text.lower().split()
    return list({" ".join(tokens[i : i + NGRAM]) for i in range(max(1, len(tokens) - NGRAM + 1))})


def ours(column: pa.Array, threads: int) -> Callable[[], object]:
    from dedup import signatures

    return lambda: signatures(column, NUM_PERM, SEED, NGRAM, threads=threads)


def ours_sets(column: pa.Array, threads: int) -> Callable[[], object]:
    from dedup.text.signatures import sketches

    return lambda: sketches(column, NUM_PERM, SEED, NGRAM, threads=threads)


def ours_characters(column: pa.Array, threads: int) -> Callable[[], object]:
    from dedup import signatures

    return lambda: signatures(column, NUM_PERM, SEED, NGRAM, "char", threads=threads)


def daft(column: pa.Array, _threads: int) -> Callable[[], object]:
    import daft as library
    from daft.functions import minhash

    table = library.from_arrow(pa.table({"text": column})).collect()

    def run(function: str) -> object:
        return table.select(
            minhash(
                library.col("text"),
                num_hashes=NUM_PERM,
                ngram_size=NGRAM,
                seed=SEED,
                hash_function=function,  # type: ignore[arg-type]
            )
        ).collect()

    def seconds(function: str) -> float:
        start = time.perf_counter()
        run(function)
        return time.perf_counter() - start

    functions = ["murmurhash3", "xxhash3_64", "xxhash32"]
    for function in functions:
        run(function)
    fastest = min(functions, key=seconds)
    return lambda: run(fastest)


def rensa(column: pa.Array, _threads: int) -> Callable[[], object]:
    from rensa import RMinHash

    texts = column.to_pylist()
    return lambda: RMinHash.digest_matrix_from_token_sets([grams(text) for text in texts], NUM_PERM, SEED)


def datasketch(column: pa.Array, _threads: int) -> Callable[[], object]:
    from datasketch import MinHash

    texts = column.to_pylist()

    def run() -> object:
        sets = ([gram.encode() for gram in grams(text)] for text in texts)
        return list(MinHash.bulk(sets, num_perm=NUM_PERM, seed=SEED, scheme="affine32"))

    return run


CONTESTANTS = {
    "ours": ours,
    "ours, with shingle sets": ours_sets,
    "ours, characters": ours_characters,
    "daft": daft,
    "rensa": rensa,
    "datasketch": datasketch,
}


def contestant(name: str, texts: Path, threads: int) -> None:
    """Run one round for each line on standard input; answer with its seconds, by the clock and of processor."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    column = pq.read_table(texts).column("text").combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0)
    if name in {"rensa", "datasketch"}:
        column = column.take(pa.array(range(0, len(column), PYTHON_SHARE)))
    megabytes = size_of(column)
    call = CONTESTANTS[name](column, threads)
    call()  # compiles, and warms
    print(megabytes, flush=True)
    for _ in sys.stdin:
        start, used = time.perf_counter(), time.process_time()
        call()
        print(time.perf_counter() - start, time.process_time() - used, flush=True)


class Contestant:
    def __init__(self, name: str, python: str, texts: Path, threads: int) -> None:
        command = [
            python,
            "-P",
            __file__,
            "--contestant",
            name,
            "--texts",
            str(texts),
            "--threads",
            str(threads),
        ]
        self.label = f"{name}, {threads} cores" if threads > 1 else name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.megabytes = float(self.answer())
        self.seconds: list[float] = []
        self.used: list[float] = []

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def round(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        seconds, used = self.answer().split()
        self.seconds.append(float(seconds))
        self.used.append(float(used))


def compare(title: str, column: pa.Array, peers: str | None, options: argparse.Namespace) -> None:
    print(f"\n{title}: {len(column):,} texts, {size_of(column):.1f} MB")
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts.parquet"
        pq.write_table(pa.table({"text": column}), texts)
        wanted = [(name, sys.executable, 1) for name in ("ours", "ours, with shingle sets", "ours, characters")]
        wanted += [(name, sys.executable, options.cores) for name in ("ours", "ours, with shingle sets")]
        wanted += [(name, peers, 1) for name in ("daft", "rensa", "datasketch") if peers]
        running: list[Contestant] = []
        for name, python, threads in wanted:
            try:
                running.append(Contestant(name, str(python), texts, threads))
            except ValueError:
                print(f"{name}: could not be run, left out")
        for _ in range(options.repeat):
            for each in running:
                each.round()
        for each in running:
            each.process.communicate()
        print(f"{'':34s}{'MB/s':>9s}{'median':>9s}{'ours is':>9s}   {'MB/CPU s':>9s}{'ours is':>9s}")
        clock, used = (running[0].megabytes / min(each) for each in (running[0].seconds, running[0].used))
        for each in running:
            best, median, cpu = (
                each.megabytes / seconds
                for seconds in (min(each.seconds), statistics.median(each.seconds), min(each.used))
            )
            print(
                f"{each.label:34s}{best:9.1f}{median:9.1f}{clock / best:8.2f}x   {cpu:9.1f}{used / cpu:8.2f}x",
                flush=True,
            )


# ---------------------------------------------------------------- GPU


def timed(call: Callable[[], Any], synchronize: Callable[[], None], repeat: int) -> float:
    seconds = []
    for _ in range(repeat + 1):  # the first compiles
        start = time.perf_counter()
        call()
        synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def on_gpu(column: pa.Array, options: argparse.Namespace) -> None:
    import cupy
    import numpy as np

    from dedup import signatures
    from dedup.text import cuda
    from dedup.text.shingle import texts

    device = cupy.cuda.Device()
    name = cupy.cuda.runtime.getDeviceProperties(device.id)["name"].decode()
    print(f"\n{name}: {len(column):,} texts")
    (chunk,) = texts(column)
    wanted = signatures(column, NUM_PERM, SEED, NGRAM, threads=os.cpu_count() or 1)
    data, offsets = cupy.asarray(chunk.data), cupy.asarray(chunk.offsets)
    gigabytes = chunk.data.nbytes / 1e9
    for unit in ("word", "char"):
        seconds = timed(
            partial(cuda.signatures, data, offsets, NUM_PERM, SEED, NGRAM, unit=unit),
            device.synchronize,
            options.repeat,
        )
        print(f"text on the device, {unit:14s}{gigabytes / seconds:9.2f} GB/s")
    signed = cupy.asnumpy(cuda.signatures(data, offsets, NUM_PERM, SEED, NGRAM))
    assert np.array_equal(signed, wanted), "the GPU has other bits"
    del data, signed
    place = cupy.empty(len(chunk.data), np.uint8)
    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(len(chunk.data)), np.uint8, len(chunk.data))
    for label, source in (("pageable", chunk.data), ("pinned", pinned)):
        seconds = timed(partial(place.set, source), device.synchronize, options.repeat)
        print(f"plain copy, {label:22s}{gigabytes / seconds:9.2f} GB/s")
    del place
    run = partial(signatures, column, NUM_PERM, SEED, NGRAM, device="cuda")
    seconds = timed(run, device.synchronize, options.repeat)
    print(f"text and signatures on the host   {gigabytes / seconds:9.2f} GB/s")
    assert np.array_equal(run(), wanted), "the GPU has other bits"
    print("all signatures are equal to those of the CPU")


# ---------------------------------------------------------------- the run


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions(python: str, names: Iterable[str]) -> str:
    code = "import importlib.metadata as m, sys\nfor n in sys.argv[1:]: print(n, m.version(n))"
    found = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=False)
    return ", ".join(found.stdout.splitlines())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--chinese", type=Path)
    parser.add_argument("--megabytes", type=float, default=60)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--cores", type=int, default=2, help="of the runs on several")
    parser.add_argument("--peers", help="the interpreter of an environment with daft, rensa, datasketch")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        contestant(options.contestant, options.texts, options.threads)
        return
    path = options.texts or (DEBIAN if DEBIAN.exists() else None)
    megabytes = options.megabytes if options.device == "cpu" else max(options.megabytes, 2000.0)
    column = take(path, megabytes) if path else flask(min(megabytes, 60))
    print(
        f"{platform.machine()}, {processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, ",
        end="",
    )
    print(f"NumPy {metadata.version('numpy')}, Numba {metadata.version('numba')}")
    if hasattr(os, "getloadavg"):
        print(f"load average before: {os.getloadavg()[0]:.1f}")
    if options.device == "cuda":
        while column.nbytes < megabytes * 1e6:
            column = pa.concat_arrays([column.cast(pa.large_string())] * 2)
        on_gpu(column, options)
        return
    if options.peers:
        print(f"peers: {versions(options.peers, ['daft', 'rensa', 'datasketch'])}")
    compare(path.name if path else "Flask documentation", column, options.peers, options)
    chinese = take(options.chinese, options.megabytes) if options.chinese else zipf(options.megabytes / 3)
    compare("Chinese" if options.chinese else "Chinese, drawn", chinese, None, options)


if __name__ == "__main__":
    main()
