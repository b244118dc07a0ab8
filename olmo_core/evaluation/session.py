"""One process of an evaluation from beginning to end: alone, as the leader of several, or as one of the others."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.evaluation.resources import ScoringResources
from olmo_core.evaluation.run import evaluate, follow, torch_device
from olmo_core.evaluation.run_file import EvaluationRun
from olmo_core.evaluation.targets import find_targets
from olmo_core.evaluation.team import Preempted, Team
from olmo_core.train.preemption import Preemption

log = logging.getLogger(__name__)
_EVERY = 10.0
"""Seconds from one line of progress to the next."""


def evaluate_all(run: EvaluationRun, preemption: Preemption) -> None:
    """Evaluate a run's models one after the other. Raises Preempted at the next batch after this process was asked to end."""
    store = ArtifactStore(run.store)

    def look() -> None:
        if preemption.signal is not None:
            raise Preempted(preemption.signal)

    with _team(run.resources) as team:
        if team is not None and not team.leads:
            follow(store, team, progress=lambda done: look())
            return
        told = 0.0

        def progress(shard: str, done: int, total: int) -> None:
            nonlocal told
            look()
            if time.monotonic() - told > _EVERY:
                told = time.monotonic()
                log.info("%s: %d of %d requests", shard, done, total)

        targets = find_targets(store, run.models)
        for number, target in enumerate(targets, 1):
            look()
            log.info("model %d of %d: %s", number, len(targets), target.label)
            built = evaluate(
                store,
                run.recipe,
                target,
                run.resources,
                own_files=run.own_files or None,
                progress=progress,
                team=team,
            )
            log.info("%s: %s%s", target.label, built.ref, " (was there)" if built.reused else "")


@contextmanager
def _team(resources: ScoringResources) -> Iterator[Team | None]:
    """Meet the other processes that torchrun started, if it did; dismiss them at the end, however it comes."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield None
        return
    device = torch_device(resources)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" and resources.shard else "gloo")
    team = Team()
    try:
        yield team
    finally:
        if team.leads:
            team.tell("end")
    dist.destroy_process_group()
