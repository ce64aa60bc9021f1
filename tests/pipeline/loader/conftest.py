from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from lake.lake import Change, Lake

SCHEMA = pa.schema(
    [
        pa.field("_id", pa.string(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("image", pa.binary()),
        pa.field("label", pa.string()),
        pa.field("meta", pa.string()),
        pa.field("score", pa.float64()),
    ]
)


def picture(number: int, side: int, kind: str) -> bytes:
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    if kind == "JPEG":
        Image.fromarray(pixels).save(out, "JPEG", quality=90)
    else:
        Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def rows(count: int, *, first: int = 0, side: int = 8, images: bool = True, kind: str = "PNG") -> pa.Table:
    numbers = range(first, first + count)
    return pa.table(
        {
            "_id": [hashlib.md5(str(i).encode()).hexdigest() for i in numbers],
            "text": [f"text number {i}" for i in numbers],
            "image": pa.array([picture(i, side, kind) if images else None for i in numbers], pa.binary()),
            "label": [("cat", "dog", "owl")[i % 3] for i in numbers],
            "meta": ["{}"] * count,
            "score": [i / 2 for i in numbers],
        },
        schema=SCHEMA,
    )


def fill(
    lake: Lake, tables: list[pa.Table], *, group_bytes: int = 3000, table: str = "train", version: int = 1
) -> int:
    parts = [
        lake.write_part(table, f"v{version}-{i}", [each], each.schema, group_bytes=group_bytes)
        for i, each in enumerate(tables)
    ]
    lake.commit([Change(table, tables[0].schema, add=tuple(parts))], app="test", version=version)
    return lake.table(table).version


@pytest.fixture
def make_rows() -> Callable[..., pa.Table]:
    return rows


@pytest.fixture
def filled() -> Callable[..., int]:
    return fill


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with 100 pictures in three files of several row groups."""
    lake = Lake(tmp_path / "lake")
    fill(lake, [rows(40), rows(35, first=40), rows(25, first=75)])
    return lake
