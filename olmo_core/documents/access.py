"""Errors met while listing or reading input files, told apart: the file's fault, or the network's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from olmo_core.errors import InputError, OlmoError, TransientStorageError
from olmo_core.storage_errors import CREDENTIALS, Fault, fault_of, signs_of

_ADVICE = {
    Fault.REFUSED: "the store refuses the credentials ({shown}); " + CREDENTIALS,
    Fault.NO_BUCKET: "it is not there ({shown}); correct the source's paths, or create the bucket",
    Fault.MISSING: "it is not there ({shown}); correct the source's paths, or run again if files are still moving",
    Fault.DENIED: "permission denied ({shown}); make it readable for the user who runs this",
    Fault.FULL: "{shown}; look at the file and its disk",
    Fault.OTHER: "{shown}; look at the file and its disk",
}


@contextlib.contextmanager
def reading(url: str, action: str = "read") -> Iterator[None]:
    """Turn what goes wrong with a file inside the block into InputError or TransientStorageError, naming the file."""
    try:
        yield
    except OlmoError:
        raise
    except Exception as error:
        fault = fault_of(error)
        where, shown = f"cannot {action} {url}", f"{type(error).__name__}: {error}"
        # smart_open gives up on a broken connection with a plain OSError; what a service answers is a ClientError.
        if (
            fault == Fault.OTHER
            and "://" in url
            and isinstance(error, OSError)
            and "ClientError" not in signs_of(error)
        ):
            fault = Fault.TRANSIENT
        if fault == Fault.TRANSIENT:
            raise TransientStorageError(
                f"{where}: the store did not answer ({shown}); trying again may help"
            ) from error
        if fault is None or (fault == Fault.OTHER and not isinstance(error, OSError)):
            raise
        raise InputError(f"{where}: {_ADVICE[fault].format(shown=shown)}") from error
