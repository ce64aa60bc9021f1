"""A small corpus of texts and pictures, and what a lake holds, as plain values."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WORDS = [
    "water",
    "stone",
    "river",
    "mill",
    "wheel",
    "grain",
    "flour",
    "sack",
    "cart",
    "road",
    "market",
    "bread",
    "oven",
    "baker",
    "morning",
    "light",
    "door",
    "window",
    "table",
    "chair",
    "letter",
    "answer",
    "question",
    "number",
    "column",
    "ledger",
    "reason",
    "account",
    "weight",
    "measure",
]


def sentence(rng: random.Random, words: int) -> list[str]:
    return [rng.choice(WORDS) for _ in range(words)]


def write_texts(folder: Path, *, files: int = 6, rows: int = 30, seed: int = 7) -> int:
    """JSONL files with fresh texts, near-duplicates, exact repeats and one bad line each; gives the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    known: list[list[str]] = []
    for number in range(files):
        lines = []
        for row in range(rows):
            kind = rng.random()
            if known and kind < 0.2:
                words = [*rng.choice(known), rng.choice(WORDS)]  # one word more than another text
            elif known and kind < 0.35:
                words = rng.choice(known)
            else:
                words = sentence(rng, rng.randint(40, 90))
                known.append(words)
            lines.append(json.dumps({"text": " ".join(words), "label": str(row % 3), "page": row}))
        lines.insert(rows // 2, '{"text": "never closed')
        (folder / f"part-{number}.jsonl").write_text("\n".join(lines) + "\n")
    return files * (rows + 1)


def picture(rng: np.random.Generator, kind: int, side: int = 24) -> bytes:
    """A noisy bright bar, upright, lying or on the diagonal by `kind`, as PNG."""
    pixels = rng.integers(0, 60, (side, side), dtype=np.uint8)
    at = int(rng.integers(6, side - 8))
    wide = int(rng.integers(2, 5))
    if kind == 0:
        pixels[:, at : at + wide] = 220
    elif kind == 1:
        pixels[at : at + wide, :] = 220
    else:
        pixels[np.abs(np.subtract.outer(np.arange(side), np.arange(side)) - at + side // 2) < wide] = 220
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_pictures(folder: Path, *, per_class: int = 20, seed: int = 3) -> int:
    """A folder per class; one picture is there twice, one is cut off. Gives the number of files."""
    rng = np.random.default_rng(seed)
    names = ("upright", "lying", "slanted")
    for kind, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            (folder / name / f"{number:03}.png").write_bytes(picture(rng, kind))
    first = (folder / "upright" / "000.png").read_bytes()
    (folder / "upright" / "copy.png").write_bytes(first)
    (folder / "lying" / "torn.png").write_bytes(first[: len(first) // 2])
    return len(names) * per_class + 2


CONFIG = """\
name: small
lake: ./lake
allowed_rejects: 0.2
source:
  - lake.Files: {paths: texts/*.jsonl}
  - lake.Files: {paths: pictures}
steps:
  - pipeline.filters.Quality: {preset: plain}
  - dedup.MinHash: {threshold: 0.8, keep: [-quality, -length, _id]}
  - augment.Learned: {copies: 1, folds: 2, levels: 3}
"""


def write_corpus(folder: Path) -> None:
    """Texts, pictures and `small.yaml`, which reads both."""
    write_texts(folder / "texts")
    write_pictures(folder / "pictures")
    (folder / "small.yaml").write_text(CONFIG)


def contents(uri: str | Path) -> dict[str, list[str]]:
    """All rows of all tables of a lake but `_runs` (times), in an order of their own."""
    from lake.lake import Lake

    lake = Lake(str(uri))
    found: dict[str, list[str]] = {}
    for name in lake.tables():
        if name != "_runs":
            rows: list[dict[str, Any]] = lake.table(name).to_table().to_pylist()
            found[name] = sorted(json.dumps(row, sort_keys=True, default=_plain) for row in rows)
    return found


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
