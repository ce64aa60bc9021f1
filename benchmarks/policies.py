"""TrivialAugment Wide on 224 x 224 x 3, one thread: ours against Pillow, program for program.

    python -P benchmarks/augment.py [images]    (-P: this file is called like the package it measures)

Pillow gets its best case: images that are Pillow images already, and no conversion back. Both
sides run the same programs; the bytes are compared before anything is timed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from augment import cpu, presets
from augment.ops import NAMES, Applied
from augment.programs import Programs

SIDE = 224
ROUNDS = 5


def warp(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "Identity": lambda image, _: image,
    "ShearX": lambda image, p: warp(image, (1, p, 0, 0, 1, 0)),
    "ShearY": lambda image, p: warp(image, (1, 0, 0, p, 1, 0)),
    "TranslateX": lambda image, p: warp(image, (1, 0, -int(p), 0, 1, 0)),
    "TranslateY": lambda image, p: warp(image, (1, 0, 0, 0, 1, -int(p))),
    "Rotate": Image.Image.rotate,
    "Brightness": lambda image, p: ImageEnhance.Brightness(image).enhance(p),
    "Color": lambda image, p: ImageEnhance.Color(image).enhance(p),
    "Contrast": lambda image, p: ImageEnhance.Contrast(image).enhance(p),
    "Sharpness": lambda image, p: ImageEnhance.Sharpness(image).enhance(p),
    "Posterize": lambda image, p: ImageOps.posterize(image, int(p)),
    "Solarize": ImageOps.solarize,
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Invert": lambda image, _: ImageOps.invert(image),
}


def by_pillow(pictures: Sequence[Image.Image], programs: Sequence[Sequence[Applied]]) -> list[Image.Image]:
    done = []
    for picture, program in zip(pictures, programs, strict=True):
        image = picture
        for step in program:
            image = PILLOW[step.op](image, step.parameter)
        done.append(image)
    return done


def seconds(action: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        start = perf_counter()
        action()
        times.append(perf_counter() - start)
    return min(times)  # of equal work, the least disturbed


def compare(name: str, images: np.ndarray, programs: Programs) -> None:
    pictures = [Image.fromarray(image) for image in images]
    written_out = list(programs)
    ours = cpu.execute(images, programs)
    differing = sum(
        int(np.count_nonzero(np.asarray(theirs) != mine))
        for theirs, mine in zip(by_pillow(pictures, written_out), ours, strict=True)
    )
    mine = seconds(lambda: cpu.execute(images, programs))
    theirs = seconds(lambda: by_pillow(pictures, written_out))
    n = len(images)
    print(
        f"{name:22} ours {n / mine:8.0f} images/s   Pillow {n / theirs:8.0f} images/s   "
        f"ratio {theirs / mine:5.2f}   differing values {differing}"
    )


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    # Smooth noise: the histograms and the caches of a photograph rather than those of white noise.
    coarse = np.random.default_rng(0).integers(0, 256, (n, 14, 14, 3), dtype=np.uint8)
    images = np.stack(
        [np.asarray(Image.fromarray(c).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for c in coarse]
    )
    wide = presets.trivial_augment_wide()
    programs = wide.draw(range(n), seed=1)
    compare("TrivialAugment Wide", images, programs)
    compare("the same, four ops each", images, wide.model_copy(update={"draws": 4}).draw(range(n), seed=1))
    print()
    for name in NAMES[1:-1]:
        only = (
            wide.restricted(only=[name]) if name != "Invert" else presets.autoaugment().restricted(only=[name])
        )
        compare(name, images[:64], only.draw(range(64), seed=1))
    start = perf_counter()
    wide.draw(range(n), seed=1)
    print(f"\ndrawing {n} programs: {1e6 * (perf_counter() - start) / n:.1f} us each")


if __name__ == "__main__":
    main()
