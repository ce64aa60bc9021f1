"""The exact truth of near-duplicate texts: every pair with Jaccard >= 0.8 of its sets of word 5-grams.

::

    python benchmarks/truth.py [PARQUET] [--threshold 0.8] [--tokens words] [--check 2000]

Nothing here hashes or samples. Texts are compared as they are (equal ones are one). Tokens are runs of letters
and digits of the lower-cased text, and each Chinese or Japanese character (``--tokens w``: plain runs of
``\\w``, with the underscore and of whole Chinese clauses). A token is numbered by a dictionary, a 5-gram by
joining the numbers of its parts two at a time; a text of fewer than five tokens is one shingle. Then
every text is counted against every other through the lists of texts that hold each shingle; only pairs whose
sizes alone rule the threshold out are left aside. ``5 i >= 4 u`` is decided in integers. A sample of pairs is
counted again with Python's own sets.

The result is kept beside the Parquet file: ``truth-TOKENS-THRESHOLD.npz`` with

- ``text``: for each row the number of its text (the first row that has it), int64;
- ``left``, ``right``: the numbers of the two texts of each pair, ``left < right``, int64;
- ``similarity``: of each pair, float64.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import data
import numba
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

NGRAM = 5
ALONE = (  # Chinese and Japanese: each character a token
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u30ff\u3105-\u312f"
    "\u3400-\u9fff\uf900-\ufaff"
)
TOKENS = {"words": re.compile(f"[{ALONE}]|[^\\W_{ALONE}]+"), "w": re.compile(r"\w+")}
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Truth:
    """Which texts resemble each other."""

    text: Ints
    left: Ints
    right: Ints
    similarity: npt.NDArray[np.float64]


def distinct(texts: list[str]) -> tuple[Ints, list[int]]:
    """The number of each row's text, and the rows that bring a new one."""
    first: dict[str, int] = {}
    number = np.fromiter((first.setdefault(text, row) for row, text in enumerate(texts)), np.int64, len(texts))
    return number, list(first.values())


def joined(left: Ints, right: Ints) -> Ints:
    """Number the pairs of numbers: equal pairs, and only those, get equal numbers."""
    _, number = np.unique(left * (int(right.max(initial=0)) + 1) + right, return_inverse=True)
    return number.astype(np.int64)


def shingles(texts: list[str], pattern: re.Pattern[str]) -> tuple[Ints, Ints]:
    """Offsets and numbers of each text's sorted, distinct shingles."""
    known: dict[str, int] = {}
    short: dict[tuple[int, ...], int] = {}
    tokens, sizes, brief = [np.empty(0, np.int64)], [], {}
    for place, text in enumerate(texts):
        found = [known.setdefault(token, len(known)) for token in pattern.findall(text.lower())]
        sizes.append(len(found))
        tokens.append(np.array(found, np.int64))
        if 0 < len(found) < NGRAM:
            brief[place] = short.setdefault(tuple(found), len(short))
    flat, size = np.concatenate(tokens), np.array(sizes)
    owner = np.repeat(np.arange(len(texts)), size)
    two = joined(flat[:-1], flat[1:])
    four = joined(two[:-2], two[2:])
    five = joined(four[:-1], flat[NGRAM - 1 :])
    inside = owner[: len(five)] == owner[NGRAM - 1 :]  # a 5-gram may not reach into the next text
    few = int(five.max()) + 1
    texts_of = np.concatenate([owner[: len(five)][inside], np.fromiter(brief, np.int64)])
    numbers = np.concatenate([five[inside], np.fromiter(brief.values(), np.int64) + few])
    both = np.unique(texts_of * (few + len(short)) + numbers)  # each shingle of a text once
    texts_of, numbers = np.divmod(both, few + len(short))
    return np.searchsorted(texts_of, np.arange(len(texts) + 1)), numbers


@numba.njit(cache=True)
def count(offsets: Any, numbers: Any, starts: Any, over: int, under: int) -> Any:
    """Pairs of texts, which come by ascending size, and how many shingles they share."""
    texts = offsets.size - 1
    holders = np.empty(numbers.size, np.int32)  # by shingle: the texts so far that hold it
    low, high = starts[:-1].copy(), starts[:-1].copy()
    shared = np.zeros(texts, np.int32)
    left, right, common = [np.int64(0)], [np.int64(0)], [np.int64(0)]
    for text in range(texts):
        size = offsets[text + 1] - offsets[text]
        first = np.int64(texts)
        for shingle in numbers[offsets[text] : offsets[text + 1]]:
            # sizes only grow: a text too small for this one is too small for all that follow
            while low[shingle] < high[shingle]:
                other = holders[low[shingle]]
                if (offsets[other + 1] - offsets[other]) * over >= under * size:
                    break
                low[shingle] += 1
            if low[shingle] < high[shingle]:
                first = min(first, np.int64(holders[low[shingle]]))
            for place in range(low[shingle], high[shingle]):
                shared[holders[place]] += 1
            holders[high[shingle]] = text
            high[shingle] += 1
        for other in range(first, text):
            both = np.int64(shared[other])
            if both:
                union = size + offsets[other + 1] - offsets[other] - both
                if both * over >= under * union:
                    left.append(other)
                    right.append(text)
                    common.append(both)
                shared[other] = 0
    return np.array(left[1:]), np.array(right[1:]), np.array(common[1:])


def pairs(offsets: Ints, numbers: Ints, threshold: Fraction) -> tuple[Ints, Ints, Ints]:
    """All pairs within the threshold, by the texts' places, and their shared shingles."""
    size = np.diff(offsets)
    order = np.argsort(size, kind="stable")
    sorted_offsets = np.concatenate([[0], np.cumsum(size[order])])
    sorted_numbers = np.concatenate([numbers[offsets[place] : offsets[place + 1]] for place in order])
    starts = np.concatenate([[0], np.cumsum(np.bincount(numbers))])
    left, right, common = count(
        sorted_offsets, sorted_numbers, starts, threshold.denominator, threshold.numerator
    )
    return order[left], order[right], common


def check(texts: list[str], pattern: re.Pattern[str], truth: dict[tuple[int, int], float], number: int) -> None:
    """Count a sample again with sets of tuples of strings: pairs of the truth, and neighbours of all kinds."""

    def grams(text: str) -> set[tuple[str, ...]]:
        tokens = pattern.findall(text.lower())
        return {tuple(tokens[at : at + NGRAM]) for at in range(max(1, len(tokens) - NGRAM + 1))} - {()}

    rng = random.Random(1)
    known = sorted(truth)
    sample = rng.sample(known, min(number, len(known)))
    at_random = [(rng.randrange(len(texts)), rng.randrange(len(texts))) for _ in range(number)]
    # chains x ~ y ~ z: many of the pairs x, z lie just below the threshold
    partner = dict(known)
    chains = [(x, partner[y]) for x, y in rng.sample(known, min(number, len(known))) if y in partner]
    for x, y in sample + at_random + chains:
        if x == y:
            continue
        one, two = grams(texts[x]), grams(texts[y])
        exact = len(one & two) / max(1, len(one | two))
        found = truth.get((min(x, y), max(x, y)))
        if found is None:
            assert exact < THRESHOLD, f"missed: texts {x} and {y} with {exact}"
        else:
            assert abs(exact - found) < 1e-12, f"texts {x} and {y}: {found}, and by sets {exact}"
    others = len(at_random) + len(chains)
    print(f"checked with Python's sets: {len(sample):,} pairs of the truth, {others:,} others")


THRESHOLD = 0.8


def path_of(parquet: Path, tokens: str = "words", threshold: float = THRESHOLD) -> Path:
    return parquet.with_name(f"truth-{tokens}-{threshold:g}.npz")


def make(parquet: Path, tokens: str = "words", threshold: float = THRESHOLD, sample: int = 2_000) -> Truth:
    """Compute the truth and keep it."""
    start = time.perf_counter()
    rows = pq.read_table(parquet, columns=["text"]).column("text").to_pylist()
    number, firsts = distinct(rows)
    texts = [rows[row] for row in firsts]
    offsets, numbers = shingles(texts, TOKENS[tokens])
    seconds = time.perf_counter() - start
    print(f"{len(rows):,} rows, {len(texts):,} texts, {len(numbers):,} shingles ({seconds:.0f} s)")
    exact = Fraction(str(threshold))
    one, two, common = pairs(offsets, numbers, exact)
    size = np.diff(offsets)
    similarity = common / (size[one] + size[two] - common)
    left, right = np.minimum(one, two), np.maximum(one, two)
    print(f"{len(left):,} pairs ({time.perf_counter() - start:.0f} s)")
    if sample:
        found = dict(zip(zip(left.tolist(), right.tolist(), strict=True), similarity.tolist(), strict=True))
        check(texts, TOKENS[tokens], found, sample)
    row = np.array(firsts)
    truth = Truth(number, row[left], row[right], similarity)
    np.savez(path_of(parquet, tokens, threshold), **vars(truth))
    return truth


def load(parquet: Path, tokens: str = "words", threshold: float = THRESHOLD) -> Truth:
    """The truth of a Parquet file, computed on first use."""
    path = path_of(parquet, tokens, threshold)
    if not path.exists():
        return make(parquet, tokens, threshold)
    with np.load(path) as kept:
        return Truth(**{name: kept[name] for name in ("text", "left", "right", "similarity")})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parquet", nargs="?", type=Path)
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    parser.add_argument("--tokens", choices=list(TOKENS), default="words")
    parser.add_argument("--check", type=int, default=2_000, metavar="PAIRS")
    asked = parser.parse_args()
    parquet = asked.parquet or data.fetch("debian-docs") / "debian-docs.parquet"
    truth = make(parquet, asked.tokens, asked.threshold, asked.check)
    bins = np.histogram(truth.similarity, [0.8, 0.85, 0.9, 0.95, 0.99, 1.0, 1.1])[0]
    print("by similarity from .80, .85, .90, .95, .99, at 1:", *(f"{each:,}" for each in bins))


if __name__ == "__main__":
    main()
