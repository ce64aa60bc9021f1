"""Augmentation on the CPU: ours against Pillow, albumentations, torchvision and kornia, all on one thread.

::

    python -P benchmarks/augment_cpu.py --peers PEERS/bin/python [--photographs FOLDER] [--images 256]
        [--rounds 5]

(``-P``: or a script of this folder could shadow a package.) 224 x 224 x 3, uint8, in memory already: no file
is read, none is decoded, no batch is collated. Three policies: TrivialAugment Wide, AutoAugment for ImageNet,
RandAugment with two ops of magnitude 9; then op by op. The contenders take turns; of each, the best of all
rounds. Each repeats the same draws, so that no lucky draw can be its best. Seconds are those of the processor
(one thread each), but for "all cores", which is measured by the clock on the wall.

- **Ours**: ``Policy.apply``, which draws, compiles and carries out; all images in a call, and one in a call.
- **Pillow**: the very programs that ours draws, on images that are Pillow images before and after: its best
  case. The bytes are compared before anything is timed: op by op (``fuse=False``) they must be equal.
  Consecutive geometric ops are one resampling by our definition, so a policy of several may differ; the figure
  says in how many images.
- **albumentations**, image by image: its transforms that come nearest, at the same magnitudes (``OneOf``,
  ``Sequential``, ``SomeOf``), nearest neighbour, black outside. Its Brightness and Contrast are lookup tables,
  the fastest that it has.
- **torchvision v2**: its own three policies, image by image, on uint8 tensors and on Pillow images.
- **kornia**: its own three, on float32 tensors. It draws for a batch, not for an image: batches of 1 and 16.

Peers live in an environment of their own (``--peers``), and run as ``benchmarks/peers/aug_*.py``. Smooth noise
is 14 x 14 pixels of noise drawn large; photographs are those of a folder, cut into tiles.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
os.environ.update(THREADS)

import numpy as np  # noqa: E402  (after the threads are set)
from PIL import Image, ImageEnhance, ImageOps  # noqa: E402

from augment import Policy, presets  # noqa: E402
from augment.engine import cpu  # noqa: E402
from augment.ops import NAMES, Applied, find  # noqa: E402

SIDE = 224
PEERS = Path(__file__).resolve().parent / "peers"
OPS = NAMES[1:15]
POLICIES: dict[str, Policy] = {
    "TrivialAugment Wide": presets.trivial_augment_wide(),
    "AutoAugment ImageNet": presets.preset("autoaugment_imagenet"),
    "RandAugment(2, 9)": presets.preset("randaugment"),
}


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
    "Posterize": lambda image, p: ImageOps.posterize(image, max(int(p), 1)),
    "Solarize": ImageOps.solarize,
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Invert": lambda image, _: ImageOps.invert(image),
}


def by_pillow(pictures: Sequence[Image.Image], programs: Sequence[Sequence[Applied]], space: str) -> list[Any]:
    done = []
    for picture, program in zip(pictures, programs, strict=True):
        image = picture
        for step in program:
            share = space != "wide" and step.op.startswith("Translate")
            image = PILLOW[step.op](image, step.parameter * (SIDE if share else 1))
        done.append(image)
    return done


def smooth_noise(n: int) -> np.ndarray:
    """The histograms and the caches of a photograph rather than those of white noise."""
    coarse = np.random.default_rng(0).integers(0, 256, (n, 14, 14, 3), dtype=np.uint8)
    return np.stack([resized(Image.fromarray(each), SIDE, SIDE) for each in coarse])


def resized(image: Image.Image, w: int, h: int) -> np.ndarray:
    return np.asarray(image.resize((w, h), Image.Resampling.BICUBIC))


def photographs(folder: Path, n: int) -> np.ndarray:
    """Tiles of each picture, its shorter side first made two tiles long; again from the first when they end."""
    tiles = []
    for file in sorted(folder.iterdir()):
        image = Image.open(file).convert("RGB")
        by = 2 * SIDE / min(image.size)
        pixels = resized(image, round(image.width * by), round(image.height * by))
        for y in range(0, pixels.shape[0] - SIDE + 1, SIDE):
            tiles += [pixels[y : y + SIDE, x : x + SIDE] for x in range(0, pixels.shape[1] - SIDE + 1, SIDE)]
    return np.stack([tiles[i % len(tiles)] for i in range(n)])


def timed(action: Callable[[], object], clock: Callable[[], float] = process_time) -> float:
    """Seconds of this process's processor, which other work on the machine hardly changes; or of a clock."""
    start = clock()
    action()
    return clock() - start


def alone(name: str) -> Policy:
    """A policy of one op."""
    policy = POLICIES["TrivialAugment Wide"] if name != "Invert" else presets.autoaugment()
    return policy.restricted(only=[name])


def instructions() -> dict[str, Any]:
    """The policies in parameters, for peers that have to build them: op, probability, from, to."""

    def step(choice: Any, policy: Policy) -> list[Any]:
        span = find(choice.op).range(policy.space)
        share = policy.space != "wide" and choice.op.startswith("Translate")
        ends = [float(span.parameter(level)) * (SIDE if share else 1) for level in choice.law(policy.space)[:2]]
        return [choice.op, float(choice.probability), *ends, bool(span.signed and choice.signed)]

    def written(policy: Policy) -> dict[str, Any]:
        return {
            "draws": policy.draws,
            "subpolicies": [[step(choice, policy) for choice in sub.choices] for sub in policy.subpolicies],
            "weights": [float(sub.weight) for sub in policy.subpolicies],
        }

    return {**{name: written(p) for name, p in POLICIES.items()}, **{op: written(alone(op)) for op in OPS}}


def ours(images: np.ndarray, best: dict[str, dict[str, float]], differing: dict[str, int]) -> None:
    """One round of ours and of Pillow, image for image."""
    n = len(images)
    pictures = [Image.fromarray(image) for image in images]
    for name, policy in {**POLICIES, **{op: alone(op) for op in OPS}}.items():
        m = n if name in POLICIES else min(n, 64)
        some, ids = images[:m], range(m)
        programs = policy.draw(ids, 1)
        if name not in differing:
            exact = cpu.execute(some, programs, space=policy.space, fuse=False)
            fused = policy.apply(some, ids, seed=1)
            reference = np.stack([np.asarray(p) for p in by_pillow(pictures[:m], list(programs), policy.space)])
            wrong = int(np.count_nonzero(exact != reference))
            if wrong:
                raise SystemExit(f"{name}: {wrong} values differ from Pillow's")
            differing[name] = int((fused != reference).any(axis=(1, 2, 3)).sum())
            written = list(programs)
        else:
            written = list(programs)

        def batch(some: np.ndarray = some, ids: range = ids, policy: Policy = policy) -> object:
            return policy.apply(some, ids, seed=1)

        def single(some: np.ndarray = some, policy: Policy = policy) -> object:
            return [policy.apply(some[i : i + 1], [i], seed=1) for i in range(len(some))]

        def pillow(m: int = m, written: Any = written, policy: Policy = policy) -> object:
            return by_pillow(pictures[:m], written, policy.space)

        mine = best.setdefault("ours", {})
        mine[name] = min(mine.get(name, 9e9), timed(batch) / m, timed(batch) / m)
        theirs = best.setdefault("Pillow", {})
        theirs[name] = min(theirs.get(name, 9e9), timed(pillow) / m)
        if name in POLICIES:
            one = best.setdefault("ours, an image a call", {})
            one[name] = min(one.get(name, 9e9), timed(single) / m)
            os.environ["OMP_NUM_THREADS"] = str(os.cpu_count())
            every = best.setdefault("ours, all cores", {})
            every[name] = min(every.get(name, 9e9), timed(batch, perf_counter) / m)
            os.environ.update(THREADS)


CONTENDERS = {
    "albumentations": ("aug_albumentations.py", ()),
    "torchvision v2, tensors": ("aug_torchvision.py", ("tensor",)),
    "torchvision v2, Pillow": ("aug_torchvision.py", ("pillow",)),
    "kornia, batches of 1": ("aug_kornia.py", ("1",)),
    "kornia, batches of 16": ("aug_kornia.py", ("16",)),
}


def peer(python: str, name: str, folder: Path, best: dict[str, dict[str, float]]) -> str:
    """One round of a peer in a process of its own; what went wrong, if anything."""
    script, arguments = CONTENDERS[name]
    command = [python, "-P", str(PEERS / script), str(folder), *arguments]
    environment = {**os.environ, **THREADS, "NO_ALBUMENTATIONS_UPDATE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
    for what, seconds in json.loads(done.stdout.splitlines()[-1]).items():
        found = best.setdefault(name, {})
        found[what] = min(found.get(what, 9e9), seconds)
    return ""


def machine(python: str | None) -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    packages = ", ".join(f"{p} {version(p)}" for p in ("numpy", "numba", "pillow"))
    now = dt.datetime.now(tz=dt.UTC)
    lines = [
        f"{len(os.sched_getaffinity(0))} cores of {names[0].partition(': ')[2]}, {now:%Y-%m-%d %H:%M} UTC",
        f"Load average at the start: {os.getloadavg()[0]:.1f}",
        f"Python {platform.python_version()}, {packages}",
    ]
    if python:
        code = "from importlib.metadata import version as v; print(', '.join(p + ' ' + v(p) for p in {!r}))"
        packages = ("albumentations", "opencv-python-headless", "torch", "torchvision", "kornia")
        done = subprocess.run(
            [python, "-c", code.format(packages)], capture_output=True, text=True, check=False
        )
        lines.append(f"Peers: {done.stdout.strip()}")
    return "\n".join(lines)


def table(rows: Sequence[str], best: dict[str, dict[str, float]], *, ratios: bool) -> str:
    """Images a second, and how many times as fast ours is."""
    lines = ["| | " + " | ".join(rows) + " |", "|---" * (len(rows) + 1) + "|"]
    for name, found in best.items():
        cells = []
        for row in rows:
            if row not in found:
                cells.append("")
                continue
            ratio = "" if not ratios or name.startswith("ours") else f" ({found[row] / best['ours'][row]:.1f})"
            cells.append(f"{1 / found[row]:,.0f}{ratio}")
        if any(cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def turned(best: dict[str, dict[str, float]]) -> str:
    names = [name for name in best if any(op in best[name] for op in OPS)]
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for op in OPS:
        cells = []
        for name in names:
            seconds = best[name].get(op)
            ratio = "" if name == "ours" or seconds is None else f" ({seconds / best['ours'][op]:.1f})"
            cells.append("" if seconds is None else f"{1 / seconds:,.0f}{ratio}")
        lines.append(f"| {op} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measure(kind: str, images: np.ndarray, asked: argparse.Namespace) -> None:
    best: dict[str, dict[str, float]] = {}
    differing: dict[str, int] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "images.npy", images)
        (folder / "policies.json").write_text(json.dumps(instructions()))
        for _ in range(asked.rounds):
            ours(images, best, differing)
            for contender in CONTENDERS if asked.peers else ():
                if contender not in failed and (trouble := peer(asked.peers, contender, folder, best)):
                    failed[contender] = trouble
    order = ["ours", "ours, an image a call", "ours, all cores", "Pillow", *CONTENDERS]
    best = {name: best[name] for name in order if name in best}
    print(f"\n## {kind} ({len(images)} images)\n\nImages a second (ours is that many times as fast).\n")
    print(table(list(POLICIES), best, ratios=True))
    counts = ", ".join(f"{name} {differing[name]}" for name in POLICIES)
    print(f"\nOp by op all bytes are Pillow's; as fused, images with another value: {counts}.\n")
    print(turned(best))
    for contender, trouble in failed.items():
        print(f"\n{contender} did not run: {trouble}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", help="a Python that has the peers")
    parser.add_argument("--photographs", type=Path, help="a folder of photographs")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    print(machine(asked.peers))
    measure("Smooth noise", smooth_noise(asked.images), asked)
    if asked.photographs:
        measure("Photographs", photographs(asked.photographs, asked.images), asked)
    print(f"\nLoad average at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    sys.exit(main())
