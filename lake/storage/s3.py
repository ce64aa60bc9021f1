"""S3 and whatever speaks like it: ``s3://bucket/prefix``."""

# ruff: noqa: D102  (the methods are documented in the base class)

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from pyarrow import fs

from lake.storage.credentials import Chain, aws_files, aws_profile, fingerprint
from lake.storage.objects import ATTEMPTS, ObjectStorage

__all__ = ["S3Storage"]

_REQUEST, _CONNECT = 60.0, 10.0  # seconds of silence; the SDK's own 3 and 1 are too short for a busy store


class S3Storage(ObjectStorage):
    """Settings are the ``AWS_*`` names of the AWS tools; keys come from the usual chain unless given."""

    def __init__(self, uri: str, options: Mapping[str, str]) -> None:
        super().__init__(uri, options)
        self._resolved: str | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_resolved": self._resolved}

    def _sources(self) -> int:
        return fingerprint(("AWS_",), [*aws_files(), os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE")])

    def _chain(self) -> Chain:
        return Chain("AWS_", self.options)

    def _endpoint(self) -> str | None:
        found = self._chain().get("endpoint_url_s3", "endpoint_url", "endpoint")
        return found or aws_profile().get("endpoint_url")

    def _region(self) -> str | None:
        if found := self._chain().get("region", "default_region") or aws_profile().get("region"):
            return found
        if self._endpoint():
            return "us-east-1"  # what servers of one's own expect where nothing is said
        if self._resolved is None:
            self._resolved = ""
            with suppress(OSError):  # the request itself will say what is wrong
                self._resolved = fs.resolve_s3_region(self.bucket)
        return self._resolved or None

    def _attempts(self) -> int:
        found = self._chain().get("max_attempts") or ""
        return int(found) if found.isdigit() and int(found) else ATTEMPTS

    @property
    def delta_options(self) -> dict[str, str] | None:
        endpoint, region, attempts = self._endpoint(), self._region(), self._attempts()
        found = {"max_retries": str(attempts), "retry_timeout": "60s", "timeout": f"{_REQUEST:g}s"}
        if endpoint:
            found |= {"AWS_ENDPOINT_URL": endpoint}
            if endpoint.startswith("http://"):
                found |= {"AWS_ALLOW_HTTP": "true"}
        if region:
            found |= {"AWS_REGION": region}
        return {**found, **self._keys_of_profile(), **self.options}

    def _keys_of_profile(self) -> dict[str, str]:
        """What pyarrow finds by itself in a profile and delta-rs does not; nothing where keys come first."""
        chain = self._chain()
        if chain.get("access_key_id") or chain.yes("skip_signature"):
            return {}
        profile = aws_profile()
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        return {name.upper(): profile[name] for name in names if name in profile}

    def _connect(self) -> fs.FileSystem:
        chain, endpoint = self._chain(), self._endpoint()
        split = urlsplit(endpoint) if endpoint and "://" in endpoint else None
        return fs.S3FileSystem(
            # Those of the environment are left to the SDK, which looks for new ones when they have run out.
            access_key=chain.given("access_key_id"),
            secret_key=chain.given("secret_access_key"),
            session_token=chain.given("session_token", "token"),
            anonymous=chain.yes("skip_signature"),
            region=self._region(),
            scheme=split.scheme if split else None,
            endpoint_override=split.netloc if split else endpoint,
            force_virtual_addressing=chain.yes("virtual_hosted_style_request"),
            request_timeout=_REQUEST,
            connect_timeout=_CONNECT,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=self._attempts()),
            # Errors of an upload must surface at the write that failed, with its address.
            background_writes=False,
            # A small file is one request instead of three.
            allow_delayed_open=True,
        )
