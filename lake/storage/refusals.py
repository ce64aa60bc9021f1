"""What a disk or an object store refuses, told apart: each kind has another remedy.

pyarrow and delta-rs raise plain OSErrors with the store's answer in the text, each in words of its own.
Here is the one place that reads them.
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum

from lake.errors import StorageError
from lake.storage.redact import redact

__all__ = ["BusyError", "Refusal", "guard", "is_gone", "kind_of", "refused"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


class BusyError(StorageError):
    """The object store is busy or cannot be reached: the same again may work."""


class Refusal(Enum):
    """Why it was refused: what happened, and what to do."""

    FULL = ("no space is left to write to", "free some space or raise the quota, then run again")
    MODE = ("writing or reading is not permitted", "check the owner and the mode of the folder")
    EXPIRED = (
        "the credentials have expired",
        "renew them (environment, profile, token), then run again: a run goes on where it was",
    )
    UNKNOWN_KEY = (
        "the credentials are not accepted",
        "check the key, the clock of this machine and which profile is used; see docs/object-stores.md",
    )
    DENIED = (
        "there is no permission for this in the bucket",
        "have listing, reading, writing and deleting allowed below the prefix; see docs/object-stores.md",
    )
    NO_BUCKET = (
        "the bucket does not exist",
        "check the name and the account, or create the bucket: Gristmill never creates one",
    )
    BUSY = ("the object store is busy", "run again later: a run goes on where it was")
    UNREACHABLE = (
        "the object store cannot be reached",
        "check the network and the endpoint, then run again: a run goes on where it was",
    )
    OTHER = ("the storage refuses", "check the path, the network and the credentials, then retry")

    @property
    def passing(self) -> bool:
        """Whether waiting may help."""
        return self in {Refusal.BUSY, Refusal.UNREACHABLE}


# In this order: an expired token also comes as 400 or 403, a missing bucket as 404.
_SIGNS = {
    Refusal.EXPIRED: """
        Expired|TokenRefreshRequired|token is expired|invalid_grant|not valid in the specified time frame""",
    Refusal.UNKNOWN_KEY: """
        INVALID_ACCESS_KEY|InvalidAccessKeyId|INVALID_CLIENT_TOKEN|InvalidToken|SIGNATURE_DOES_NOT_MATCH|
        SignatureDoesNotMatch|AuthenticationFailed|AuthorizationFailure|UNAUTHENTICATED|
        InvalidAuthenticationInfo|RequestTimeTooSkewed|REQUEST_TIME_TOO_SKEWED|401 Unauthorized|
        MISSING_AUTHENTICATION|[Nn]o (?:valid )?(?:access )?(?:credential|token)|
        credentials? (?:provider|were not|not loaded)""",
    Refusal.NO_BUCKET: "NO_SUCH_BUCKET|NoSuchBucket|ContainerNotFound|bucket does not exist",
    Refusal.DENIED: """
        ACCESS_DENIED|AccessDenied|PERMISSION_DENIED|AuthorizationPermissionMismatch|403 Forbidden|
        InsufficientAccountPermissions|necessary privileges|AccountIsDisabled|AllAccessDisabled""",
    Refusal.BUSY: r"""
        SLOW_DOWN|SlowDown|ServerBusy|SERVICE_UNAVAILABLE|ServiceUnavailable|THROTTL|Throttl|TooManyRequests|
        INTERNAL_FAILURE|InternalError|OperationTimedOut|REQUEST_TIMEOUT|RequestTimeout|RESOURCE_EXHAUSTED|
        HTTP status (?:429|5\d\d)|\b(?:429 Too|500 Internal|502 Bad|503 Service|504 Gateway)|
        Retry policy exhausted""",
    Refusal.UNREACHABLE: """
        NETWORK_CONNECTION|curlCode|CURLE|CURL error|error sending request|tcp connect|UNAVAILABLE|
        [Cc]onnection (?:reset|refused)|dns error|timed? ?out|network socket|incomplete message|
        error reading a body|body from connection""",
}
_SIGNS_COMPILED = {kind: re.compile(re.sub(r"\n\s*", "", sign)) for kind, sign in _SIGNS.items()}
_DISK = re.compile(r"os error (\d+)")
_GONE = re.compile("(?:NO_SUCH_KEY|RESOURCE_NOT_FOUND) during GetObject|BlobNotFound")


def kind_of(error: BaseException, *, local: bool = False) -> Refusal:
    """Why the disk (``local``) or the object store refused."""
    text = str(error)
    numbers = {getattr(error, "errno", None), *(int(number) for number in _DISK.findall(text))}
    if numbers & _FULL:
        return Refusal.FULL
    if local:
        return Refusal.MODE if numbers & _DENIED else Refusal.OTHER
    for kind, sign in _SIGNS_COMPILED.items():
        if sign.search(text):
            return kind
    # Nothing in the text: the system's own number, as pyarrow sets it for some stores.
    return Refusal.DENIED if numbers & _DENIED else Refusal.OTHER


def is_gone(error: BaseException) -> bool:
    """Whether an object went between the look for it and its reading, which pyarrow takes for any error."""
    return isinstance(error, OSError) and _GONE.search(str(error)) is not None


def refused(error: BaseException, where: str, options: Mapping[str, str] | None = None) -> StorageError:
    """The error to raise in place of what pyarrow or delta-rs raised: with a remedy, without secrets."""
    kind = kind_of(error, local="://" not in where)
    what, hint = kind.value
    raised = BusyError if kind.passing else StorageError
    return raised(what, where=redact(where, options), why=_told(str(error), options), hint=hint)


def _told(text: str, options: Mapping[str, str] | None) -> str:
    """The store's answer in one line: code and message where there are some, no colours, no request ids."""
    text = redact(re.sub(r"\x1b\[[0-9;]*m", "", text), options)
    answer = re.search(r"<Code>([^<]*)</Code>\s*<Message>([^<]*)", text)
    head = re.sub(r"\s*↳\s*", ": ", text.partition("<?xml")[0].partition("<Error>")[0])
    if answer:
        head = f"{answer[1]}: {answer[2].strip()} ({head.strip()})"
    lines = [line for line in head.splitlines() if not re.match(r"\s*(RequestId|Request ID|Time):", line)]
    short = re.sub(r"\s*\(?(?:Request ID|RequestId): ?[^)\s]*\)?", "", " ".join(" ".join(lines).split()))
    return re.sub(r"[:\s]*: :?", ": ", short).strip(" :")[:600]


@contextmanager
def guard(where: str, options: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turn what the disk or the object store refuses into a :class:`StorageError` that says what to do."""
    try:
        yield
    except (FileNotFoundError, FileExistsError, NotADirectoryError, BlockingIOError):
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not _deltas(error):
            raise
        raise refused(error, where, options) from _quiet(error, options)


def _deltas(error: BaseException) -> bool:
    """An error of delta-rs about its storage; a lost race or a missing table mean something else."""
    module = sys.modules.get("deltalake.exceptions")
    if module is None or not isinstance(error, module.DeltaError):
        return False
    return not isinstance(error, module.CommitFailedError | module.TableNotFoundError)


def _quiet(error: BaseException, options: Mapping[str, str] | None) -> BaseException:
    """The cause, for a traceback; a plain copy of it where the original would tell a secret."""
    text = redact(str(error), options)
    return error if text == str(error) else OSError(text)
