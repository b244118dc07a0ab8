"""The errors of OLMo Flows, in one small tree.

    OlmoError                    anything this project raises on purpose
    ├── RecipeError              a recipe, rule or parameter is wrong: nothing was started
    ├── InputError               an input is missing, truncated, corrupt or not what it says it is
    │   └── QuarantineError      more records were quarantined than the limit allows
    ├── StorageError             the store cannot be read or written (permission, full, credentials)
    │   └── TransientStorageError    the same, but worth another try (timeout, 503, connection reset)
    ├── IntegrityError           stored bytes, counts or rows are not what a manifest or ledger says
    ├── AssetError               an outside file (tokenizer, model, word list) cannot be had
    ├── WorkerError              a worker process died; names the shard it was working on
    ├── JobError                 a training job did not end well; the message ends with its last words
    └── SupersededError          another trainer has taken the run over: this one may not commit

Every message says what is wrong, the value seen, and what to do next.
"""

from __future__ import annotations

from olmo_core.redaction import redacted


class OlmoError(Exception):
    """Base of every error this project raises on purpose; the command line prints it without a traceback."""

    def __init__(self, message: str = "") -> None:
        """Keep the message, without the credentials that an address or another library's words in it may hold."""
        super().__init__(redacted(message))


class RecipeError(OlmoError):
    """A recipe, rule or parameter is wrong; nothing was started."""


class InputError(OlmoError):
    """An input is missing, truncated, corrupt or not what it says it is."""


class QuarantineError(InputError):
    """More records were quarantined than the stage's limit allows; nothing was published."""


class StorageError(OlmoError):
    """The store cannot be read or written."""


class TransientStorageError(StorageError):
    """The store failed in a way that is worth another try."""


class IntegrityError(OlmoError):
    """Stored bytes, counts or rows are not what a manifest or a ledger says."""


class AssetError(OlmoError):
    """An outside file (tokenizer, model, word list) cannot be had."""


class WorkerError(OlmoError):
    """A worker process died; the message names the shard it was working on."""


class JobError(OlmoError):
    """A training job could not be started, failed or was preempted; the message ends with what it said last."""


class SupersededError(OlmoError):
    """Another trainer has taken the run over; this one may not commit and should end."""
