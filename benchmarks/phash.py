"""How alike changed copies of real pictures are, and how alike different ones: where the threshold stands.

::

    python -P benchmarks/phash.py

(``-P``: or a script of this folder could shadow a package.) The pictures are the Fashion-MNIST sample of
``configs/samples``: 28 x 28, grey, and many garments that look nearly the same: a hard case. Each is also drawn
four times as large, to show what size does to recompression.
"""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from dedup import PHash
from dedup.image import hashes as phash
from dedup._walk_kernels import likeness
from lake.images import decode

SAMPLE = Path(__file__).resolve().parents[1] / "configs" / "samples" / "fashion-mnist.tar.gz"
RADIUS, THRESHOLD = PHash().radius, PHash().threshold


def pictures() -> list[Image.Image]:
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


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half as large": lambda image: scaled(image, 0.5),
    "twice as large": lambda image: scaled(image, 2),
    "JPEG 70": lambda image: jpeg(image, 70),
    "JPEG 95": lambda image: jpeg(image, 95),
    "brightness 0.8": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "brightness 1.2": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
}


def describe(image: Image.Image) -> tuple[int, np.ndarray]:
    pixels = np.asarray(image)
    found = phash.describe(pixels if pixels.ndim == 3 else pixels[:, :, None])
    assert found is not None
    return found


def main() -> None:
    originals = pictures()
    print(f"{len(originals):,} pictures")
    for size in (1, 4):
        bases = [scaled(image, size) if size > 1 else image for image in originals]
        described = [describe(image) for image in bases]
        for name, change in CHANGES.items():
            pairs = list(zip(described, (describe(change(image)) for image in bases), strict=True))
            bits = np.array([(x[0] ^ y[0]).bit_count() for x, y in pairs])
            like = np.array([likeness(x[1], y[1]) for x, y in pairs])
            found = ((bits <= RADIUS) & (like >= THRESHOLD)).mean()
            print(
                f"{28 * size:4d} px  {name:15s} found {100 * found:5.1f} %   likeness 1st percentile "
                f"{np.percentile(like, 1):.4f}, median {np.median(like):.4f}; bits 99th percentile "
                f"{np.percentile(bits, 99):.0f}"
            )
    described = [describe(image) for image in originals]
    close = [
        (likeness(x[1], y[1]), i, j)
        for (i, x), (j, y) in itertools.combinations(enumerate(described), 2)
        if (x[0] ^ y[0]).bit_count() <= RADIUS
    ]
    print(f"of {len(originals) * (len(originals) - 1) // 2:,} pairs of pictures {len(close):,} are candidates")
    for limit in (0.9, 0.95, 0.97, 0.98, 0.99, 0.995):
        print(f"    likeness >= {limit}: {sum(like >= limit for like, *_ in close)}")
    print("    the most alike:", [(round(like, 4), i, j) for like, i, j in sorted(close, reverse=True)[:5]])


if __name__ == "__main__":
    main()
