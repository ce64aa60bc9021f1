"""CSV, Parquet, text, images, WebDataset and DICOM: every row, member or file is a record or a drop."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake.errors import InputError, StorageError
from lake.files import Files
from lake.images import decode, encode

PNG = encode(np.full((3, 4, 3), 9, np.uint8))


def jpeg() -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(out, "JPEG")
    return out.getvalue()


def read(folder: Path, paths: str, **options: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    files = Files(paths=paths, **options)
    rows, drops = [], []
    for split in files.discover({}, base=folder):
        for outcome in files.read(split):
            assert outcome.table.schema.equals(files.schema())
            outcome.table.validate(full=True)
            rows += outcome.table.to_pylist()
            drops += outcome.drops.to_pylist()
    return rows, drops


def told(drops: list[dict[str, Any]]) -> list[tuple[int, str]]:
    assert all("secret" not in (drop["detail"] or "") for drop in drops)
    return [(drop["_source"]["row"], drop["rule"]) for drop in drops]


# ---- CSV


def test_csv_rows_quotes_and_ragged_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(
        b"\xef\xbb\xbftext,label,n,url\r\n"
        b"one,pos,1,u1\r\n"
        b'"two\nlines, ""quoted""",,2,\r\n'
        b"secret,short\r\n"
        b"\r\n"
        b"bad int,neg,1.5,u\r\n"
        b"secret \xff,neg,1,u\r\n"
        b"secret\0,neg,1,u\r\n"
        b"a,b,1,u,secret\r\n"
        b'"secret"x,b,1,u\r\n'
        b",empty,,\r\n"
        b'"secret never closed,b,1,u\r\n'
    )
    rows, drops = read(tmp_path, "a.csv", columns={"n": "int64"})
    assert [(r["_source"]["row"], r["text"], r["label"], r["n"], r["meta"]) for r in rows] == [
        (2, "one", "pos", 1, '{"url":"u1"}'),
        (3, 'two\nlines, "quoted"', None, 2, None),
        (12, "", "empty", None, None),
    ]
    assert told(drops) == [
        (5, "ragged-row"),
        (7, "wrong-type"),
        (8, "invalid-utf8"),
        (9, "nul-byte"),
        (10, "ragged-row"),
        (11, "unreadable-csv"),
        (13, "unreadable-csv"),
    ]
    assert drops[0]["detail"] == "line 5, column 2: 2 fields, the header has 4"


def test_csv_without_the_text_column_drops_every_row(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("body\tlabel\na\tb\nc\td\n")
    rows, drops = read(tmp_path, "a.tsv")
    assert rows == []
    assert told(drops) == [(2, "missing-text"), (3, "missing-text")]
    rows, _ = read(tmp_path, "a.tsv", text="body")
    assert [row["text"] for row in rows] == ["a", "c"]


def test_csv_growth_needs_the_header_and_keeps_the_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"one\nmore",x\n')
    files = Files(paths="a.csv")
    [known] = files.taken(files.discover({}, base=tmp_path))
    with path.open("a") as out:
        out.write("two,y\n")
    [split] = files.discover({known.uri: known}, base=tmp_path)
    [outcome] = files.read(split)
    assert [(r["_source"]["row"], r["text"]) for r in outcome.table.to_pylist()] == [(4, "two")]


def test_csv_record_over_the_limit_and_truncated_gzip(tmp_path: Path) -> None:
    body = "text\n" + "".join(f"row {i}\n" for i in range(30_000))
    (tmp_path / "a.csv").write_text('text\n"' + "x\n" * 5000 + '"\nlast\n')
    rows, drops = read(tmp_path, "a.csv", max_row_bytes=1000)
    assert rows[-1]["text"] == "last" or drops[-1]["rule"] == "unreadable-csv"
    assert told(drops)[0] == (2, "row-too-large")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(body.encode())[:-3000])
    rows, drops = read(tmp_path, "b.csv.gz")
    assert rows[0]["text"] == "row 0"
    assert told(drops) == [(len(rows) + 2, "truncated-file")]


# ---- Parquet


def parquet(path: Path, columns: dict[str, Any], **options: Any) -> None:
    pq.write_table(pa.table(columns), path, **options)


def test_parquet_types_go_to_meta_as_json(tmp_path: Path) -> None:
    day = dt.date(2024, 1, 2)
    parquet(
        tmp_path / "a.parquet",
        {
            "text": ["one", None, ""],
            "label": pa.array([3, 4, None], pa.int8()),
            "score": [1.0, 2.5, float("nan")],
            "tags": [["a", None], None, []],
            "day": [day, None, None],
            "raw": [b"\0\1", None, None],
            "s": ['q"', None, "x"],
            "nested": [{"b": 1, "a": None}, None, {"b": None, "a": None}],
            "when": pa.array([0, None, 1], pa.timestamp("ms")),
            "f": pa.array([1.5, None, 2], pa.float32()),
        },
    )
    rows, drops = read(tmp_path, "a.parquet", columns={"when": "timestamp", "f": "float64"})
    assert told(drops) == [(2, "missing-text")]
    assert [row["text"] for row in rows] == ["one", ""]
    assert [row["label"] for row in rows] == ["3", None]
    first = {
        "day": "2024-01-02",
        "nested": {"b": 1},
        "raw": "AAE=",
        "s": 'q"',
        "score": 1.0,
        "tags": ["a", None],
    }
    assert [json.loads(row["meta"]) for row in rows] == [first, {"nested": {}, "s": "x", "tags": []}]
    assert rows[0]["meta"] == json.dumps(first, sort_keys=True, separators=(",", ":"))
    assert [row["f"] for row in rows] == [1.5, 2.0]
    assert rows[1]["when"] == dt.datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=dt.UTC)


def test_parquet_images_as_hugging_face_stores_them(tmp_path: Path) -> None:
    blobs = [PNG, b"broken", None]
    parquet(tmp_path / "a.parquet", {"image": [{"bytes": b, "path": "x"} for b in blobs], "label": [0, 1, 2]})
    rows, drops = read(tmp_path, "a.parquet", text=None, image="image")
    assert [(row["image"], row["label"]) for row in rows] == [(PNG, "0")]
    assert told(drops) == [(2, "unsupported-image"), (3, "missing-image")]


@pytest.mark.parametrize("columns", [{"body": ["a", "b"]}, {"text": [1, 2]}, {"text": pa.nulls(2)}])
def test_parquet_without_usable_text_drops_every_row(tmp_path: Path, columns: dict[str, Any]) -> None:
    parquet(tmp_path / "a.parquet", columns)
    rows, drops = read(tmp_path, "a.parquet")
    assert rows == []
    assert [row for row, _ in told(drops)] == [1, 2]


def test_parquet_is_split_at_row_groups_and_rows_keep_their_numbers(tmp_path: Path) -> None:
    text = [f"{i} " + "x" * 50 for i in range(1000)]
    parquet(tmp_path / "a.parquet", {"text": text}, row_group_size=100, compression="none")
    files = Files(paths="a.parquet", split_bytes=12_000)
    splits = files.discover({}, base=tmp_path)
    assert len(splits) == 5
    rows, drops = read(tmp_path, "a.parquet", split_bytes=12_000)
    assert [(row["_source"]["row"], row["text"]) for row in rows] == list(enumerate(text, 1))
    assert drops == []


def test_a_broken_parquet_file_is_one_drop(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", {"text": ["a"] * 100})
    blob = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(blob[:-20])
    rows, drops = read(tmp_path, "a.parquet")
    assert rows == []
    assert told(drops) == [(1, "truncated-file")]


# ---- text and images


def test_text_files_are_one_record_each(tmp_path: Path) -> None:
    contents = {
        "pos/a.txt": b"\xef\xbb\xbfgood",
        "b.md": b"",
        "c.rst": b"secret\xff",
        "d.txt": b"secret\0",
        "e.txt": b"x" * 2000,
    }
    for name, data in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "f.txt.gz").write_bytes(gzip.compress(b"packed"))
    (tmp_path / "g.txt.gz").write_bytes(gzip.compress(b"packed")[:-9])
    rows, drops = read(tmp_path, ".", max_row_bytes=1000)
    got = {row["_source"]["uri"]: (row["text"], row["label"]) for row in rows}
    assert got == {"pos/a.txt": ("good", "pos"), "b.md": ("", None), "f.txt.gz": ("packed", None)}
    rules = {drop["_source"]["uri"]: drop["rule"] for drop in drops}
    assert rules == {
        "c.rst": "invalid-utf8",
        "d.txt": "nul-byte",
        "e.txt": "row-too-large",
        "g.txt.gz": "truncated-file",
    }


def test_image_folders_give_their_name_as_label(tmp_path: Path) -> None:
    whole = jpeg()
    contents = {
        "cats/a.png": PNG,
        "dogs/b.jpg": whole,
        "dogs/c.jpg": whole[: len(whole) // 2],
        "d.png": PNG,
        "e.gif": b"",
    }
    for name, data in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    rows, drops = read(tmp_path, ".")
    assert {row["_source"]["uri"]: (row["image"], row["label"]) for row in rows} == {
        "cats/a.png": (PNG, "cats"),
        "dogs/b.jpg": (whole, "dogs"),
        "d.png": (PNG, None),
    }
    assert {drop["_source"]["uri"]: drop["rule"] for drop in drops} == {
        "dogs/c.jpg": "corrupt-image",
        "e.gif": "unsupported-image",
    }
    rows, _ = read(tmp_path, "**/*.png", label=None)
    assert [row["label"] for row in rows] == [None, None]
    rows, _ = read(tmp_path, "dogs", verify_images=False)
    assert len(rows) == 2
    assert {drop["rule"] for drop in read(tmp_path, "cats", max_pixels=11)[1]} == {"decompression-bomb"}


def test_a_compressed_image_is_refused_with_words(tmp_path: Path) -> None:
    (tmp_path / "a.png.gz").write_bytes(b"x")
    with pytest.raises(InputError, match="unpack it first"):
        Files(paths="a.png.gz").discover({}, base=tmp_path)


# ---- WebDataset


def archive(path: Path, members: list[tuple[str, bytes]], **options: Any) -> None:
    with tarfile.open(path, "w", **options) as out:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))


def test_tar_members_are_grouped_by_key(tmp_path: Path) -> None:
    archive(
        tmp_path / "a.tar",
        [
            ("x/001.png", PNG),
            ("x/001.cls", b"7\n"),
            ("x/001.json", b'{"n": 1, "a": null}'),
            ("x/002.jpg", jpeg()[:99]),
            ("x/002.cls", b"1"),
            ("x/003.txt", b"a caption"),
            ("x/003.png", PNG),
            ("../../etc/004.png", PNG),
            ("/abs/005.png", PNG),
            ("006.exe", b"MZ"),
            ("007.cls", b"1"),
            ("008.json", b"{oops"),
            ("009.json", b'{"text": "t", "label": "l"}'),
            ("010.png", PNG),
            ("010.png", PNG),
        ],
    )
    rows, drops = read(tmp_path, "a.tar")
    assert [(r["_source"]["row"], r["image"] is not None, r["text"], r["label"], r["meta"]) for r in rows] == [
        (1, True, None, "7", '{"n":1}'),
        (6, True, "a caption", None, None),
        (13, False, "t", "l", None),
        (14, True, None, None, None),
        (15, True, None, None, None),
    ]
    assert sorted(told(drops)) == [
        (4, "corrupt-image"),
        (8, "unsafe-name"),
        (9, "unsafe-name"),
        (10, "unsupported-member"),
        (11, "missing-payload"),
        (12, "unreadable-json"),
    ]


def test_links_in_a_tar_are_never_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as out:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo("a.png")
            info.type, info.linkname = kind, "/etc/passwd"
            out.addfile(info)
        out.addfile(tarfile.TarInfo("b.txt"), io.BytesIO())
    rows, drops = read(tmp_path, "a.tar")
    assert [row["text"] for row in rows] == [""]
    assert told(drops) == [(1, "unsafe-name"), (2, "unsafe-name"), (3, "unsafe-name")]


@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_tar_keeps_the_samples_before_the_break(tmp_path: Path, packed: bool) -> None:
    draw = np.random.default_rng(0)
    archive(tmp_path / "a.tar", [(f"{i}.txt", draw.bytes(3000).hex().encode()) for i in range(9)])
    blob = (tmp_path / "a.tar").read_bytes()[:40_000]
    name = "b.tar.gz" if packed else "b.tar"
    (tmp_path / name).write_bytes(gzip.compress(blob)[:-4000] if packed else blob)
    rows, drops = read(tmp_path, name)
    assert len(rows) >= 3
    assert [rule for _, rule in told(drops)] == ["truncated-file"]


def test_a_broken_header_in_the_middle_is_not_the_end(tmp_path: Path) -> None:
    archive(tmp_path / "a.tar", [(f"{i}.txt", b"x" * 300) for i in range(9)])
    blob = bytearray((tmp_path / "a.tar").read_bytes())
    blob[3 * 1024 + 3] ^= 0x55
    (tmp_path / "a.tar").write_bytes(bytes(blob))
    rows, drops = read(tmp_path, "a.tar")
    assert len(rows) == 2  # the third may have lost members
    assert told(drops) == [(3, "truncated-file")]


def test_an_empty_tar_and_a_member_over_the_limit(tmp_path: Path) -> None:
    archive(tmp_path / "a.tar", [])
    archive(tmp_path / "b.tar", [("1.txt", b"x" * 5000), ("2.txt", b"ok")])
    (tmp_path / "c.tar").touch()
    assert read(tmp_path, "a.tar") == ([], [])
    assert read(tmp_path, "c.tar") == ([], [])
    rows, drops = read(tmp_path, "b.tar", max_row_bytes=1000)
    assert [row["text"] for row in rows] == ["ok"]
    assert told(drops) == [(1, "row-too-large")]


# ---- DICOM


def test_dicom_keeps_the_file_and_tells_nothing_of_the_patient(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values = np.array([[0, 4000], [65535, 1]], np.uint16)
    data.PatientName, data.PatientID, data.Modality, data.PixelSpacing = "Secret^Name", "4711", "CT", [0.5, 0.5]
    data.Rows, data.Columns, data.SamplesPerPixel = 2, 2, 1
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PhotometricInterpretation, data.RescaleSlope, data.RescaleIntercept = "MONOCHROME2", 2, -1024
    data.PixelData = values.tobytes()
    (tmp_path / "lung").mkdir()
    pydicom.dcmwrite(tmp_path / "lung" / "1.2.840.1", data)  # no extension: known by its magic
    pydicom.dcmwrite(tmp_path / "lung" / "b.dcm", data)
    blob = (tmp_path / "lung" / "b.dcm").read_bytes()
    (tmp_path / "c.dcm").write_bytes(blob[:-2])
    (tmp_path / "d.dcm").write_bytes(b"no dicom")
    rows, drops = read(tmp_path, ".")
    assert [(row["_source"]["uri"], row["label"], row["image"] == blob) for row in rows] == [
        ("lung/1.2.840.1", "lung", True),
        ("lung/b.dcm", "lung", True),
    ]
    assert np.array_equal(decode(rows[0]["image"])[:, :, 0], values)
    told_meta = json.loads(rows[0]["meta"])
    assert (told_meta["Modality"], told_meta["RescaleSlope"], told_meta["PixelSpacing"]) == (
        "CT",
        2.0,
        [0.5, 0.5],
    )
    assert not {name for name in told_meta if name.startswith(("Patient", "Study", "Institution"))}
    assert {drop["_source"]["uri"]: drop["rule"] for drop in drops} == {
        "c.dcm": "corrupt-image",
        "d.dcm": "unsupported-image",
    }


# ---- S3


def test_s3_urls_globs_growth_and_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "y",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        from pyarrow import fs

        store = fs.S3FileSystem(
            endpoint_override=f"{host}:{port}", scheme="http", allow_bucket_creation=True, region="us-east-1"
        )
        store.create_dir("corpus")

        def put(key: str, data: bytes) -> None:
            with store.open_output_stream(f"corpus/{key}", compression=None) as out:
                out.write(data)

        put("in/a.jsonl", b'{"text": "one"}\n{"te')
        put("in/x/b.jsonl.gz", gzip.compress(b'{"text": "two"}\n'))
        put("in/x/c.txt", b"three")
        files = Files(paths=["s3://corpus/in/**/*.jsonl*", "s3://corpus/in/x"])
        splits = files.discover({}, base=tmp_path)
        outcomes = [outcome for split in splits for outcome in files.read(split)]
        found = {r["_source"]["uri"]: r["text"] for o in outcomes for r in o.table.to_pylist()}
        assert found == {
            "s3://corpus/in/a.jsonl": "one",
            "s3://corpus/in/x/b.jsonl.gz": "two",
            "s3://corpus/in/x/c.txt": "three",
        }
        known = {item.uri: item for item in files.taken(splits)}
        assert files.discover(known, base=tmp_path) == []
        put("in/a.jsonl", b'{"text": "one"}\n{"text": "four"}\n')
        [split] = files.discover(known, base=tmp_path)
        [outcome] = files.read(split)
        assert [(r["_source"]["row"], r["text"]) for r in outcome.table.to_pylist()] == [(2, "four")]
        with pytest.raises(InputError, match="no file matches"):
            Files(paths="s3://corpus/none/*.jsonl").discover({}, base=tmp_path)
    finally:
        server.stop()


# ---- storage that fails


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.csv", "a.txt", "a.tar"]
)
def test_a_read_error_is_not_bad_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / name
    text = b'{"text": "x"}\n' * 2000
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"text": ["x"] * 2000}), path)
    elif name.endswith(".tar"):
        with tarfile.open(path, "w") as archive:
            member = tarfile.TarInfo("k.txt")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    elif name.endswith(".zst"):
        with pa.CompressedOutputStream(str(path), "zstd") as out:
            out.write(text)
    else:
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    files = Files(paths=name)
    splits = files.discover({}, base=tmp_path)

    class Broken(io.FileIO):
        def readinto(self, room: Any, /) -> int:
            raise OSError(5, "Input/output error")

        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("lake.formats.places.open", lambda address, *_, **__: Broken(address), raising=False)
    with pytest.raises(StorageError, match="Input/output error"):
        [list(files.read(split)) for split in splits]


@pytest.mark.parametrize("split_bytes", [40, 1 << 20])
def test_a_csv_may_begin_with_an_empty_line(tmp_path: Path, split_bytes: int) -> None:
    (tmp_path / "a.csv").write_text("\ntext,label\n" + "".join(f"row {n},{n}\n" for n in range(20)))
    files = Files(paths="a.csv", split_bytes=split_bytes)
    outcomes = [outcome for split in files.discover({}, base=tmp_path) for outcome in files.read(split)]
    assert sum(outcome.table.num_rows for outcome in outcomes) == 20
    assert sum(outcome.drops.num_rows for outcome in outcomes) == 0


def test_parquet_times_with_nanoseconds(tmp_path: Path) -> None:
    moment = pa.array([1_600_000_000_123_456_789, None], pa.timestamp("ns"))
    nested = pa.array([[1], None], pa.list_(pa.timestamp("ns")))
    pq.write_table(pa.table({"text": ["p", "q"], "at": moment, "all": nested}), tmp_path / "a.parquet")
    files = Files(paths="a.parquet")
    (outcome,) = files.read(files.discover({}, base=tmp_path)[0])
    first, second = outcome.table.column("meta").to_pylist()
    assert json.loads(first) == {"at": "2020-09-13T12:26:40.123456", "all": ["1970-01-01T00:00:00"]}
    assert second is None


def test_what_is_no_file_is_a_drop_and_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n')
    os.mkfifo(tmp_path / "b.jsonl")
    (tmp_path / "c.jsonl").symlink_to("c.jsonl")
    (tmp_path / "d.jsonl").symlink_to("nowhere")
    files = Files(paths=".")
    outcomes = [outcome for split in files.discover({}, base=tmp_path) for outcome in files.read(split)]
    drops = pa.concat_tables([outcome.drops for outcome in outcomes]).to_pylist()
    assert sorted(drop["_source"]["uri"] for drop in drops) == ["b.jsonl", "c.jsonl", "d.jsonl"]
    assert {drop["rule"] for drop in drops} == {"unreadable-file"}
    assert sum(outcome.table.num_rows for outcome in outcomes) == 1


def test_columns_of_json_and_bytes(tmp_path: Path) -> None:
    kinds = {"boxes": "json", "mask": "binary"}
    (tmp_path / "a.jsonl").write_text(
        '{"text": "a", "boxes": [[1, 2, 3, 4], {"bbox": [0, 0, 1, 1]}], "mask": "AAEC"}\n'
        '{"text": "b", "boxes": "[[1, 2]]", "mask": null}\n'
        '{"text": "c", "boxes": "no JSON"}\n'
        '{"text": "d", "mask": "???"}\n'
    )
    rows, drops = read(tmp_path, "a.jsonl", columns=kinds)
    assert [row["boxes"] for row in rows] == [
        '[[1, 2, 3, 4], {"bbox": [0, 0, 1, 1]}]',
        "[[1, 2]]",
        '"no JSON"',
    ]
    assert [row["mask"] for row in rows] == [b"\x00\x01\x02", None, None]
    assert [drop["rule"] for drop in drops] == ["wrong-type"]
    parquet(
        tmp_path / "b.parquet",
        {
            "text": ["e", "f"],
            "boxes": pa.array([[[1.0, 2.0]], None], pa.list_(pa.list_(pa.float64()))),
            "mask": pa.array([b"\x00\xff", b""], pa.large_binary()),
        },
    )
    rows, drops = read(tmp_path, "b.parquet", columns=kinds)
    assert [row["boxes"] for row in rows] == ["[[1.0, 2.0]]", None]
    assert [row["mask"] for row in rows] == [b"\x00\xff", b""]
    assert not drops
    (tmp_path / "c.csv").write_text('text,boxes,mask\nx,"[[1, 2]]",AAEC\n')
    rows, _ = read(tmp_path, "c.csv", columns=kinds)
    assert [row["boxes"] for row in rows] == ["[[1, 2]]"]
    assert [row["mask"] for row in rows] == [b"\x00\x01\x02"]
