"""Gradients written by hand for eager mode: each keeps less for the backward pass than autograd would, at no cost in time.

Autograd keeps every intermediate result. Over a block of OLMo's shape that is about 23 values of the model's width for
each token; with these three it is 13. Under torch.compile the plain expressions are used instead: its partitioner makes
the same choices, and fuses them.

Shapes: B batch, T time, R = B T rows, D width, M width of the MLP, F all heads of queries, keys and values side by side.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from olmo_core.model.rotary import rotate_in_place


class _LayerNorm(torch.autograd.Function):
    """LayerNorm without weights, from its output: the projection after it keeps that anyway, the input need not stay."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        y, _, scale = torch.native_layer_norm(x, (x.shape[-1],), None, None, eps)
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        y, scale = ctx.saved_tensors
        # The kernel's formula, scale * (grad - mean(grad) - y mean(grad y)), with y taken for an input that is normal already.
        mean, one = torch.zeros_like(scale), torch.ones_like(scale)
        wanted = [True, False, False]
        dx, _, _ = torch.ops.aten.native_layer_norm_backward(
            grad.contiguous(), y, (y.shape[-1],), mean, one, None, None, wanted
        )
        return dx.mul_(scale), None


class _RotateQueriesAndKeys(torch.autograd.Function):
    """RoPE in the memory of the projection's output, which nothing else needs; the gradient is the turn back."""

    @staticmethod
    def forward(ctx: Any, qkv_BTF: Tensor, cos: Tensor, sin: Tensor, heads: int, head_width: int) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.shape = heads, head_width
        ctx.mark_dirty(qkv_BTF)
        rotate_in_place(_heads(qkv_BTF, heads, head_width), cos, sin)
        return qkv_BTF

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        cos, sin = ctx.saved_tensors
        # Made by the split into queries, keys and values, and used here only.
        grad = grad.contiguous()
        rotate_in_place(_heads(grad, *ctx.shape), cos, -sin)
        return grad, None, None, None, None


class _SwiGLUDown(torch.autograd.Function):
    """(silu(gate) * up) W^T with up and gate alone kept: the product is made again, which costs 2 of 6 M D operations' reads."""

    @staticmethod
    def forward(ctx: Any, up_gate: Tensor, weight_DM: Tensor) -> Tensor:
        ctx.save_for_backward(up_gate, weight_DM)
        up, gate = up_gate.chunk(2, dim=-1)
        return F.linear(F.silu(gate).mul_(up), weight_DM)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:  # type: ignore[override]
        up_gate, weight_DM = ctx.saved_tensors
        up, gate = up_gate.flatten(0, -2).chunk(2, dim=-1)
        grad_RD = grad.reshape(-1, grad.shape[-1])
        # Nothing but the result is taken from memory: its halves hold, in turn, what the next line needs. With tensors of
        # their own these would be two and a half times as much, at the very moment when most is in use.
        d_up_gate = torch.empty_like(up_gate, memory_format=torch.contiguous_format)
        d_up, d_gate = d_up_gate.view(-1, d_up_gate.shape[-1]).chunk(2, dim=-1)
        active = torch.ops.aten.silu.out(gate, out=d_up)
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = grad_RD.T @ torch.mul(active, up, out=d_gate)
        d_product = torch.mm(grad_RD, weight_DM, out=d_gate)
        d_up.mul_(d_product)
        torch.ops.aten.silu_backward.grad_input(d_product.mul_(up), gate, grad_input=d_gate)
        return d_up_gate, d_weight


def _heads(x_BTF: Tensor, heads: int, head_width: int) -> Tensor:
    return x_BTF[..., : heads * head_width].view(*x_BTF.shape[:-1], heads, head_width)


def layer_norm(x: Tensor, eps: float) -> Tensor:
    """Return x less its mean over its deviation, along the last dimension; statistics are float32 for any type of x."""
    return _LayerNorm.apply(x, eps)  # type: ignore[no-any-return, no-untyped-call]


def rotate_queries_and_keys(qkv_BTF: Tensor, cos: Tensor, sin: Tensor, heads: int, head_width: int) -> Tensor:
    """Return `qkv_BTF` with its first `heads` heads rotated; the input's memory is used, so nothing else may need it."""
    return _RotateQueriesAndKeys.apply(qkv_BTF, cos, sin, heads, head_width)  # type: ignore[no-any-return, no-untyped-call]


def swiglu_down(up_gate: Tensor, weight_DM: Tensor) -> Tensor:
    """Return (silu(gate) * up) W^T; `up_gate` holds up, then gate, side by side."""
    return _SwiGLUDown.apply(up_gate, weight_DM)  # type: ignore[no-any-return, no-untyped-call]
