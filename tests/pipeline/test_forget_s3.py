"""Forgetting in an object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import stores
from small import write_texts

from lake.lake import Lake
from lake.maintenance import verify
from pipeline import Pipeline

pytest.importorskip("moto.server")

CONFIG = """\
name: small
lake: s3://forget/lake
allowed_rejects: 0.2
source: {lake.Files: {paths: texts/*.jsonl, on_change: follow}}
steps: [dedup.MinHash: {threshold: 0.8}]
"""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with stores.moto() as endpoint:
        for name, value in stores.aws(endpoint).items():
            monkeypatch.setenv(name, value)
        yield f"{stores.make_bucket(endpoint, 'forget')}/lake"


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_row_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", files=2, rows=15)
    (tmp_path / "small.yaml").write_text(CONFIG)
    pipeline = Pipeline.load(tmp_path / "small.yaml")
    pipeline.run()
    lake = Lake(bucket)
    first = min(lake.table("raw").to_table(columns=["_id"]).column("_id").to_pylist())
    done = pipeline.forget([first], purge=True)
    assert done.rows["raw"] == 1
    assert done.proof is not None
    assert done.proof.clean
    (tmp_path / "texts" / "part-1.jsonl").unlink()
    pipeline.run()
    assert verify(lake) == []
    again = pipeline.forget([first], purge=True)
    assert (again.new, again.rows) == (0, {})
    assert again.proof is not None
    assert again.proof.clean
