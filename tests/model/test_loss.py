"""The chunked loss equals torch's cross_entropy over all logits, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from olmo_core.model.loss import linear_cross_entropy

Z = 1e-2


def parts(masked: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden layer, weights and labels; every `masked`-th position has no target."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 11, 8, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(37, 8, generator=generator, dtype=dtype).requires_grad_()
    labels = torch.randint(0, 37, (2, 11), generator=generator)
    if masked:
        labels[:, ::masked] = -100
    return hidden, weight, labels


def plain(hidden: Tensor, weight: Tensor, labels: Tensor, z: float) -> tuple[Tensor, Tensor]:
    """Both losses with all logits in memory."""
    logits = F.linear(hidden, weight).flatten(0, 1)
    squares = torch.logsumexp(logits, -1).square()
    cross_entropy = F.cross_entropy(logits, labels.flatten(), reduction="sum", ignore_index=-100)
    return cross_entropy, z * squares[labels.flatten() != -100].sum()


@pytest.mark.parametrize("z", [None, Z])
@pytest.mark.parametrize("masked", [0, 3, 1])
@pytest.mark.parametrize("rows", [1, 4, 22, 100])
def test_losses_and_gradients(z: float | None, masked: int, rows: int) -> None:
    hidden, weight, labels = parts(masked, torch.float32)
    losses = linear_cross_entropy(hidden, weight, labels, z_loss=z, chunk_rows=rows)
    (losses.total / 7).backward()
    other = [one.detach().clone().requires_grad_() for one in (hidden, weight)]
    cross_entropy, squares = plain(other[0], other[1], labels, z or 0.0)
    ((cross_entropy + squares) / 7).backward()
    assert torch.allclose(losses.cross_entropy, cross_entropy, rtol=1e-5)
    assert torch.allclose(losses.z_loss, squares, rtol=1e-5)
    assert losses.tokens == (labels != -100).sum()
    for mine, theirs in zip((hidden, weight), other):
        assert mine.grad is not None and theirs.grad is not None
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-5)


def test_without_gradients_the_sums_are_the_same() -> None:
    hidden, weight, labels = parts(3)
    with_gradients = linear_cross_entropy(hidden, weight, labels, z_loss=Z)
    with torch.no_grad():
        without = linear_cross_entropy(hidden, weight, labels, z_loss=Z)
    assert without.total == with_gradients.total
    assert not without.total.requires_grad and with_gradients.total.requires_grad
    assert not with_gradients.cross_entropy.requires_grad


def test_frozen_weights_get_no_gradient() -> None:
    hidden, weight, labels = parts(0)
    linear_cross_entropy(hidden, weight.detach(), labels).total.backward()
    assert hidden.grad is not None and weight.grad is None


def test_bfloat16_keeps_float32_sums() -> None:
    hidden, weight, labels = parts(0, torch.bfloat16)
    losses = linear_cross_entropy(hidden, weight, labels)
    assert losses.total.dtype == torch.float32
    logits = F.linear(hidden, weight).flatten(0, 1).float()
    assert torch.allclose(losses.total, F.cross_entropy(logits, labels.flatten(), reduction="sum"), rtol=1e-6)
    losses.total.backward()
    assert hidden.grad is not None and hidden.grad.dtype == torch.bfloat16


def test_infinite_logits_reach_loss_and_gradient() -> None:
    """The trainer decides by them that a step is not applied; nothing here may hide them."""
    hidden, weight, labels = parts(0, torch.float32)
    bad = hidden.detach().clone()
    bad[0, 3] = float("nan")
    bad.requires_grad_()
    total = linear_cross_entropy(bad, weight, labels).total
    total.backward()
    assert total.isnan() and weight.grad is not None and weight.grad.isnan().any()


def test_a_second_backward_pass_is_refused() -> None:
    hidden, weight, labels = parts(0)
    total = linear_cross_entropy(hidden, weight, labels).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only one backward pass"):
        total.backward()


def test_no_rows_give_no_gradient() -> None:
    hidden, weight = torch.zeros(0, 4, 8).requires_grad_(), torch.randn(37, 8).requires_grad_()
    losses = linear_cross_entropy(hidden, weight, torch.zeros(0, 4, dtype=torch.long))
    losses.total.backward()
    assert losses.tokens == 0 and weight.grad is not None and not weight.grad.any()
