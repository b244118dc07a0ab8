"""The hand-written gradients equal autograd's of the plain expressions."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from olmo_core.model.eager_gradients import layer_norm, rotate_queries_and_keys, swiglu_down
from olmo_core.model.norms import RMSNorm
from olmo_core.model.rotary import rotary_tables, rotate


def random(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Values with a gradient."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=dtype).requires_grad_()


def test_layer_norm() -> None:
    x = random(2, 5, 16)
    assert torch.equal(layer_norm(x, 1e-5), F.layer_norm(x, (16,), eps=1e-5))
    assert torch.autograd.gradcheck(lambda x: layer_norm(x, 1e-5), x)


def test_swiglu() -> None:
    up_gate, weight = random(2, 5, 12), random(4, 6)
    up, gate = up_gate.chunk(2, -1)
    assert torch.equal(swiglu_down(up_gate, weight), F.linear(F.silu(gate) * up, weight))
    assert torch.autograd.gradcheck(swiglu_down, (up_gate, weight))


def test_rotation() -> None:
    base = random(2, 5, 4 * 8, dtype=torch.float32)
    cos, sin = rotary_tables(torch.arange(5) * 100, 8, 10_000.0)
    expected = torch.cat((rotate(base.unflatten(-1, (4, 8))[:, :, :3], cos, sin).flatten(-2), base[..., 24:]), -1)
    found = rotate_queries_and_keys(base * 1, cos, sin, 3, 8)
    assert torch.equal(found, expected)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(9))
    (mine,) = torch.autograd.grad((found * weights).sum(), base)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), base)
    assert torch.allclose(mine, theirs, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_norms_compute_in_float32(dtype: torch.dtype) -> None:
    x = (100 + 3 * torch.randn(4, 64, generator=torch.Generator().manual_seed(0))).to(dtype)
    assert torch.equal(layer_norm(x, 1e-5), F.layer_norm(x.float(), (64,), eps=1e-5).to(dtype))
    norm = RMSNorm(64, 1e-5)
    torch.nn.init.ones_(norm.weight)
    exact = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt()
    assert (norm.to(dtype)(x).double() - exact).abs().max() <= torch.finfo(dtype).eps  # rounded once, at the end


def test_rotation_of_bfloat16_is_in_float32() -> None:
    x = torch.randn(1, 6, 2, 8, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    cos, sin = rotary_tables(torch.arange(6) * 300, 8, 10_000.0)
    exact = rotate(x.float(), cos, sin).to(torch.bfloat16)
    assert torch.equal(rotate(x, cos, sin), exact)
    assert torch.equal(rotate_queries_and_keys(x.flatten(-2).clone(), cos, sin, 2, 8).view_as(x), exact)
