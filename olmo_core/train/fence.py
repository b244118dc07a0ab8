"""Epoch numbers of a run's trainers: whoever starts takes the next one, and only the holder of the highest may commit.

A trainer that was thought dead (a lost connection, a node that came back) must not write beside the one that took over.
`{run}/epochs/{n:06d}.json` is put if absent, so two that start at once get two numbers. A commit looks just before its
manifest is put. Between the two a newer trainer may begin; the manifest is then of a step that the newer one has yet to
reach, of the same recipe and data, and no harm.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import socket
from dataclasses import dataclass

from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import SupersededError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who took an epoch."""

    epoch: int
    host: str = "unknown"
    process: int = 0
    since: str = ""


def claim(store: ArtifactStore, run: ArtifactRef) -> int:
    """Take the run's next epoch and return its number, from 1 on. Rank 0 calls it and tells the others."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    body = json.dumps({"host": socket.gethostname(), "process": os.getpid(), "since": now}).encode()
    epoch = highest(store, run) + 1
    while not store.storage.put_if_absent(_path(run, epoch), body):
        epoch += 1
    log.info("%s: epoch %d", run, epoch)
    return epoch


def check(store: ArtifactStore, run: ArtifactRef, epoch: int) -> None:
    """Raise SupersededError, naming who, when another trainer has taken a higher epoch of the run."""
    newest = highest(store, run)
    if newest > epoch:
        by = holder(store, run, newest)
        raise SupersededError(
            f"{run}: this trainer holds epoch {epoch}, but epoch {newest} was taken on {by.host} (process {by.process}) at "
            f"{by.since or 'an unknown time'}; nothing was committed. End this trainer: the other one goes on from the last checkpoint"
        )


def highest(store: ArtifactStore, run: ArtifactRef) -> int:
    """Return the highest epoch that was taken, 0 for none."""
    names = store.storage.contents(f"{run.address}/epochs")[1]
    numbers = [int(stem) for name in names if (stem := name.removesuffix(".json")).isdigit()]
    return max(numbers, default=0)


def holder(store: ArtifactStore, run: ArtifactRef, epoch: int) -> Holder:
    """Return who took an epoch, as far as its file tells."""
    try:
        data = json.loads(store.storage.read(_path(run, epoch)))
        return Holder(epoch=epoch, host=str(data["host"]), process=int(data["process"]), since=str(data["since"]))
    except (ValueError, KeyError, TypeError):
        return Holder(epoch=epoch)


def _path(run: ArtifactRef, epoch: int) -> str:
    return f"{run.address}/epochs/{epoch:06d}.json"
