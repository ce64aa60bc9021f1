"""A folder of files that change, and what a lake that follows them holds."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

from small import WORDS, contents

from lake.lake import Lake
from pipeline import Pipeline

_rng = random.Random(5)
_BASE = [[_rng.choice(WORDS) for _ in range(40)] for _ in range(6)]
TEXTS = [" ".join(words + extra) for words in _BASE for extra in ([], ["flour"], ["sack", "cart"])]
"""Six families of three near-duplicates."""

CONFIG = """\
name: follow
lake: ./lake
allowed_rejects: 1.0
source: {lake.Files: {paths: data, on_change: follow}}
steps:
  - dedup.MinHash: {threshold: 0.8, keep: [-length, _id]}
sink: {lake.Table: {name: train}}
"""


class Folder:
    """A folder of files and its configuration; every write has a time of its own."""

    def __init__(self, path: Path, config: str = CONFIG) -> None:
        self.path = path
        self.clock = 1_000_000_000
        (path / "data").mkdir()
        (path / "follow.yaml").write_text(config)

    def write(self, name: str, data: str, *, at: int | None = None) -> None:
        file = self.path / "data" / name
        file.write_text(data)
        self.clock += 1
        os.utime(file, (at or self.clock, at or self.clock))

    def pipeline(self, *overrides: str) -> Pipeline:
        return Pipeline.load(self.path / "follow.yaml", overrides)

    def run(self, *overrides: str) -> Lake:
        pipeline = self.pipeline(*overrides)
        pipeline.run()
        return pipeline.lake

    def once(self) -> dict[str, list[str]]:
        """What one run over the files makes."""
        lake = self.path / "once"
        shutil.rmtree(lake, ignore_errors=True)
        return comparable(self.run(f"lake={lake}"))


def comparable(lake: Lake) -> dict[str, list[str]]:
    """The rows of the tables, and of the ledger what it says of the present."""
    found = {name: rows for name, rows in contents(lake.uri).items() if name in {"raw", "train", "_drops"}}
    told = [json.loads(row) for row in found["_drops"]]
    found["_drops"] = sorted(
        json.dumps(row | {"step": ""}, sort_keys=True)
        for row in told
        if row["rule"] not in {"source-gone", "source-changed"}
    )
    return found


def lines(rows: list[tuple[int, int]], *, last: bool = True) -> str:
    found = [json.dumps({"text": TEXTS[text], "label": str(label), "page": label}) for text, label in rows]
    return "\n".join(found) + ("\n" if last and found else "")
