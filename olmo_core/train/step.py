"""One training step: losses, gradients, verdict, update. Nothing here waits for the device.

The loss is the sum over all targets of all ranks and micro batches, divided by their number, which the hosts have added
up beforehand. So it is the same whatever the number of ranks and the size of micro batches, however unevenly masks leave
targets over the ranks; means of means would not be.

Shapes: B instances of this rank, T time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from olmo_core.model.loss import Losses
from olmo_core.model.transformer import Transformer
from olmo_core.train import schedule
from olmo_core.train.loader import Batch
from olmo_core.train.metrics import Sums
from olmo_core.train.non_finite import NonFinite
from olmo_core.train.optimizer import apply_gradients, squared_norm
from olmo_core.train.recipe import TrainRecipe
from olmo_core.train.world import World

LossHook = Callable[[int, int, Tensor], Tensor]
"""(step, index of the batch, loss) -> loss: for tests, that spoil one."""


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Some instances of this rank, on its device."""

    tokens_BT: Tensor
    labels_BT: Tensor
    documents_BT: Tensor | None


def micro_batches(batch: Batch, size: int | None, device: torch.device) -> Iterator[MicroBatch]:
    """Yield a rank's instances, `size` at a time (all at once for None), moved to the device."""
    rows = batch.tokens_BT.shape[0]
    for first in range(0, rows, size or rows):
        some = slice(first, first + (size or rows))
        documents_BT = None if batch.documents_BT is None else _move(batch.documents_BT[some], device)
        yield MicroBatch(
            tokens_BT=_move(batch.tokens_BT[some], device),
            labels_BT=_move(batch.labels_BT[some], device),
            documents_BT=documents_BT,
        )


class Stepper:
    """Takes the steps of a run."""

    def __init__(
        self,
        model: Transformer,
        optimizer: torch.optim.AdamW,
        recipe: TrainRecipe,
        world: World,
        *,
        micro_batch: int | None,
        hook: LossHook | None = None,
        at: Callable[[str], None] = lambda doing: None,
    ) -> None:
        """`at` is told what the rank is doing (Watch.at)."""
        self._at = at
        self._model, self._optimizer, self._recipe, self._world = model, optimizer, recipe, world
        self._micro_batch, self._hook = micro_batch, hook
        self._parameters = list(model.parameters())

    def step(self, step: int, index: int, batch: Batch, targets: int, non_finite: NonFinite, sums: Sums) -> None:
        """Take step number `step` on batch number `index`; `targets` are those of all ranks, which must be agreed on."""
        device = self._world.device
        losses = torch.zeros(3, dtype=torch.float64, device=device)
        """Cross-entropy, z-loss, squared norm of the gradient: sums over this rank, then over all."""
        for micro in micro_batches(batch, self._micro_batch, device):
            self._at(f"at step {step}, computing forward")
            found = cast(
                Losses,
                self._model(
                    micro.tokens_BT,
                    labels_BT=micro.labels_BT,
                    documents_BT=micro.documents_BT,
                    z_loss=self._recipe.z_loss,
                ),
            )
            total = found.total
            if self._hook is not None:
                total = self._hook(step, index, total)
            self._at(f"at step {step}, computing backward")
            # A batch without any target gives no gradient rather than 0 / 0.
            (total / max(targets, 1)).backward()  # type: ignore[no-untyped-call]
            losses[0] += found.cross_entropy.detach()
            losses[1] += found.z_loss.detach()
        self._at(f"at step {step}, adding up over the ranks")
        gradients = [one.grad for one in self._parameters if one.grad is not None]
        losses[2] = squared_norm(gradients, device)
        self._world.add_up(losses)
        norm = losses[2].sqrt()
        leave_out = non_finite.judge(losses, step, index)
        apply_gradients(
            self._optimizer,
            learning_rate=schedule.learning_rate(self._recipe, step),
            norm=norm,
            clip_norm=schedule.clip_norm(self._recipe, step),
            leave_out=leave_out,
        )
        self._optimizer.zero_grad(set_to_none=True)
        sums.add(losses[:2], targets, norm, leave_out)

    def parameter_norm(self) -> Tensor:
        """Return the global norm of the parameters, a device scalar; collective."""
        return self._world.add_up(squared_norm(list(self._parameters), self._world.device)).sqrt()


def _move(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
