"""How alike changed copies of real pictures are, and how alike different ones: where the threshold stands.

::

    python -P benchmarks/phash.py [--pictures FOLDER]

(``-P``: or a script of this folder could shadow a package.) The pictures are the Fashion-MNIST sample of
``configs/samples``: 28 x 28, grey, and many garments that look nearly the same: a hard case. Each is also drawn
four times as large, to show what size does to recompression. With ``--pictures`` also those of a folder. Speed
is that of hashing pixels that are decoded already.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image, ImageEnhance

from dedup import PHash
from dedup.image.hashes import describe_all
from dedup.sketch import piece
from lake.images import decode, encode

SAMPLE = Path(__file__).resolve().parents[1] / "configs" / "samples" / "fashion-mnist.tar.gz"
LEAST = 0.9
LIMITS = (0.95, 0.97, 0.98, 0.99, 0.995)


def garments() -> list[Image.Image]:
    with tarfile.open(SAMPLE) as archive:
        members = [each for each in archive if each.name.endswith(".png")]
        files = [archive.extractfile(each) for each in members]
        return [Image.fromarray(decode(file.read()).squeeze()) for file in files if file]


def scaled(image: Image.Image, by: float) -> Image.Image:
    return image.resize((round(image.width * by), round(image.height * by)), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue()))


def cut(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    w, h = image.size
    return image.crop((round(w * left), round(h * top), round(w * (1 - right)), round(h * (1 - bottom))))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half as large": lambda image: scaled(image, 0.5),
    "twice as large": lambda image: scaled(image, 2),
    "JPEG 70": lambda image: jpeg(image, 70),
    "JPEG 95": lambda image: jpeg(image, 95),
    "brightness 0.8": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "brightness 1.2": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "contrast 0.8": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "2 % off each side": lambda image: cut(image, 0.02, 0.02, 0.02, 0.02),
    "5 % off each side": lambda image: cut(image, 0.05, 0.05, 0.05, 0.05),
    "10 % off each side": lambda image: cut(image, 0.1, 0.1, 0.1, 0.1),
    "10 % off the left": lambda image: cut(image, 0.1, 0, 0, 0),
    "7 % off a corner, JPEG 85": lambda image: jpeg(cut(image, 0.07, 0.07, 0, 0), 85),
}


def pixels_of(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def compare(match: PHash, images: Iterable[Image.Image]) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Left and right of each pair that is alike to LEAST, its likeness, and the number of candidates."""
    blobs = [encode(pixels_of(image)) for image in images]
    table = pa.table({"_id": [f"{k:032x}" for k in range(len(blobs))], "image": pa.array(blobs, pa.binary())})
    corpus = match.corpus([piece(match.sketch(table))])
    left, right, _ = match.candidates(corpus)
    edges = match.verify(corpus, left, right)
    place = np.array([int(id_, 16) for id_ in corpus.ids.to_pylist()])
    return place[edges.left], place[edges.right], edges.exact, len(left)


def copies(name: str, images: list[Image.Image]) -> None:
    for change, make in CHANGES.items():
        shares = []
        for options in ({}, {"hash": "dhash"}, {"crops": False}):
            match = PHash(threshold=LEAST, keep=(), **options)
            x, y, like, _ = compare(match, [*images, *map(make, images)])
            mine = like[np.abs(x - y) == len(images)]
            shares += [100 * (mine >= limit).sum() / len(images) for limit in (0.97, 0.99)]
        print(f"{name:12s} {change:26s} " + "  ".join(f"{share:5.1f}" for share in shares))


def speed() -> None:
    rng = np.random.default_rng(0)
    sizes = (
        ("28 x 28", (28, 28, 1), 4000),
        ("32 x 32 x 3", (32, 32, 3), 4000),
        ("224 x 224 x 3", (224, 224, 3), 400),
    )
    for name, shape, count in sizes:
        images = list(rng.integers(0, 256, (count, *shape), dtype=np.uint8))
        found = []
        for options in ({}, {"windows": True}, {"windows": True, "turns": range(8)}, {"kind": "dhash"}):
            best = float("inf")
            for _ in range(5):
                start = time.perf_counter()
                describe_all(images, **options)
                best = min(best, time.perf_counter() - start)
            found.append(f"{count / best:9,.0f}")
        print(f"{name:14s} images/s, one thread: phash, with windows, and 8 orientations, dhash:", *found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="a folder of photographs")
    asked = parser.parse_args()
    speed()
    originals = garments()
    print("found at 0.97 and 0.99, in percent: default, dhash, crops: false")
    few = originals[::5]
    for size in (1, 4):
        copies(f"{28 * size} px", [scaled(image, size) if size > 1 else image for image in few])
    if asked.pictures:
        files = sorted(file for file in asked.pictures.iterdir() if file.is_file())
        copies("photographs", [Image.open(file).convert("RGB") for file in files])
    for options in ({}, {"crops": False}, {"hash": "dhash"}):
        _, _, like, candidates = compare(PHash(threshold=LEAST, keep=(), **options), originals)
        counts = ", ".join(f"{limit}: {(like >= limit).sum()}" for limit in LIMITS)
        print(f"{options}: of 499,500 pairs {candidates:,} are candidates; likeness of at least {counts}")


if __name__ == "__main__":
    main()
