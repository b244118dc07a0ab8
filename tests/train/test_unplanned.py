"""Checkpoints that are there only because a trainer was told to end: they say so, and nothing that is compared rests on them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.summary.recipe import EvaluationPart
from olmo_core.train.preemption import Preemption
from olmo_core.train.run_file import DONE, PREEMPTED, UNPLANNED
from olmo_core.train.run_record import saved_in
from olmo_core.train.session import train
from tasks.data_to_model import chosen
from tests.endurance.audit import audit
from tests.endurance.same import comparable, unplanned_in
from tests.train.tiny_run import tiny_run


@pytest.mark.parametrize(("told_at", "unplanned"), [(6, True), (8, False)])
def test_a_save_between_two_saves_says_so(tmp_path: Path, told_at: int, unplanned: bool) -> None:
    """Told to end at step 6 of saves at 0, 4, 8, 12, and at a step that is saved anyway."""
    run, asked = tiny_run(tmp_path / "told", steps=12, save_every=4), Preemption()

    def ask(step: int, index: int, loss: torch.Tensor) -> torch.Tensor:
        if step == told_at:
            asked.signal, asked.since = "SIGTERM", time.monotonic()
        return loss

    assert train(run, asked, hook=ask) == PREEMPTED
    store = ArtifactStore(run.store)
    assert store.manifest(run.checkpoint(told_at)).counts.get(UNPLANNED, False) is unplanned
    assert train(run) == DONE
    made = store.manifest(run.ref)
    assert [step for step, _ in saved_in(made)] == sorted({0, 4, 8, 12, told_at})
    assert [step for step, _ in saved_in(made, planned=True)] == [0, 4, 8, 12]
    addresses = {"run": str(run.ref), "checkpoint": str(run.checkpoint(12))}
    asked_for = [chosen(store, EvaluationPart(recipe="any", checkpoints=which), addresses) for which in ("last", "all")]
    assert asked_for == [[str(run.checkpoint(12))], [str(run.checkpoint(step)) for step in (0, 4, 8, 12)]]
    assert unplanned_in(store.finished()) == ({str(run.checkpoint(told_at))} if unplanned else set())

    straight = tiny_run(tmp_path / "straight", steps=12, save_every=4)
    assert train(straight) == DONE
    other = ArtifactStore(straight.store)
    assert saved_in(other.manifest(straight.ref)) == saved_in(made, planned=True)
    assert comparable(store, audit(store.uri).digests) == comparable(other, audit(other.uri).digests)
