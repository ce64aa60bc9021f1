"""Loading batches for training: ours against PyTorch over files, Hugging Face datasets and webdataset.

::

    pip install torch==2.13.0 datasets webdataset simplejpeg opencv-python-headless   # beside Gristmill
    python -P benchmarks/loader.py speed [--rounds 3]
    python -P benchmarks/loader.py order
    python -P benchmarks/loader.py memory

``speed``: images a second, shuffled, in batches of 64 as uint8 arrays or tensors, over one epoch, of

- ``small``: 20,000 pictures of CIFAR-10 (32 x 32, PNG, 2.3 KB each), as they are;
- ``large``: 1,500 JPEG files of 375 x 500, resized and cut to 224 x 224. They are CIFAR pictures drawn large
  with grain on top, at quality 90, because no photographs come through a package manager.

Everyone resizes with ``PIL.ImageOps.fit`` (bilinear), but for ours with ``resize="opencv"``, which says so.
Contenders run in turn, each several times; the best of the rounds counts. Peers that are not installed are left
out. ``order``: how far from uniform a windowed shuffle is. ``memory``: what a gigabyte of images takes.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageOps

from lake.lake import Change, Lake
from pipeline.loader import Loader
from pipeline.loader.order import make_order

BATCH = 64
SIZE = 224
SCHEMA = pa.schema([("_id", pa.string()), ("image", pa.binary()), ("label", pa.string())])


# ------------------------------------------------------------------------------------------ the data


def cifar(count: int) -> list[bytes]:
    import data
    import pyarrow.parquet as pq

    table = pq.read_table(data.fetch("cifar10") / "train.parquet", columns=["image"])
    return table["image"].slice(0, count).to_pylist()


def large(count: int) -> list[bytes]:
    files = []
    for number, blob in enumerate(cifar(count)):
        image = Image.open(io.BytesIO(blob)).convert("RGB").resize((500, 375), Image.Resampling.BICUBIC)
        grain = np.random.default_rng(number).normal(0, 6, (375, 500, 1))
        out = io.BytesIO()
        Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
        files.append(out.getvalue())
    return files


def lay_out(blobs: list[bytes], kind: str, folder: Path) -> None:
    """The same pictures for everyone: a lake, files, Parquet files of `datasets`, tar files."""
    ids = [f"{i:032x}" for i in range(len(blobs))]
    labels = [str(i % 10) for i in range(len(blobs))]
    lake = Lake(folder / "lake")
    table = pa.table({"_id": ids, "image": pa.array(blobs, pa.binary()), "label": labels}, schema=SCHEMA)
    step = -(-len(blobs) // 4)
    parts = [
        lake.write_part("train", f"p{i}", [table.slice(i * step, step)], SCHEMA, group_bytes=8 << 20)
        for i in range(4)
    ]
    lake.commit([Change("train", SCHEMA, add=tuple(parts))], app="benchmark", version=1)
    (folder / "files").mkdir()
    for row, blob in zip(ids, blobs, strict=True):
        (folder / "files" / f"{row}.{kind}").write_bytes(blob)
    Loader(lake).to_hf(folder / "hf")
    for shard in range(4):
        with tarfile.open(folder / f"shard-{shard}.tar", "w") as archive:
            for i in range(shard * step, min(len(blobs), (shard + 1) * step)):
                for name, content in ((f"{ids[i]}.{kind}", blobs[i]), (f"{ids[i]}.cls", labels[i].encode())):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))


# ------------------------------------------------------------------------------------ the contenders


class Shape:
    """What the peers do with a picture; a class, so that it travels to their workers."""

    def __init__(self, size: int | None) -> None:
        self.size = size

    def __call__(self, image: Image.Image) -> np.ndarray:
        image = image.convert("RGB")
        if self.size:
            image = ImageOps.fit(image, (self.size, self.size), Image.Resampling.BILINEAR)
        return np.array(image)


class Files:
    """A map-style dataset over files."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.paths, self.shape = sorted(folder.iterdir()), shape

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.shape(Image.open(self.paths[i]))


class Transform:
    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        return {"image": [self.shape(image) for image in rows["image"]]}


def ours(folder: Path, size: int | None, workers: int, **options: Any) -> Iterator[Any]:
    threads = options.pop("threads", None)
    loader = Loader(folder / "lake", batch_size=BATCH, size=size, columns=["image"], threads=threads, **options)
    return iter(loader.dataloader(workers) if workers else loader)


def torch_files(folder: Path, size: int | None, workers: int) -> Iterator[Any]:
    import torch.utils.data as td

    return iter(td.DataLoader(Files(folder / "files", Shape(size)), BATCH, shuffle=True, num_workers=workers))


def hugging_face(folder: Path, size: int | None, workers: int) -> Iterator[Any]:
    import datasets
    import torch.utils.data as td

    datasets.disable_progress_bars()
    rows = datasets.load_dataset(str(folder / "hf"), split="train", cache_dir=str(folder / "hf-cache"))
    rows.set_transform(Transform(Shape(size)), columns=["image"])
    return iter(td.DataLoader(rows, BATCH, shuffle=True, num_workers=workers))


def web(folder: Path, size: int | None, workers: int) -> Iterator[Any]:
    import webdataset as wds

    urls = str(folder / "shard-{0..3}.tar")
    rows = wds.WebDataset(urls, shardshuffle=4, seed=0).shuffle(1000).decode("pil").to_tuple("png;jpg")
    return iter(wds.WebLoader(rows.map_tuple(Shape(size)).batched(BATCH), batch_size=None, num_workers=workers))


def contenders(size: int | None) -> dict[str, tuple[int, Callable[[Path], Iterator[Any]]]]:
    found: dict[str, tuple[int, Callable[[Path], Iterator[Any]]]] = {}
    for n in (1, 2):
        found[f"ours, {n} thread{'s' * (n > 1)}"] = n, lambda f, n=n: ours(f, size, 0, threads=n)
        found[f"ours, Pillow decodes, {n} thread{'s' * (n > 1)}"] = (
            n,
            lambda f, n=n: ours(f, size, 0, threads=n, decoder="pillow"),
        )
        if size:
            found[f"ours, OpenCV resizes, {n} thread{'s' * (n > 1)}"] = (
                n,
                lambda f, n=n: ours(f, size, 0, threads=n, resize="opencv"),
            )
    if installed("torch"):
        for n in (1, 2):
            workers = f"{n} worker" + "s" * (n > 1)
            found[f"ours, DataLoader, {workers}"] = n, lambda f, n=n: ours(f, size, n, threads=1)
            found[f"torch over PIL files, {n}"] = n, lambda f, n=n: torch_files(f, size, n)
            if installed("datasets"):
                found[f"datasets, {n}"] = n, lambda f, n=n: hugging_face(f, size, n)
            if installed("webdataset"):
                found[f"webdataset, {n}"] = n, lambda f, n=n: web(f, size, n)
    return found


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def pixels_of(batch: Any) -> Any:
    found = batch["image"] if isinstance(batch, dict) else batch
    return found[0] if isinstance(found, (list, tuple)) else found


def speed(rounds: int, only: str) -> None:
    for name, size, kind, blobs in (
        ("small", None, "png", lambda: cifar(20_000)),
        ("large", SIZE, "jpg", lambda: large(1_500)),
    ):
        if only not in ("", name):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            lay_out(blobs(), kind, folder)
            best: dict[str, tuple[float, float]] = {}
            for _ in range(rounds):
                for label, (_, start) in contenders(size).items():
                    clock = time.perf_counter()
                    batches, seen, first = start(folder), 0, 0.0
                    for batch in batches:
                        first = first or time.perf_counter() - clock
                        seen += len(pixels_of(batch))
                    took = time.perf_counter() - clock
                    rate = seen / took
                    if rate > best.get(label, (0.0, 0.0))[0]:
                        best[label] = rate, first
            loader = Loader(folder / "lake")
            print(f"\n{name}: {loader.rows:,} images, decoder: {loader.decoder}\n")
            print("| contender | images/s | seconds to the first batch |\n|---|---|---|")
            for label, (rate, first) in sorted(best.items(), key=lambda each: -each[1][0]):
                print(f"| {label} | {rate:,.0f} | {first:.2f} |")


# ------------------------------------------------------------------------------------- the shuffle


def order() -> None:
    """A table of ImageNet's shape, sorted by class: 1,281,167 rows of 110 KB, 1,000 classes, 32 MiB a group."""
    n, classes, group = 1_281_167, 1000, (32 << 20) // 110_000
    counts = np.full(-(-n // group), group)
    counts[-1] -= counts.sum() - n
    sizes = counts * 110_000
    label = np.arange(n) * classes // n
    print("| shuffle | held | classes in 256 rows | same class next | moved | seconds |")
    print("|---|---|---|---|---|---|")
    for name, held, make in (
        ("none", "", lambda: np.arange(n)),
        ("buffer of 1,000 rows", "0.1 GB", lambda: buffer(n, 1000)),
        ("buffer of 10,000 rows", "1.1 GB", lambda: buffer(n, 10_000)),
        ("window 256 MiB (default)", "0.5 GB", lambda: windows(counts, sizes, 256, 1)),
        ("window 256 MiB, spread 4", "0.5 GB", lambda: windows(counts, sizes, 256, 4)),
        ("window 256 MiB, spread 16", "0.5 GB", lambda: windows(counts, sizes, 256, 16)),
        ("window 1 GiB", "2.1 GB", lambda: windows(counts, sizes, 1024, 1)),
        ("window 1 GiB, spread 4", "2.1 GB", lambda: windows(counts, sizes, 1024, 4)),
        ("full", "a copy on disk", lambda: whole(counts, sizes, "full", 1, 1)),
    ):
        clock = time.perf_counter()
        rows = make()
        took = time.perf_counter() - clock
        seen = label[rows]
        batches = seen[: n // 256 * 256].reshape(-1, 256)
        distinct = np.mean([len(np.unique(batch)) for batch in batches[::7]])
        same = float(np.mean(seen[1:] == seen[:-1])) * classes
        moved = np.abs(rows - np.arange(n)).mean() / (n / 3)
        print(f"| {name} | {held} | {distinct:.1f} | {same:.1f} | {moved:.2f} | {took:.2f} |")
    print(f"\nuniform: {classes * (1 - (1 - 1 / classes) ** 256):.1f} classes, same class next 1.0, moved 1.00")


def windows(counts: np.ndarray, sizes: np.ndarray, window: int, spread: int) -> np.ndarray:
    return whole(counts, sizes, "window", window, spread)


def whole(counts: np.ndarray, sizes: np.ndarray, shuffle: Any, window: int, spread: int) -> np.ndarray:
    made = make_order(counts, sizes, 0, 0, shuffle=shuffle, window=window << 20, spread=spread)
    return np.concatenate([made.rows(w) for w in range(len(made.starts) - 1)])


def buffer(n: int, size: int) -> np.ndarray:
    """The shuffle buffer of streaming readers, with files of 10,000 rows in random order."""
    rng = np.random.default_rng(0)
    files = rng.permutation(-(-n // 10_000))
    source = np.concatenate([np.arange(f * 10_000, min(n, (f + 1) * 10_000)) for f in files])
    held, out = source[:size].copy(), np.empty(n, np.int64)
    places = rng.integers(0, size, n)
    for i in range(size, n):
        place = places[i]
        out[i - size] = held[place]
        held[place] = source[i]
    out[n - size :] = rng.permutation(held)
    return out


# -------------------------------------------------------------------------------------- the memory


def memory() -> None:
    """A gigabyte of images that do not decode to more: what the process takes at its peak."""
    with tempfile.TemporaryDirectory() as scratch:
        lake = Lake(scratch)
        blob = cifar(1)[0]

        def batches(part: int) -> Iterator[pa.Table]:
            for start in range(0, 2500, 250):
                ids = [f"{part:016x}{start + i:016x}" for i in range(250)]
                # Readers of PNG stop at the end of the picture; what follows does not compress.
                images = pa.array([blob + os.urandom(100_000) for _ in ids], pa.binary())
                yield pa.table({"_id": ids, "image": images, "label": ["a"] * 250}, schema=SCHEMA)

        parts = [lake.write_part("train", f"p{i}", batches(i), SCHEMA) for i in range(4)]
        lake.commit([Change("train", SCHEMA, add=tuple(parts))], app="benchmark", version=1)
        print(f"{lake.table('train').size_bytes >> 20} MiB in files")
        for window in (64, 256):
            loader = Loader(lake, batch_size=64, window=window << 20, decoder="pillow")
            pid = os.fork()
            if pid == 0:
                before = resident()
                rows, most = 0, 0
                for batch in loader:
                    rows += len(batch["_id"])
                    most = max(most, resident())
                print(f"window {window} MiB: {rows} rows, {most - before} MiB more than before", flush=True)
                os._exit(0)
            os.waitpid(pid, 0)


def resident() -> int:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "order", "memory"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", choices=["", "small", "large"])
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    {"speed": lambda: speed(arguments.rounds, arguments.only), "order": order, "memory": memory}[
        arguments.what
    ]()


if __name__ == "__main__":
    main()
