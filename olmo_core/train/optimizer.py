"""AdamW as OLMo uses it, with a step that the device itself may leave out.

`torch.optim.AdamW` in its fused form takes two device scalars that gradient scalers use: `grad_scale`, by which every
gradient is divided on the way in, and `found_inf`, at which parameters, moments and step counters stay as they are. The
first does the clipping, which so costs no pass over the gradients of its own; the second leaves out a step whose loss or
gradient is not finite, without the host having to know. (Multiplying an update by zero would not do: 0 x NaN is NaN.)
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from olmo_core.train.recipe import OptimizerRecipe


def build_optimizer(model: nn.Module, recipe: OptimizerRecipe) -> torch.optim.AdamW:
    """Return AdamW over the model's parameters, its state made at once (zero moments), so that it can be saved and loaded.

    Parameters may be DTensors; moments are then sharded alike.
    """
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for module, parameter in _parameters(model):
        (decayed if _decays(module, parameter, recipe) else undecayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": undecayed, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=recipe.learning_rate,
        betas=(recipe.betas[0], recipe.betas[1]),
        eps=recipe.eps,
        fused=True,
    )
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
    return optimizer


def apply_gradients(
    optimizer: torch.optim.AdamW, *, learning_rate: float, norm: Tensor, clip_norm: float | None, leave_out: Tensor
) -> None:
    """Take one step with the gradients clipped to a global norm; device scalars decide, the host waits for nothing.

    `norm`: global norm of the gradients; where `leave_out` is true nothing changes. The factor of the gradients is
    min(1, clip_norm / (norm + 1e-6)), as in torch's clip_grad_norm_ and in OLMo.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    scale = torch.ones_like(norm) if clip_norm is None else ((norm + 1e-6) / clip_norm).clamp(min=1.0)
    optimizer.grad_scale = scale.float()  # type: ignore[attr-defined]
    optimizer.found_inf = leave_out.float()  # type: ignore[attr-defined]
    optimizer.step()


def squared_norm(tensors: list[Tensor], device: torch.device) -> Tensor:
    """Return the sum of squares (float64 scalar) of this rank's parts of the tensors; add it up over the ranks."""
    parts = [part for one in tensors if (part := local(one)).numel()]
    if not parts:
        return torch.zeros((), dtype=torch.float64, device=device)
    return torch.stack(torch._foreach_norm(parts)).double().square().sum()


def local(tensor: Tensor) -> Tensor:
    """Return this rank's part of a sharded tensor, without autograd; any other tensor as it is."""
    to_local = getattr(tensor.detach(), "to_local", None)
    return to_local() if to_local is not None else tensor.detach()


def _parameters(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Parameter]]:
    """Each parameter once, with the module that has it first: a tied one with the embedding."""
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter not in seen:
                seen.add(parameter)
                yield module, parameter


def _decays(module: nn.Module, parameter: nn.Parameter, recipe: OptimizerRecipe) -> bool:
    """Whether a parameter is decayed: matrices are; embeddings, and what has one dimension (norms, biases), as asked."""
    if isinstance(module, nn.Embedding):
        return recipe.decay_embeddings
    return recipe.decay_norms if parameter.dim() < 2 else True
