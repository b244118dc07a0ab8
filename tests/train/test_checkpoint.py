"""Checkpoints saved and loaded by real ranks under FSDP2: equal bit for bit, whatever the number of ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.train.checkpoint_read import read_tensors
from tests.train.processes import run_ranks
from tests.train.small_run import Trainer, run_file, same, saved


def save(rank: int, world: int, folder: Path) -> list[float]:
    """Train 3 steps, save, train 2 more while it is being saved; returns the losses."""
    trainer = Trainer(run_file(str(folder / "store")))
    trainer.save()  # step 0, before the optimizer has any state
    losses = trainer.train(3)
    whole = trainer.whole()
    trainer.save(wait=False)
    losses += trainer.train(2)
    trainer.checkpoints.wait()
    if rank == 0:
        torch.save(whole, folder / "whole.pt")
    return losses


def load(rank: int, world: int, folder: Path) -> list[float]:
    """Load into other weights, compare, train 2 steps; returns their losses."""
    trainer = Trainer(run_file(str(folder / "store")), seed=world)
    state = trainer.load(dataset="d0")
    assert (state.step, state.tokens, state.next_batch) == (3, 96, 3)
    assert same(trainer.whole(), saved(folder))
    return trainer.train(2)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    folder = tmp_path_factory.mktemp("two")
    losses = run_ranks(2, save, folder, folder)
    assert losses[0] == losses[1]
    return folder, losses[0]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_saved_by_two_ranks_and_loaded_by_any(world: int, two: tuple[Path, list[float]], tmp_path: Path) -> None:
    folder, losses = two
    for after in run_ranks(world, load, tmp_path, folder):
        assert after == (losses[3:] if world == 2 else pytest.approx(losses[3:], rel=1e-6))
