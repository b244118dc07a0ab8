"""What goes wrong with files and stores, told apart by one table: credentials, place, disk, or something worth another try.

Two readers of the table: `storage_error` for the artifact store, and `olmo_core.documents.access` for input files, where
the same fault calls for other advice. Libraries wrap each other's errors (smart_open those of botocore, s3fs those of
botocore and aiohttp, botocore those of urllib3), so the causes are looked at too.
"""

from __future__ import annotations

import errno
import os
from enum import StrEnum

from olmo_core.errors import StorageError, TransientStorageError
from olmo_core.redaction import has_user


class Fault(StrEnum):
    """What is behind an error."""

    REFUSED = "refused"
    """The store refuses the credentials."""
    NO_BUCKET = "no bucket"
    TRANSIENT = "transient"
    """No answer, a broken connection, an overloaded server: worth another try."""
    MISSING = "missing"
    DENIED = "denied"
    """A file system's permission, or one that is read-only."""
    FULL = "full"
    OTHER = "other"
    """An error of the disk or of the store that is none of these."""


# Codes and HTTP statuses of S3 answers, and names of exception classes of botocore, aiobotocore, aiohttp and urllib3.
_REFUSED = {
    "401", "403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
}  # fmt: skip
_FULL = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "507"}  # Ceph's comes with 403
_TRANSIENT = {
    "429", "500", "502", "503", "504", "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling",
    "ConnectTimeoutError", "ReadTimeoutError", "EndpointConnectionError", "ConnectionClosedError", "ResponseStreamingError",
    "IncompleteReadError", "IncompleteRead", "ProtocolError", "ServerDisconnectedError", "ClientPayloadError",
    "FSTimeoutError", "ServerTimeoutError", "ClientConnectorError", "ClientOSError", "HTTPClientError",
    "ConditionalRequestConflict", "OperationAborted", "409",  # two writes at once: whoever asks again learns who won
    "NoSuchUpload",  # an upload in parts that somebody aborted: it begins anew
}  # fmt: skip
_MISSING = {"404", "NoSuchKey", "NotFound", "FileNotFoundError", "NotADirectoryError"}
CUT = {
    "ClientPayloadError", "IncompleteReadError", "IncompleteRead", "ProtocolError", "ResponseStreamingError",
    "ConnectionClosedError", "ReadTimeoutError", "ConnectionResetError",
}  # fmt: skip
"""The connection broke, or fell silent, in the middle of a body: below us only whole requests are repeated."""


def fault_of(error: BaseException) -> Fault | None:
    """Return what is behind an error; None when it is not of a kind that files and stores make."""
    signs = signs_of(error)
    number = getattr(error, "errno", None)
    if signs & _FULL:
        return Fault.FULL
    if signs & _REFUSED:
        return Fault.REFUSED
    if "NoSuchBucket" in signs:
        return Fault.NO_BUCKET
    if signs & _TRANSIENT or isinstance(error, ConnectionError | TimeoutError):
        return Fault.TRANSIENT
    if signs & _MISSING:
        return Fault.MISSING
    if isinstance(error, PermissionError) or number == errno.EROFS:
        return Fault.DENIED
    if number in (errno.ENOSPC, errno.EDQUOT):
        return Fault.FULL
    if isinstance(error, OSError) or hasattr(error, "response"):
        return Fault.OTHER
    return None


def storage_error(error: Exception, where: str) -> StorageError | None:
    """Return the error that says what to do about another; `where` is its beginning ("cannot read s3://...").

    Returns None when it is not of a kind that a store makes: it belongs to the caller.
    """
    if isinstance(error, ImportError) and "s3://" in where:
        return StorageError(f"{where}: {error}; `pip install olmo-flows[s3]` adds what S3 needs")
    fault, name = fault_of(error), type(error).__name__
    if fault is None:
        return None
    if fault == Fault.TRANSIENT:
        reason = ", ".join(sorted({name, *signs_of(error) & _TRANSIENT} - {"ClientError"}))
        return TransientStorageError(f"{where}: {reason}: the store did not answer; trying again may help")
    if fault == Fault.MISSING and where.startswith("cannot write"):
        return StorageError(f"{where}: its folder cannot be made; {ELSEWHERE}")
    signs = signs_of(error)
    reason = ", ".join(sorted(signs & _REFUSED))
    if "AccessDenied" in signs and where.startswith("cannot write"):  # the credentials may be right
        return StorageError(f"{where}: the store refuses writing ({reason}); {ELSEWHERE}, or {CREDENTIALS}")
    return StorageError(f"{where}: " + _ADVICE[fault].format(reason=reason, shown=f"{name}: {error}"))


CREDENTIALS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
ELSEWHERE = "choose a store you may write to (--store or OLMO_STORE)"
_ADVICE = {
    Fault.REFUSED: "the store refuses the credentials ({reason}); " + CREDENTIALS,
    Fault.NO_BUCKET: "the bucket does not exist; create it or correct the store's address",
    Fault.MISSING: "it is not there; `olmo artifacts verify` tells what is missing",
    Fault.DENIED: "permission denied or read-only; " + ELSEWHERE,
    Fault.FULL: "no space left, or a quota is used up; free some room or choose another store, then run again: finished shards are kept",
    Fault.OTHER: "{shown}",
}


def check_endpoint() -> None:
    """Raise StorageError when the endpoint's address holds a password: libraries repeat it in their errors and logs."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        if has_user(os.environ.get(name, "")):
            raise StorageError(
                f"{name} holds a user name or password, which S3 has no use for; give the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )


def signs_of(error: BaseException) -> set[str]:
    """Return the names of the classes of an error and of its causes, and codes and statuses of S3 answers among them."""
    signs: set[str] = set()
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        signs.update(kind.__name__ for kind in type(one).__mro__)
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            signs.add(str(response.get("Error", {}).get("Code", "")))
            signs.add(str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")))
        todo += [one.__cause__, getattr(one, "backend_error", None)]
    return signs - {""}
