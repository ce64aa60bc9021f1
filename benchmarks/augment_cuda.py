"""Policies on 224 x 224 x 3 on a GPU: against what its memory can copy, and against peers.

::

    python -P benchmarks/augment_cuda.py [--images 4096] [--rounds 7] [--quick]

(``-P``: or a script of this folder could shadow a package.) All is measured in one run, contestants in turn:

- before anything is timed, that the bytes are those of the CPU, for every policy and output: of uint8, uint16
  and float32 images, of images with partners (MixUp and CutMix among the policy's ops), and of masks;
- what the device's memory copies, read and written, by its own memcpy: the most that is possible;
- images a second from and to the device, as uint8 and as float16 in planes; once with programs drawn already,
  once with drawing (``Policy.apply``), and which share of the copying that is;
- the same policy on float32 images, with partners, and with masks beside the images;
- blocks of 256, 512 and 1024 threads;
- from the host and back, and the share of what pinned copies reach;
- what drawing and compiling costs on one core of the host;
- peers that are installed: torchvision v2 and kornia, one image at a time (an op for each) and one op for the
  whole batch, which is another augmentation; DALI's automatic augmentations. What is missing is named.

The results go to ``benchmarks/results/augment_cuda.md``. From the tree it runs with NumPy, Numba, pydantic and
CuPy; Ray, Delta Lake, Arrow and Pillow need not be there. To be carried to a machine without network: wheels of
these (cupy-cuda12x[ctk] or cupy-cuda13x[ctk], which bring CUDA's headers and NVRTC), and of the peers:
torchvision, kornia with kornia_rs, and nvidia-dali-cuda120 (or 130), each for its PyTorch and CUDA.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from augment import Policy, Targets
from augment.engine import _launch, cuda, cuda_draw
from augment.engine.output import Output
from augment.ops import Shape
from augment.presets import preset
from lake.errors import DeviceError
from lake.gpu import cupy as the_device

RESULTS = Path(__file__).parent / "results" / "augment_cuda.md"
POLICIES = {
    "TrivialAugment Wide": "trivial_augment_wide",
    "AutoAugment ImageNet": "autoaugment_imagenet",
    "RandAugment": "randaugment",
}
SIDE = 224
PIXELS = SIDE * SIDE * 3
OUTPUTS: dict[str, Output | None] = {
    "uint8 NHWC": None,
    "float16 NCHW": Output("float16", "NCHW", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
}


class Clock:
    """Seconds between two events of the device, with what it waits for; the least of several rounds."""

    def __init__(self, cupy: Any, rounds: int) -> None:
        self.cupy, self.rounds = cupy, rounds

    def __call__(self, *actions: Callable[[], object]) -> list[float]:
        best = [float("inf")] * len(actions)
        for turn in range(self.rounds + 1):
            for i, action in enumerate(actions):  # in turn: a busy moment meets all of them
                start, stop = self.cupy.cuda.Event(), self.cupy.cuda.Event()
                self.cupy.cuda.Device().synchronize()
                start.record()
                action()
                stop.record()
                stop.synchronize()
                seconds = self.cupy.cuda.get_elapsed_time(start, stop) / 1000
                if turn:  # the first compiles
                    best[i] = min(best[i], seconds)
        return best


def pictures(n: int) -> np.ndarray:
    """Smooth noise: neighbours alike, as in photographs, and each channel in a range of its own."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(20, 236, (64, SIDE // 8 + 1, SIDE // 8 + 1, 3))
    smooth = np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2)[:, :SIDE, :SIDE]
    some = np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
    return np.tile(some, (-(-n // len(some)), 1, 1, 1))[:n]


def mixing(name: str) -> Policy:
    """A policy with MixUp and CutMix among its ops."""
    policy = preset(name)
    few = [{"choices": [{"op": op, "magnitude": (0, 1)}], "weight": 4.0} for op in ("MixUp", "CutMix")]
    return Policy(subpolicies=[*policy.subpolicies, *few], draws=3, bins=policy.bins, space=policy.space)


def floats(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / np.float32(255)


def equal(found: Any, wanted: np.ndarray, what: str) -> int:
    """How many values were compared; ends the program where one differs."""
    host = found if isinstance(found, np.ndarray) else found.get()
    if host.dtype != wanted.dtype or not np.array_equal(host, wanted):
        raise SystemExit(f"{what}: the bytes are not those of the CPU")
    return host.size


def check(cupy: Any, images: np.ndarray) -> int:
    """Every policy and output on every kind of images, with partners and masks, on and off the device."""
    compared = 0
    some = images[:256]
    kinds = {"uint8": some, "uint16": some * np.uint16(257), "float32": floats(some)}
    masks = (some[..., 0] // 32).astype(np.int16)
    ids = range(len(some))
    for name in POLICIES.values():
        policy, mixed = preset(name), mixing(name)
        for kind, pixels in kinds.items():
            for output in OUTPUTS.values():
                wanted = policy.apply(pixels, ids, seed=1, output=output)
                both, shares = mixed.apply(pixels, ids, seed=1, partners=pixels[::-1], output=output)
                for there in (cupy.asarray, np.asarray):
                    made = cuda.apply(policy, there(pixels), ids, seed=1, output=output)
                    compared += equal(made, wanted, f"{name}, {kind}")
                    partners = there(np.ascontiguousarray(pixels[::-1]))
                    made, own = cuda.apply(mixed, there(pixels), ids, seed=1, partners=partners, output=output)
                    compared += equal(made, both, f"{name} with partners, {kind}")
                    compared += equal(own, shares, f"{name}, shares")
        _, beside = policy.apply(some, ids, seed=1, targets=Targets(masks=masks))
        for there in (cupy.asarray, np.asarray):
            _, moved = cuda.apply(policy, there(some), ids, seed=1, targets=Targets(masks=there(masks)))
            compared += equal(moved.masks, beside.masks, f"{name}, masks")
    return compared


def copying(cupy: Any, clock: Clock) -> float:
    """Bytes a second, read and written."""
    a, b = cupy.zeros(2 << 30, np.uint8), cupy.zeros(2 << 30, np.uint8)
    (seconds,) = clock(lambda: b.data.copy_from_device_async(a.data, a.nbytes, cupy.cuda.get_current_stream()))
    return 2 * a.nbytes / seconds


def pinned(cupy: Any, clock: Clock) -> tuple[float, float]:
    """Bytes a second to the device, and to it while as many come back."""
    size = 512 << 20
    there = [np.frombuffer(cupy.cuda.alloc_pinned_memory(size), np.uint8, size) for _ in range(2)]
    here = [cupy.zeros(size, np.uint8) for _ in range(2)]
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]

    def over() -> None:
        here[0].set(there[0], stream=streams[0])
        streams[0].synchronize()

    def both() -> None:
        here[0].set(there[0], stream=streams[0])
        here[1].get(stream=streams[1], out=there[1], blocking=False)
        for stream in streams:
            stream.synchronize()

    one, two = clock(over, both)
    return size / one, size / two


def on_device(cupy: Any, clock: Clock, images: Any, ids: Any, most: float) -> list[str]:
    rows = []
    n = len(images)
    for title, name in POLICIES.items():
        policy = preset(name)
        drawn = cuda_draw.compiled_on_device(cupy, policy, images, ids, 1, 1, None)
        if drawn is None:
            raise SystemExit(f"{name} is not drawn on the device")
        for shown, output in OUTPUTS.items():
            size = PIXELS * (1 if output is None else 2)
            bare, full = clock(
                lambda drawn=drawn, output=output: cuda.run(drawn, images, output=output),
                lambda policy=policy, output=output: cuda.apply(
                    policy, images, ids, seed=1, epoch=1, output=output
                ),
            )
            share = n * (PIXELS + size) / bare / most
            rows.append(f"| {title} | {shown} | {n / bare:,.0f} | {share:.0%} | {n / full:,.0f} |")
    return rows


def kinds(clock: Clock, images: Any, ids: Any) -> list[str]:
    """Images a second of what else there is, drawn on the host where that must be; one policy."""
    policy, mixed = preset("trivial_augment_wide"), mixing("trivial_augment_wide")
    wide = images[: max(1, len(images) // 4)].astype(np.float32) / np.float32(255)
    partners, few = images[::-1].copy(), ids[: len(wide)]
    masks = Targets(masks=images[..., 0] // 32)
    how = {"seed": 1, "epoch": 1}
    actions = {
        "uint8": (len(images), lambda: cuda.apply(policy, images, ids, **how)),
        "float32, looked through for NaN": (len(wide), lambda: cuda.apply(policy, wide, few, **how)),
        "uint8 with partners": (len(images), lambda: cuda.apply(mixed, images, ids, partners=partners, **how)),
        "uint8 with masks": (len(images), lambda: cuda.apply(policy, images, ids, targets=masks, **how)),
    }
    seconds = clock(*(action for _, action in actions.values()))
    return [
        f"| {name} | {count / took:,.0f} |"
        for (name, (count, _)), took in zip(actions.items(), seconds, strict=True)
    ]


def blocks(clock: Clock, cupy: Any, images: Any, ids: Any) -> list[str]:
    rows = []
    policy = preset("trivial_augment_wide")
    drawn = cuda_draw.compiled_on_device(cupy, policy, images, ids, 1, 1, None)
    usual = _launch._BLOCK  # noqa: SLF001  (what is tried out)
    for block in (256, 512, 1024):
        _launch._BLOCK = block  # noqa: SLF001
        (seconds,) = clock(lambda: cuda.run(drawn, images))
        rows.append(f"| {block} | {len(images) / seconds:,.0f} |")
    _launch._BLOCK = usual  # noqa: SLF001
    return rows


def through_host(clock: Clock, images: np.ndarray, ids: Any, rate: float) -> list[str]:
    rows = []
    for title, name in POLICIES.items():
        policy = preset(name)
        (seconds,) = clock(lambda policy=policy: cuda.apply(policy, images, ids, seed=1, epoch=1))
        rows.append(f"| {title} | {len(images) / seconds:,.0f} | {images.nbytes / seconds / rate:.0%} |")
    return rows


def on_host(ids: Any) -> list[str]:
    from augment.engine.compile import compile_programs

    rows = []
    for title, name in POLICIES.items():
        policy = preset(name)
        best = float("inf")
        for _ in range(7):
            began = perf_counter()
            compile_programs(policy.draw(ids, 1, 1), Shape(SIDE, SIDE, 3, 255.0), space=policy.space)
            best = min(best, perf_counter() - began)
        rows.append(f"| {title} | {len(ids) / best:,.0f} |")
    return rows


# ---------------------------------------------------------------- peers


def by_torchvision(images: Any, clock: Clock) -> dict[str, float]:
    import torch
    from torchvision.transforms import v2

    batch = torch.from_dlpack(images).permute(0, 3, 1, 2).contiguous()
    made = {}
    for name, op in (("TrivialAugmentWide", v2.TrivialAugmentWide()), ("RandAugment", v2.RandAugment())):
        few = batch[:256]
        each, whole = clock(lambda op=op, few=few: [op(image) for image in few], lambda op=op: op(batch))
        made[f"torchvision v2 {name}, image by image"] = len(few) / each
        made[f"torchvision v2 {name}, one op for the batch"] = len(batch) / whole
    return made


def by_kornia(images: Any, clock: Clock) -> dict[str, float]:
    import torch
    from kornia.augmentation.auto import RandAugment, TrivialAugment

    batch = torch.from_dlpack(images[:512]).permute(0, 3, 1, 2).float().div_(255)
    made = {}
    for name, op in (("TrivialAugment", TrivialAugment()), ("RandAugment", RandAugment(2, 9))):
        few = batch[:64]
        each, whole = clock(lambda op=op, few=few: [op(image[None]) for image in few], lambda op=op: op(batch))
        made[f"kornia {name}, image by image"] = len(few) / each
        made[f"kornia {name}, one op for the batch"] = len(batch) / whole
    return made


def by_dali(images: Any, clock: Clock) -> dict[str, float]:
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.auto_aug import rand_augment, trivial_augment

    batch = images[:1024]
    made = {}
    for name, augmented in (
        ("TrivialAugment", lambda data: trivial_augment.trivial_augment_wide(data, shape=(SIDE, SIDE))),
        ("RandAugment", lambda data: rand_augment.rand_augment(data, n=2, m=9, shape=(SIDE, SIDE))),
    ):

        @pipeline_def(batch_size=len(batch), num_threads=8, device_id=0, enable_conditionals=True)
        def pipeline(augmented: Any = augmented) -> Any:
            data = fn.external_source(lambda: list(batch), device="gpu", layout="HWC", dtype=types.UINT8)
            return augmented(data)

        built = pipeline()
        built.build()
        (seconds,) = clock(built.run)
        made[f"DALI {name}"] = len(batch) / seconds
    return made


def peers(images: Any, clock: Clock) -> list[str]:
    rows = []
    for name, run in (("torchvision", by_torchvision), ("kornia", by_kornia), ("DALI", by_dali)):
        try:
            rows += [f"| {what} | {rate:,.0f} |" for what, rate in run(images, clock).items()]
        except ImportError as error:
            rows.append(f"| {name} | not installed ({error.name}) |")
        except Exception as error:  # noqa: BLE001  (a peer that fails takes no figure of ours along)
            rows.append(f"| {name} | fails: {type(error).__name__}: {str(error)[:90]} |")
    return rows


def table(title: str, head: str, rows: list[str]) -> str:
    return "\n".join([f"\n## {title}\n", head, "|" + " --- |" * (head.count("|") - 1), *rows])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="without other blocks and peers")
    options = parser.parse_args()
    try:
        cupy = the_device()
    except DeviceError as error:
        raise SystemExit(f"no GPU to measure\n{error}") from error
    clock = Clock(cupy, options.rounds)
    host = pictures(options.images)
    ids = np.random.default_rng(1).integers(0, 1 << 63, (len(host), 2)).astype(np.uint64)
    compared = check(cupy, host)
    images, device_ids = cupy.asarray(host), cupy.asarray(ids)
    most, (over, both) = copying(cupy, clock), pinned(cupy, clock)
    card = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    device = cupy.cuda.runtime
    about = (
        f"`python -P benchmarks/augment_cuda.py`: {options.images:,} images of {SIDE} x {SIDE} x 3, {card}, "
        f"CuPy {cupy.__version__}, CUDA {device.runtimeGetVersion()}, driver for {device.driverGetVersion()}, "
        f"Python {platform.python_version()}; the best of {options.rounds} rounds. {compared:,} values were "
        "compared with the CPU's, all equal.\n"
    )
    copies = (
        f"The memory copies {most / 1e12:.2f} TB/s, read and written. Pinned copies: {over / 1e9:.1f} GB/s to "
        f"the device, {both / 1e9:.1f} GB/s each way at once."
    )
    parts = [
        "# Policies on a GPU\n",
        about,
        copies,
        table(
            "From and to the device",
            "| policy | output | images/s | of copying | with drawing |",
            on_device(cupy, clock, images, device_ids, most),
        ),
        table(
            "From the host and back",
            "| policy | images/s | of pinned copies |",
            through_host(clock, host, ids, both),
        ),
        table(
            "Other images, TrivialAugment Wide; partners and masks are drawn for on the host",
            "| images | images/s |",
            kinds(clock, images, device_ids),
        ),
        table("Drawing and compiling on one core of the host", "| policy | programs/s |", on_host(ids)),
    ]
    if not options.quick:
        parts.append(
            table("Threads in a block", "| threads | images/s |", blocks(clock, cupy, images, device_ids))
        )
        parts.append(table("Peers", "| peer | images/s |", peers(images, clock)))
    text = "\n".join(parts) + "\n"
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
