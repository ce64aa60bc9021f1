"""A trial of several sources."""

from __future__ import annotations

import json
from pathlib import Path

from lake.files import Files
from lake.lake import Lake
from pipeline import Pipeline


def test_a_repeat_in_a_trial_is_filed_under_its_own_source(tmp_path: Path) -> None:
    for name, texts in {"one/a": ["x", "y"], "one/b": ["z"], "two/c": ["x", "w"]}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": each}) + "\n" for each in texts))
    sources = [Files(paths=str(tmp_path / folder), split_bytes=1) for folder in ("one", "two")]
    Pipeline(name="two", lake=str(tmp_path / "lake"), source=sources, steps=[]).run(limit=2)
    drops = Lake(str(tmp_path / "lake-trial")).table("_drops").to_table().to_pylist()
    assert [(row["step"], row["rule"]) for row in drops] == [("0 lake.Files 2", "exact-duplicate")]
