from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from lake.errors import ConfigError
from lake.images import decode
from lake.lake import Lake
from pipeline.loader import Loader


def test_files(lake: Lake, tmp_path) -> None:
    table = lake.table("train").to_table()
    files = Loader(lake, classes="auto").to_hf(tmp_path / "hf", shard_bytes=9000)
    assert [file.name for file in files] == [f"train-{i:05}.parquet" for i in range(len(files))]
    assert len(files) > 2
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert [row["_id"] for row in rows] == table["_id"].to_pylist()
    assert [row["image"] for row in rows] == [
        {"bytes": blob, "path": None} for blob in table["image"].to_pylist()
    ]
    assert [("cat", "dog", "owl")[row["label"]] for row in rows] == table["label"].to_pylist()
    assert sorted(path.name for path in (tmp_path / "hf").iterdir()) == [file.name for file in files]
    with pytest.raises(ConfigError, match="already"):
        Loader(lake).to_hf(tmp_path / "hf")
    with pytest.raises(ConfigError, match="not among classes"):
        Loader(lake, classes=["cat"]).to_hf(tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


def test_datasets_reads_them(lake: Lake, tmp_path) -> None:
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    Loader(lake, classes="auto").to_hf(tmp_path / "hf", shard_bytes=9000)
    Loader(lake, classes="auto").to_hf(tmp_path / "hf", split="test")
    loaded = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "test"}
    features = loaded["train"].features
    assert isinstance(features["image"], datasets.Image)
    assert features["label"].names == ["cat", "dog", "owl"]
    table = lake.table("train").to_table()
    for i in (0, 41, 99):
        row = loaded["train"][i]
        assert row["_id"] == table["_id"][i].as_py()
        assert np.array_equal(np.asarray(row["image"]), decode(table["image"][i].as_py()))
        assert features["label"].int2str(row["label"]) == table["label"][i].as_py()
        assert row["score"] == table["score"][i].as_py()
