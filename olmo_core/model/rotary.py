"""Rotary position embedding (RoPE, arXiv 2104.09864) as OLMo has it: halves rotated, not neighbours, all in float32.

Shapes: B batch, T time, N query heads and key heads together, D width of a head, H = D / 2 angles.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_tables(positions: Tensor, head_width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of the angles of `positions` (T or B x T, whole numbers): T x H or B x T x H, float32.

    Angle h of position p is p / theta^(2h / D); computed as transformers does, so that both give the same bits.
    """
    powers = torch.arange(0, head_width, 2, dtype=torch.float32, device=positions.device) / head_width
    angles = positions[..., None].float() * (1.0 / (theta**powers))
    return angles.cos(), angles.sin()


def rotate(x_BTND: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return heads rotated by the angles of their positions, in the type they came in.

    `cos`, `sin`: T x H or B x T x H, from `rotary_tables`. Minus `sin` turns back, which is also the gradient.
    """
    first, second = x_BTND.float().chunk(2, dim=-1)
    cos, sin = cos[..., None, :], sin[..., None, :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x_BTND.dtype)


def rotate_in_place(x_BTND: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotate heads in their own memory; the same bits as `rotate`, without a record for gradients."""
    first, second = x_BTND.chunk(2, dim=-1)
    cos, sin = cos[..., None, :], sin[..., None, :]
    turned = (first * cos).sub_(second * sin)  # promoted to float32 by the tables
    second.copy_((second * cos).add_(first * sin))
    first.copy_(turned)
