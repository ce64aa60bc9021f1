"""What holds for every policy: the bytes of a row depend on the row, and on nothing around it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

import augment
from augment import Policy, presets
from augment.engine import cpu
from augment.ops import OPS, apply_op

Array = npt.NDArray[Any]


@augment.op(magnitude=(0, 30))
def speckle(image: Array, parameter: float, rng: np.random.Generator) -> Array:
    """A custom op among the others."""
    return np.clip(image + rng.normal(0, parameter, image.shape), 0, 255).astype(image.dtype)


ALONE = [name for name, op in OPS.items() if op.kind != "mix"]
EVERYTHING = Policy.model_validate(
    {"draws": 3, "subpolicies": [[{"op": name, "magnitude": [0, 1]}] for name in [*ALONE, speckle.name]]}
)
POLICIES = {
    "everything": EVERYTHING,
    "bilinear": EVERYTHING.model_copy(update={"resampling": "bilinear"}),
    "autoaugment": presets.autoaugment(),
    "trivial": presets.trivial_augment_wide(),
    "rand": augment.presets.preset("rand-m9-n3-mstd0.5"),
}
N = 256


def rows(dtype: str = "uint8") -> tuple[list[Array], list[str]]:
    """Images of several sizes, and ids."""
    draw = np.random.default_rng(0)
    shapes = [(16, 16, 3), (12, 19, 3), (16, 16, 1), (7, 5, 3)]
    images = [draw.integers(0, 256, shapes[i % 4], dtype=np.uint8) for i in range(N)]
    if dtype == "uint16":
        images = [image.astype(np.uint16) * 257 for image in images]
    elif dtype == "float32":
        images = [image.astype(np.float32) / np.float32(255) for image in images]
    return images, [f"{draw.integers(0, 2**62):032x}" for _ in range(N)]


def same(found: list[Array], expected: list[Array]) -> None:
    assert len(found) == len(expected)
    for i, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other), i


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("name", list(POLICIES))
def test_batches_of_any_size_order_and_time_give_the_same(name: str, dtype: str) -> None:
    policy = POLICIES[name]
    images, ids = rows(dtype)
    if dtype != "uint8":  # wide pixels cost more, and the cutting is the same
        images, ids = images[:64], ids[:64]
    n = len(ids)
    whole = policy.apply(images, ids, seed=3, epoch=2)
    for size in (1, 7, 256):
        if size == 1:
            some = range(0, n, 9)
            same(
                [policy.apply([images[i]], [ids[i]], seed=3, epoch=2)[0] for i in some],
                [whole[i] for i in some],
            )
        else:
            parts = [
                policy.apply(images[at : at + size], ids[at : at + size], seed=3, epoch=2)
                for at in range(0, n, size)
            ]
            same([image for part in parts for image in part], whole)
    order = np.random.default_rng(1).permutation(n)
    moved = policy.apply([images[i] for i in order], [ids[i] for i in order], seed=3, epoch=2)
    same(moved, [whole[i] for i in order])
    same(pickle.loads(pickle.dumps(policy)).apply(images, ids, seed=3, epoch=2), whole)
    same(Policy.model_validate_json(policy.model_dump_json()).apply(images, ids, seed=3, epoch=2), whole)


def test_threads_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    images, ids = rows()
    stack = np.stack(images[::4])
    whole = EVERYTHING.apply(stack, ids[::4], seed=1)
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        monkeypatch.setattr("augment.engine.cpu._CHUNK", 1 if threads == "2" else 1 << 30)
        assert np.array_equal(EVERYTHING.apply(stack, ids[::4], seed=1), whole)
    with ThreadPoolExecutor(4) as pool:
        again = list(
            pool.map(lambda i: EVERYTHING.apply(stack[i : i + 8], ids[::4][i : i + 8], seed=1), range(0, 64, 8))
        )
    assert np.array_equal(np.concatenate(again), whole)


def test_another_process_gives_the_same() -> None:
    policy = POLICIES["everything"].without([speckle.name])
    images, ids = rows()
    code = (
        "import sys, pickle, hashlib\n"
        "policy, images, ids = pickle.load(sys.stdin.buffer)\n"
        "print(hashlib.sha256(b''.join(x.tobytes() for x in policy.apply(images, ids, seed=3))).hexdigest())"
    )
    payload = pickle.dumps((policy, images[:40], ids[:40]))
    done = subprocess.run([sys.executable, "-c", code], input=payload, capture_output=True, check=True)
    import hashlib

    here = hashlib.sha256(b"".join(x.tobytes() for x in policy.apply(images[:40], ids[:40], seed=3)))
    assert done.stdout.decode().strip() == here.hexdigest()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(ALONE), min_size=1, max_size=5), st.integers(0, 2**64 - 1), st.integers(0, 99))
def test_tables_and_calls_of_a_chain_equal_one_op_after_the_other(
    names: list[str], seed: int, epoch: int
) -> None:
    policy = Policy.model_validate({"subpolicies": [[{"op": name, "magnitude": [0, 1]} for name in names]]})
    images = np.random.default_rng(4).integers(0, 256, (3, 15, 18, 3), dtype=np.uint8)
    compiled = policy.compile(range(3), size=(15, 18), seed=seed, epoch=epoch, fuse=False)
    expected = images
    for k in range(len(names)):
        programs = [program[k : k + 1] for program in policy.draw(range(3), seed, epoch)]
        expected = cpu.execute(expected, programs)
    assert np.array_equal(compiled.run(images), expected)


@pytest.mark.parametrize("shape", [(0, 5, 5, 3), (3, 0, 5, 3), (3, 5, 0, 3), (3, 5, 5, 0), (2, 0, 0)])
def test_images_without_pixels_come_back(shape: tuple[int, ...]) -> None:
    images = np.zeros(shape, np.uint8)
    for policy in POLICIES.values():
        assert policy.apply(images, range(shape[0])).shape == shape
    assert [image.shape for image in POLICIES["trivial"].apply([np.zeros((0, 4, 3), np.uint8)], [1])] == [
        (0, 4, 3)
    ]


def test_a_hundred_megapixels() -> None:
    image = np.zeros((1, 10_000, 10_000, 1), np.uint8)
    image[0, ::3] = 200
    assert np.array_equal(apply_op("FlipY", image, 0.0)[0, ::-1], image[0])
    stretched = apply_op("AutoContrast", image, 0.0)
    assert np.array_equal(
        stretched[0, ..., 0], np.asarray(ImageOps.autocontrast(Image.fromarray(image[0, ..., 0])))
    )


@pytest.mark.parametrize(
    "name", ["Rotate", "Solarize", "Equalize", "Sharpness", "Contrast", "GaussianNoise", "Window"]
)
@pytest.mark.parametrize("value", [0, 1, 254, 255, 256, 32767, 32768, 65278, 65279, 65534, 65535])
def test_uint16_at_both_ends(name: str, value: int) -> None:
    flat = np.full((1, 9, 9, 1), value, np.uint16)
    made = apply_op(name, flat, 0.3, signs=1)
    assert made.dtype == np.uint16
    if name in {"Equalize", "Sharpness", "Contrast"}:
        assert (made == value).all()  # a flat image stays
    elif name == "Rotate":
        assert set(np.unique(made)) <= {0, value}
    elif name == "Solarize":
        threshold = 257 * (255 - 0.3 * 255)
        assert (made == (value if value < threshold else 65535 - value)).all()
