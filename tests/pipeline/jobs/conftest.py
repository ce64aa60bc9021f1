"""A real head with token authentication, in a corner of its own of the machine."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from lake.errors import EngineError
from pipeline.jobs import Cluster

PLUGIN = '''
"""A step that waits while a file is there, and says in another that it has come so far."""
import os, time
from pathlib import Path
from lake.op import Op, Outcome
from lake.schema import no_drops

__all__ = ["Gate"]

class Gate(Op):
    """Let everything pass, once the gate is open."""

    folder: str
    fails: bool = False

    def apply(self, table):
        folder = Path(self.folder)
        (folder / "fire").write_text(os.environ.get("GRISTMILL_FIRE", "none"))
        if (folder / "broken").exists():
            (folder / "broken").unlink()
            raise RuntimeError("the gate was broken")
        if (folder / "secret-wanted").exists():
            (folder / "told").write_text(os.environ.get("GATE_SECRET", "nothing"))
        (folder / "reached").touch()
        while (folder / "closed").exists():
            time.sleep(0.05)
        if self.fails:
            raise RuntimeError("the gate is broken")
        return Outcome(table, no_drops())
'''

CONFIG = """\
name: gated
lake: {lake}
allowed_rejects: 0.5
source: {{lake.Files: {{paths: texts/*.jsonl, text: text}}}}
plugins: [gate_steps]
steps:
  - gate_steps.Gate: {{folder: {folder}}}
  - pipeline.filters.Length: {{min: 300}}
"""


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1]


class Head:
    """A head that can be killed and started anew at the same address."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self.environment = environment or {}
        # Sockets of Ray lie below: their paths must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="gm-"))
        self.token = secrets.token_hex(32)
        (self.folder / "token").write_text(self.token)
        self.ports = free_port(), free_port()
        self.cluster = Cluster.at(f"127.0.0.1:{self.ports[0]}", self.token)
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        bin_folder = Path(sys.executable).parent
        environment = {
            "PATH": f"{bin_folder}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "RAY_TMPDIR": str(self.folder),  # or it would tell every Ray of this machine where it is
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            **self.environment,
        }
        command = [
            str(bin_folder / "ray"), "start", "--head", "--block", "--disable-usage-stats",
            "--node-ip-address=127.0.0.1", "--port=0", "--num-cpus=2", "--object-store-memory=100000000",
            "--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={self.ports[0]}",
            f"--ray-client-server-port={self.ports[1]}", "--dashboard-agent-listen-port=0",
            "--min-worker-port=0", "--max-worker-port=0",
        ]  # fmt: skip
        with (self.folder / "start.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while True:
            try:
                self.cluster.jobs()
            except EngineError:
                assert self.process.poll() is None, (self.folder / "start.log").read_text()
                assert time.monotonic() < deadline, (self.folder / "start.log").read_text()
                time.sleep(0.2)
            else:
                return

    def processes(self) -> list[int]:
        """All that this head has started: they have its folder in their environment."""
        mine = f"RAY_TMPDIR={self.folder}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with suppress(OSError):
                    if mine in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    def kill(self) -> None:
        """As if the machine had lost its power."""
        while pids := self.processes():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.process is not None:
                self.process.wait()
            time.sleep(0.05)


class Proxy:
    """Speaks TLS, with a certificate that it has signed itself, and hands all on to a port."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "certificate.pem"
        key = folder / "key.pem"
        command = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", str(key), "-out", str(self.certificate), "-days", "2", "-subj", "/CN=head",
            "-addext", "subjectAltName=IP:127.0.0.1",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.certificate, key)

    @contextmanager
    def before(self, port: int) -> Iterator[str]:
        """The address of the proxy before a port."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threads = [threading.Thread(target=self._serve, args=(listener, port))]
            threads[0].start()
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
            listener.shutdown(socket.SHUT_RDWR)
            threads[0].join()

    def _serve(self, listener: socket.socket, port: int) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._talk, args=(listener.accept()[0], port), daemon=True).start()

    def _talk(self, plain: socket.socket, port: int) -> None:
        with (
            suppress(OSError),
            plain,
            self.context.wrap_socket(plain, server_side=True) as client,
            socket.create_connection(("127.0.0.1", port)) as server,
        ):
            back = threading.Thread(target=_pour, args=(server, client), daemon=True)
            back.start()
            _pour(client, server)
            back.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    """Until one of them ends; then the other ends too."""
    with suppress(OSError):
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Proxy:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    return Proxy(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A head for the tests of one file: an idle one takes a tenth of a core, from all that come after."""
    head = Head()
    try:
        head.start()
        yield head
    finally:
        head.kill()
        shutil.rmtree(head.folder, ignore_errors=True)


@pytest.fixture
def gated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with texts, `gated.yaml`, and a plugin that only this process can import."""
    from small import write_texts

    write_texts(tmp_path / "texts", files=2, rows=20)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "gate_steps.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    monkeypatch.delitem(sys.modules, "gate_steps", raising=False)
    (tmp_path / "gated.yaml").write_text(CONFIG.format(lake="./lake", folder=tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def new_head() -> type[Head]:
    """For a head with an environment of its own."""
    return Head
