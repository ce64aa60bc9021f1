"""Google Cloud Storage: ``gs://bucket/prefix``."""

# ruff: noqa: D102  (the methods are documented in the base class)

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pyarrow import fs

from lake.errors import StorageError
from lake.storage.credentials import Chain, fingerprint
from lake.storage.objects import ATTEMPTS, ObjectStorage

__all__ = ["GcsStorage"]

_LIMIT = 60  # seconds that a client repeats a request
_EMULATORS = ("STORAGE_EMULATOR_HOST", "CLOUD_STORAGE_EMULATOR_ENDPOINT")
_KEY_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
_ONLY_DELTA = ("service_account", "service_account_path", "service_account_key")


class GcsStorage(ObjectStorage):
    """Credentials are Google's application default ones, or none (``GOOGLE_SKIP_SIGNATURE``)."""

    def _sources(self) -> int:
        known = Path("~/.config/gcloud/application_default_credentials.json").expanduser()
        return fingerprint(("GOOGLE_", "STORAGE_EMULATOR"), [os.environ.get(_KEY_FILE), known])

    def _chain(self) -> Chain:
        # pyarrow knows the application default credentials only: what one half cannot use, neither may.
        chain = Chain("GOOGLE_", self.options)
        file = chain.given("application_credentials")
        if chain.given(*_ONLY_DELTA) or (file and file != os.environ.get(_KEY_FILE)):
            raise StorageError(
                "a service account cannot be given as an option",
                where=self.uri,
                hint=f"set {_KEY_FILE} to the path of its key file in the environment",
            )
        return chain

    @staticmethod
    def _emulator() -> str | None:
        found = next((os.environ[name] for name in _EMULATORS if os.environ.get(name)), None)
        return found if not found or "://" in found else f"http://{found}"

    @property
    def delta_options(self) -> dict[str, str] | None:
        found = {"max_retries": str(ATTEMPTS), "retry_timeout": f"{_LIMIT}s"}
        if emulator := self._emulator():
            key = {"gcs_base_url": emulator, "disable_oauth": True, "client_email": "", "private_key": ""}
            found |= {"google_service_account_key": json.dumps({**key, "private_key_id": ""})}
            found |= {"allow_http": "true"} if emulator.startswith("http://") else {}
        elif self._chain().yes("skip_signature"):
            found |= {"google_skip_signature": "true"}
        return {**found, **self.options}

    def _connect(self) -> fs.FileSystem:
        chain, emulator = self._chain(), self._emulator()
        split = urlsplit(emulator) if emulator else None
        return fs.GcsFileSystem(
            anonymous=split is not None or chain.yes("skip_signature"),
            scheme=split.scheme if split else None,
            endpoint_override=split.netloc if split else None,
            retry_time_limit=timedelta(seconds=_LIMIT),
        )
