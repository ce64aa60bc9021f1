"""What images are handed over as, against exact arithmetic and NumPy's own rounding."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from augment.engine.output import Output

DTYPES = ["uint8", "uint16", "float16", "bfloat16", "float32"]


def images(size: tuple[int, ...] = (2, 3, 4, 3), dtype: Any = np.uint8) -> Any:
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max + 1, size).astype(dtype)


@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.uint16]), st.tuples(*[st.integers(0, 4)] * 3, st.integers(1, 4))
    ),
    st.sampled_from(DTYPES),
    st.sampled_from(["NHWC", "NCHW"]),
)
def test_planes_are_the_same_values_in_another_order(batch: Any, dtype: Any, layout: Any) -> None:
    made = Output(dtype, layout).convert(batch)
    assert made.shape == Output(dtype, layout).shape(batch.shape)
    last = Output(dtype).convert(batch)
    assert np.array_equal(made, last if layout == "NHWC" else last.transpose(0, 3, 1, 2))


def test_floats_are_rounded_step_by_step() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for dtype in (np.uint8, np.uint16):
        batch = images(dtype=dtype)
        made = Output("float32", mean=mean, std=std).convert(batch)
        scale = np.float32(1) / np.float32(np.iinfo(dtype).max)
        for k in range(3):
            wanted = (batch[..., k].astype(np.float32) * scale - np.float32(mean[k])) * (
                np.float32(1) / np.float32(std[k])
            )
            assert np.array_equal(made[..., k], wanted)
        exact = (batch / np.iinfo(dtype).max - mean) / std
        assert np.abs(made - exact).max() < 1e-6


def test_white_is_one_and_black_is_zero() -> None:
    for dtype in (np.uint8, np.uint16):
        ends = np.array([0, np.iinfo(dtype).max], dtype).reshape(1, 1, 2, 1)
        for kind in ("float16", "float32"):
            assert Output(kind).convert(ends).ravel().tolist() == [0.0, 1.0]  # type: ignore[arg-type]
        assert Output("bfloat16").convert(ends).ravel().tolist() == [0, 0x3F80]


def test_sixteen_bits_of_a_float_are_the_nearest_ones() -> None:
    batch = np.arange(65536, dtype=np.uint16).reshape(1, 256, 256, 1)
    exact = Output("float32", mean=0.3, std=0.01).convert(batch)
    assert np.array_equal(Output("float16", mean=0.3, std=0.01).convert(batch), exact.astype(np.float16))
    bits = Output("bfloat16", mean=0.3, std=0.01).convert(batch)
    assert bits.dtype == np.uint16
    back = (bits.astype(np.uint32) << 16).view(np.float32)
    below = (exact.view(np.uint32) & 0xFFFF0000).view(np.float32)
    above = ((exact.view(np.uint32) & 0xFFFF0000) + 0x10000).view(np.float32)
    for value, low, high, made in list(
        zip(*(a.ravel().tolist() for a in (exact, below, above, back)), strict=True)
    )[::97]:
        gaps = {abs(Fraction(value) - Fraction(end)): end for end in (high, low)}
        assert made == gaps[min(gaps)]


def test_integers_are_kept_or_scaled() -> None:
    eight, sixteen = images(), images(dtype=np.uint16)
    assert np.array_equal(Output("uint8").convert(eight), eight)
    assert np.array_equal(Output("uint16").convert(eight), eight * np.uint16(257))
    assert np.array_equal(Output("uint8").convert(sixteen), np.rint(sixteen / 257))
    assert np.array_equal(Output("uint8").convert(Output("uint16").convert(eight)), eight)


def test_float_images_and_grey_ones() -> None:
    floats = np.random.default_rng(1).random((2, 3, 4), np.float32)
    assert np.array_equal(Output("float32").convert(floats), floats)
    assert Output("float16", "NCHW", mean=0.5).convert(floats).shape == (2, 1, 3, 4)
    with pytest.raises(TypeError, match="do not become uint8"):
        Output("uint8").convert(floats)


@pytest.mark.parametrize(
    "bad",
    [
        {"dtype": "int8"}, {"layout": "CHWN"}, {"std": 0.0}, {"std": (1.0, -1.0)}, {"mean": float("nan")},
        {"dtype": "uint8", "mean": 0.5},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"dtype|layout|finite|pixels themselves"):
        Output(**bad)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="2 values of mean for images of 3 channels"):
        Output(mean=(0.1, 0.2)).convert(images())
    with pytest.raises(ValueError, match="shape"):
        Output().convert(images((3, 3)))
    with pytest.raises(TypeError, match="int64"):
        Output().convert(np.zeros((1, 2, 2, 3), np.int64))


def test_others_take_the_result_without_a_copy() -> None:
    """As ``torch.from_dlpack`` and ``jax.dlpack.from_dlpack`` do."""
    for dtype in DTYPES:
        made = Output(dtype, "NCHW").convert(images())  # type: ignore[arg-type]
        taken = np.from_dlpack(made)
        assert np.shares_memory(taken, made)
        assert np.array_equal(taken, made)
