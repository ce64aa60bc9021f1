"""Float images: as the 16-bit ones, within a level, and what has no levels by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from augment.engine import cpu
from augment.ops import OPS, Applied, apply_op

NAMES = [name for name, op in OPS.items() if op.kind not in {"mix", "text"}]
STATISTICS = {"Equalize"}  # counts pixels in levels: of 255 for floats, of 65535 for uint16


def floats(seed: int = 0, shape: tuple[int, ...] = (4, 21, 34, 3)) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).integers(0, 65536, shape).astype(np.float32) / np.float32(65535)


@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
@pytest.mark.parametrize("level", [0.05, 0.4, 1.0])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in STATISTICS and OPS[name].code < 100])
def test_floats_do_what_16_bits_do(name: str, level: float, resampling: str) -> None:
    images = floats()
    whole = np.rint(images * 65535).astype(np.uint16)
    p = float(OPS[name].range("wide").parameter(level, 1))
    programs = [[Applied(name, p, 0.3, 0.8, (k, 2, 3, 4))] for k in range(len(images))]
    found = cpu.execute(images, programs, resampling=resampling)  # type: ignore[arg-type]  # two literals
    expected = cpu.execute(whole, programs, resampling=resampling) / 65535  # type: ignore[arg-type]  # two literals
    assert found.dtype == np.float32
    apart = np.abs(found - expected)
    if name == "Posterize" and p < 8:
        assert np.array_equal(np.unique(found), np.arange(2 ** int(p)) / 2 ** int(p))
    else:
        assert apart.max() < 3 / 65535


def test_equalize_moves_levels_as_pillow_does() -> None:
    levels = np.random.default_rng(1).normal(90, 20, (1, 64, 64, 1)).clip(0, 255).astype(np.uint8)
    found = apply_op("Equalize", levels.astype(np.float32) / np.float32(255), 0.0)
    assert np.allclose(found, apply_op("Equalize", levels, 0.0) / 255, atol=1e-6)
    finer = (levels + np.float32(0.3)) / np.float32(255)
    assert len(np.unique(apply_op("Equalize", finer, 0.0))) > 30


def test_programs_of_several_stages() -> None:
    images = floats(2)
    program = [Applied("Rotate", 30), Applied("Invert", 0), Applied("GaussianNoise", 0.1), Applied("Hue", 0.2)]
    expected = images
    for step in program:
        expected = cpu.execute(expected, [[step]] * 4)
    assert np.array_equal(cpu.execute(images, [program] * 4), expected)
    assert np.array_equal(cpu.execute(images, [[]] * 4), images)


def test_nan_is_named_and_not_spread() -> None:
    images = floats()
    images[2, 3, 4, 1] = np.nan
    with pytest.raises(ValueError, match="1 of 4 images hold NaN or infinity, the first is number 2"):
        apply_op("Invert", images, 0.0)


def test_nan_is_named_by_its_place_in_the_list_whatever_the_sizes_are() -> None:
    images = [np.zeros((4, 4), np.float32), np.zeros((5, 5), np.uint8), np.zeros((6, 6), np.float32)]
    images[2][1, 1] = np.inf
    with pytest.raises(ValueError, match="1 of 3 images hold NaN or infinity, the first is number 2"):
        cpu.execute(images, [[]] * 3)
