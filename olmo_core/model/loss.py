"""Cross-entropy straight from the last hidden layer, a few rows at a time: all logits are never in memory together.

At OLMo-1B's shape the logits of one sequence of 2,048 tokens are 412 MB in float32, and autograd keeps three or four
such tensors. Here the gradients with respect to hidden layer and output weights are computed chunk by chunk during the
forward pass, as the loss is a sum, and are scaled in the backward pass. Logits, softmax and sums are float32; the matrix
products are in the type of the hidden layer.

Shapes: B batch, T time, R = B T rows, C rows of a chunk, W width, V rows of the output layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

NO_TARGET = -100
"""Label of a position without a target, as in torch."""
CHUNK_LOGITS = {"cpu": 1 << 24, "cuda": 1 << 28}
"""Logits in memory at a time: 67 MB of float32, and 1 GB where short matrices would leave a GPU idle."""


class Losses(NamedTuple):
    """Sums over all targets, float32 scalars on the device. Divide by the number of targets of ALL devices.

    Only `total` has a gradient: the others are for reporting. (A named tuple, so that FSDP2 finds the tensors in it.)
    """

    total: Tensor
    """cross_entropy + z_loss."""
    cross_entropy: Tensor
    """Minus the log-probability of the targets, in nats."""
    z_loss: Tensor
    """The weight times the squared log of the softmax's denominator (PaLM, arXiv 2204.02311 section 5); 0 without one."""
    tokens: Tensor
    """Targets, int64."""


def linear_cross_entropy(
    hidden_BTW: Tensor,
    weight_VW: Tensor,
    labels_BT: Tensor,
    *,
    z_loss: float | None = None,
    chunk_rows: int | None = None,
) -> Losses:
    """Return the losses of the logits hidden x weight^T against `labels_BT` (NO_TARGET for none).

    `chunk_rows`: rows of logits in memory at a time; decides rounding only.
    """
    hidden_RW, labels_R = hidden_BTW.flatten(0, -2), labels_BT.flatten()
    rows = chunk_rows or max(1, CHUNK_LOGITS.get(hidden_RW.device.type, CHUNK_LOGITS["cpu"]) // weight_VW.shape[0])
    arguments = hidden_RW, weight_VW, labels_R, z_loss or 0.0, rows
    if torch.is_grad_enabled() and (hidden_BTW.requires_grad or weight_VW.requires_grad):
        total, cross_entropy, z = _LinearCrossEntropy.apply(*arguments)  # type: ignore[no-untyped-call]
    else:
        cross_entropy, z, _, _ = _sums(*arguments, gradients=(False, False))
        total = cross_entropy + z
    return Losses(total, cross_entropy, z, (labels_R != NO_TARGET).sum())


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_RW: Tensor, weight_VW: Tensor, labels_R: Tensor, z_weight: float, rows: int) -> Any:
        gradients = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        cross_entropy, z, *ctx.gradients = _sums(hidden_RW, weight_VW, labels_R, z_weight, rows, gradients=gradients)
        ctx.types = hidden_RW.dtype, weight_VW.dtype
        total = cross_entropy + z
        ctx.mark_non_differentiable(cross_entropy, z)
        return total, cross_entropy, z

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if ctx.gradients is None:
            raise RuntimeError("the loss's gradients are scaled in place: only one backward pass can use them")
        scaled = [
            None if one is None else one.mul_(grad).to(dtype)
            for one, dtype in zip(ctx.gradients, ctx.types, strict=True)
        ]
        ctx.gradients = None
        return scaled[0], scaled[1], None, None, None


def _sums(
    hidden_RW: Tensor,
    weight_VW: Tensor,
    labels_R: Tensor,
    z_weight: float,
    rows: int,
    *,
    gradients: tuple[bool, bool],
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return the sums of cross-entropy and weighted z-loss, and their gradients: for the hidden layer in its type, for
    the weights, which are summed over chunks, in float32.
    """
    of_hidden = torch.empty_like(hidden_RW) if gradients[0] else None
    of_weight = torch.empty_like(weight_VW, dtype=torch.float32) if gradients[1] else None
    cross_entropy = torch.zeros((), dtype=torch.float32, device=hidden_RW.device)
    z = torch.zeros_like(cross_entropy)
    for start in range(0, hidden_RW.shape[0], rows):
        chunk = slice(start, start + rows)
        hidden_CW = hidden_RW[chunk]
        chunk_cross_entropy, chunk_z, d_logits_CV = row_losses(
            F.linear(hidden_CW, weight_VW), labels_R[chunk], z_weight, any(gradients)
        )
        cross_entropy += chunk_cross_entropy
        z += chunk_z
        if d_logits_CV is None:
            continue
        if of_hidden is not None:
            of_hidden[chunk] = d_logits_CV @ weight_VW
        if of_weight is not None and d_logits_CV.dtype == of_weight.dtype:
            # The first chunk overwrites what the memory held, the others add to it.
            of_weight.addmm_(d_logits_CV.T, hidden_CW, beta=float(start > 0))
        elif of_weight is not None:
            product = d_logits_CV.T @ hidden_CW
            of_weight.copy_(product) if start == 0 else of_weight.add_(product)
    return cross_entropy, z, of_hidden, of_weight


def row_losses(
    logits_CV: Tensor, labels_C: Tensor, z_weight: float, gradient: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return cross-entropy and z-loss of a chunk, and the gradient of their sum for its logits, in the logits' type.

    d/dlogit of -log p(target) is p - 1(target); of w L^2, L the log of the denominator, it is 2 w L p.
    """
    valid_C = labels_C != NO_TARGET
    targets_C1 = labels_C.where(valid_C, 0)[:, None]
    highest_C1, place_C1 = logits_CV.max(dim=-1, keepdim=True)
    p_CV = torch.softmax(logits_CV, dim=-1, dtype=torch.float32)
    # The highest logit's probability is never tiny, so its log is exact: log of the denominator = logit - log p.
    denominator_C = (highest_C1.float() - p_CV.gather(1, place_C1).log())[:, 0]
    target_C = logits_CV.gather(1, targets_C1)[:, 0].float()
    cross_entropy = (denominator_C - target_C).where(valid_C, 0).sum()
    z = torch.zeros_like(cross_entropy)
    if z_weight:
        z = z_weight * denominator_C.square().where(valid_C, 0).sum()
    if not gradient:
        return cross_entropy, z, None
    if z_weight:
        p_CV *= (1 + 2 * z_weight * denominator_C)[:, None]
    p_CV.scatter_add_(1, targets_C1, torch.full_like(target_C, -1.0)[:, None])
    p_CV *= valid_C[:, None]
    return cross_entropy, z, p_CV.to(logits_CV.dtype)
