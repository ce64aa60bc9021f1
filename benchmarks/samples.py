"""Make ``configs/samples``: small, real, licensed data that the examples and the tests run on.

Run by ``python benchmarks/data.py samples``. The same inputs give the same bytes (fixed times, fixed order);
another zlib or Pillow may compress to other bytes of the same content.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from data import FASHION_CLASSES, fashion, pinned, png, unpacked

FLASK = {
    version: replace(pinned("flask", full), source=True)
    for version, full in (("2.3", "2.3.3"), ("3.1", "3.1.2"))
}
PER_CLASS = 100
PAIRS_PER_CLASS = 8
SIMILAR = 0.985  # Pearson correlation of pixels
MIN_WORDS = 20
SEED = 2017  # of the random fill; the year of the data set


# ------------------------------------------------------------------------------------------- images


def twins(images: np.ndarray[Any, Any]) -> list[tuple[float, int, int]]:
    """Pairs of pictures (n, h, w) that correlate at SIMILAR or more, the most similar first.

    float32 finds the candidates; the order comes from exact integer sums, so that no BLAS can change it.
    """
    whole = images.reshape(len(images), -1).astype(np.int64)
    unit = (whole - whole.mean(axis=1, keepdims=True)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    left, right = np.nonzero(np.triu(unit @ unit.T, 1) > SIMILAR - 0.001)
    n = whole.shape[1]
    total, square = whole.sum(axis=1), (whole * whole).sum(axis=1)
    spread = n * square - total * total
    found = []
    for i, j in zip(left.tolist(), right.tolist(), strict=True):
        both = n * int(whole[i] @ whole[j]) - int(total[i]) * int(total[j])
        likeness = both / (int(spread[i]) * int(spread[j])) ** 0.5
        if likeness >= SIMILAR:
            found.append((-likeness, i, j))
    return [(-likeness, i, j) for likeness, i, j in sorted(found)]


def choose(
    images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]
) -> tuple[list[int], list[tuple[float, int, int]]]:
    """Indices of PER_CLASS pictures of each class, among them the natural near-duplicates."""
    chosen: set[int] = set()
    pairs = []
    for label in range(len(FASHION_CLASSES)):
        members = np.flatnonzero(labels == label)
        mine: set[int] = set()
        for likeness, i, j in twins(images[members]):
            a, b = int(members[i]), int(members[j])
            if len(mine) < 2 * PAIRS_PER_CLASS and not mine & {a, b}:
                mine |= {a, b}
                pairs.append((likeness, a, b))
        # The fill by hash, not by a generator: no NumPy release can change which pictures it takes.
        rest = sorted(
            (i for i in members.tolist() if i not in mine),
            key=lambda i: hashlib.sha256(f"{SEED}/{i}".encode()).digest(),
        )
        mine |= set(rest[: PER_CLASS - len(mine)])
        chosen |= mine
    return sorted(chosen), pairs


def make_fashion(path: Path) -> str:
    images, labels = fashion("train")
    chosen, pairs = choose(images, labels)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for index in chosen:
            for ending, content in (
                ("cls", FASHION_CLASSES[labels[index]].encode()),
                ("png", png(images[index])),
            ):
                member = tarfile.TarInfo(f"{index:05d}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    path.write_bytes(gzip.compress(packed.getvalue(), 9, mtime=0))
    return f"{len(chosen)} images, {len(pairs)} natural pairs with a correlation of {SIMILAR} or more"


# --------------------------------------------------------------------------------------------- text


UNDERLINE = re.compile(r"([=\-~^'\"#*+])\1{2,}")


def sections(source: str) -> Iterator[tuple[str, str]]:
    """(heading, text) for each part of a reStructuredText page: it is cut at underlined headings."""
    lines = [*source.splitlines(), ""]
    heading, body = "", list[str]()
    at = 0
    while at < len(lines) - 1:
        line, under = lines[at], lines[at + 1]
        if line.strip() and not line[0].isspace() and UNDERLINE.fullmatch(under) and len(under) >= len(line):
            yield heading, "\n".join(body)
            heading, body = line.strip(), []
            at += 1  # the underline is no text
        else:
            body.append(line)
        at += 1
    yield heading, "\n".join(body)


def make_docs(path: Path, version: str) -> str:
    """One JSON line per section of the documentation with MIN_WORDS words or more."""
    out = []
    with unpacked(FLASK[version]) as top:
        docs = next(top.iterdir()) / "docs"
        for file in sorted(docs.rglob("*.rst")):
            page = file.relative_to(docs).with_suffix("").as_posix()
            for heading, body in sections(file.read_text(encoding="utf-8")):
                text = re.sub(r"\n{3,}", "\n\n", body).strip()
                if len(text.split()) >= MIN_WORDS:
                    label = page.split("/")[0] if "/" in page else "guide"
                    out.append(
                        {"text": text, "label": label, "page": page, "heading": heading, "version": version}
                    )
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in out)
    path.write_bytes(gzip.compress(lines.encode(), 9, mtime=0))
    return f"{len(out)} sections"


def make(into: Path) -> None:
    """Write the three samples into a folder."""
    into.mkdir(parents=True, exist_ok=True)
    for name, says in (
        ("fashion-mnist.tar.gz", make_fashion),
        ("flask-docs-2.3.jsonl.gz", lambda path: make_docs(path, "2.3")),
        ("flask-docs-3.1.jsonl.gz", lambda path: make_docs(path, "3.1")),
    ):
        path = into / name
        what = says(path)
        blob = path.read_bytes()
        print(
            f"{name}: {what}, {len(blob):,} bytes, sha256 {hashlib.sha256(blob).hexdigest()}", file=sys.stderr
        )
