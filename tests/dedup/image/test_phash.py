"""PHash as a step: what is the same picture and what is not, and candidates against all pairs."""

from __future__ import annotations

import io
import random
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from pydantic import ValidationError
from scipy.fft import dctn

from dedup import MinHash, PHash
from dedup.image import hashes as phash
from dedup.match import STATE
from dedup.sketch import piece
from lake.errors import ConfigError, SchemaError
from lake.ids import content_ids
from lake.images import decode, encode

Pixels = npt.NDArray[np.uint8]


@cache
def picture(seed: int, size: tuple[int, int] = (96, 128), channels: int = 3) -> Pixels:
    """A smooth random field with hard-edged boxes and discs on it: no two seeds look alike.

    As in photographs, most of what happens is common to the channels, and some of it is not.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[0:height, 0:width] / min(size)
    out = np.zeros((height, width, 3))
    for colour in [(1, 1, 1)] * 6 + [(1, 0, 0), (0, 0, 1)]:
        fy, fx, phase = rng.uniform(-3, 3), rng.uniform(-3, 3), rng.uniform(0, 7)
        wave = rng.uniform(10, 30) * np.cos(2 * np.pi * (fy * y + fx * x) + phase)
        out += wave[:, :, None] * np.array(colour)
    for _ in range(5):
        cy, cx, reach = rng.uniform(0, 1), rng.uniform(0, 1.3), rng.uniform(0.08, 0.25)
        box = np.maximum(abs(y - cy), abs(x - cx)) < reach
        disc = (y - cy) ** 2 + (x - cx) ** 2 < reach**2
        out[box if rng.random() < 0.5 else disc] += rng.uniform(-50, 50) + rng.uniform(-15, 15, 3)
    pixels = np.clip(out + 128, 20, 235).astype(np.uint8)
    return pixels if channels == 3 else pixels[:, :, 1:2].copy()


def png(pixels: npt.NDArray[Any]) -> bytes:
    return encode(pixels)


def jpeg(pixels: Pixels, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "JPEG", quality=quality)
    return file.getvalue()


def rescaled(pixels: Pixels, by: float) -> bytes:
    image = Image.fromarray(pixels.squeeze())
    return png(
        np.asarray(image.resize((int(image.width * by), int(image.height * by)), Image.Resampling.BICUBIC))
    )


def lit(pixels: Pixels, by: float) -> bytes:
    return png(np.asarray(ImageEnhance.Brightness(Image.fromarray(pixels.squeeze())).enhance(by)))


def table_of(blobs: list[bytes | None], **more: object) -> pa.Table:
    column = pa.array(blobs, pa.binary())
    return pa.table({"_id": content_ids(None, column), "image": column, **more})


def resolve(match: PHash, table: pa.Table) -> pa.Table:
    return match.resolve([match.sketch(table)])


def twins(blobs: list[bytes | None], match: PHash | None = None) -> list[tuple[int, int]]:
    """(row, row of its kept twin) of each drop."""
    match = match or PHash()
    table = table_of(blobs)
    row_of = {id_: row for row, id_ in enumerate(table.column("_id").to_pylist())}
    return sorted((row_of[row["_id"]], row_of[row["twin"]]) for row in resolve(match, table).to_pylist())


# ---------------------------------------------------------------- the same picture

CHANGES = {
    "half as large": lambda pixels: rescaled(pixels, 0.5),
    "twice as large": lambda pixels: rescaled(pixels, 2.0),
    "JPEG 70": lambda pixels: jpeg(pixels, 70),
    "JPEG 95": lambda pixels: jpeg(pixels, 95),
    "darker": lambda pixels: lit(pixels, 0.8),
    "brighter": lambda pixels: lit(pixels, 1.08),
    "BMP": lambda pixels: _as(pixels, "BMP"),
    "lossless WebP": lambda pixels: _as(pixels, "WEBP", lossless=True),
}


def _as(pixels: Pixels, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_changed_copy_is_found_and_nothing_else(change: str, channels: int) -> None:
    pictures = [picture(seed, channels=channels) for seed in range(25)]
    blobs: list[bytes | None] = [png(each) for each in pictures]
    blobs += [CHANGES[change](each) for each in pictures]
    found = twins(blobs)
    assert sorted(abs(a - b) for a, b in found) == [25] * 25
    assert sorted(min(pair) for pair in found) == list(range(25))


def test_the_larger_picture_stays() -> None:
    small = picture(1)
    assert twins([png(small), rescaled(small, 2.0), rescaled(small, 0.5)]) == [(0, 1), (2, 1)]


def test_different_pictures_are_different() -> None:
    assert twins([png(picture(seed)) for seed in range(120)]) == []


@pytest.mark.parametrize("turn", ["mirror", "turn", "crop"])
def test_a_mirrored_turned_or_much_cropped_picture_is_another(turn: str) -> None:
    pixels = picture(3, (100, 100))
    other = {"mirror": pixels[:, ::-1], "turn": pixels.transpose(1, 0, 2), "crop": pixels[20:80, 20:80]}[turn]
    assert twins([png(pixels), png(np.ascontiguousarray(other))]) == []


CUTS = {"all sides": (5, 5, 7, 7), "left": (0, 0, 9, 0), "bottom": (0, 6, 0, 0), "corner": (6, 0, 0, 8)}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", ["phash", "dhash"])
def test_a_picture_with_its_margins_cut_off_is_found(cut: str, kind: Any) -> None:
    """About 5 to 7 % of a side; and scaled, recompressed and made darker on top."""
    pictures = [picture(seed) for seed in range(25)]
    top, bottom, left, right = CUTS[cut]
    kept = [each[top : 96 - bottom, left : 128 - right].copy() for each in pictures]
    for copies in ([png(each) for each in kept], [jpeg(decode(lit(each, 0.9)), 85) for each in kept]):  # type: ignore[arg-type]
        blobs = [*map(png, pictures), *copies]
        found = twins(blobs, PHash(hash=kind, threshold=0.98))
        assert all(abs(a - b) == 25 for a, b in found)
        assert len(found) >= 23
    assert len(twins(blobs, PHash(hash=kind, crops=False, threshold=0.98))) < 13


def oriented(pixels: Pixels) -> dict[str, Pixels]:
    turned = {
        "rotated 90": np.rot90(pixels),
        "rotated 180": np.rot90(pixels, 2),
        "rotated 270": np.rot90(pixels, 3),
    }
    mirrored = {"left to right": pixels[:, ::-1], "upside down": pixels[::-1]}
    both = {"transposed": pixels.transpose(1, 0, 2), "transverse": np.rot90(pixels, 2).transpose(1, 0, 2)}
    return {name: np.ascontiguousarray(each) for name, each in (turned | mirrored | both).items()}


@pytest.mark.parametrize("kind", ["phash", "dhash"])
@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("rotations", [False, True])
def test_mirrored_and_turned_pictures_are_found_when_asked_for(
    kind: Any,
    flips: bool,
    rotations: bool,
) -> None:
    match = PHash(hash=kind, flips=flips, rotations=rotations)
    for name in oriented(picture(0)):
        wanted = flips if name in {"left to right", "upside down"} else rotations
        if name in {"transposed", "transverse"}:
            wanted = flips and rotations
        blobs = [png(picture(seed)) for seed in range(6)]
        blobs += [jpeg(oriented(picture(seed))[name], 90) for seed in range(6)]
        found = twins(list(blobs), match)
        assert sorted(abs(a - b) for a, b in found) == [6] * (6 * wanted), name


def test_a_cropped_and_turned_picture_is_found() -> None:
    match = PHash(flips=True, rotations=True, threshold=0.97)
    for other in oriented(picture(3)[5:, 6:]).values():
        assert len(twins([png(picture(3)), png(other)], match)) == 1


def test_of_a_picture_and_a_cropped_and_turned_one_either_may_come_first() -> None:
    """The hash of the part is compared with the windows of the whole, whichever is left and turned or not."""
    match = PHash(flips=True, rotations=True, threshold=0.97, radius=6)
    for seed in range(3):
        for name, other in oriented(picture(seed)[6:, 8:]).items():
            whole = png(picture(seed))
            assert len(twins([whole, png(other)], match)) == 1, name
            assert len(twins([whole, rescaled(other, 2.0)], match)) == 1, name


def test_orientations_have_their_opposites() -> None:
    for flips, rotations in ((True, False), (False, True), (True, True)):
        turns = PHash(flips=flips, rotations=rotations).turns
        assert {5: 6, 6: 5}.keys() & set(turns) in ({5, 6}, set())
        assert turns[0] == 0


def test_the_same_form_in_another_colour_is_another_picture() -> None:
    """Equal in grey, so that only the colours tell them apart."""
    grey = picture(4, channels=1)[:, :, 0].astype(float)
    red = np.stack([grey + 20, grey - 10.19, grey], axis=2)
    blue = np.stack([grey - 3.8, grey - 3.8, grey + 30], axis=2)
    red_hash, blue_hash = (phash.describe(np.rint(each).clip(0, 255).astype(np.uint8)) for each in (red, blue))
    assert red_hash is not None
    assert blue_hash is not None
    assert (red_hash[0] ^ blue_hash[0]).bit_count() <= 8
    assert twins([png(np.rint(each).clip(0, 255).astype(np.uint8)) for each in (red, blue)]) == []


def test_grey_stored_as_colour_is_the_same_picture() -> None:
    grey = picture(5, channels=1)
    assert len(twins([png(grey), png(np.repeat(grey, 3, axis=2))])) == 1


def test_a_grey_copy_of_a_colourful_picture_is_another() -> None:
    colour = picture(6)
    grey = np.asarray(Image.fromarray(colour).convert("L"))
    assert twins([png(colour), png(grey)]) == []


# ---------------------------------------------------------------- 16 bit


def test_16_bit_and_8_bit_of_the_same_picture() -> None:
    grey = picture(7, channels=1)
    assert len(twins([png(grey), png(grey.astype(np.uint16) * 257)])) == 1


def test_16_bit_pictures_in_a_narrow_range_are_compared_by_their_own_range() -> None:
    """12 bits of a scanner in 16: by the full scale all of them would be nearly flat."""
    narrow = [1000 + picture(seed, channels=1).astype(np.uint16) // 8 for seed in range(20)]
    assert twins([png(each) for each in narrow]) == []
    assert len(twins([png(narrow[0]), png(narrow[0] * 2)])) == 1


def test_16_bit_colour() -> None:
    colour = picture(8).astype(np.uint16) * 257
    half = colour.reshape(48, 2, 64, 2, 3).mean(axis=(1, 3)).astype(np.uint16)
    assert len(twins([png(colour), png(half), png(colour // 2)])) == 2


# ---------------------------------------------------------------- no hash


def test_flat_images_are_never_merged() -> None:
    blobs: list[bytes | None] = [png(np.full((40, 40, 3), value, np.uint8)) for value in range(0, 250, 10)]
    blobs += [png(np.full((40, 40), value, np.uint16)) for value in (0, 7, 65535)]
    blobs += [png(np.zeros((size, size), np.uint8)) for size in (1, 2, 31)]
    table = table_of(blobs)
    assert PHash().sketch(table).num_rows == 0
    outcome = PHash().bind(resolve(PHash(), table)).apply(table)
    assert outcome.table.equals(table)


def test_nearly_flat_is_flat() -> None:
    """A single pixel one step brighter is noise, not a picture."""
    pixels = np.full((64, 64, 1), 100, np.uint8)
    pixels[3, 3] = 101
    assert phash.describe(pixels) is None


def test_exposure_changes_neither_the_hash_nor_the_colours() -> None:
    pixels = picture(13).astype(np.uint16)
    plain, dark, lifted = (phash.describe(each) for each in (pixels * 100, pixels * 25, pixels * 25 + 9000))
    assert plain is not None
    for other in (dark, lifted):
        assert other is not None
        assert other[0] == plain[0]
        assert np.abs(other[1].astype(int) - plain[1]).max() <= 1


def test_extreme_colours_are_cut_off_and_do_not_wrap() -> None:
    """Nearly equal in grey: the colour differences are many times the stretch."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32] = (255, 0, 0)
    pixels[:, 32:] = (0, 128, 20)
    described = phash.describe(pixels)
    assert described is not None
    assert set(described[1][1024:].tolist()) <= {0, 128, 255}


def test_corrupt_images_and_nulls_have_no_sketch_and_stay() -> None:
    good = png(picture(9))
    table = table_of([good, good[:200], b"no image", b"", None])
    assert PHash().sketch(table).column("_id").to_pylist() == [table.column("_id")[0].as_py()]
    assert PHash().bind(resolve(PHash(), table)).apply(table).table.num_rows == 5


@pytest.mark.parametrize("size", [(1, 2), (2, 1), (1, 500), (3, 5), (31, 33), (32, 32), (1000, 7)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_has_a_hash(size: tuple[int, int], channels: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, channels), dtype=np.uint8)
    described = phash.describe(pixels)
    assert described is not None
    assert 0 <= described[0] < 2**64
    assert described[1].shape == (phash.BYTES,)


# ---------------------------------------------------------------- the definition


def test_the_thumbnail_is_the_area_mean_stretched() -> None:
    pixels = picture(10, (64, 96), channels=1)
    described = phash.describe(pixels)
    assert described is not None
    means = pixels[:, :, 0].reshape(32, 2, 32, 3).mean(axis=(1, 3))
    stretched = (means - means.min()) / (means.max() - means.min()) * 255
    assert np.abs(described[1][:1024].reshape(32, 32) - stretched).max() <= 0.51


def test_the_hash_is_the_sign_of_the_low_frequencies_against_their_median() -> None:
    for seed in range(10):
        pixels = picture(seed, (64, 64))
        described = phash.describe(pixels)
        assert described is not None
        grey = pixels @ np.array([19595, 38470, 7471]) / 65536
        low = dctn(grey.reshape(32, 2, 32, 2).mean(axis=(1, 3)))[:8, :8].ravel()
        bits = low > np.median(low[1:])
        bits[0] = False
        wanted = sum(1 << k for k in np.flatnonzero(bits).tolist())
        assert (described[0] ^ wanted).bit_count() <= 1  # the one whose coefficient is the median


def test_the_likeness_is_the_lesser_of_correlation_and_colour_agreement() -> None:
    colour = picture(11)
    blobs = [png(colour), lit(colour, 0.7)]
    x, y = (phash.describe(decode(blob)) for blob in blobs)
    assert x is not None
    assert y is not None
    grey = np.corrcoef(x[1][:1024].astype(float), y[1][:1024].astype(float))[0, 1]
    (row,) = resolve(PHash(threshold=0.5, crops=False), table_of(list(blobs))).to_pylist()
    ratio = float(np.sqrt(x[1][:1024].std() / y[1][:1024].std()))
    one, two = (each[1][1024:].astype(float) - 128 for each in (x, y))
    apart = np.abs(one / ratio - two * ratio).mean()
    assert row["exact"] == pytest.approx(min(grey, 1 - apart / 255), abs=1e-12)
    assert row["estimated"] == 1 - (x[0] ^ y[0]).bit_count() / 64
    assert (row["rule"], row["threshold"], row["value"]) == ("near-duplicate", 0.5, row["exact"])


# ---------------------------------------------------------------- candidates


@pytest.mark.parametrize("radius", [0, 3, 8, 11])
def test_a_decision_misses_no_pair_within_the_radius(radius: int) -> None:
    """Pairs of alike thumbnails whose hashes differ in just so many bits, drawn anew for each pair."""
    rng = np.random.default_rng(radius)
    match = PHash(radius=radius, crops=False, keep=())
    thumbnail = match.sketch(table_of([png(picture(14))])).column("thumbnail")[0].as_py()
    hashes, ids, wanted = [], [], []
    for pair in range(300):
        apart = radius + pair % 2  # within, beyond, within, ...
        one = int(rng.integers(0, 2**64, dtype=np.uint64))
        hashes += [one, one ^ sum(1 << bit for bit in rng.permutation(64)[:apart].tolist())]
        ids += [f"{pair:031x}0", f"{pair:031x}1"]
        wanted += [(ids[-1], ids[-2])] if apart <= radius else []
    empty = match.sketch(table_of([]))
    codes = np.array(hashes, np.uint64)
    columns = {"_id": ids, "hash": codes.view(np.int64), "thumbnail": [thumbnail] * 600}
    sketch = pa.table({name: pa.array(columns[name], empty.schema.field(name).type) for name in columns})
    state = match.resolve([sketch.replace_schema_metadata(empty.schema.metadata)])
    assert [(row["_id"], row["twin"]) for row in state.to_pylist()] == wanted


# ---------------------------------------------------------------- order and partitions

MANY = table_of(
    [png(picture(seed, (64, 64))) for seed in range(20)]
    + [jpeg(picture(seed, (64, 64)), 90) for seed in range(0, 20, 2)]
    + [rescaled(picture(seed, (64, 64)), 2.0) for seed in range(0, 20, 4)]
    + [None, b"broken"]
)
MATCH = PHash()
MANY_SKETCH = MATCH.sketch(MANY)
MANY_STATE = MATCH.resolve([MANY_SKETCH])


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 35), max_size=5))
def test_neither_order_nor_partitioning_matters(rng: random.Random, cuts: list[int]) -> None:
    order = list(range(MANY_SKETCH.num_rows))
    rng.shuffle(order)
    shuffled = MANY_SKETCH.take(order)
    parts = [shuffled.slice(low, high - low) for low, high in pairwise([0, *sorted(cuts), shuffled.num_rows])]
    rng.shuffle(parts)
    assert MATCH.resolve(parts).equals(MANY_STATE)
    assert MANY_STATE.num_rows >= 12


def test_sketching_in_parts_and_from_files_gives_the_same(tmp_path: Path) -> None:
    mapped = []
    for start in range(0, MANY.num_rows, 10):
        sketch = MATCH.sketch(MANY.slice(start, 10))
        path = str(tmp_path / f"{start}.arrow")
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, sketch.schema) as writer:
            writer.write_table(sketch, max_chunksize=3)
        mapped.append(pa.ipc.open_file(pa.memory_map(path)).read_all())
    assert MATCH.resolve(mapped[::-1]).equals(MANY_STATE)


def test_keep_by_a_column() -> None:
    pixels = picture(12)
    table = table_of([png(pixels), rescaled(pixels, 2.0)], stars=[2, 1])
    (row,) = resolve(PHash(keep=("-stars",)), table).to_pylist()
    assert row["twin"] == table.column("_id")[0].as_py()
    with pytest.raises(ConfigError, match="'sharpness', which the table does not have"):
        PHash(keep=("-sharpness",)).sketch(table)


# ---------------------------------------------------------------- nothing to do, refusals


def test_zero_sketches_and_empty_tables() -> None:
    match = PHash()
    assert match.resolve([]).equals(STATE.empty_table())
    empty = table_of([])
    assert match.resolve([match.sketch(empty), match.sketch(empty)]).equals(STATE.empty_table())
    no_chunk = pa.table({"_id": pa.chunked_array([], pa.string()), "image": pa.chunked_array([], pa.binary())})
    assert match.resolve([match.sketch(no_chunk)]).equals(STATE.empty_table())
    nulls = pa.table({"_id": ["0" * 32], "image": pa.nulls(1)})
    assert match.resolve([match.sketch(nulls), MANY_SKETCH]).equals(MANY_STATE)


def test_large_binary() -> None:
    large = MANY.set_column(1, "image", MANY.column("image").cast(pa.large_binary()))
    assert MATCH.resolve([MATCH.sketch(large)]).equals(MANY_STATE)


def test_a_table_without_images_is_refused() -> None:
    with pytest.raises(SchemaError, match="needs a column image"):
        MATCH.sketch(pa.table({"_id": ["a"]}))
    with pytest.raises(SchemaError, match="string holds no images"):
        MATCH.sketch(pa.table({"_id": ["a"], "image": ["text"]}))


def test_sketches_of_texts_or_of_another_version_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = MinHash().sketch(pa.table({"_id": ["a"], "text": ["b"]}))
    with pytest.raises(SchemaError, match="other settings or by another version"):
        MATCH.resolve([texts])
    monkeypatch.setattr("dedup.image.phash.SPEC", 3)
    with pytest.raises(SchemaError, match="another version"):
        MATCH.resolve([MANY_SKETCH])


@pytest.mark.parametrize(
    "bad",
    [{"threshold": 0}, {"threshold": 1.1}, {"radius": -1}, {"radius": 32}, {"hash": "ahash"}, {"x": 1}],
    ids=str,
)
def test_bad_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PHash(**bad)


def test_settings_name_what_changes_a_sketch() -> None:
    plain = PHash().settings()
    for same in ({"threshold": 0.5}, {"keep": ("_id",)}, {"device": "cuda"}):
        assert PHash(**same).settings() == plain
    others = [{"radius": 3}, {"hash": "dhash"}, {"crops": False}, {"flips": True}, {"rotations": True}]
    named = [PHash(**other).settings() for other in others]
    assert all(each != plain for each in named)
    assert len({str(each) for each in named}) == len(named)
    for other in others:
        with pytest.raises(SchemaError, match="other settings"):
            PHash(**other).resolve([MANY_SKETCH])


def test_a_crowd_of_equal_hashes_is_compared_with_its_first() -> None:
    """So that a placeholder that comes a million times costs a million comparisons, not their square."""
    match = PHash(crops=False)
    one = match.sketch(table_of([png(picture(1))]))
    ids = [f"{k:032x}" for k in range(100)]
    crowd = pa.concat_tables([one] * 100).set_column(0, one.schema.field("_id"), pa.array(ids))
    crowd = crowd.replace_schema_metadata(one.schema.metadata)
    corpus = match.corpus([piece(crowd)])
    left, right, largest = match.candidates(corpus)
    assert largest == 100
    wanted = {(i, j) for i in range(32) for j in range(i + 1, 100)}
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == wanted
    fresh = np.arange(100) >= 90
    left, right, _ = match.candidates(corpus, fresh)
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == {(i, j) for i, j in wanted if j >= 90}
    assert match.resolve([crowd]).num_rows == 99
    match.resolve([crowd])


def test_two_crowds_against_all_pairs() -> None:
    match = PHash(crops=False, radius=2)
    one = match.sketch(table_of([png(picture(1))]))
    rng = np.random.default_rng(1)
    codes = rng.choice(np.array([0, 1, 2, 0b111, 1 << 40], np.int64), 300, p=[0.4, 0.4, 0.1, 0.05, 0.05])
    rows = pa.concat_tables([one] * 300)
    rows = rows.set_column(0, one.schema.field("_id"), pa.array([f"{k:032x}" for k in range(300)]))
    rows = rows.set_column(1, one.schema.field("hash"), pa.array(codes))
    left, right, largest = match.candidates(match.corpus([piece(rows)]))
    assert largest == np.unique(codes, return_counts=True)[1].max()
    before = [(codes[:k] == code).sum() for k, code in enumerate(codes)]
    wanted = {
        (i, j)
        for i in range(300)
        for j in range(i + 1, 300)
        if before[i] < 32 and (int(codes[i]) ^ int(codes[j])).bit_count() <= 2
    }
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == wanted


def test_new_rows_alone_give_the_pairs_that_are_new() -> None:
    match = PHash()
    corpus = match.corpus([piece(MANY_SKETCH)])
    everything = match.edges(corpus)
    fresh = np.arange(len(corpus)) % 3 == 0
    some = match.edges(corpus, fresh)
    mine = fresh[everything.left] | fresh[everything.right]
    assert mine.any()
    assert some.left.tolist() == everything.left[mine].tolist()
    assert some.right.tolist() == everything.right[mine].tolist()
    assert some.exact.tolist() == everything.exact[mine].tolist()


def test_explain_says_what_is_found() -> None:
    assert "8 of 64 bits" in PHash().explain()
    assert "edge on edge" not in PHash(crops=False).explain()
    assert "mirrored or turned" in PHash(flips=True, rotations=True).explain()
    assert PHash(hash="dhash").explain().startswith("dHash")
