"""Nothing secret in an error or a log: keys, tokens and signatures become ``***``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

__all__ = ["redact"]

_HIDDEN = "***"
_SHORTEST = 6  # characters: a shorter value would blank out half of every message

_NAMES = re.compile(
    r"SECRET|TOKEN|PASSWORD|SAS|ACCOUNT_KEY|ACCESS_KEY|SERVICE_ACCOUNT_KEY|CREDENTIAL", re.IGNORECASE
)
_NOT_SECRET = re.compile(
    r"FILE|PATH|URI|URL|GOOGLE_APPLICATION_CREDENTIALS|GOOGLE_SERVICE_ACCOUNT$", re.IGNORECASE
)
_CLOUDS = ("AWS_", "AZURE_", "GOOGLE_", "GCS_")

_PATTERNS = [
    # user:password@ and user@ before a host; a container stands before the host in abfss://.
    (re.compile(r"(\b(?!abfss?:|az:)[a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE), r"\1***@"),
    (re.compile(r"(\b(?:abfss?|az)://)[^/\s@]*:[^/\s@]*@", re.IGNORECASE), r"\1***@"),
    # Signed URLs and SAS tokens: name=value.
    (
        re.compile(
            r"((?<![^\s?&;,\"'])(?:sig|signature|x-(?:amz|goog)-[a-z-]*(?:signature|credential|token)|awsaccesskeyid"
            r"|accountkey|sharedaccesssignature|access_token|client_secret|password)\s*=\s*)[^&\s;\"'<>]+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    # What AWS answers to a wrong signature repeats key and request.
    (
        re.compile(
            r"(<(AWSAccessKeyId|StringToSign|StringToSignBytes|SignatureProvided|CanonicalRequest"
            r"|CanonicalRequestBytes|Token-0|HostId|AuthenticationErrorDetail)>).*?(</\2>)",
            re.IGNORECASE | re.DOTALL,
        ),
        r"\1***\3",
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), _HIDDEN),
    (re.compile(r"\b(Bearer|SharedKey|AWS4-HMAC-SHA256)\s+[^\s\"'<>]+", re.IGNORECASE), r"\1 ***"),
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
        _HIDDEN,
    ),
]


def redact(text: str, options: Mapping[str, str] | None = None) -> str:
    """``text`` without the secrets of the environment, of ``options``, and whatever looks like one.

    >>> redact("GET https://a.blob.core.windows.net/c/k?sv=2024&sig=abc%2Fd failed")
    'GET https://a.blob.core.windows.net/c/k?sv=2024&sig=*** failed'
    >>> redact("no access to s3://key:secret@bucket/x")
    'no access to s3://***@bucket/x'
    """
    for secret in sorted(_known(options or {}), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def _known(options: Mapping[str, str]) -> set[str]:
    """The values of this moment that must not be shown."""
    named = [(name, value) for name, value in os.environ.items() if name.upper().startswith(_CLOUDS)]
    return {
        value
        for name, value in [*named, *options.items()]
        if len(value) >= _SHORTEST and _NAMES.search(name) and not _NOT_SECRET.search(name)
    }
