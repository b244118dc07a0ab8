"""What goes wrong in a store, told apart: the credentials, the place, the disk, or something worth another try.

Libraries wrap each other's errors (s3fs those of botocore, botocore those of aiohttp), so the causes are looked at too.
"""

from __future__ import annotations

import errno
import os

from olmo_core.errors import StorageError, TransientStorageError
from olmo_core.redaction import has_user

# Codes of S3 answers, and names of exception classes of botocore, aiobotocore, aiohttp and urllib3.
_TRANSIENT = {
    "429", "500", "502", "503", "504", "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling",
    "ConnectTimeoutError", "ReadTimeoutError", "EndpointConnectionError", "ConnectionClosedError", "ResponseStreamingError",
    "IncompleteReadError", "IncompleteRead", "ProtocolError", "ServerDisconnectedError", "ClientPayloadError",
    "FSTimeoutError", "ServerTimeoutError", "ClientConnectorError", "ClientOSError", "HTTPClientError",
    "ConditionalRequestConflict", "409",  # two conditional writes at once: whoever asks again learns who won
}  # fmt: skip
_REFUSED = {
    "401", "403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
}  # fmt: skip
CUT = {"ClientPayloadError", "IncompleteReadError", "IncompleteRead", "ResponseStreamingError", "ConnectionClosedError"}
"""The connection broke in the middle of a body: below us only whole requests are repeated."""


def storage_error(error: Exception, where: str) -> StorageError | None:
    """Return the error that says what to do about another; `where` is its beginning ("cannot read s3://...").

    Returns None when it is not of a kind that a store makes: it belongs to the caller.
    """
    signs, name = signs_of(error), type(error).__name__
    number = getattr(error, "errno", None)
    if refused := signs & _REFUSED:
        reason = ", ".join(sorted(refused))
        return StorageError(
            f"{where}: the store refuses the credentials ({reason}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
        )
    if "NoSuchBucket" in signs:
        return StorageError(f"{where}: the bucket does not exist; create it or correct the store's address")
    if (failed := signs & _TRANSIENT) or isinstance(error, ConnectionError | TimeoutError):
        return TransientStorageError(
            f"{where}: {', '.join(sorted(failed)) or name}: the store did not answer; trying again may help"
        )
    if isinstance(error, FileNotFoundError | NotADirectoryError) and where.startswith("cannot write"):
        return StorageError(
            f"{where}: its folder cannot be made; choose a store you may write to (--store or OLMO_STORE)"
        )
    if isinstance(error, FileNotFoundError) or "NoSuchKey" in signs:
        return StorageError(f"{where}: it is not there; `olmo artifacts verify` tells what is missing")
    if isinstance(error, PermissionError) or number == errno.EROFS:
        return StorageError(
            f"{where}: permission denied or read-only; choose a store you may write to (--store or OLMO_STORE)"
        )
    if number in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"{where}: no space left; free some room or choose another store, then run again: finished shards are kept"
        )
    if isinstance(error, ImportError) and "s3://" in where:
        return StorageError(f"{where}: {error}; `pip install olmo-flows[s3]` adds what S3 needs")
    if isinstance(error, OSError) or hasattr(error, "response"):
        return StorageError(f"{where}: {name}: {error}")
    return None


def check_endpoint() -> None:
    """Raise StorageError when the endpoint's address holds a password: libraries repeat it in their errors and logs."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        if has_user(os.environ.get(name, "")):
            raise StorageError(
                f"{name} holds a user name or password, which S3 has no use for; give the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )


def signs_of(error: BaseException | None) -> set[str]:
    """Return class names, and codes of S3 answers, of an error and its causes: s3fs wraps what the store has answered."""
    signs: set[str] = set()
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        signs.add(type(error).__name__)
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            signs.add(str(response.get("Error", {}).get("Code", "")))
            signs.add(str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")))
        error = error.__cause__
    return signs - {""}
