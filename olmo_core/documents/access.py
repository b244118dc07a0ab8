"""Errors met while listing or reading input files, told apart: the file's fault, or the network's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from olmo_core.errors import InputError, OlmoError, TransientStorageError

_REFUSED = {
    "401", "403", "AccessDenied", "ExpiredToken", "Forbidden", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch",
    "CredentialRetrievalError", "NoCredentialsError", "PartialCredentialsError",
}  # fmt: skip
_MISSING = {"404", "NoSuchBucket", "NoSuchKey", "NotFound"}
_TRANSIENT = {
    "429", "500", "502", "503", "504", "InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling",
    "ClientConnectorError", "ClientOSError", "ClientPayloadError", "ConnectTimeoutError", "ConnectionClosedError",
    "EndpointConnectionError", "FSTimeoutError", "HTTPClientError", "IncompleteReadError", "ProtocolError", "ReadTimeoutError",
    "ResponseStreamingError", "ServerDisconnectedError", "ServerTimeoutError",
}  # fmt: skip


@contextlib.contextmanager
def reading(url: str, action: str = "read") -> Iterator[None]:
    """Turn what goes wrong with a file inside the block into InputError or TransientStorageError, naming the file."""
    try:
        yield
    except OlmoError:
        raise
    except Exception as error:
        signs = _signs(error)
        where = f"cannot {action} {url}"
        shown = f"{type(error).__name__}: {error}"
        if signs & _REFUSED:
            raise InputError(
                f"{where}: the store refuses the credentials ({shown}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
            ) from error
        if signs & _MISSING or isinstance(error, FileNotFoundError | NotADirectoryError):
            raise InputError(
                f"{where}: it is not there ({shown}); correct the source's paths, or run again if files are still moving"
            ) from error
        if isinstance(error, PermissionError):
            raise InputError(
                f"{where}: permission denied ({shown}); make it readable for the user who runs this"
            ) from error
        # smart_open gives up on a broken connection with a plain OSError; what a service answers is a ClientError.
        broken = "://" in url and isinstance(error, OSError) and "ClientError" not in signs
        if signs & _TRANSIENT or broken or isinstance(error, ConnectionError | TimeoutError):
            raise TransientStorageError(
                f"{where}: the store did not answer ({shown}); trying again may help"
            ) from error
        if isinstance(error, OSError):
            raise InputError(f"{where}: {shown}; look at the file and its disk") from error
        raise


def _signs(error: BaseException) -> set[str]:
    """Return class names and service codes of an error and of what caused it: libraries wrap each other."""
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
    return signs
