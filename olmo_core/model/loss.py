"""Cross-entropy straight from the last hidden layer, a few rows at a time: all logits are never in memory together.

At OLMo-1B's shape the logits of one sequence of 2,048 tokens are 412 MB in float32, and autograd keeps three or four
such tensors. Here the gradients with respect to hidden layer and output weights are computed chunk by chunk during the
forward pass, as the loss is a sum, and are scaled in the backward pass. Logits, softmax and sums are float32; the matrix
products are in the type of the hidden layer.

Shapes: B batch, T time, R = B T rows, C rows of a chunk, W width, V rows of the output layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

NO_TARGET = -100
"""Label of a position without a target, as in torch."""
CHUNK_LOGITS = {"cpu": 1 << 24, "cuda": 1 << 28}
"""Logits in memory at a time: 67 MB of float32, and 1 GB where short matrices would leave a GPU idle."""
RowLosses = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor, Tensor]]
"""`rounded_row_losses_`, compiled."""


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
    row_losses: RowLosses | None = None,
) -> Losses:
    """Return the losses of the logits hidden x weight^T against `labels_BT` (NO_TARGET for none).

    `chunk_rows`: rows of logits in memory at a time; decides rounding only. `row_losses`: a compiled `rounded_row_losses_`, which
    takes the place of a dozen passes over a chunk where gradients are wanted.
    """
    hidden_RW, labels_R = hidden_BTW.flatten(0, -2), labels_BT.flatten()
    rows = chunk_rows or max(1, CHUNK_LOGITS.get(hidden_RW.device.type, CHUNK_LOGITS["cpu"]) // weight_VW.shape[0])
    wanted = torch.is_grad_enabled() and (hidden_BTW.requires_grad or weight_VW.requires_grad)
    if wanted and row_losses is not None and chunk_rows is None:
        # Twice as many, for there is no float32 copy; and a power of two, which divides most batches, so that all chunks have
        # one shape: each shape is compiled by itself.
        rows = 1 << rows.bit_length()
    arguments = hidden_RW, weight_VW, labels_R, z_loss or 0.0, rows, row_losses
    if wanted:
        total, cross_entropy, z = _LinearCrossEntropy.apply(*arguments)  # type: ignore[no-untyped-call]
    else:
        cross_entropy, z, _, _ = _sums(*arguments[:-1], None, gradients=(False, False))
        total = cross_entropy + z
    return Losses(total, cross_entropy, z, (labels_R != NO_TARGET).sum())


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_RW: Tensor,
        weight_VW: Tensor,
        labels_R: Tensor,
        z_weight: float,
        rows: int,
        row_losses: RowLosses | None,
    ) -> Any:
        gradients = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        cross_entropy, z, *ctx.gradients = _sums(
            hidden_RW, weight_VW, labels_R, z_weight, rows, row_losses, gradients=gradients
        )
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
        return scaled[0], scaled[1], None, None, None, None


def _sums(
    hidden_RW: Tensor,
    weight_VW: Tensor,
    labels_R: Tensor,
    z_weight: float,
    rows: int,
    row_losses: RowLosses | None,
    *,
    gradients: tuple[bool, bool],
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return the sums of cross-entropy and weighted z-loss, and their gradients: for the hidden layer in its type, for
    the weights, which are summed over chunks, in float32.
    """
    of_hidden = torch.empty_like(hidden_RW) if gradients[0] else None
    of_weight = torch.empty_like(weight_VW, dtype=torch.float32) if gradients[1] else None
    if of_weight is not None and not len(hidden_RW):
        of_weight.zero_()  # no chunk follows that would overwrite it
    cross_entropy = torch.zeros((), dtype=torch.float32, device=hidden_RW.device)
    z = torch.zeros_like(cross_entropy)
    rows = max(1, min(rows, hidden_RW.shape[0]))
    # Two buffers for all chunks: a fresh tensor of this size costs as much in page faults as the matrix product does.
    products_CV = hidden_RW.new_empty(rows, weight_VW.shape[0])
    narrow = products_CV.dtype != torch.float32 and row_losses is None
    logits_CV = torch.empty_like(products_CV, dtype=torch.float32) if narrow else products_CV
    for start in range(0, hidden_RW.shape[0], rows):
        chunk = slice(start, start + rows)
        hidden_CW, labels_C = hidden_RW[chunk], labels_R[chunk]
        product_CV, logit_CV = products_CV[: len(hidden_CW)], logits_CV[: len(hidden_CW)]
        torch.mm(hidden_CW, weight_VW.T, out=product_CV)
        if narrow:
            logit_CV.copy_(product_CV)
        chunk_cross_entropy, chunk_z, scale_C1 = (row_losses or row_losses_)(logit_CV, labels_C, z_weight)
        cross_entropy += chunk_cross_entropy
        z += chunk_z
        if not any(gradients):
            continue
        if narrow:
            product_CV.copy_(logit_CV)
        if of_hidden is not None:
            torch.mm(product_CV, weight_VW, out=of_hidden[chunk])
            of_hidden[chunk] = (of_hidden[chunk] * scale_C1).where((labels_C != NO_TARGET)[:, None], 0)
        if of_weight is None:
            continue
        scaled_CW = (hidden_CW * scale_C1).where((labels_C != NO_TARGET)[:, None], 0).to(hidden_CW.dtype)
        if product_CV.dtype == of_weight.dtype:
            # The first chunk overwrites what the memory held, the others add to it.
            of_weight.addmm_(product_CV.T, scaled_CW, beta=float(start > 0))
        else:
            product_VW = product_CV.T @ scaled_CW
            of_weight.copy_(product_VW) if start == 0 else of_weight.add_(product_VW)
    return cross_entropy, z, of_hidden, of_weight


def row_losses_(logits_CV: Tensor, labels_C: Tensor, z_weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return cross-entropy and z-loss of a chunk, and a factor for each row (C x 1): the rows of `logits_CV`, which is
    overwritten, times their factors are the gradient of the sum of both losses for the logits.

    Rows without a target have a gradient too: the caller leaves them out where they are W wide, not V, and applies the
    factor there, for the same reason.

    With p the softmax and L the log of its denominator, d/dlogit of -log p(target) is p - 1(target); of w L^2, 2 w L p.
    """
    valid_C = labels_C != NO_TARGET
    targets_C1 = labels_C.where(valid_C, 0)[:, None]
    target_C1 = logits_CV.gather(1, targets_C1)
    highest_C1 = logits_CV.amax(dim=-1, keepdim=True)
    denominator_C1 = logits_CV.sub_(highest_C1).exp_().sum(dim=-1, keepdim=True)  # logits are exp(logit - highest) now
    log_C1 = denominator_C1.log() + highest_C1
    cross_entropy = (log_C1 - target_C1).where(valid_C[:, None], 0).sum()
    if not z_weight:
        _add_at_targets_(logits_CV, targets_C1, -denominator_C1)
        return cross_entropy, torch.zeros_like(cross_entropy), 1 / denominator_C1
    z = z_weight * log_C1.square().where(valid_C[:, None], 0).sum()
    logits_CV.mul_((1 + 2 * z_weight * log_C1) / denominator_C1)
    _add_at_targets_(logits_CV, targets_C1, torch.full_like(denominator_C1, -1.0))
    return cross_entropy, z, torch.ones_like(denominator_C1)


def rounded_row_losses_(products_CV: Tensor, labels_C: Tensor, z_weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `row_losses_` returns, of logits in any type: computed in float32, the gradient rounded to that type.

    To be compiled: the float32 values are then never in memory, which otherwise are read and written a dozen times.
    """
    logits_CV = products_CV.float()
    found = row_losses_(logits_CV, labels_C, z_weight)
    products_CV.copy_(logits_CV)
    return found


def _add_at_targets_(values_CV: Tensor, targets_C1: Tensor, added_C1: Tensor) -> None:
    if torch.compiler.is_compiling():  # a scatter cannot be fused with what is around it; this can
        columns_V = torch.arange(values_CV.shape[1], device=values_CV.device)
        values_CV.add_(added_C1.where(columns_V == targets_C1, 0))
    else:
        values_CV.scatter_add_(1, targets_C1, added_C1)
