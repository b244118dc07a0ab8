"""Processes that score together: rank 0 leads, the others do the part of each call that falls to them.

The leader alone reads benchmarks, knows what the store and its cache have, and writes the artifact. What it asks, all
ranks are told; so none of them can be of another mind about what is left to do. An error of one rank is told to all.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch.distributed as dist

from olmo_core.errors import WorkerError
from olmo_core.evaluation.requests import Fitted

T = TypeVar("T")
_PATIENCE = datetime.timedelta(days=7)
"""How long a rank waits for the others: as long as they live. That one has died is seen by its closed connection."""


class Preempted(Exception):
    """The process was asked to end; what was scored is kept."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """What the leader tells the others."""

    kind: str
    """`load`, `score`, `generate` or `end`."""
    what: Any = None


class Team:
    """The processes of torch.distributed's default group, which must be set up; talks over gloo, whatever their devices."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._group = dist.new_group(backend="gloo", timeout=_PATIENCE)

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def tell(self, kind: str, what: Any = None) -> None:
        """Say to all others what is to be done; for the leader."""
        dist.broadcast_object_list([Call(kind=kind, what=what)], src=0, group=self._group)

    def hear(self) -> Call:
        """Wait for what the leader says; for the others."""
        said: list[Any] = [None]
        dist.broadcast_object_list(said, src=0, group=self._group)
        call: Call = said[0]
        return call

    def together(self, make: Callable[[], T]) -> T:
        """Return what `make` makes, once all ranks have made theirs; raises as `gather`."""
        made: list[T] = []
        problem = None
        try:
            made.append(make())
        except Exception as error:
            problem = error
        self.gather(None, problem)
        return made[0]

    def gather(self, part: Any, problem: Exception | None = None) -> list[Any]:
        """Return every rank's part, on every rank, in order of ranks.

        Raises this rank's own problem if it had one, Preempted where another was asked to end, and WorkerError, naming
        the rank, where another failed.
        """
        told = None if problem is None else (isinstance(problem, Preempted), f"{type(problem).__name__}: {problem}")
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, (part, told), group=self._group)
        if problem is not None:
            raise problem
        for rank, (_, other) in enumerate(parts):
            if other is not None:
                raise Preempted if other[0] else WorkerError(f"rank {rank} of {self.size} could not score: {other[1]}")
        return [one for one, _ in parts]


Flat = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]
"""Token ids of requests end to end, and for each request: inputs, targets, tokens dropped (n x 3)."""


def flat(requests: Sequence[Fitted]) -> Flat:
    """Return requests as two arrays: a tenth of what their tuples take."""
    ids = np.fromiter((i for one in requests for part in (one.inputs, one.targets) for i in part), np.int32)
    sizes = np.array([[len(one.inputs), len(one.targets), one.dropped] for one in requests], np.int32)
    return ids, sizes.reshape(-1, 3)


def unflat(given: Flat) -> list[Fitted]:
    """Return the requests that `flat` was given."""
    ids, sizes = given
    found, at = [], 0
    for inputs, targets, dropped in sizes.tolist():
        whole = tuple(ids[at : at + inputs + targets].tolist())
        found.append(Fitted(inputs=whole[:inputs], targets=whole[inputs:], dropped=dropped))
        at += inputs + targets
    return found
