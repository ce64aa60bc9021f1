"""Near-duplicates between CIFAR-10's test and training images: ours, imagehash and imagededup.

::

    python benchmarks/cifar.py [--truth duplicates_cifar10.csv] [--peers PYTHON] [--sheets DIR]

The data comes through ``benchmarks/data.py``. The truth is the list of Barz and Denzler (2020, Do We Train on
Test Data?): 286 test images with a near-duplicate in the training set, published as
``meta/duplicates_cifar10.csv`` of the repository cvjena/cifair. It is not complete: it names one partner of
each, and not all test images. So the pairs that it does not name are drawn side by side (``--sheets``), to be
judged by eye.

For a peer its hashes are taken, and all pairs of a test and a training image within a radius.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

TRAIN = 50_000
RADII = (0, 2, 4, 6, 8, 10)
THRESHOLDS = (0.99, 0.98, 0.97, 0.96, 0.95)
SHOWN = 96

Pairs = tuple[np.ndarray, np.ndarray]


def pictures() -> tuple[np.ndarray, list[bytes]]:
    """All 60,000, the training images first: pixels, and PNG files."""
    import data
    import pyarrow.parquet as pq

    folder = data.fetch("cifar10")
    blobs = [
        blob
        for part in ("train", "test")
        for blob in pq.read_table(folder / f"{part}.parquet")["image"].to_pylist()
    ]
    return np.stack([np.asarray(Image.open(io.BytesIO(blob))) for blob in blobs]), blobs


# ---------------------------------------------------------------------------------------- contenders


def ours(blobs: list[bytes], **options: object) -> tuple[dict[str, Pairs], str]:
    """Test and training images of each verified pair, by threshold."""
    import pyarrow as pa

    from dedup import PHash
    from dedup.sketch import piece

    match = PHash(threshold=min(THRESHOLDS), **options)
    table = pa.table({"_id": [f"{k:032x}" for k in range(len(blobs))], "image": pa.array(blobs, pa.binary())})
    match.sketch(table.slice(0, 10))  # compiles
    start = time.perf_counter()
    sketch = match.sketch(table)
    sketched = time.perf_counter()
    corpus = match.corpus([piece(sketch)])
    left, right, _ = match.candidates(corpus, threads=2)
    paired = time.perf_counter()
    edges = match.verify(corpus, left, right, 2)
    done = time.perf_counter()
    timing = (
        f"sketch {sketched - start:.1f} s, {len(left):,} candidates {paired - sketched:.1f} s, "
        f"verify {done - paired:.1f} s"
    )
    x, y = corpus.order[edges.left], corpus.order[edges.right]
    low, high = np.minimum(x, y), np.maximum(x, y)
    found = {}
    for threshold in THRESHOLDS:
        cross = (low < TRAIN) & (high >= TRAIN) & (edges.exact >= threshold)
        by_likeness = np.flatnonzero(cross)[np.argsort(-edges.exact[cross], kind="stable")]
        found[f"likeness {threshold}"] = (high[by_likeness] - TRAIN, low[by_likeness])
    return found, timing


def within(hashes: np.ndarray) -> dict[str, Pairs]:
    """All pairs of a test and a training image within each radius, the nearest first."""
    test, train, apart = [], [], []
    for start in range(TRAIN, len(hashes), 500):
        bits = np.bitwise_count(hashes[start : start + 500, None] ^ hashes[None, :TRAIN])
        i, j = np.nonzero(bits <= max(RADII))
        test.append(i + start - TRAIN)
        train.append(j)
        apart.append(bits[i, j])
    x, y, bits = np.concatenate(test), np.concatenate(train), np.concatenate(apart)
    order = np.argsort(bits, kind="stable")
    x, y, bits = x[order], y[order], bits[order]
    return {f"radius {radius}": (x[bits <= radius], y[bits <= radius]) for radius in RADII}


def peer_hashes(name: str, pixels: np.ndarray) -> np.ndarray:
    """Run by the peers' interpreter."""
    library, kind = name.split()
    if library == "imagehash":
        import imagehash

        make: Callable[[np.ndarray], object] = lambda one: str(  # noqa: E731
            getattr(imagehash, kind)(Image.fromarray(one))
        )
    else:
        from imagededup import methods

        encoder = {"phash": methods.PHash, "dhash": methods.DHash}[kind](verbose=False)
        make = lambda one: encoder.encode_image(image_array=one)  # noqa: E731
    return np.array([int(str(make(one)), 16) for one in pixels], np.uint64)


PEERS = ("imagehash phash", "imagehash dhash", "imagededup phash", "imagededup dhash")


# ---------------------------------------------------------------------------------------- the account


def first_of_each(pairs: Pairs, leave: set[int]) -> list[tuple[int, int]]:
    """One pair of each test image that is not among ``leave``."""
    best: dict[int, int] = {}
    for test, train in zip(pairs[0].tolist(), pairs[1].tolist(), strict=True):
        if test not in leave:
            best.setdefault(test, train)
    return list(best.items())


def draw(pixels: np.ndarray, pairs: list[tuple[int, int]], path: Path) -> None:
    """Test and training image side by side, eight pairs a row."""
    side, columns = 96, 8
    sheet = Image.new("RGB", (columns * (2 * side + 8), -(-len(pairs) // columns) * (side + 14)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (test, train) in enumerate(pairs):
        x, y = number % columns * (2 * side + 8), number // columns * (side + 14)
        for k, one in enumerate((TRAIN + test, train)):
            sheet.paste(
                Image.fromarray(pixels[one]).resize((side, side), Image.Resampling.NEAREST), (x + k * side, y)
            )
        pen.text((x, y + side), f"{number}: {test} {train}", fill="black")
    sheet.save(path)


def report(
    name: str, found: dict[str, Pairs], truth: dict[int, int], sheets: Path | None, pixels: np.ndarray
) -> None:
    for setting, pairs in found.items():
        tests = set(pairs[0].tolist())
        listed, others = tests & truth.keys(), first_of_each(pairs, set(truth))
        kinds = [sum(truth[test] == kind for test in listed) for kind in (1, 2)]
        print(
            f"{name:28s} {setting:14s} test images {len(tests):6,}: listed {len(listed):3d} "
            f"(near {kinds[0]}, similar {kinds[1]}), others {len(others):6,}; pairs {len(pairs[0]):8,}"
        )
        if sheets and others:
            rng = np.random.default_rng(0)
            taken = sorted(rng.permutation(len(others))[:SHOWN].tolist())
            draw(pixels, [others[k] for k in taken], sheets / f"{name} {setting}.png".replace(" ", "-"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, help="meta/duplicates_cifar10.csv of ciFAIR")
    parser.add_argument("--peers", help="a Python with imagehash and imagededup")
    parser.add_argument(
        "--sheets", type=Path, help="a folder for pictures of the pairs that the truth does not name"
    )
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        name, source, target = asked.run
        np.save(target, peer_hashes(name, np.load(source)))
        return
    pixels, blobs = pictures()
    rows = asked.truth.read_text().split()[1:] if asked.truth else []
    truth = {int(row.split(",")[0]): int(row.split(",")[3]) for row in rows}
    if asked.sheets:
        asked.sheets.mkdir(parents=True, exist_ok=True)
    for name, options in (
        ("ours", {}),
        ("ours, crops: false", {"crops": False}),
        ("ours, dhash", {"hash": "dhash"}),
    ):
        found, timing = ours(blobs, **options)
        print(f"{name}: {timing}", flush=True)
        report(name, found, truth, asked.sheets, pixels)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "pixels.npy", Path(folder) / "hashes.npy"
        np.save(source, pixels)
        for name in PEERS if asked.peers else ():
            start = time.perf_counter()
            done = subprocess.run([asked.peers, "-P", __file__, "--run", name, source, target], check=False)
            if done.returncode:
                print(f"{name}: failed")
                continue
            print(f"{name}: hashes {time.perf_counter() - start:.1f} s (with start-up)", flush=True)
            report(name, within(np.load(target)), truth, asked.sheets, pixels)


if __name__ == "__main__":
    main()
