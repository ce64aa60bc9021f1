"""The index in an object store: what comes in batches is what comes at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import stores
from small import contents, write_texts

from lake.lake import Lake
from pipeline import Pipeline
from pipeline.matching.shuffle import IN_PROCESS

pytest.importorskip("moto.server")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with stores.moto() as endpoint:
        for name, value in stores.aws(endpoint).items():
            monkeypatch.setenv(name, value)
        yield stores.make_bucket(endpoint, "index")


def ids(lake: Lake, table: str) -> list[str]:
    return sorted(lake.table(table).to_table(columns=["_id"]).column("_id").to_pylist())


@pytest.mark.timeout(300)
def test_batches_into_a_bucket(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_texts(tmp_path / "texts", files=4)
    write_texts(tmp_path / "later", files=5)
    (tmp_path / "texts.yaml").write_text(
        "name: texts\nlake: ./lake\nallowed_rejects: 0.2\nsource: {lake.Files: {paths: texts/*.jsonl}}\n"
        "steps:\n  - dedup.MinHash: {threshold: 0.8}\n  - dedup.Jaccard: {threshold: 0.6}\n"
    )

    def run(lake: str) -> None:
        Pipeline.load(tmp_path / "texts.yaml", [f"lake={lake}"]).run()

    run(f"{bucket}/kept")
    monkeypatch.setenv(IN_PROCESS, "0")
    run(f"{bucket}/shuffled")
    monkeypatch.delenv(IN_PROCESS)
    run(str(tmp_path / "local"))
    assert ids(Lake(f"{bucket}/shuffled"), "train") == ids(Lake(f"{bucket}/kept"), "train")
    assert contents(f"{bucket}/kept")["train"] == contents(tmp_path / "local")["train"]
    (tmp_path / "later" / "part-4.jsonl").rename(tmp_path / "texts" / "part-4.jsonl")
    run(f"{bucket}/kept")
    run(str(tmp_path / "once"))
    assert ids(Lake(f"{bucket}/kept"), "train") == ids(Lake(str(tmp_path / "once")), "train")
