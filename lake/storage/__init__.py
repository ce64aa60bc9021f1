"""Files of a lake, on a local disk or in an object store, behind one small interface.

>>> open_storage("/data/lake/").uri
'/data/lake'
>>> open_storage("gcs://bucket/lake").uri
'gs://bucket/lake'
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lake.errors import StorageError
from lake.storage.base import TEMPORARY, Entry, Storage
from lake.storage.local import LocalStorage
from lake.storage.redact import redact
from lake.storage.refusals import BusyError, guard, refused
from lake.storage.urls import FORMS, SCHEMES, complaint, misread, scheme_of, secret

__all__ = [
    "TEMPORARY",
    "BusyError",
    "Entry",
    "Storage",
    "complaint",
    "guard",
    "misread",
    "open_storage",
    "redact",
    "refused",
    "secret",
]


def open_storage(uri: str | Path, options: Mapping[str, str] | None = None) -> Storage:
    """The storage for a local folder or a URL of an object store; touches nothing yet.

    Args:
        uri: a folder, ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix`` or
            ``abfss://container@account.dfs.core.windows.net/prefix``.
        options: settings of the object store by their usual names (``AWS_*``, ``GOOGLE_*``, ``AZURE_*``); what
            is not given comes from the environment, a profile or the machine, see docs/object-stores.md.

    Raises:
        StorageError: no such kind of storage, or a secret stands in the URL.
    """
    text = str(uri)
    if wrong := complaint(text):
        raise StorageError(wrong, where=redact(text, options), hint=f"give {FORMS}")
    kind = SCHEMES.get(scheme_of(text))
    if kind is None:
        return LocalStorage(str(Path(text.removeprefix("file://")).expanduser().absolute()), {})
    scheme, _, rest = text.partition("://")
    scheme = {"gcs": "gs"}.get(scheme.lower(), scheme.lower())
    return _kind(kind)(f"{scheme}://{rest.rstrip('/')}", options or {})


def _kind(kind: str) -> type[Storage]:
    if kind == "s3":
        from lake.storage.s3 import S3Storage

        return S3Storage
    if kind == "gcs":
        from lake.storage.gcs import GcsStorage

        return GcsStorage
    from lake.storage.azure import AzureStorage

    return AzureStorage
