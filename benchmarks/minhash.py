"""Texts to MinHash signatures, one thread: ours against datasketch 2 on the same texts.

::

    python -P benchmarks/minhash.py [--megabytes 50] [--repeat 3] [--wide N]

(``-P``: or a script of this folder could shadow a package.)

The texts are the Flask documentation of ``configs/samples``, replicated with small edits. Compared are:

- ours: tokens, shingles, hashes and minima in one compiled pass;
- datasketch as most people feed it: ``text.lower().split()``, word 5-grams, its default hash (SHA-1),
  ``MinHash.bulk``, ``affine32``. Its shingles are hashed in another way, so its values are others;
- datasketch fed our shingle hashes, by ``MinHash.bulk``: what the permutations alone cost. Here the values
  must be ours, and that is checked on a sample before anything is timed.

``--wide`` compiles ours with another ``dedup._text_kernels._WIDE`` (into a folder of its own).
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasketch import MinHash

SAMPLES = Path(__file__).resolve().parents[1] / "configs" / "samples"
NGRAM, NUM_PERM, SEED = 5, 128, 1


def texts(megabytes: float) -> list[str]:
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
    return out


def theirs(documents: list[str]) -> None:
    sets = []
    for document in documents:
        tokens = document.lower().split()
        grams = (tokens[i : i + NGRAM] for i in range(max(1, len(tokens) - NGRAM + 1)))
        sets.append(list({" ".join(gram).encode() for gram in grams}))
    MinHash.bulk(sets, num_perm=NUM_PERM, seed=SEED, scheme="affine32")


def fed(sets: list[list[int]]) -> np.ndarray:
    options = {"num_perm": NUM_PERM, "seed": SEED, "scheme": "affine32", "hashfunc": lambda value: value}
    return np.array([minhash.hashvalues for minhash in MinHash.bulk(sets, **options)])


def best(call: Callable[[], object], repeat: int) -> float:
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=float, default=50)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--wide", type=int)
    options = parser.parse_args()
    if options.wide:
        os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()
        from dedup import _text_kernels

        _text_kernels._WIDE = options.wide  # noqa: SLF001  (before the first compilation)
    from dedup import signatures
    from dedup.shingle import shingle_sets

    documents = texts(options.megabytes)
    column = pa.array(documents)
    megabytes = column.nbytes / 1e6
    offsets, hashes = shingle_sets(column, NGRAM)
    sample = [hashes[low:high].tolist() for low, high in list(pairwise(offsets))[:500]]
    assert np.array_equal(signatures(column[:500], NUM_PERM, SEED, NGRAM), fed(sample)), "signatures differ"
    print(f"{platform.machine()}, {processor()}, {os.cpu_count()} cores; Python {platform.python_version()}")
    each = offsets[-1] / len(documents)
    print(f"{len(documents):,} texts, {megabytes:.1f} MB, {each:.0f} shingles each on average")
    print("sample of 500: identical to datasketch (affine32)")

    ours = best(lambda: signatures(column, NUM_PERM, SEED, NGRAM), options.repeat)
    print(f"ours                          {ours:8.2f} s  {megabytes / ours:8.1f} MB/s")
    few = documents[:: max(1, len(documents) // 2000)]
    share = sum(len(each.encode()) for each in few) / 1e6
    seconds = best(lambda: theirs(few), options.repeat)
    print(f"datasketch, split and SHA-1   {seconds:8.2f} s  {share / seconds:8.1f} MB/s  of {share:.1f} MB")
    print(f"    ours is {megabytes / ours / (share / seconds):.1f} times as fast")
    chosen = list(pairwise(offsets))[:: max(1, len(documents) // 2000)]
    sets = [hashes[low:high].tolist() for low, high in chosen]
    seconds = best(lambda: fed(sets), options.repeat)
    print(f"datasketch, fed our hashes    {seconds:8.2f} s  {share / seconds:8.1f} MB/s  of {share:.1f} MB")
    print(f"    ours, with tokens and hashes, is {megabytes / ours / (share / seconds):.1f} times as fast")
    if importlib.util.find_spec("daft") is None:
        print("Daft is not installed: not compared")


if __name__ == "__main__":
    main()
