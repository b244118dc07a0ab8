"""A step on several ranks against one process that knows nothing of ranks: right under masks, however they are spread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from olmo_core.model.initialization import initialize
from olmo_core.model.transformer import Transformer
from olmo_core.train.loader import Batch
from olmo_core.train.metrics import Sums
from olmo_core.train.non_finite import NonFinite
from olmo_core.train.optimizer import build_optimizer
from olmo_core.train.recipe import DataRecipe, OptimizerRecipe, ScheduleRecipe, TrainRecipe
from olmo_core.train.run_file import Recompute
from olmo_core.train.schedule import learning_rate
from olmo_core.train.sharding import initialize_sharded, shard
from olmo_core.train.step import Stepper
from olmo_core.train.world import World
from tests.train.processes import run_ranks
from tests.train.tiny_run import BATCH, LENGTH, MODEL

STEPS = 3
RECIPE = TrainRecipe(
    name="x", model=MODEL, tokens=BATCH * LENGTH * 10, batch=BATCH, data=DataRecipe(sequence_length=LENGTH), precision="float32",
    optimizer=OptimizerRecipe(learning_rate=0.02, clip_norm=0.5), schedule=ScheduleRecipe(warmup=2), z_loss=0.01,
)  # fmt: skip
CPU = torch.device("cpu")


def rows(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and labels of all ranks: some rows have all targets, some few, one none; step 2 has only one target in all."""
    draws = np.random.default_rng(step)
    tokens = torch.from_numpy(draws.integers(0, 60, (BATCH, LENGTH)))
    labels = torch.from_numpy(draws.integers(0, 60, (BATCH, LENGTH)))
    keep = torch.from_numpy(draws.random((BATCH, LENGTH)) < (np.arange(BATCH) / (BATCH - 1))[:, None])
    if step == 2:
        keep[:] = False
        keep[3, 5] = True
    return tokens, labels.where(keep, -100)


def reference() -> tuple[list[float], list[float], dict[str, torch.Tensor]]:
    """Losses, gradient norms and last parameters by plain torch: mean over all targets, one device, no accumulation."""
    model = Transformer(MODEL)
    initialize(model, 1)
    names = {name: p for name, p in model.named_parameters() if name != "embedding.weight"}
    groups = [{"params": list(names.values())}, {"params": [model.embedding.weight], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.02, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1, foreach=False)
    losses, norms = [], []
    for step in range(1, STEPS + 1):
        tokens, labels = rows(step)
        logits = model(tokens)
        assert isinstance(logits, torch.Tensor)
        valid = labels != -100
        loss = F.cross_entropy(logits[valid], labels[valid])
        z_loss = 0.01 * logits[valid].logsumexp(-1).square().mean()
        optimizer.zero_grad()
        (loss + z_loss).backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5).item())
        losses.append(loss.item())
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(RECIPE, step)
        optimizer.step()
    return losses, norms, {name: p.detach() for name, p in model.named_parameters()}


def on_ranks(rank: int, world: int, micro_batch: int | None, recompute: Recompute) -> tuple[list[Any], list[Any], Any]:
    """The same by the trainer's step on this rank's rows."""
    mesh = init_device_mesh("cpu", (world,))
    here = World(
        rank=rank, size=world, local_rank=rank, device=CPU, mesh=mesh, store=HashStore(), hosts=dist.group.WORLD
    )  # fmt: skip
    model = Transformer(MODEL)
    shard(model, mesh, precision="float32", recompute=recompute)
    initialize_sharded(model, 1)
    optimizer = build_optimizer(model, RECIPE.optimizer)
    stepper = Stepper(model, optimizer, RECIPE, here, micro_batch=micro_batch)
    non_finite, losses, norms = NonFinite(3, CPU), [], []
    for step in range(1, STEPS + 1):
        tokens, labels = (one[rank::world] for one in rows(step))
        batch = Batch(
            index=step, instances=np.arange(BATCH // world), tokens_BT=tokens, labels_BT=labels, documents_BT=None,
            masked=np.zeros(BATCH // world, bool),
        )  # fmt: skip
        (targets,) = here.agree([int((labels != -100).sum())])
        sums = Sums(CPU)
        stepper.step(step, step, batch, targets, non_finite, sums)
        read = sums.read(stepper.parameter_norm(), non_finite.state)
        losses.append(read.loss)
        norms.append(read.grad_norm)
    parameters = {
        name: (p.full_tensor() if isinstance(p, DTensor) else p).detach().numpy()
        for name, p in model.named_parameters()
    }
    return losses, norms, parameters


def several(rank: int, world: int) -> list[tuple[list[Any], list[Any], Any]]:
    """All at once, one instance at a time, and three at a time with recomputation."""
    return [on_ranks(rank, world, *how) for how in ((None, "none"), (1, "none"), (3, "block"))]


@pytest.mark.parametrize("world", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)])
def test_a_step_is_that_of_one_process(world: int, tmp_path: Path) -> None:
    losses, norms, parameters = reference()
    for of_rank in run_ranks(world, several, tmp_path):
        for its_losses, its_norms, its_parameters in of_rank:
            assert its_losses == pytest.approx(losses, rel=2e-6)
            assert its_norms == pytest.approx(norms, rel=2e-5)
            for name, expected in parameters.items():
                np.testing.assert_allclose(its_parameters[name], expected.numpy(), rtol=1e-4, atol=2e-5, err_msg=name)
