"""One word inserted, deleted or appended: which tools still find the pair.

::

    python benchmarks/edits.py --peers PEERS/bin/python [--pairs 400]

Texts of 50, 300 and 1,000 random words (so that only the two of a pair resemble each other), each with a copy
that has one word more at the front, one less in the middle, or one more at the end. All pairs stand in one
Parquet file; every contender of ``dedup_peers.py`` reads it as any other, and a pair is found if not both stay.
The exact similarity of each pair is counted with Python's sets.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import dedup_peers
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NGRAM = 5
SIZES = (50, 300, 1_000)
EDITS = ("inserted at the front", "deleted in the middle", "appended at the end")
SLOW = ("Data-Juicer", "text-dedup", "datatrove")


def edited(words: list[str], edit: str, word: str) -> list[str]:
    middle = len(words) // 2
    return {
        "inserted at the front": [word, *words],
        "deleted in the middle": words[:middle] + words[middle + 1 :],
        "appended at the end": [*words, word],
    }[edit]


def jaccard(one: list[str], two: list[str]) -> float:
    sets = [{tuple(words[at : at + NGRAM]) for at in range(len(words) - NGRAM + 1)} for words in (one, two)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def make(path: Path, pairs: int) -> dict[tuple[str, int], list[float]]:
    """Write the pairs, two rows each in a row; give the similarities of each kind, in the file's order."""
    rng = random.Random(1)
    vocabulary = [
        "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 10))) for _ in range(20_000)
    ]
    texts, similar = [], {}
    for edit in EDITS:
        for size in SIZES:
            exact = []
            for _ in range(pairs):
                words = rng.choices(vocabulary, k=size)
                other = edited(words, edit, rng.choice(vocabulary))
                exact.append(jaccard(words, other))
                texts += [" ".join(words), " ".join(other)]
            similar[edit, size] = exact
    pq.write_table(pa.table({"text": texts}), path)
    return similar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="append", default=[], metavar="[NAME=]PYTHON")
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="NAME", help="the start of a contender's name"
    )
    asked = parser.parse_args()
    peers = dict(each.rpartition("=")[::2] for each in asked.peers)
    chosen = [each for each in dedup_peers.contenders() if each.name not in SLOW or each.package in peers]
    starts = tuple(start.lower() for start in asked.only)
    chosen = [each for each in chosen if each.name.lower().startswith(starts)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.parquet"
        similar = make(path, asked.pairs)
        for each in chosen:
            python = dedup_peers.python_of(each, peers)
            if python is None:
                each.failed = "no environment was given for it"
            else:
                each.version = dedup_peers.version(python, each.package)
                dedup_peers.run(each, python, path)
    report(chosen, similar, asked.pairs)


def report(
    chosen: list[dedup_peers.Contender], similar: dict[tuple[str, int], list[float]], pairs: int
) -> None:
    measured = [each for each in chosen if each.rows is not None]
    print("| one word | words | exact similarity | " + " | ".join(each.name for each in measured) + " |")
    print("|---" * (len(measured) + 3) + "|")
    for place, ((edit, size), exact) in enumerate(similar.items()):
        first = 2 * pairs * place
        shares = []
        for each in measured:
            stays = np.isin(np.arange(first, first + 2 * pairs), each.rows).reshape(pairs, 2)
            shares.append(f"{100 * (1 - stays.all(axis=1).mean()):.2f} %")
        span = f"{min(exact):.3f} to {max(exact):.3f}"
        print(f"| {edit} | {size:,} | {span} | " + " | ".join(shares) + " |")
    print("\n" + ", ".join(f"{each.name} {each.version}" for each in measured))
    for each in chosen:
        if each.failed:
            print(f"\n{each.name}: not measured: {each.failed}")


if __name__ == "__main__":
    main()
