"""Effects and bilinear resampling on one thread: ours against the bare functions of OpenCV, NumPy and Pillow.

::

    OMP_NUM_THREADS=1 python -P benchmarks/effects_cpu.py [--rounds 40]

One picture of smooth noise, 224 x 224 x 3, uint8. All take turns; of each, the least processor microseconds of
all rounds; our rotation is of 32 in a call (a call of its own costs half a millisecond). What the others do
is near, not equal: OpenCV turns in fixed point, its JPEG is libjpeg-turbo's (written and read again, 4:4:4),
its reduction averages over areas and repeats pixels.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from time import process_time

import cv2
import numpy as np
from PIL import Image

from augment.effects import jpeg, medical, noise
from augment.engine import cpu
from augment.ops import Applied

SIDE, DEGREES, MANY = 224, 20.0, 32
KEY = np.array([11, 22, 33, 44], np.uint32)
ROUGH = np.random.default_rng(0).integers(0, 256, (14, 14, 3), dtype=np.uint8)
PICTURE = np.array(Image.fromarray(ROUGH).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def values(*numbers: float) -> np.ndarray:
    return np.array([*numbers, *[0.0] * (12 - len(numbers))])


def contenders() -> dict[tuple[str, str], Callable[[], object]]:
    pillow, draws = Image.fromarray(PICTURE), np.random.default_rng(0)
    turned = cv2.getRotationMatrix2D(((SIDE - 1) / 2, (SIDE - 1) / 2), DEGREES, 1.0)
    many, programs = np.repeat(PICTURE[None], MANY, axis=0), [[Applied("Rotate", DEGREES)]] * MANY

    def coded() -> object:
        how = [cv2.IMWRITE_JPEG_QUALITY, 30, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
        return cv2.imdecode(cv2.imencode(".jpg", PICTURE, how)[1], cv2.IMREAD_UNCHANGED)

    def reduced() -> object:
        small = cv2.resize(PICTURE, None, fx=1 / 3, fy=1 / 3, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)

    made: dict[tuple[str, str], Callable[[], object]] = {
        ("Rotate, bilinear", "ours"): lambda: cpu.execute(many, programs, resampling="bilinear"),
        ("Rotate, bilinear", "OpenCV"): lambda: cv2.warpAffine(PICTURE, turned, (SIDE, SIDE)),
        ("Rotate, bilinear", "Pillow"): lambda: pillow.rotate(DEGREES, Image.Resampling.BILINEAR),
        ("Jpeg, quality 30", "ours"): lambda: jpeg.artefacts(PICTURE, values(30), KEY),
        ("Jpeg, quality 30", "OpenCV"): coded,
        ("Downscale by 3", "ours"): lambda: medical.downscale(PICTURE, values(3, 3), KEY),
        ("Downscale by 3", "OpenCV"): reduced,
        ("GaussianNoise 0.1", "ours"): lambda: noise.gaussian(PICTURE, values(0.1), KEY),
    }
    for p in (0.1, 0.2, 0.4):
        rates = PICTURE / 255 / p**2
        made[f"PoissonNoise {p}", "ours"] = lambda p=p: noise.poisson(PICTURE, values(p), KEY)
        made[f"PoissonNoise {p}", "NumPy"] = lambda rates=rates: draws.poisson(rates)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    loads, best, all_of = [os.getloadavg()[0]], {}, contenders()
    for turn in range(rounds + 1):
        for name, action in all_of.items():
            start = process_time()
            action()
            if turn:  # the first one compiles
                spent = (process_time() - start) / (MANY if name == ("Rotate, bilinear", "ours") else 1)
                best[name] = min(best.get(name, 9e9), spent)
        loads.append(os.getloadavg()[0])
    columns = ("ours", "OpenCV", "NumPy", "Pillow")
    print(f"Load average {min(loads):.1f} to {max(loads):.1f}.\n")
    print("| us an image | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
    for op in dict.fromkeys(op for op, _ in best):
        cells = [f"{1e6 * best[op, who]:,.0f}" if (op, who) in best else "" for who in columns]
        print(f"| {op} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
