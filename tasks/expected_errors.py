"""Expected errors in Prefect's logs: their message without a traceback, and once instead of for every later stage."""

from __future__ import annotations

import logging

from olmo_core.errors import OlmoError

_LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")


class ExpectedErrors(logging.Filter):
    """Takes the traceback off records about an OlmoError, and lets records about stages that never began go by as info."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; none is dropped."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, OlmoError):
            record.exc_info, record.exc_text = None, None
            record.msg, record.args = f"{type(error).__name__}: {error}", ()
        elif record.levelno >= logging.ERROR and "NotReady(" in record.getMessage():
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = "not started: a stage before it failed", ()
        return True


def shorten() -> None:
    """Make Prefect log expected errors in one line, from now on in this process."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(one, ExpectedErrors) for one in logger.filters):
            logger.addFilter(ExpectedErrors())
