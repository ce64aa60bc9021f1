"""The Jobs API of a Ray cluster over plain HTTP, without Ray.

Ray's own client needs the ``ray`` package (240 MB, and its version should be that of the cluster). The
API itself is eight HTTP routes, so a laptop needs nothing that it does not have. Environments of jobs come back
from the API with the values of their variables: they are taken out here, at the border.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

from lake.errors import ConfigError, EngineError
from pipeline.jobs.websocket import follow

__all__ = ["ENDED", "Cluster", "Record", "UnreachableError"]

ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
"""States that a job does not leave."""

_TIMEOUT = 30.0  # seconds for an answer; uploads get more
_UPLOAD_TIMEOUT = 300.0
_OK, _DENIED, _MISSING, _REDIRECTED, _ITS_FAULT = 200, (401, 403), 404, range(300, 400), 500
_PORT = 8265


class UnreachableError(EngineError):
    """The cluster does not answer, or only that it cannot now: another try may help."""


@dataclass(frozen=True)
class Record:
    """What a cluster says of a job. Times are seconds since the epoch."""

    id: str
    status: str
    message: str = ""
    exit_code: int | None = None
    started: float | None = None
    ended: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.status in ENDED

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values."""
        return {
            name: getattr(self, name) for name in ("id", "status", "message", "exit_code", "started", "ended")
        }


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, by the address of its dashboard.

    >>> Cluster.at("head").address
    'http://head:8265'

    Args:
        address: ``http://host:port`` or ``https://...``; :meth:`at` takes shorter ones.
        token: for clusters with token authentication. It is sent to this address only.
    """

    address: str
    token: str | None = field(default=None, repr=False)

    @classmethod
    def at(cls, address: str, token: str | None = None) -> Cluster:
        """The cluster at an address as a person writes it.

        Raises:
            ConfigError: it is not the address of a dashboard.
        """
        written = address if "://" in address else f"http://{address}"
        parts = urlsplit(written)
        hint = f"the address of the cluster's dashboard, such as http://head:{_PORT}"
        # A login or a key in the address is a secret, and errors end up in logs.
        where = f"--address {re.sub(r'//[^/@]*@', '//', address).partition('?')[0]}"
        if parts.scheme == "ray" or address == "auto":
            raise ConfigError(
                "jobs are submitted to the dashboard, not to Ray itself",
                where=where,
                hint=f"give {hint}; `gristmill run --address {address}` runs without a job",
            )
        try:
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ConfigError("not an address", where=where, why=str(error), hint=hint) from error
        if parts.scheme not in {"http", "https"} or not host or parts.query or "@" in parts.netloc:
            why = "it holds a login; a token goes into a file or a variable" if "@" in parts.netloc else None
            raise ConfigError("not an address", where=where, why=why, hint=f"give {hint}")
        named = f"[{host}]" if ":" in host else host
        port = port or (443 if parts.scheme == "https" else _PORT)
        return cls(f"{parts.scheme}://{named}:{port}{parts.path.rstrip('/')}", token)

    def version(self) -> str:
        """The version of Ray there.

        Raises:
            EngineError: nobody answers, or somebody else.
        """
        found = self._json("GET", "/api/version")
        version = found.get("ray_version") if isinstance(found, dict) else None
        if not isinstance(version, str):
            raise self._strange("its answer names no version of Ray")
        return version

    def skew(self) -> float:
        """Seconds that the clock of the head is ahead of ours; good to one, as HTTP tells the time."""
        before = time.time()
        response, _ = self._request("GET", "/api/version")
        after = time.time()
        told = response.getheader("Date")
        if told is None:
            return 0.0
        theirs = parsedate_to_datetime(told).timestamp() + 0.5  # whole seconds, cut off
        return theirs - (before + after) / 2

    def jobs(self) -> list[Record]:
        """All submitted jobs that the cluster remembers, the oldest first."""
        with self._understood():
            found = [_record(each) for each in self._json("GET", "/api/jobs/") if each.get("submission_id")]
        return sorted(found, key=lambda record: record.started or 0.0)

    def job(self, name: str) -> Record | None:
        """One job, or none where the cluster does not know it."""
        with self._understood():
            found = self._json("GET", _path(name), missing=True)
            return None if found is None else _record(found)

    def submit(self, name: str, request: Mapping[str, Any]) -> bool:
        """Start a job; false where there is one of this name already, which is then left as it is.

        Raises:
            EngineError: the cluster refuses.
        """
        response, body = self._request("POST", "/api/jobs/", {**request, "submission_id": name})
        if response.status == _OK:
            return True
        # Ray answers 500 with a traceback for a name that is taken, in words that change: ask instead.
        if self.job(name) is not None:
            return False
        raise self._refused(response.status, body)

    def stop(self, name: str) -> bool:
        """Ask a job to end; false where it has ended already.

        Raises:
            EngineError: there is no such job.
        """
        with self._understood():
            return bool(self._json("POST", f"{_path(name)}/stop")["stopped"])

    def delete(self, name: str) -> None:
        """Forget a job that has ended."""
        self._json("DELETE", _path(name), missing=True)

    def log(self, name: str) -> str:
        """What a job has printed so far."""
        with self._understood():
            return str(self._json("GET", f"{_path(name)}/logs")["logs"])

    def tail(self, name: str) -> Iterator[str]:
        """What a job prints, from its beginning to its end, as it comes.

        Raises:
            NoSocketError: something between here and the cluster lets no WebSocket through.
            ConnectionError: the connection broke; what was told before stays true.
        """
        connection = self._connect(_TIMEOUT)
        path = urlsplit(self.address).path + f"{_path(name)}/logs/tail"
        yield from follow(connection, path, self._headers(), lambda: self._over(name))

    def upload(self, package: str, data: bytes) -> bool:
        """Keep a file in the cluster under a name made of its content; false where it is there."""
        path = f"/api/packages/gcs/{package}"
        if self._json("GET", path, missing=True, parse=False) is not None:
            return False
        response, body = self._request("PUT", path, data, timeout=_UPLOAD_TIMEOUT)
        if response.status != _OK:
            raise self._refused(response.status, body)
        return True

    def _over(self, name: str) -> bool:
        found = self.job(name)
        return found is None or found.over

    def _json(self, method: str, path: str, *, missing: bool = False, parse: bool = True) -> Any:
        response, body = self._request(method, path)
        if missing and response.status == _MISSING:
            return None
        if response.status != _OK:
            raise self._refused(response.status, body)
        if not parse:
            return body
        try:
            return json.loads(body)
        except ValueError as error:
            raise self._strange("its answer is not JSON") from error

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Take an answer of another form than Ray's for what it is: somebody else's."""
        try:
            yield
        except (AttributeError, KeyError, TypeError) as error:
            raise self._strange("its answer is JSON of another kind") from error

    def _request(
        self, method: str, path: str, body: bytes | Mapping[str, Any] | None = None, timeout: float = _TIMEOUT
    ) -> tuple[http.client.HTTPResponse, bytes]:
        headers = self._headers()
        if body is not None and not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {**headers, "Content-Type": "application/json"}
        connection = self._connect(timeout)
        try:
            connection.request(method, urlsplit(self.address).path + path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except ssl.SSLError as error:
            raise self._insecure(error) from error
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            raise self.unreachable(error) from error
        finally:
            connection.close()
        if response.status in _DENIED:
            raise self._denied(response.status)
        if response.status in _REDIRECTED:  # not followed: the token is for this address
            raise self._strange(f"it sends on to {response.getheader('Location', 'another address')}")
        return response, content

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        parts = urlsplit(self.address)
        if parts.scheme == "https":
            return http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=timeout, context=ssl.create_default_context()
            )
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def unreachable(self, error: Exception) -> UnreachableError:
        """The error for a cluster that does not answer."""
        return UnreachableError(
            "no Ray cluster answers",
            where=self.address,
            why=str(error) or type(error).__name__,
            hint=f"is the head up, and its port forwarded? Its dashboard listens on {_PORT} unless told",
        )

    def _insecure(self, error: ssl.SSLError) -> EngineError:
        """The error for a connection that is not what HTTPS promises. Nothing was sent over it."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return EngineError(
                "the certificate of the cluster is not trusted",
                where=self.address,
                why=error.verify_message,
                hint="name the file with the certificate of its authority: SSL_CERT_FILE=ca.pem",
            )
        if error.reason == "WRONG_VERSION_NUMBER":
            return EngineError(
                "the cluster does not speak HTTPS at this port",
                where=self.address,
                why=error.reason,
                hint="give the port of the proxy that does; or http://, inside a network that you trust",
            )
        return self.unreachable(error)

    def _denied(self, status: int) -> EngineError:
        given = (
            "the token is not the cluster's" if self.token else "the cluster wants a token, and none was given"
        )
        return EngineError(
            "the cluster lets nobody in without its token",
            where=self.address,
            why=f"{given} (HTTP {status})",
            hint="give it by --token-file FILE or RAY_AUTH_TOKEN; on the head it lies in ~/.ray/auth_token",
        )

    def _strange(self, why: str) -> EngineError:
        hint = (
            "give the address of the dashboard of a Ray cluster, 2.10 or newer, with ray[default] on its head"
        )
        return EngineError("this is no Jobs API of Ray", where=self.address, why=why, hint=hint)

    def _refused(self, status: int, body: bytes) -> EngineError:
        if status == _MISSING and b"does not exist" not in body:
            return self._strange("it has no such page (HTTP 404)")
        # The last line of a traceback says it; those above it are Ray's.
        lines = [line.strip() for line in body.decode(errors="replace").splitlines() if line.strip()]
        why = f"HTTP {status}: {lines[-1][:300] if lines else 'without a word'}"
        kind = UnreachableError if status >= _ITS_FAULT else EngineError
        return kind("the cluster refuses", where=self.address, why=why)


def _path(name: str) -> str:
    return f"/api/jobs/{quote(name, safe='')}"


def _record(found: Mapping[str, Any]) -> Record:
    times = [None if found.get(key) is None else found[key] / 1000 for key in ("start_time", "end_time")]
    message = (found.get("message") or "").partition("\n")[0]  # the rest repeats the log
    return Record(
        id=found["submission_id"],
        status=found["status"],
        message=message,
        exit_code=found.get("driver_exit_code"),
        started=times[0],
        ended=times[1],
        metadata=dict(found.get("metadata") or {}),
    )
