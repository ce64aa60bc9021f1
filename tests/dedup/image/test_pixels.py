"""Pixels: files that decode to the same picture."""

from __future__ import annotations

import hashlib
import io
import struct
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from dedup.image.pixels import Pixels, digest
from dedup.match import STATE
from dedup.result import deduplicate
from lake.errors import SchemaError
from lake.ids import content_ids
from lake.images import decode, encode

RNG = np.random.default_rng(1)
GREY = RNG.integers(0, 256, (9, 12), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)
WIDE = RNG.integers(0, 65536, (9, 12), dtype=np.uint16)


def saved(image: Image.Image | npt.NDArray[Any], kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def table_of(blobs: list[bytes | None]) -> pa.Table:
    column = pa.array(blobs, pa.binary())
    return pa.table({"_id": content_ids(None, column), "image": column})


def families(blobs: list[bytes | None]) -> list[list[int]]:
    """The rows that are the same picture, by the least of them."""
    table = table_of(blobs)
    row_of = {id_: row for row, id_ in enumerate(table.column("_id").to_pylist())}
    found: dict[int, list[int]] = {}
    for row in Pixels().resolve([Pixels().sketch(table)]).to_pylist():
        found.setdefault(row_of[row["twin"]], [row_of[row["twin"]]]).append(row_of[row["_id"]])
        assert (row["rule"], row["exact"], row["threshold"], row["estimated"]) == ("near-duplicate", 1, 1, 1)
    return sorted(sorted(rows) for rows in found.values())


@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_the_same_pixels_in_any_lossless_format(pixels: npt.NDArray[np.uint8]) -> None:
    blobs: list[bytes | None] = [
        saved(pixels, "PNG", compress_level=0),
        saved(pixels, "PNG", compress_level=9),
        saved(pixels, "BMP"),
        saved(pixels, "TIFF"),
        saved(pixels, "TIFF", compression="tiff_lzw"),
        saved(pixels, "PPM"),
        saved(np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels, "WEBP", lossless=True),
    ]
    assert families(blobs) == [list(range(len(blobs)))]


def test_16_bits_in_png_and_tiff() -> None:
    assert families([encode(WIDE), saved(WIDE, "TIFF"), encode(WIDE // 2)]) == [[0, 1]]
    assert families([encode(GREY), encode(GREY.astype(np.uint16)), encode(GREY.astype(np.uint16) * 257)]) == []


def test_palettes_alpha_and_grey_as_colour() -> None:
    few = (GREY // 64) * 64
    palette = Image.fromarray(few).convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    assert np.array_equal(np.asarray(palette.convert("RGB"))[:, :, 0], few)
    alpha = np.dstack([few] * 3 + [GREY])
    blobs: list[bytes | None] = [
        saved(few, "PNG"), saved(palette, "PNG"), saved(palette, "GIF"), saved(np.dstack([few] * 3), "PNG"),
        saved(alpha, "PNG"),
    ]  # fmt: skip
    assert families(blobs) == [[0, 1, 2, 3, 4]]


def test_an_orientation_is_not_applied_as_in_decode() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert families([saved(COLOUR, "PNG"), saved(COLOUR, "PNG", exif=exif)]) == [[0, 1]]
    assert families([saved(COLOUR, "PNG"), saved(np.rot90(COLOUR).copy(), "PNG")]) == []


def test_one_pixel_or_another_shape_is_another_picture() -> None:
    other = COLOUR.copy()
    other[4, 4, 1] ^= 1
    shapes = [COLOUR, other, COLOUR.reshape(12, 9, 3), COLOUR[::-1], COLOUR[:, :, 0], COLOUR.reshape(9, 36)]
    assert families([encode(np.ascontiguousarray(each)) for each in shapes]) == []
    assert families([encode(np.full((size, 1), 3, np.uint8)) for size in (1, 2, 3)]) == []
    assert families([encode(np.full((1, 1), 3, np.uint8)), saved(np.full((1, 1), 3, np.uint8), "BMP")]) == [
        [0, 1]
    ]


def test_a_lossy_copy_is_another_picture() -> None:
    assert families([saved(COLOUR, "PNG"), saved(COLOUR, "JPEG", quality=95)]) == []


def test_the_digest_is_blake2b_of_shape_depth_and_pixels() -> None:
    for image in (COLOUR, GREY[:, :, None], WIDE[:, :, None]):
        head = struct.pack("<4I", *image.shape, image.dtype.itemsize)
        wanted = hashlib.blake2b(head + image.astype(image.dtype.newbyteorder("<")).tobytes(), digest_size=32)
        assert digest(image) == wanted.digest()


def test_equal_keys_are_not_enough() -> None:
    """Keys made equal by hand: the whole digest decides."""
    match = Pixels()
    sketch = match.sketch(table_of([encode(GREY), encode(COLOUR)]))
    same = sketch.set_column(1, sketch.schema.field("band_00"), pa.array([7, 7], pa.int64()))
    assert match.resolve([same]).num_rows == 0


def test_what_cannot_be_decoded_stays_and_keep_decides() -> None:
    good = encode(COLOUR)
    table = table_of([good, good[:60], b"no image", b"", None])
    assert Pixels().sketch(table).num_rows == 1
    assert deduplicate(table, Pixels()).kept.num_rows == 5
    both = table_of([saved(COLOUR, "PNG"), saved(COLOUR, "BMP")]).append_column("stars", pa.array([1, 2]))
    for keep, row in (("stars", 1), ("-stars", 0)):
        (state,) = Pixels(keep=(keep,)).resolve([Pixels(keep=(keep,)).sketch(both)]).to_pylist()
        assert state["_id"] == both.column("_id")[row].as_py()


MANY = table_of(
    [encode(np.full((2, 3), k, np.uint8)) for k in range(12)]
    + [saved(np.full((2, 3), k, np.uint8), "BMP") for k in range(0, 12, 2)]
    + [None, b"broken"]
)
MANY_SKETCH = Pixels().sketch(MANY)


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 18), max_size=4))
def test_neither_order_nor_partitioning_matters(rng: Any, cuts: list[int]) -> None:
    order = list(range(MANY_SKETCH.num_rows))
    rng.shuffle(order)
    shuffled = MANY_SKETCH.take(order)
    parts = [shuffled.slice(low, high - low) for low, high in pairwise([0, *sorted(cuts), shuffled.num_rows])]
    wanted = Pixels().resolve([MANY_SKETCH])
    assert wanted.num_rows == 6
    assert Pixels().resolve(parts).equals(wanted)


def test_nothing_to_do_and_refusals() -> None:
    match = Pixels()
    assert match.resolve([match.sketch(table_of([]))]).equals(STATE.empty_table())
    with pytest.raises(SchemaError, match="Pixels needs a column image"):
        match.sketch(pa.table({"_id": ["a"]}))
    with pytest.raises(ValidationError):
        Pixels(threshold=0.9)
    assert decode(encode(WIDE)).dtype == np.uint16
