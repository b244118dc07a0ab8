"""One run from joining the other processes to leaving them, with every way to end in between.

Where another rank is to blame, the message names it; where processes hang or have died, nobody waits for them.
"""

from __future__ import annotations

import contextlib
import logging
import os

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import OlmoError
from olmo_core.train import fence
from olmo_core.train.launch import leave_code, leave_failure
from olmo_core.train.preemption import Preemption
from olmo_core.train.recording import now, put_event
from olmo_core.train.run_file import FAILED, RunFile
from olmo_core.train.step import LossHook
from olmo_core.train.trainer import Trainer
from olmo_core.train.watch import Watch
from olmo_core.train.world import World, join

log = logging.getLogger("olmo_core.train")


def train(run: RunFile, preemption: Preemption | None = None, *, hook: LossHook | None = None) -> int:
    """Train a run and return the exit code; `hook` may spoil losses, in tests.

    With one process errors are raised. With several a failing rank tells the others and ends its process at once (exit
    code 1), as leaving in order would wait for them.
    """
    world = join(run.resources)
    trainer: Trainer | None = None

    def end(said: str) -> None:
        _end(run, world, said, trainer)

    watch = Watch(world.store, world.rank, world.size, run.resources.hang_seconds, end)
    try:
        trainer = Trainer(run, world, watch, preemption or Preemption(), hook=hook)
        code = trainer.train()
    except Exception as error:
        if world.size == 1:
            watch.stop()
            world.leave()
            if isinstance(error, OlmoError):
                _note(run, world, str(error), trainer)
            raise
        said = watch.blame(error)
        if not isinstance(error, OlmoError):
            log.error("rank %d:", world.rank, exc_info=error)
        end(said)
    # All ranks have come here: they agreed on the end.
    watch.stop()
    world.leave()
    return code


def _end(run: RunFile, world: World, said: str, trainer: Trainer | None) -> None:
    """End this process, now: others may hang, and whatever waits for them would never end."""
    log.error("%s", said)
    _note(run, world, said, trainer)
    logging.shutdown()
    leave_failure(said)
    leave_code(FAILED)
    os._exit(FAILED)


def _note(run: RunFile, world: World, said: str, trainer: Trainer | None) -> None:
    """Leave word in the run's record, from rank 0, or rank 1 where that is to blame; a store that fails must not hold up the end."""
    if world.rank > 1 or (world.rank == 1 and not said.startswith("rank 0")):
        return
    with contextlib.suppress(Exception):
        store = ArtifactStore(run.store)
        # Its own, as another trainer may have taken the run over; the last one where it fails before it has one.
        if epoch := (trainer.epoch if trainer else 0) or fence.highest(store, run.ref):
            facts = {"kind": "failed", "message": said, "rank": world.rank, "epoch": epoch, "time": now()}
            put_event(store, run.ref, epoch, facts)
