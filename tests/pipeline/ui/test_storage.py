"""The same pages from an object store."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake import Lake
from pipeline.ui import Site

moto = pytest.importorskip("moto.server")
PAGES = ("/overview", "/runs", "/lineage", "/files", "/drops", "/clusters", "/policies", "/costs", "/schedules")


@pytest.fixture
def remote(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """A copy of the lake in a bucket."""
    from pyarrow import fs

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
    for name, value in {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ALLOW_HTTP": "true", **keys}.items():
        monkeypatch.setenv(name, value)
    store = fs.S3FileSystem(
        endpoint_override=f"{host}:{port}",
        scheme="http",
        access_key="test",
        secret_key="test",
        region="us-east-1",
        allow_bucket_creation=True,
    )
    store.create_dir("shown")
    root = Path(lake.uri)
    for file in root.rglob("*"):
        if file.is_file():
            with store.open_output_stream(f"shown/lake/{file.relative_to(root)}") as out:
                out.write(file.read_bytes())
    yield Lake("s3://shown/lake")
    server.stop()


@pytest.mark.slow
def test_an_object_store_has_the_same_pages(lake: Lake, remote: Lake, serve, shown) -> None:
    with serve(Site(remote, show_content=True)) as served:
        for path in PAGES:
            assert served.settled(path).json == shown.settled(path).json, path
        assert "object store" in served.get("/health").text
        run = served.get("/api/runs").json["lines"][0]["run"]
        assert served.get(f"/runs/{run}/report").body == shown.get(f"/runs/{run}/report").body
        row = served.settled("/drops").json["rows"][0]["id"]
        assert served.settled(f"/row?id={row}").json == shown.settled(f"/row?id={row}").json
