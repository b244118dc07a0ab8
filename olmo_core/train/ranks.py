"""What the ranks of a run tell each other beside gradients: small values over gloo, in a process group of its own.

A group of its own, so that a background thread may use it while the main thread trains: the two never mix. Whatever fails
on one rank is told to all, and all raise the same error: no rank waits for one that has given up.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as dist

from olmo_core import errors
from olmo_core.errors import OlmoError, WorkerError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An error as one rank tells it to the others."""

    kind: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return what to tell of an error."""
        ours = isinstance(error, OlmoError)
        return cls(kind=type(error).__name__, message=str(error) if ours else f"{type(error).__name__}: {error}")

    def error(self) -> Exception:
        """Return the error to raise: of the same class where it is one of ours."""
        kind = getattr(errors, self.kind, None)
        if isinstance(kind, type) and issubclass(kind, OlmoError):
            return kind(self.message)
        return RuntimeError(self.message)


class Ranks:
    """All ranks of the run; making one is collective, as is every method."""

    def __init__(self, seconds: float = 3600.0) -> None:
        """Make the group; a rank that is silent for longer than `seconds` within a call is an error on the others."""
        self._group: Any = None
        self.rank, self.world = 0, 1
        if dist.is_available() and dist.is_initialized():
            self.rank, self.world = dist.get_rank(), dist.get_world_size()
            if self.world > 1:
                self._group = dist.new_group(backend="gloo", timeout=datetime.timedelta(seconds=seconds))

    def share(self, value: T) -> T:
        """Return rank 0's value on all ranks."""
        if self._group is None:
            return value
        box = [value]
        with _lost("telling all ranks"):
            dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Return all ranks' values, in order, on rank 0; an empty list on the others."""
        if self._group is None:
            return [value]
        found: list[Any] | None = [None] * self.world if self.rank == 0 else None
        with _lost("asking all ranks"):
            dist.gather_object(value, found, dst=0, group=self._group)
        return found or []

    def together(self, work: Callable[[], T]) -> T:
        """Do some work on every rank; when it fails on any, all raise the error of the first that failed."""
        result: T | None = None
        failure: Failure | None = None
        cause: BaseException | None = None
        try:
            result = work()
        except Exception as error:
            failure, cause = Failure.of(error), error
        self.agree(failure, cause)
        return result  # type: ignore[return-value]

    def agree(self, failure: Failure | None, cause: BaseException | None = None) -> None:
        """Raise, on all ranks, the failure of the first that has one."""
        found = self.share(self.first(self.gather(failure)))
        if found is None:
            return
        if self.world == 1 and isinstance(cause, Exception):
            raise cause
        raise found.error() from cause

    def first(self, failures: list[Failure | None]) -> Failure | None:
        """Return the first failure, its message naming the rank where there are several."""
        for rank, one in enumerate(failures):
            if one is not None:
                return Failure(kind=one.kind, message=f"rank {rank}: {one.message}") if self.world > 1 else one
        return None


@contextlib.contextmanager
def _lost(action: str) -> Iterator[None]:
    """Turn the errors of a broken group into one that says what it means."""
    try:
        yield
    except RuntimeError as error:
        raise WorkerError(
            f"{action}: a rank does not answer ({str(error)[:300]}); it died or hangs: look at the logs of the other "
            f"ranks, and start the run again: it goes on from its last checkpoint, if there is one"
        ) from error
