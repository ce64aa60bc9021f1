from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
import stores
from faulty import SLOW_DOWN, faulty

from lake.errors import ConfigError
from lake.lake import Lake
from pipeline.loader import Loader

pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with stores.moto() as made:
        yield made


@pytest.fixture
def bucket(endpoint: str, make_rows, filled) -> Lake:
    lake = Lake(f"{stores.make_bucket(endpoint, 'loader')}/lake", stores.aws(endpoint))
    if not lake.tables():
        filled(lake, [make_rows(30), make_rows(20, first=30)])
    return lake


@pytest.mark.parametrize("shuffle", ["window", "full"])
def test_a_bucket_gives_the_same_stream(bucket: Lake, tmp_path, make_rows, filled, shuffle) -> None:
    local = Lake(tmp_path / "lake")
    filled(local, [make_rows(30), make_rows(20, first=30)])
    settings = {
        "batch_size": 7,
        "window": 9000,
        "shuffle": shuffle,
        "cache": str(tmp_path),
        "policy": "randaugment",
    }
    streams = [
        [(batch["_id"].tolist(), batch["image"].tobytes()) for batch in Loader(lake, **settings)]
        for lake in (bucket, local)
    ]
    assert streams[0] == streams[1]
    again = pickle.loads(pickle.dumps(Loader(bucket, **settings)))
    assert [(batch["_id"].tolist(), batch["image"].tobytes()) for batch in again] == streams[0]


def test_a_bucket_that_refuses_each_reading_once(endpoint: str, bucket: Lake, monkeypatch) -> None:
    wanted = [batch["_id"].tolist() for batch in Loader(bucket, batch_size=7)]
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    met = set()

    def rule(request):
        asked = (request.path, request.headers.get("range", ""))
        if request.method != "GET" or ".parquet" not in request.path or asked in met:
            return None
        met.add(asked)
        return SLOW_DOWN

    with faulty(endpoint, rule) as proxy:
        loader = Loader(Lake(bucket.uri, stores.aws(proxy.url)), batch_size=7)
        assert [batch["_id"].tolist() for batch in loader] == wanted
        assert proxy.faults() > 2


def test_workers_of_a_bucket(bucket: Lake) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    loader = Loader(bucket, batch_size=7)
    wanted = [batch["_id"].tolist() for batch in Loader(bucket, batch_size=7)]
    assert [batch["_id"] for batch in loader.dataloader(1)] == wanted
    forked = torch.utils.data.DataLoader(
        loader.torch(), batch_size=None, num_workers=1, multiprocessing_context="fork"
    )
    with pytest.raises(ConfigError, match="forked process"):
        list(forked)
