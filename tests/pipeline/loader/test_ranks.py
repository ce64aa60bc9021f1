from __future__ import annotations

import sys
import types

import pytest

from lake.errors import ConfigError
from lake.lake import Lake
from pipeline.loader import Loader


def ray_train(rank: int | None, world: int | None) -> types.ModuleType:
    module = types.ModuleType("ray.train")
    context = types.SimpleNamespace(get_world_rank=lambda: rank, get_world_size=lambda: world)
    module.get_context = lambda: context
    return module


def test_the_shard_of_a_ray_train_worker(lake: Lake, monkeypatch) -> None:
    rows = []
    for rank in range(2):
        monkeypatch.setitem(sys.modules, "ray.train", ray_train(rank, 2))
        shard = Loader(lake, batch_size=8).shard()
        assert (shard.settings.rank, shard.settings.world) == (rank, 2)
        rows += [row for batch in shard for row in batch["_id"]]
    assert len(rows) == len(set(rows)) == 100


def test_outside_of_a_worker(lake: Lake, monkeypatch) -> None:
    for module in (None, ray_train(None, None)):
        monkeypatch.setitem(sys.modules, "ray.train", module)
        with pytest.raises(ConfigError, match="outside of a Ray Train worker"):
            Loader(lake).shard()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_train(lake: Lake, tmp_path) -> None:
    try:
        import ray
        import ray.train
        from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
    except ImportError as error:
        pytest.skip(f"Ray Train is not installed: {error}")
    uri, out = lake.uri, str(tmp_path)

    def train() -> None:
        from pathlib import Path

        from pipeline.loader import Loader

        shard = Loader(uri, batch_size=8).shard()
        rows = [row for batch in shard for row in batch["_id"]]
        Path(out, f"rank-{shard.settings.rank}").write_text("\n".join(rows))

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        scaling = ray.train.ScalingConfig(num_workers=2)
        DataParallelTrainer(
            train, scaling_config=scaling, run_config=ray.train.RunConfig(storage_path=out)
        ).fit()
    finally:
        ray.shutdown()
    ranks = [(tmp_path / f"rank-{rank}").read_text().splitlines() for rank in range(2)]
    assert sorted(ranks[0] + ranks[1]) == sorted(lake.table("train").to_table(["_id"])["_id"].to_pylist())
    assert abs(len(ranks[0]) - len(ranks[1])) <= 8
