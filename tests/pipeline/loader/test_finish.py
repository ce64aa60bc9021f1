from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from lake.errors import ConfigError
from pipeline.loader.finish import Finish

SIDES = st.integers(1, 40)


@given(
    h=SIDES, w=SIDES, size=st.tuples(SIDES, SIDES), channels=st.sampled_from([1, 3]), seed=st.integers(0, 99)
)
def test_size_is_pillows_fit(h, w, size, channels, seed) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (h, w, channels), dtype=np.uint8)
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    wanted = np.array(ImageOps.fit(image, size[::-1], Image.Resampling.BILINEAR)).reshape(*size, channels)
    assert np.array_equal(Finish(size=size).shape(pixels), wanted)


def test_sixteen_bits_are_resized() -> None:
    pixels = np.linspace(0, 65535, 64 * 48).astype(np.uint16).reshape(64, 48, 1)
    found = Finish(size=(16, 16)).shape(pixels)
    eight = Finish(size=(16, 16)).shape((pixels >> 8).astype(np.uint8))
    assert found.dtype == np.uint16
    assert np.abs((found >> 8).astype(int) - eight).max() <= 1


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_numbers(dtype, layout, kind) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (9, 7, 3), dtype=kind, endpoint=True)
    wanted = ((pixels / np.iinfo(kind).max - mean) / std).astype(dtype)
    wanted = wanted.transpose(2, 0, 1) if layout == "NCHW" else wanted
    found = Finish(dtype=dtype, normalize=(mean, std), layout=layout)(pixels)
    assert found.dtype == dtype
    assert found.tobytes() == np.ascontiguousarray(wanted).tobytes()


def test_one_mean_for_all_channels() -> None:
    pixels = np.full((2, 2, 1), 255, np.uint8)
    assert Finish(dtype="float32", normalize=((0.5,), (0.5,)))(pixels).tolist() == [[[1.0], [1.0]]] * 2
    with pytest.raises(ConfigError, match="3 means, an image has 1 channels"):
        Finish(dtype="float32", normalize=((0.5,) * 3, (0.5,) * 3))(pixels)


def test_modes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    wanted = np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]
    grey = Finish(mode="L").shape(pixels)
    assert np.array_equal(grey, wanted)
    assert np.array_equal(Finish(mode="RGB").shape(grey), np.repeat(grey, 3, axis=2))
    assert Finish(mode="RGB").shape(pixels) is pixels
    wide = pixels.astype(np.uint16) * 257
    assert np.abs(Finish(mode="L").shape(wide).astype(int) - grey.astype(int) * 257).max() <= 257


def test_layout_of_integers() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    found = Finish(layout="NCHW")(pixels)
    assert found.shape == (3, 2, 4)
    assert np.array_equal(found, pixels.transpose(2, 0, 1))


def test_opencv_looks_at_the_same_box() -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    y, x = np.mgrid[:90, :120]
    pixels = np.stack([y * 2, x * 2, y + x], axis=2).astype(np.uint8)
    one, other = Finish(size=(30, 30)).shape(pixels), Finish(size=(30, 30), resize="opencv").shape(pixels)
    assert np.abs(one.astype(int) - other.astype(int)).max() <= 4
