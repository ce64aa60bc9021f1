from __future__ import annotations

import io
import sys
import types

import numpy as np
import pytest
from PIL import Image

from lake.errors import ConfigError, DeviceError
from lake.images import BadImageError, decode, encode
from pipeline.loader import decode as module
from pipeline.loader.decode import Decoder, decoder


def file(rng: np.random.Generator, kind: str) -> bytes:
    h, w = (int(side) for side in rng.integers(1, 60, 2))
    pixels = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
    image = Image.fromarray(pixels if rng.integers(4) else pixels[:, :, 0])
    out = io.BytesIO()
    if kind == "JPEG":
        image = image.convert("CMYK") if rng.integers(8) == 0 else image
        options = {"subsampling": int(rng.integers(3))} if image.mode == "RGB" else {}
        image.save(out, "JPEG", quality=int(rng.integers(5, 100)), progressive=bool(rng.integers(2)), **options)
    else:
        clear = {"transparency": (1, 2, 3) if image.mode == "RGB" else 5} if rng.integers(4) == 0 else {}
        image.save(out, "PNG", **clear)
    return out.getvalue()


def damaged(rng: np.random.Generator, blob: bytes) -> bytes:
    kind = int(rng.integers(4))
    if kind == 1:
        changed = bytearray(blob)
        changed[int(rng.integers(2, len(blob)))] = int(rng.integers(256))
        return bytes(changed)
    if kind == 2:
        return blob[: int(rng.integers(2, len(blob)))]
    return blob + b"\0tail" if kind == 3 else blob


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_quick_way_gives_pillows_bytes(kind: str) -> None:
    """Whole and damaged files: the same pixels, or the same refusal."""
    rng = np.random.default_rng(5)
    quick = decoder("auto")
    for _ in range(400):
        blob = damaged(rng, file(rng, kind))
        try:
            wanted = decode(blob)
        except BadImageError:
            with pytest.raises(BadImageError):
                quick(blob)
            continue
        found = quick(blob)
        assert found.dtype == wanted.dtype
        assert np.array_equal(found, wanted)


def test_a_png_may_end_anywhere(capfd) -> None:
    """Pillow says what it is; a library that would complain on stderr is not asked."""
    blob = encode(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    for cut in [*(blob[:size] for size in range(len(blob))), blob[:8] + blob[-12:]]:
        try:
            wanted = decode(cut)
        except BadImageError:
            with pytest.raises(BadImageError):
                decoder("auto")(cut)
        else:
            assert np.array_equal(decoder("auto")(cut), wanted)
    assert capfd.readouterr().err == ""


def test_sixteen_bits_stay() -> None:
    pixels = np.arange(24, dtype=np.uint16).reshape(4, 6, 1) * 2500
    assert np.array_equal(decoder("auto")(encode(pixels)), pixels)


def test_the_name_says_what_decodes() -> None:
    assert decoder("pillow").name.startswith("Pillow ")
    assert decoder("auto").name.startswith("Pillow ")
    for library in ("simplejpeg", "cv2"):
        if library in sys.modules:
            assert library in decoder("auto").name


def test_a_library_with_other_bytes_is_left_aside(monkeypatch) -> None:
    fake = types.ModuleType("simplejpeg")
    fake.decode_jpeg_header = lambda blob: (*reversed(Image.open(io.BytesIO(blob)).size), "YCbCr", "420")
    fake.decode_jpeg = lambda blob, colorspace, strict: decode(blob) ^ np.uint8(1)
    fake.__version__ = "0"
    monkeypatch.setitem(sys.modules, "simplejpeg", fake)
    module._auto.cache_clear()
    try:
        with pytest.warns(UserWarning, match="simplejpeg does not give Pillow's bytes"):
            made = decoder("auto")
        assert "simplejpeg" not in made.name
    finally:
        module._auto.cache_clear()


def test_many_in_their_order() -> None:
    images = [np.full((2, 2, 1), value, np.uint8) for value in (1, 2, 3)]
    found = Decoder("test").many([encode(images[0]), b"nothing", encode(images[2])])
    assert np.array_equal(found[0], images[0])
    assert isinstance(found[1], BadImageError)
    assert np.array_equal(found[2], images[2])


def test_nvjpeg_without_a_gpu_says_so(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", None)
    with pytest.raises(DeviceError, match="nvImageCodec, which is not installed"):
        decoder("nvjpeg")


class FakeCodec(types.ModuleType):
    """The part of nvImageCodec that is used, with Pillow's pixels: this checks our side, not theirs."""

    __version__ = "0.9.0"
    GPU_ONLY, HYBRID_CPU_GPU = 1, 2

    class ColorSpec:
        SRGB = 1

    def DecodeParams(self, **options):  # noqa: N802
        assert options == {"apply_exif_orientation": False, "color_spec": 1}

    def Backend(self, kind):  # noqa: N802
        return kind

    def CodeStream(self, blob):  # noqa: N802
        image = Image.open(io.BytesIO(blob))
        return types.SimpleNamespace(
            blob=blob, num_channels=len(image.getbands()), height=image.height, width=image.width
        )

    def Decoder(self, backends):  # noqa: N802
        def one(stream):
            return None if len(stream.blob) % 2 else types.SimpleNamespace(cpu=lambda: decode(stream.blob))

        return types.SimpleNamespace(decode=lambda streams, params: [one(stream) for stream in streams])


def test_nvjpeg_takes_what_it_can(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", FakeCodec("nvidia.nvimgcodec"))
    rng = np.random.default_rng(1)
    blobs = [file(rng, kind) for kind in ("JPEG", "PNG") * 10] + [b"nothing"]
    made = decoder("nvjpeg")
    found = made.many(blobs)
    assert isinstance(found.pop(), BadImageError)
    assert all(np.array_equal(pixels, decode(blob)) for pixels, blob in zip(found, blobs, strict=False))
    assert "not Pillow's bytes" in made.name


def test_no_such_decoder() -> None:
    with pytest.raises(ConfigError, match="no decoder"):
        decoder("fast")
