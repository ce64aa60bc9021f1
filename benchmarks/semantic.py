"""Near-duplicate embeddings: hyperplanes against all pairs, and both against faiss.

::

    python -P benchmarks/semantic.py [--rows 20000 50000] [--width 384] [--threshold 0.95] [--repeat 3]

(``-P``: or a script of this folder could shadow a package.)

Vectors are drawn at random. A fifth of them are another one, turned by an angle whose cosine lies between
0.9 and 1, so that many pairs stand close to the threshold on both sides. ``--common S`` adds one direction to
all of them: with 1.0 any two have a cosine of about 0.5, as the embeddings of many models do. Timed are, round
by round so that all see the same machine:

- the sketch: quantisation and keys;
- candidates and their verification, from ready sketches: with hyperplanes, and with ``exact``;
- where faiss is installed, ``IndexFlatIP.range_search`` of all vectors, which is exact up to float32.

Before timing, the pairs of the exact search are compared with a product of float64 matrices; pairs so close to
the threshold that the quantisation may decide (within 0.0001) are left aside.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.sketch import Corpus, piece
from dedup.vector.cosine import Cosine

Floats = npt.NDArray[np.float32]


def vectors(rows: int, width: int, common: float, seed: int = 1) -> Floats:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, width))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x += common * np.ones(width) / np.sqrt(width)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    copies = np.arange(rows - rows // 5, rows)
    source = rng.integers(0, rows - rows // 5, len(copies))
    other = rng.normal(size=(len(copies), width))
    other -= (other * x[source]).sum(axis=1, keepdims=True) * x[source]
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    cosine = rng.uniform(0.9, 1.0, (len(copies), 1))
    x[copies] = cosine * x[source] + np.sqrt(1 - cosine**2) * other
    return x[rng.permutation(rows)].astype(np.float32)


def rounds(calls: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Give the least seconds of each call; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeat):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(each) for name, each in seconds.items()}


def codes(match: Cosine, corpus: Corpus) -> npt.NDArray[np.int64]:
    """The pairs that a match finds, as numbers."""
    edges = match.edges(corpus)
    return np.unique(edges.left * len(corpus) + edges.right)


def truth(x: Floats, threshold: float) -> npt.NDArray[np.int64]:
    unit = x.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    found = []
    for start in range(0, len(unit), 1000):
        row, other = np.nonzero(unit[start : start + 1000] @ unit.T >= threshold)
        later = other > row + start
        found.append((row[later] + start) * len(unit) + other[later])
    return np.concatenate(found)


def searched(x: Floats, threshold: float) -> int:
    faiss: Any = import_module("faiss")
    index = faiss.IndexFlatIP(x.shape[1])
    index.add(x)
    limits, _, _ = index.range_search(x, threshold)
    return (int(limits[-1]) - len(x)) // 2  # each pair twice, and each row with itself


def measure(x: Floats, threshold: float, repeat: int) -> None:
    rows, width = x.shape
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), width)
    table = pa.table({"_id": [f"{row:032x}" for row in range(rows)], "embedding": lists})
    some, every = Cosine(threshold=threshold), Cosine(threshold=threshold, exact=True)
    corpora = {match: match.corpus([piece(match.sketch(table))]) for match in (some, every)}
    found, whole = (codes(match, corpora[match]) for match in (some, every))
    sure, possible = truth(x, threshold + 1e-4), truth(x, threshold - 1e-4)
    missed, wrong = np.setdiff1d(sure, whole), np.setdiff1d(whole, possible)
    assert len(missed) == len(wrong) == 0, (len(missed), len(wrong))
    assert len(np.setdiff1d(found, whole)) == 0
    calls: dict[str, Callable[[], object]] = {
        "sketch": lambda: some.sketch(table),
        "hyperplanes": lambda: some.edges(corpora[some]),
        "exact": lambda: every.edges(corpora[every]),
    }
    if find_spec("faiss"):
        calls["faiss"] = lambda: searched(x, threshold)
    seconds = rounds(calls, repeat)
    candidates = len(some.candidates(corpora[some])[0])
    peer = f"{seconds['faiss']:.2f}" if "faiss" in seconds else "-"
    print(
        f"| {rows:,} | {len(whole):,} | {100 * len(found) / max(len(whole), 1):.1f} % | {candidates:,} "
        f"| {seconds['sketch']:.2f} | {seconds['hyperplanes']:.2f} | {seconds['exact']:.2f} | {peer} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000])
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--common", type=float, default=0.0)
    parser.add_argument("--threshold", type=float, default=0.95)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, NumPy {np.__version__}, Numba {numba.__version__}"
    )
    print(Cosine(threshold=given.threshold).explain())
    print("| rows | similar pairs | found | candidates | sketch, s | hyperplanes, s | exact, s | faiss, s |")
    print("|---|---|---|---|---|---|---|---|")
    measure(vectors(500, given.width, given.common), given.threshold, 1)  # compiles
    for rows in given.rows:
        measure(vectors(rows, given.width, given.common), given.threshold, given.repeat)


if __name__ == "__main__":
    main()
