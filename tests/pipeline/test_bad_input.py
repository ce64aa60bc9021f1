"""Every bad thing at once, through the whole pipeline: no row is lost, no traceback is shown."""

from __future__ import annotations

import gzip
import io
import json
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small import picture, write_texts

from lake.lake import Lake

CONFIG = """\
name: bad
lake: ./lake
allowed_rejects: 0.9
source:
  - lake.Files: {paths: [texts, tables]}
  - lake.Files: {paths: [pictures, archives]}
steps:
  - pipeline.filters.Quality: {preset: plain}
  - dedup.MinHash: {}
  - dedup.PHash: {}
  - augment.Apply: {copies: 1}
"""


def bomb() -> bytes:
    """A PNG that says 50,000 by 50,000 and has next to nothing inside."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def image(mode: str, size: tuple[int, int], kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    rng = np.random.default_rng(1)
    if mode == "I;16":
        made = Image.fromarray(rng.integers(0, 65536, (size[1], size[0]), dtype=np.uint16))
    else:
        bands = len(Image.new(mode, (1, 1)).getbands())
        pixels = rng.integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
        made = Image.fromarray(pixels if bands > 1 else pixels[:, :, 0], mode if bands == 4 else None)
    made.save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts, tables, pictures, archives = (
        tmp_path / name for name in ("texts", "tables", "pictures", "archives")
    )
    for each in (texts, tables, pictures, archives):
        each.mkdir()
    good = [
        json.dumps({"text": f"row {number} of a file that is cut off, with some words more"})
        for number in range(500)
    ]
    packed = gzip.compress("\n".join(good).encode())
    (texts / "truncated.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    (texts / "utf8.jsonl").write_bytes(b'{"text": "fine as it is, this one"}\n{"text": "bad \xff\xfe byte"}\n')
    (texts / "nul.jsonl").write_bytes(b'{"text": "a nul \\u0000 in the text"}\n{"text": "raw \x00 nul"}\n')
    (texts / "empty.jsonl").write_bytes(b"")
    (texts / "long.jsonl").write_text(json.dumps({"text": "word " * 2_000_000}) + "\n" + good[0] + "\n")
    (tables / "ragged.csv").write_text(
        "text,label\none two three,1\nfour five six,2,extra\nseven\neight nine ten,4\n"
    )
    (tables / "nocolumn.csv").write_text("body,label\nsomething,1\nelse,2\n")
    pq.write_table(pa.table({"text": ["parquet row, and a good one", None]}), tables / "null.parquet")
    (tables / "broken.parquet").write_bytes(b"PAR1 this is no parquet file PAR1")
    for name, data in {
        "corrupt.jpg": image("RGB", (64, 64), "JPEG")[:600],
        "bomb.png": bomb(),
        "one.png": image("L", (1, 1)),
        "cmyk.jpg": image("CMYK", (32, 32), "JPEG"),
        "sixteen.png": image("I;16", (20, 30)),
        "empty.png": b"",
        "text.png": b"this is not a picture",
        "good.png": picture(np.random.default_rng(5), 1),
    }.items():
        (pictures / name).write_bytes(data)
    with tarfile.open(archives / "escape.tar", "w") as tar:
        for name in ("../../escape.png", "/etc/evil.png", "inside.png"):
            info = tarfile.TarInfo(name)
            data = picture(np.random.default_rng(len(name)), 2)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (tmp_path / "bad.yaml").write_text(CONFIG)
    return tmp_path


def gristmill(*arguments: str, cwd: Path, **keywords) -> subprocess.CompletedProcess:
    command = [sys.executable, "-P", "-c", "from pipeline.cli import main; main()", *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120, **keywords
    )


def test_bad_files_are_accounted_for_one_by_one(folder):
    done = gristmill("run", "bad.yaml", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    for step in report["steps"]:
        assert step["rows_in"] == step["rows_kept"] + sum(step["drops"].values()), step
    lake = Lake(str(folder / "lake"))
    reasons = {}
    for drop in lake.table("_drops").to_table().to_pylist():
        reasons.setdefault(Path(drop["_source"]["uri"]).name, []).append(drop["rule"])
    raw = {
        Path(row["uri"]).name for row in lake.table("raw").to_table(["_source"]).column("_source").to_pylist()
    }
    for name, rule in {
        "truncated.jsonl.gz": "truncated-file",
        "utf8.jsonl": "invalid-utf8",
        "nocolumn.csv": "missing-text",
        "null.parquet": "missing-text",
        "ragged.csv": "ragged-row",
        "corrupt.jpg": "corrupt-image",
        "bomb.png": "decompression-bomb",
        "escape.tar": "unsafe-name",
    }.items():
        assert rule in reasons.get(name, []), (name, reasons.get(name))
    for name in ("broken.parquet", "empty.png", "text.png"):
        assert reasons.get(name), name
    for name in (
        "one.png",
        "cmyk.jpg",
        "sixteen.png",
        "good.png",
        "escape.tar",
        "long.jsonl",
        "truncated.jsonl.gz",
    ):
        assert name in raw
    assert not (folder / "escape.png").exists()
    assert not (folder.parent / "escape.png").exists()
    again = gristmill("run", "bad.yaml", "--json", cwd=folder)
    assert json.loads(again.stdout)["status"] == "unchanged"


def test_more_rejects_than_allowed_is_exit_code_3(folder):
    done = gristmill("run", "bad.yaml", "--set", "allowed_rejects=0.001", cwd=folder)
    assert done.returncode == 3, done.stderr
    assert Lake(str(folder / "lake")).table("train").count() > 0


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"bad.yaml": "name: a\nname: b\n"}, 2, "bad.yaml:2:1"),
        (
            {"bad.yaml": "name: a\nlake: l\nsource: {lake.Files: {paths: x}}\nsteps: [{os.system: {}}]\n"},
            2,
            "os.system",
        ),
        ({"bad.yaml": CONFIG.replace("[texts, tables]", "[nowhere]")}, 1, "nowhere"),
        ({"lake/something.txt": "else"}, 1, "is not empty"),
    ],
    ids=["duplicate key", "callable outside", "folder without files", "no lake"],
)
def test_a_wrong_configuration_or_place_is_said_plainly(folder, change, code, says):
    for name, content in change.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    done = gristmill("run", "bad.yaml", cwd=folder)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_files_is_an_error_that_names_it(folder):
    (folder / "texts" / "sub").mkdir()
    (folder / "bad.yaml").write_text(CONFIG.replace("[texts, tables]", "[texts/sub]"))
    done = gristmill("run", "bad.yaml", cwd=folder)
    assert done.returncode == 1
    assert "texts/sub" in done.stderr


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from pipeline.cli import main
sys.dont_write_bytecode = True
main()
"""


def test_a_disk_that_fills_up_is_said_plainly_and_the_next_run_carries_on(tmp_path):
    # Files may have 20,000 bytes at most: the process meets the error that a full disk gives, in mid-write.
    rng = np.random.default_rng(0)
    (tmp_path / "texts").mkdir()
    rows = [json.dumps({"text": " ".join(map(str, rng.integers(0, 10**9, 40)))}) for _ in range(400)]
    (tmp_path / "texts" / "a.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "full.yaml").write_text("name: full\nlake: ./lake\nsource: {lake.Files: {paths: texts}}\n")
    command = [sys.executable, "-P", "-c", LIMITED, "run", "full.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "do:" in done.stderr
    assert gristmill("run", "full.yaml", cwd=tmp_path).returncode == 0
    assert Lake(str(tmp_path / "lake")).table("train").count() == 400


def test_a_200_mb_line_is_dropped_and_its_neighbours_are_kept(tmp_path):
    write_texts(tmp_path / "texts", files=1)
    with (tmp_path / "texts" / "long.jsonl").open("w") as file:
        file.write('{"text": "first of the file"}\n{"text": "')
        for _ in range(200):
            file.write("a" * 1_000_000)
        file.write('"}\n{"text": "last of the file"}\n')
    (tmp_path / "long.yaml").write_text(
        "name: long\nlake: ./lake\nallowed_rejects: 0.5\n"
        "source: {lake.Files: {paths: texts, max_row_bytes: 100000000}}\n"
    )
    done = gristmill("run", "long.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lake = Lake(str(tmp_path / "lake"))
    (drop,) = [row for row in lake.table("_drops").to_table().to_pylist() if "long" in row["_source"]["uri"]]
    assert (drop["rule"], drop["_source"]["row"]) == ("row-too-large", 2)
    texts = lake.table("train").to_table(["text"]).column("text").to_pylist()
    assert {"first of the file", "last of the file"} <= set(texts)
