"""The loss on held-out tokens: the same batches every time, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch

from olmo_core.model.loss import Losses
from olmo_core.model.transformer import Transformer
from olmo_core.train.dataset import TokenDataset
from olmo_core.train.loader import evaluation_batches
from olmo_core.train.recipe import TrainRecipe
from olmo_core.train.sharding import reshard
from olmo_core.train.step import micro_batches
from olmo_core.train.world import World


@torch.no_grad()
def held_out_loss(
    model: Transformer,
    dataset: TokenDataset,
    recipe: TrainRecipe,
    world: World,
    *,
    batches: int,
    micro_batch: int | None,
    at: Callable[[str], None] = lambda doing: None,
    stop: Callable[[], bool] = lambda: False,
) -> float | None:
    """Return the cross-entropy per target, in nats, over `batches` batches at most; None where they have no target, or
    where `stop` says before one of them, on all ranks alike, that there is no time.

    Collective; waits for the device. `at` is told of every micro batch (Watch.at).
    """
    sums = torch.zeros(2, dtype=torch.float64, device=world.device)
    found = evaluation_batches(
        dataset, recipe.data, batch=recipe.batch, rank=world.rank, world=world.size, most=batches
    )
    of, stopped = min(batches, -(-dataset.chunks // recipe.batch)), False
    for batch in found:
        if stopped := stop():
            break
        for micro in micro_batches(batch, micro_batch, world.device):
            at(f"held-out loss, on batch {batch.index + 1} of {of}")
            losses = cast(Losses, model(micro.tokens_BT, labels_BT=micro.labels_BT, documents_BT=micro.documents_BT))
            sums[0] += losses.cross_entropy
            sums[1] += losses.tokens
    reshard(model)
    if stopped:
        return None
    at("adding up the held-out loss")
    cross_entropy, targets = world.add_up(sums).tolist()
    return cross_entropy / targets if targets else None
