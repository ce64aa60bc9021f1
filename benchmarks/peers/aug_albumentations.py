"""FOLDER: seconds an image of albumentations' nearest equivalents of our policies and ops, image by image."""

import json
import sys
from pathlib import Path
from time import process_time

import albumentations as A  # noqa: N812
import cv2
import numpy as np

cv2.setNumThreads(1)
NEAREST = {"interpolation": cv2.INTER_NEAREST}


def both(low: float, high: float, signed: bool) -> tuple:
    ends = sorted([low, high])
    return (-max(map(abs, ends)), max(map(abs, ends))) if signed else tuple(ends)


def transform(op: str, probability: float, low: float, high: float, signed: bool) -> A.BasicTransform:
    """Our op with parameters from ``low`` to ``high`` (factors: either side of 1)."""
    p = {"p": probability}
    span = both(low, high, signed)
    reach = max(abs(low - 1), abs(high - 1))
    factor = (1 - reach, 1 + reach)
    degrees = tuple(float(np.degrees(np.arctan(v))) for v in span)
    whole = tuple(int(v) for v in span)
    still = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0, 0)}
    made = {
        "Identity": lambda: A.NoOp(**p),
        "ShearX": lambda: A.Affine(shear={"x": degrees, "y": (0, 0)}, **NEAREST, **p),
        "ShearY": lambda: A.Affine(shear={"x": (0, 0), "y": degrees}, **NEAREST, **p),
        "TranslateX": lambda: A.Affine(translate_px={"x": whole, "y": (0, 0)}, **NEAREST, **p),
        "TranslateY": lambda: A.Affine(translate_px={"x": (0, 0), "y": whole}, **NEAREST, **p),
        "Rotate": lambda: A.Rotate(limit=span, border_mode=cv2.BORDER_CONSTANT, **NEAREST, **p),
        "Brightness": lambda: A.RandomBrightnessContrast((-reach, reach), (0, 0), **p),
        "Contrast": lambda: A.RandomBrightnessContrast((0, 0), (-reach, reach), **p),
        "Color": lambda: A.ColorJitter(**{**still, "saturation": factor}, **p),
        "Sharpness": lambda: A.Sharpen(alpha=(0, min(reach, 1)), lightness=(1, 1), **p),
        "Posterize": lambda: A.Posterize(num_bits=(max(1, min(whole)), max(1, *whole)), **p),
        "Solarize": lambda: A.Solarize(threshold_range=tuple(min(max(v / 255, 0), 1) for v in span), **p),
        "AutoContrast": lambda: A.AutoContrast(**p),
        "Equalize": lambda: A.Equalize(**p),
        "Invert": lambda: A.InvertImg(**p),
    }
    return made[op]()


def policy(written: dict) -> A.Compose:
    subs = [[transform(*step) for step in steps] for steps in written["subpolicies"]]
    parts = [steps[0] if len(steps) == 1 else A.Sequential(steps, p=1.0) for steps in subs]
    if written["draws"] == 1:
        return A.Compose([parts[0] if len(parts) == 1 else A.OneOf(parts, p=1.0)])
    return A.Compose([A.SomeOf(parts, n=written["draws"], replace=True, p=1.0)])


folder = Path(sys.argv[1])
images = np.load(folder / "images.npy")
seconds = {}
for name, written in json.loads((folder / "policies.json").read_text()).items():
    run = policy(written)
    some = images if len(written["subpolicies"]) > 1 else images[:64]
    times = []
    for _ in range(3):
        run.set_random_seed(1)
        start = process_time()
        for image in some:
            run(image=image)
        times.append((process_time() - start) / len(some))
    seconds[name] = min(times)
print(json.dumps(seconds))
