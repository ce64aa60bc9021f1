"""Azure Blob Storage and Data Lake Gen2: ``az://container/prefix``, ``abfss://container@account...``."""

# ruff: noqa: D102  (the methods are documented in the base class)

from __future__ import annotations

import os
import shutil
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from lake.errors import StorageError
from lake.storage.credentials import Chain, fingerprint
from lake.storage.objects import ATTEMPTS, ObjectStorage

__all__ = ["AzureStorage"]

_NAMES = {
    "account": ("storage_account_name", "account_name"),
    "key": ("storage_account_key", "account_key", "storage_access_key", "access_key"),
    "sas": ("storage_sas_token", "storage_sas_key", "sas_token", "sas_key"),
    "client": ("client_id", "storage_client_id"),
    "secret": ("client_secret", "storage_client_secret"),
    "tenant": ("tenant_id", "storage_tenant_id"),
    "endpoint": ("storage_endpoint", "endpoint"),
}
_MACHINE = ("IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE")


class AzureStorage(ObjectStorage):
    """Settings are the ``AZURE_*`` names: a key, a SAS token, a service principal, or an identity."""

    def _sources(self) -> int:
        return fingerprint(("AZURE_",), [os.environ.get("AZURE_FEDERATED_TOKEN_FILE")])

    def inner(self, path: str) -> str:
        split = urlsplit(self.uri)
        container = split.netloc.partition("@")[0]
        return "/".join(part for part in (container + split.path.rstrip("/"), path) if part)

    def _setting(self, name: str) -> str | None:
        return Chain("AZURE_", self.options).get(*_NAMES[name])

    def _account(self) -> str:
        _, at, host = urlsplit(self.uri).netloc.partition("@")
        account = host.partition(".")[0] if at else self._setting("account")
        if not account:
            raise StorageError(
                "the storage account is not known",
                where=self.uri,
                hint="set AZURE_STORAGE_ACCOUNT_NAME, or write abfss://container@account.dfs.core.windows.net/prefix",
            )
        return account

    @property
    def delta_options(self) -> dict[str, str] | None:
        account, endpoint = self._account(), self._setting("endpoint")
        found = {"max_retries": str(ATTEMPTS), "retry_timeout": "60s", "azure_storage_account_name": account}
        if endpoint:
            found |= {"azure_storage_endpoint": endpoint}
            found |= {"allow_http": "true"} if endpoint.startswith("http://") else {}
        if key := self._setting("key"):
            return {**found, "azure_storage_account_key": key}
        if sas := self._setting("sas"):
            return {**found, "azure_storage_sas_key": sas}
        client, secret, tenant = (self._setting(name) for name in ("client", "secret", "tenant"))
        if client and secret and tenant:
            found |= {"azure_client_id": client, "azure_client_secret": secret, "azure_tenant_id": tenant}
        elif client:
            found |= {"azure_client_id": client}
        elif not any(os.environ.get(name) for name in _MACHINE) and shutil.which("az"):
            # pyarrow's chain ends with the command line's login; delta-rs has to be told of it.
            found |= {"azure_use_azure_cli": "true"}
        return found

    def _connect(self) -> fs.FileSystem:
        endpoint = self._setting("endpoint")
        split = urlsplit(endpoint) if endpoint else None
        key = self._setting("key")
        sas = None if key else self._setting("sas")
        settings: dict[str, Any] = {"account_name": self._account(), "account_key": key, "sas_token": sas}
        if not key and not sas and self._setting("client"):
            settings |= {"client_id": self._setting("client")}
            if self._setting("secret"):
                settings |= {"client_secret": self._setting("secret"), "tenant_id": self._setting("tenant")}
        if split:
            host = split.netloc
            # An account's own host has the account in its name; a path behind the host is an emulator's.
            if host.startswith(f"{self._account()}."):
                host = host[len(self._account()) :]
            settings |= {"blob_storage_authority": host, "blob_storage_scheme": split.scheme}
            settings |= {"dfs_storage_authority": host.replace(".blob.", ".dfs.", 1)}
            settings |= {"dfs_storage_scheme": split.scheme}
        return fs.AzureFileSystem(**settings)

    # pyarrow begins an upload with an empty blob in the place of the new one: an empty blob is none of ours.

    def _open(self, path: str) -> pa.NativeFile:
        file = super()._open(path)
        if file.size() == 0:
            file.close()
            raise FileNotFoundError(2, "not there yet: its upload has not ended", path)
        return file

    def size(self, path: str) -> int | None:
        return super().size(path) or None
