"""Length, labels, images and conditions on columns."""

from __future__ import annotations

import doctest
import io
import itertools
import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from pydantic import ValidationError

import pipeline.filters
from lake.errors import ConfigError
from lake.op import Op, Outcome
from lake.schema import DROPS
from pipeline.filters import Image, Keep, Label, Length

MODULES = ["image", "label", "length", "where"]


def table(**columns: list[object] | pa.Array) -> pa.Table:
    size = len(next(iter(columns.values())))
    return pa.table({"_id": [f"{row:032x}" for row in range(size)], **columns})


def kept(outcome: Outcome) -> list[int]:
    return [int(row, 16) for row in outcome.table.column("_id").to_pylist()]


def dropped(outcome: Outcome) -> list[tuple[object, ...]]:
    assert outcome.drops.schema == DROPS
    return [
        (int(row["_id"], 16), row["rule"], row["value"], row["threshold"]) for row in outcome.drops.to_pylist()
    ]


# Package


def test_names_resolve_and_nothing_else() -> None:
    for name in pipeline.filters.__all__:
        step = getattr(pipeline.filters, name)
        assert issubclass(step, Op)
        assert all(field.description for field in step.model_fields.values()), name
    assert dir(pipeline.filters) == pipeline.filters.__all__
    with pytest.raises(AttributeError, match="Qualty"):
        _ = pipeline.filters.Qualty


def test_the_classes_import_without_the_compiler() -> None:
    code = (
        "import sys; from pipeline.filters import Image, Keep, Label, Length, Quality; Quality().rules();"
        "print(sorted({'numba', 'deltalake', 'ray', 'scipy', 'PIL'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module: str) -> None:
    found = doctest.testmod(import_module(f"pipeline.filters.{module}"))
    assert (found.failed, found.attempted > 0) == (0, True)


# Length


@pytest.mark.parametrize(
    ("unit", "length"),
    [("chars", 7), ("words", 4), ("bytes", 15)],
)
def test_length_at_and_beyond_its_bounds(unit: str, length: int) -> None:
    rows = table(
        text=["猫犬 e\u0301 𠀀", None]
    )  # two cats and dogs, a blank, e with its accent, a blank, one of plane 2
    assert kept(Length(min=length - 1, max=length + 1, unit=unit).apply(rows)) == [0, 1]
    assert kept(Length(min=length, max=length, unit=unit).apply(rows)) == [0, 1]
    short = Length(min=length + 1, unit=unit).apply(rows)
    assert (kept(short), dropped(short)) == ([1], [(0, "too-short", length, length + 1)])
    long = Length(max=length - 1, unit=unit).apply(rows)
    assert (kept(long), dropped(long)) == ([1], [(0, "too-long", length, length - 1)])
    assert short.drops.column("detail").to_pylist() == [f"length in {unit}"]


def test_length_of_empty_text_and_of_no_text_column() -> None:
    out = Length(min=1, max=3).apply(table(text=["", "abcd", "ab"]))
    assert kept(out) == [2]
    assert [row[1] for row in dropped(out)] == ["too-short", "too-long"]
    assert kept(Length(min=1).apply(table(image=[b"x"]))) == [0]
    assert Length(min=1).apply(table(text=["a"]).slice(0, 0)).table.num_rows == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "without a bound"),
        ({"min": 3, "max": 2}, "no text can pass"),
        ({"min": -1}, "greater than or equal"),
    ],
)
def test_length_refuses(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Length(**options)


# Label


def test_label_required_and_allowed() -> None:
    rows = table(label=["cat", None, " ", "dgo", "dog"], text=["a"] * 5)
    assert kept(Label().apply(rows)) == [0, 3, 4]
    out = Label(allowed=["cat", "dog"]).apply(rows)
    assert kept(out) == [0, 4]
    assert [row[:2] for row in dropped(out)] == [(1, "no-label"), (2, "no-label"), (3, "unlisted-label")]
    assert kept(Label(required=False, allowed=["cat", "dog"]).apply(rows)) == [0, 1, 2, 4]
    assert "dgo" not in "".join(out.drops.column("detail").to_pylist())
    assert kept(Label().apply(table(text=["a"]))) == []
    assert kept(Label(required=False).apply(table(text=["a"]))) == [0]


def test_label_length() -> None:
    out = Label(min_length=3).apply(table(label=["ab ", "abc", "猫犬鳥"]))
    assert kept(out) == [1, 2]
    assert dropped(out) == [(0, "short-label", 2, 3)]
    both = Label(min_length=3, allowed=["ab", "abc"]).apply(table(label=["ab", "abc", "abcd"]))
    assert [row[:2] for row in sorted(dropped(both))] == [(0, "short-label"), (2, "unlisted-label")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"allowed": []}, "at least 1"),
        ({"allowed": ["a", "b", "a"]}, "'a' twice"),
        ({"allowed": ["a", " "]}, "label 2 is blank"),
        ({"min_length": 0}, "greater than or equal to 1"),
    ],
)
def test_label_refuses(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Label(**options)


# Image


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, kind)
    return out.getvalue()


def noise(height: int, width: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (height, width)).astype(dtype)


def test_image_sides_and_aspect_at_and_beyond() -> None:
    rows = table(image=[encoded(noise(20, 60)), None])
    assert kept(Image(min_side=20, max_side=60, max_aspect=3).apply(rows)) == [0, 1]
    for options, why in (
        ({"min_side": 21}, (0, "small-image", 20, 21)),
        ({"max_side": 59}, (0, "large-image", 60, 59)),
        ({"max_aspect": 2.9}, (0, "long-image", 3, 2.9)),
    ):
        out = Image(**options).apply(rows)
        assert kept(out) == [1]
        assert dropped(out) == [why]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_image_contrast_is_a_share_of_the_type_s_range(dtype: str) -> None:
    pixels = np.zeros((32, 32), dtype)
    pixels[:16] = np.iinfo(dtype).max // 5  # half dark, half a fifth of the range: deviation a tenth
    rows = table(image=[encoded(pixels)])
    assert kept(Image(min_contrast=0.1).apply(rows)) == [0]
    out = Image(min_contrast=0.1001).apply(rows)
    assert dropped(out) == [(0, "blank-image", pytest.approx(0.1, abs=1e-12), 0.1001)]


def test_blank_images_go_and_faint_twelve_bit_scans_stay() -> None:
    blank8, blank16 = np.full((32, 32), 255, "uint8"), np.full((32, 32), 900, "uint16")
    colour = np.full((32, 32, 3), (250, 20, 20), "uint8")  # differs between channels, yet is one colour
    faint = (noise(32, 32, "uint16") >> 8).astype("uint16")  # 8 bits deep in 16
    out = Image().apply(table(image=[encoded(blank8), encoded(blank16), encoded(colour), encoded(faint)]))
    assert kept(out) == [3]
    assert [row[:2] for row in dropped(out)] == [(0, "blank-image"), (1, "blank-image"), (2, "blank-image")]


def test_images_that_cannot_be_decoded_are_dropped_with_the_decoder_s_rule() -> None:
    whole = encoded(noise(64, 64))
    rows = table(image=[b"", b"no image", whole[: len(whole) // 2], whole, None], text=["kept"] * 5)
    out = Image().apply(rows)
    assert kept(out) == [3, 4]
    assert {row[1] for row in dropped(out)} <= {"corrupt-image", "unsupported-image"}
    assert out.table.column("text").to_pylist() == ["kept"] * 2
    assert "no image" not in str(out.drops.to_pylist())
    header_only = Image(min_contrast=None).apply(rows)
    assert kept(header_only) == [2, 3, 4]


def dicom(pixels: np.ndarray) -> bytes:
    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = pydicom.uid.CTImageStorage, "1.2.3", "CT"
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.PixelData = pixels.astype("<u2").tobytes()
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()


def test_scans_of_twelve_bits_in_sixteen() -> None:
    scan = (noise(40, 60, "uint16") >> 4).astype("uint16")
    rows = table(image=[dicom(scan), dicom(np.full_like(scan, 1000)), dicom(scan)[:-100]])
    out = Image(min_side=40, max_side=60).apply(rows)
    assert kept(out) == [0]
    assert [row[1] for row in dropped(out)] == ["blank-image", "corrupt-image"]
    assert dropped(Image(min_side=41).apply(rows))[0] == (0, "small-image", 40, 41)


def test_image_without_the_column_or_rows() -> None:
    assert kept(Image().apply(table(text=["a"]))) == [0]
    empty = Image().apply(table(image=[encoded(noise(32, 32))]).slice(0, 0))
    assert empty.table.num_rows == empty.drops.num_rows == 0
    with pytest.raises(ValidationError, match="no image can pass"):
        Image(min_side=10, max_side=9)


# Keep

ROWS = table(
    stars=[5, 1, None, 3],
    score=[0.5, -1.0, 2.0, None],
    label=["cat", "3", " 10 ", None],
    good=[True, False, None, True],
    when=pa.array(
        [datetime(2024, 1, day, tzinfo=UTC) if day else None for day in (1, 2, 3, 0)], pa.timestamp("us", "UTC")
    ),
    text=["a", "b", "猫", "d"],
    meta=[
        '{"lang": "en", "n": 7, "ok": true, "a key": "x", "deep": {"b": 1}}',
        '{"lang": "zh", "n": "12", "ok": false}',
        '{"lang": null, "n": true, "ok": "TRUE"}',
        None,
    ],
)


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("stars >= 3", [0, 3]),
        ("stars > 3", [0]),
        ("3 <= stars", [0, 3]),
        ("5 > stars", [1, 3]),
        ("1 < stars <= 5", [0, 3]),
        ("stars == 3.0", [3]),
        ("stars != 3", [0, 1]),
        ("stars < -1 or score == -1", [1]),
        ("not stars == 3", [0, 1]),
        ("stars == none", [2]),
        ("stars is None", [2]),
        ("stars is not None and not (stars == 1)", [0, 3]),
        ("stars != null", [0, 1, 3]),
        ("stars in [1, 3, 4.5]", [1, 3]),
        ("stars not in (1, 3)", [0]),
        ("score > stars", []),
        ("stars > score", [0, 1]),
        ("label == 'cat'", [0]),
        ("label >= 3", [1, 2]),
        ("label in ['cat', 'dog']", [0]),
        ("good", [0, 3]),
        ("not good", [1]),
        ("good == false", [1]),
        ("when >= '2024-01-02T00:00:00Z'", [1, 2]),
        ("text == '猫' or good", [0, 2, 3]),
        ("meta.lang == 'en'", [0]),
        ("meta.lang in ['en', 'zh'] and stars > 1", [0]),
        ("meta.lang == none", [2, 3]),
        ("meta.n > 6", [0, 1]),
        ("meta.n == '7'", [0]),
        ("meta.ok == true", [0, 2]),
        ("meta.ok", [0, 2]),
        ('meta["a key"] == "x"', [0]),
        ("meta.deep == '{\"b\": 1}'", [0]),
        ("meta.missing == 1", []),
        ("meta.n > stars", [0, 1]),
        ("meta.lang == meta.lang", [0, 1]),
        ("stars > 3\n  or label == '3'", [0, 1]),
        ("  stars > 3", [0]),
        (r"label == '\d'", []),
    ],
)
def test_keep(where: str, rows: list[int]) -> None:
    out = Keep(where=where).apply(ROWS)
    assert kept(out) == rows
    assert {row[1] for row in dropped(out)} <= {"where"}
    assert sorted(rows + [row[0] for row in dropped(out)]) == [0, 1, 2, 3]  # type: ignore[type-var]  # ids are ints


@pytest.mark.parametrize(
    "where", ["stars > 1", "meta.n > 6", "meta.ok", "label >= 3", "meta.n == stars or good"]
)
def test_keep_does_not_depend_on_batches(where: str) -> None:
    step = Keep(where=where)
    parts = [step(ROWS.slice(a, b - a)) for a, b in itertools.pairwise([0, 1, 2, 2, 3, 4])]
    assert pa.concat_tables(parts).equals(step(ROWS))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "empty"),
        ("stars >", "at the end: not a condition"),
        ("stars > 3)", "at the end: not a condition"),
        ("stars = 3", "not a condition"),
        ("stars > 3\nor or", "line 2, column 4"),
        ("__import__('os').system('true')", "column 1: not a condition"),
        ("stars > f(3)", "column 9: expected a column or a constant"),
        ("stars.real > 3", "column 1: expected a column or a constant"),
        ("stars + 1 > 3", "column 1: expected"),
        ("(x := 3) > 2", "expected"),
        ("[stars for _ in [1]] == 1", "expected"),
        ("lambda: 1", "not a condition"),
        ("meta.a.b == 1", "column 1: expected"),
        ("meta[0] == 1", "expected"),
        ("3 < 4", "column 1: one side"),
        ("3", "column 1: not a condition"),
        ("stars in 'abc'", "needs a list"),
        ("stars in []", "needs a list"),
        ("stars in [1, 'a']", "mixes"),
        ("stars in [none]", "holds numbers or strings"),
        ("3 in [stars]", "needs a column on its left"),
        ("stars > none", "== and != only"),
        ("stars < true", "== and != only"),
        ("meta.a < meta.b", "two keys of meta"),
        ("stars > 1j", "expected"),
        ("stars > b'x'", "expected"),
        ("stars == 99999999999999999999", "64 bits"),
        ("stars == '\x00'", "no text may hold|not a condition"),
        ("not " * 60 + "good", "nested too deeply"),
        ("(" * 300 + "good" + ")" * 300, "not a condition|nested too deeply"),
        ("good or " * 2000 + "good", "at most 10000"),
    ],
)
def test_keep_refuses_with_the_place(where: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Keep(where=where)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("good and starz > 3", r"column 10: Keep: no column 'starz'; there are _id, stars"),
        ("stars == 'five'", "column 1: Keep: a int64 does not compare with a string"),
        ("when > 'soon'", "not a time"),
        ("label == true", "does not compare"),
    ],
)
def test_keep_says_at_the_first_rows_what_does_not_fit(where: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Keep(where=where).apply(ROWS)


@pytest.mark.parametrize(
    "meta", ["[1]", "{", "7", '"x"', '{"n": 1e999}', '{"n": 10' + "0" * 400 + "}", "[" * 5000, ""]
)
def test_keep_survives_odd_meta(meta: str) -> None:
    out = Keep(where="meta.n > 3").apply(table(meta=[meta]))
    assert len(kept(out)) + len(dropped(out)) == 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.text(max_size=6)), min_size=1, max_size=5),
    st.sampled_from(["label > 3", "label == 'a'"]),
)
def test_keep_reads_any_string(labels: list[str | None], where: str) -> None:
    out = Keep(where=where).apply(table(label=pa.array(labels, pa.string())))
    assert len(kept(out)) + len(dropped(out)) == len(labels)
