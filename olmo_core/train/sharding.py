"""How a model's parameters lie over the devices: FSDP2, each block by itself and the rest together, also on one device.

One path for a laptop and a cluster: parameters, optimizer state and gradient sums are float32 and sharded over all
ranks; a block's parameters are gathered, in bfloat16 where the recipe says so, when it is needed. Gradients are added up
over the ranks, not averaged: the loss was already divided by the number of targets of all ranks. They are reduced after
every micro batch, which bounds memory by the shards (65B: a whole float32 gradient would be 262 GB).

The order of what wraps a block's forward: recompute inside, compile around it, FSDP's hooks outside of both, so that
compiled code sees gathered parameters. Names of parameters stay as in the plain model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch._functorch.config
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint

from olmo_core.model.initialization import initialize
from olmo_core.model.loss import rounded_row_losses_
from olmo_core.model.transformer import Transformer
from olmo_core.train.recipe import TrainRecipe
from olmo_core.train.run_file import Recompute, TrainResources


def sharded_model(recipe: TrainRecipe, resources: TrainResources, mesh: DeviceMesh) -> Transformer:
    """Return the model sharded over the mesh, with its memory taken and its weights not yet decided."""
    with torch.device("meta"):
        model = Transformer(recipe.model)
    shard(
        model,
        mesh,
        precision=recipe.precision,
        recompute=resources.recompute,
        compiled=resources.compile,
        reshard_after_forward=resources.reshard_after_forward,
    )
    return model.to_empty(device=_device(mesh))


def initialize_sharded(model: Transformer, seed: int) -> None:
    """Give the weights their first values; the same whatever the number of ranks."""
    initialize(model, seed)


def shard(
    model: Transformer,
    mesh: DeviceMesh,
    *,
    precision: str,
    recompute: Recompute = "none",
    compiled: bool = False,
    reshard_after_forward: bool = True,
    backend: str | Callable[..., Any] = "inductor",
) -> None:
    """Shard a model's parameters in place. `backend`: torch.compile's."""
    policy = MixedPrecisionPolicy()
    if precision == "bfloat16":
        # The block's inputs come in bfloat16 from the embedding; outputs (losses) stay as they are, float32.
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        if recompute == "block":
            _recompute(block)
        if compiled:
            block.forward = torch.compile(block.forward, backend=backend)  # type: ignore[method-assign]
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward)
    if compiled:
        # Read when a block is first called. Any number below 1 lets go of what costs no matrix product; far lower ones of more.
        torch._functorch.config.activation_memory_budget = 0.9 if recompute == "cheap" else 1.0
        model.row_losses = torch.compile(rounded_row_losses_, backend=backend, dynamic=False)
    # Embedding and output layer are needed first and last: gathered once for forward and backward.
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    root = cast(FSDPModule, model)
    for module in model.modules():
        # One rank's average is its sum; told so, FSDP2 would divide by 1.0 in a pass of its own.
        if isinstance(module, FSDPModule) and mesh.size() > 1:
            module.set_gradient_divide_factor(1.0)
            # A sum then, not an average times the number of ranks: exact, and gloo can do it.
            module.set_force_sum_reduction_for_comms(True)
    root.set_requires_gradient_sync(True)


def reshard(model: nn.Module) -> None:
    """Let go of all gathered parameters, after forward passes that no backward pass follows.

    Until then the model's parameters are the gathered ones, and a checkpoint could neither be saved nor loaded.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _recompute(block: nn.Module) -> None:
    """Keep only the block's input in the forward pass, and compute the rest again in the backward pass."""
    forward = block.forward

    def again(*arguments: Any, **named: Any) -> Any:
        # Nothing in the model is random, so the state of the generators need not be kept.
        return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False, **named)

    block.forward = again  # type: ignore[method-assign]


def _device(mesh: DeviceMesh) -> torch.device:
    return (
        torch.device(mesh.device_type, torch.cuda.current_device())
        if mesh.device_type == "cuda"
        else torch.device("cpu")
    )
