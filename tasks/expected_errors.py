"""Expected errors in Prefect's logs: their message without a traceback, and once instead of for every later stage."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Iterator

from olmo_core.errors import OlmoError
from olmo_core.redaction import redacted

_LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")


class ExpectedErrors(logging.Filter):
    """Takes the traceback off records about an OlmoError, and lets records about stages that never began go by as info.

    Other libraries' messages and tracebacks lose the credentials that they may hold.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; none is dropped."""
        record.msg, record.args = redacted(record.getMessage()), ()
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, OlmoError):
            record.exc_info, record.exc_text = None, None
            record.msg, record.args = f"{type(error).__name__}: {error}", ()
        elif error is not None:
            record.exc_text = redacted("".join(traceback.format_exception(error)).rstrip())
            record.exc_info = None
        elif record.levelno >= logging.ERROR and "NotReady(" in record.getMessage():
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = "not started: a stage before it failed", ()
        return True


@contextlib.contextmanager
def without_credentials() -> Iterator[None]:
    """Raise another library's error, when its text holds a credential, as one that does not: Prefect keeps it in its database."""
    try:
        yield
    except OlmoError:
        raise
    except Exception as error:
        if redacted(str(error)) == str(error):
            raise
        raise OlmoError(f"{type(error).__name__}: {error}") from None


def shorten() -> None:
    """Make Prefect log expected errors in one line, from now on in this process."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(one, ExpectedErrors) for one in logger.filters):
            logger.addFilter(ExpectedErrors())
