"""Causal self-attention over PyTorch's scaled_dot_product_attention, and what it must know of positions.

Shapes: B batch, T time, S positions that are attended to, W width, N query heads, K key and value heads, D width of a
head, F = (N + 2 K) D, H = D / 2 rotary angles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from olmo_core.model.cache import Cache, LayerCache
from olmo_core.model.config import ModelRecipe
from olmo_core.model.eager_gradients import rotate_queries_and_keys
from olmo_core.model.layers import Linear
from olmo_core.model.rotary import rotary_tables, rotate

Attend = Callable[[Tensor, Tensor, Tensor, float, LayerCache | None], Tensor]
"""An attention in place of the usual one: of queries (B x N x T x D), keys and values (B x K x T x D), the factor of their products,
and the block's cache, which it may read, it makes B x N x T x D."""


@dataclass(frozen=True)
class Positions:
    """What every block's attention needs to know of positions, made once for each forward pass.

    An object, not a tuple of tensors: FSDP2 casts tensors in a block's arguments to the compute type, and the rotary
    tables must stay float32.
    """

    cos: Tensor
    """T x H or B x T x H, float32."""
    sin: Tensor
    mask: Tensor | None
    """B x 1 x T x S or 1 x 1 x T x S, true where attention is allowed; None for plain causal attention."""
    attend: Attend | None = None
    """Takes the place of attention with `mask`; the cache is not extended then."""


def build_positions(
    recipe: ModelRecipe,
    tokens_BT: Tensor,
    *,
    documents_BT: Tensor | None = None,
    cache: Cache | None = None,
    positions: Tensor | None = None,
    mask: Tensor | None = None,
    attend: Attend | None = None,
) -> Positions:
    """Return rotary tables and mask of a forward pass.

    `positions` (T or B x T): place of each token, where it is not its number in the row. `documents_BT`: attention stays
    within equal numbers; the places are not reset, as RoPE knows distances only. `mask` or `attend`: takes the place of both rules.
    """
    time, past, device = tokens_BT.shape[1], cache.length if cache else 0, tokens_BT.device
    row = torch.arange(past, past + time, device=device)
    padding_B = cache.padding_B if cache else None
    if positions is None:
        positions = row if padding_B is None else (row - padding_B[:, None]).clamp_(min=0)
    if mask is not None or attend is not None:
        pass
    elif documents_BT is not None:
        mask = documents_BT[:, :, None] == documents_BT[:, None, :]
        mask = (mask & _causal(row, past + time))[:, None]
    elif cache is not None and (padding_B is not None or (past and time > 1)):
        mask = _causal(row, past + time)[None, None]
        if padding_B is not None:
            real_BS = torch.arange(past + time, device=device) >= padding_B[:, None]
            # A filling position attends to itself, for a row of nothing but masked scores is NaN.
            own = row[:, None] == torch.arange(past + time, device=device)
            mask = (mask & real_BS[:, None, None]) | own
    cos, sin = rotary_tables(positions, recipe.head_width, recipe.rope_theta)
    return Positions(cos, sin, mask, attend)


def _causal(row: Tensor, length: int) -> Tensor:
    return row[:, None] >= torch.arange(length, device=row.device)


class Attention(nn.Module):
    """Attention with rotary positions; heads may share keys and values (GQA), and projections may be clipped."""

    def __init__(self, recipe: ModelRecipe) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = recipe.heads, recipe.key_value_heads, recipe.head_width
        self.clip = recipe.clip_qkv
        self.qkv = Linear(recipe.width, (recipe.heads + 2 * self.kv_heads) * self.head_width)
        """Rows: queries, keys, values."""
        self.output = Linear(recipe.width, recipe.width)

    def forward(self, x_BTW: Tensor, positions: Positions, cache: LayerCache | None = None) -> Tensor:
        """Return what each position gathers from the positions it may attend to; B x T x W."""
        qkv_BTF = self.qkv(x_BTW)
        if self.clip is not None:
            qkv_BTF = qkv_BTF.clamp(-self.clip, self.clip)
        sizes = [self.heads, self.kv_heads, self.kv_heads]
        if torch.compiler.is_compiling():
            # One kernel reads the projection and writes all three; it is then let go of.
            qk_v = torch.split(qkv_BTF.view(*x_BTW.shape[:2], -1, self.head_width), sizes, dim=2)
            turned = (rotate(one, positions.cos, positions.sin) for one in qk_v[:2])
            q, k, v = (one.transpose(1, 2) for one in (*turned, qk_v[2].contiguous()))
        else:
            rotated = self.heads + self.kv_heads
            qkv_BTF = rotate_queries_and_keys(qkv_BTF, positions.cos, positions.sin, rotated, self.head_width)
            # Split first, then transpose: the gradient is then put together by one copy, not two.
            heads = qkv_BTF.view(*x_BTW.shape[:2], -1, self.head_width)
            q, k, v = (one.transpose(1, 2) for one in torch.split(heads, sizes, dim=2))
        if positions.attend is not None:
            gathered: Tensor = self.output(
                positions.attend(q, k, v, self.head_width**-0.5, cache).transpose(1, 2).flatten(-2)
            )
            return gathered
        if cache is not None:
            k, v = cache.extend(k, v)
        y_BNTD = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=positions.mask,
            is_causal=positions.mask is None and q.shape[2] > 1,
            scale=self.head_width**-0.5,
            enable_gqa=self.kv_heads != self.heads,
        )
        y: Tensor = self.output(y_BNTD.transpose(1, 2).flatten(-2))
        return y
