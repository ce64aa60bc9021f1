"""Addresses of lakes and sources: which are known, which hold a secret, which Delta would read otherwise."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

__all__ = ["FORMS", "SCHEMES", "complaint", "misread", "scheme_of", "secret"]

SCHEMES = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
}
"""The store of each scheme; ``file`` and no scheme at all are the local disk."""

FORMS = (
    "a folder, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or abfss://container@account..."
)


# delta-rs decodes "%20" twice, takes a backslash for a slash, and leaves out what follows "#" or "?" in a URL.
_MISREAD = re.compile(r"%[0-9A-Fa-f]{2}|[\\\x00-\x1f\x7f]")
_MISREAD_IN_URL = re.compile(r"[#?]|//")


def misread(uri: str) -> str | None:
    """What in the address of a lake Delta's log would be looked for elsewhere by, if anything.

    Such a lake would share its log with that of another address, or not find it.

    >>> misread("/data/100% new/#1"), misread("/data/a%20b"), misread("s3://bucket/lake#1")
    (None, '%20', '#')
    """
    _, url, rest = uri.partition("://")
    found = _MISREAD.search(uri) or (_MISREAD_IN_URL.search(rest) if url else None)
    return found[0] if found else None


def scheme_of(url: str) -> str:
    """The scheme of a URL in small letters; empty for a path.

    >>> scheme_of("S3://bucket/x"), scheme_of("data/a:b")
    ('s3', '')
    """
    return url.partition("://")[0].lower() if "://" in url else ""


def complaint(url: str) -> str | None:
    """What is wrong with the address of a lake or a source, if anything; the answer never repeats a secret.

    >>> complaint("s3://bucket/lake")
    >>> complaint("s3://AKIA0:secret@bucket/lake")
    'credentials stand in the URL: give them by the environment or a profile, see docs/object-stores.md'
    """
    scheme = scheme_of(url)
    if scheme in {"", "file"}:
        return None
    if found := secret(url):
        return found
    if scheme not in SCHEMES:
        return f"storage of the kind {scheme}:// is not supported: give {FORMS}"
    return None if urlsplit(url).netloc else f"the bucket is missing after {scheme}://"


def secret(url: str) -> str | None:
    """What to say of a URL that holds a key, a password or a signature; None if it holds none."""
    scheme = scheme_of(url)
    if not scheme or not _holds_secret(url, scheme):
        return None
    return "credentials stand in the URL: give them by the environment or a profile, see docs/object-stores.md"


def _holds_secret(url: str, scheme: str) -> bool:
    split = urlsplit(url)
    user, at, _ = split.netloc.rpartition("@")
    # abfss://container@account is no user; with a colon it would be one with a password.
    if at and (SCHEMES.get(scheme) != "azure" or ":" in user):
        return True
    # A key may have '?' in its name, so only what looks like a signature counts.
    return any(_secret_name(name) for name, _ in parse_qsl(split.query, keep_blank_values=True))


def _secret_name(name: str) -> bool:
    name = name.lower().replace("-", "_")
    words = ("signature", "credential", "secret", "token", "password", "access_key", "account_key")
    return name in {"sig", "key"} or any(word in name for word in words)
