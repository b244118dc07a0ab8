"""How a batch of rows is laid out for a model: side by side with filling, or end to end without.

End to end, every matrix product sees real tokens only. Attention alone is told the rows apart: over a shared beginning all
rows' tokens attend at once, as its keys and values are the same for all of them and nothing of it is forbidden; over their own
row they attend side by side; the two are put together by their sums of exponentials (as FlashAttention does with blocks
of keys). On a processor this takes two thirds of the time of masked attention over copies of the beginning.

Shapes: B rows, T tokens (of a row with filling, or of all rows), P tokens of a shared beginning, S = P + T, N query heads,
K key and value heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from olmo_core.evaluation.prefix_tree import Row
from olmo_core.model.attention import Attend
from olmo_core.model.cache import LayerCache


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A batch as a model takes it."""

    tokens_BT: Tensor
    positions_BT: Tensor
    mask: Tensor | None
    """B x 1 x T x S, true where attention is allowed; None for plain causal attention, or `attend`."""
    attend: Attend | None
    starts: tuple[int, ...]
    """Where each row begins among the tokens, laid end to end (B,)."""


def padded(rows: Sequence[Row], prefix: int, device: torch.device) -> Layout:
    """Return rows side by side after a beginning of `prefix` tokens, filled up at their ends."""
    width = max(len(row) for row in rows)
    tokens, positions = np.zeros((2, len(rows), width), np.int64)
    for b, row in enumerate(rows):
        tokens[b, : len(row)], positions[b, : len(row)] = row.tokens, row.positions
    mask = None
    # Where rows are plain sequences from the beginning, the filling is behind every token that counts.
    if prefix or any(row.branches for row in rows):
        allowed = np.zeros((len(rows), 1, width, prefix + width), bool)
        allowed[..., :prefix] = True
        allowed[:, 0, :, prefix:] = _own(rows, width)
        mask = torch.from_numpy(allowed).to(device)
    return Layout(
        tokens_BT=torch.from_numpy(tokens).to(device),
        positions_BT=torch.from_numpy(positions).to(device),
        mask=mask,
        attend=None,
        starts=tuple(range(0, len(rows) * width, width)),
    )


def packed(rows: Sequence[Row], device: torch.device, dtype: torch.dtype) -> Layout:
    """Return rows end to end, with an attention that tells them apart; their shared beginning is the model's cache."""
    return Layout(
        tokens_BT=torch.tensor([[t for row in rows for t in row.tokens]], device=device),
        positions_BT=torch.tensor([[p for row in rows for p in row.positions]], device=device),
        mask=None,
        attend=_PackedAttention(rows, device, dtype),
        starts=tuple(np.cumsum([0, *(len(row) for row in rows[:-1])]).tolist()),
    )


def _own(rows: Sequence[Row], width: int) -> npt.NDArray[np.bool_]:
    """Return which tokens of their row tokens may attend to (B, T, T); filling to itself: attention to nothing is NaN."""
    allowed = np.zeros((len(rows), width, width), bool)
    allowed[:, np.arange(width), np.arange(width)] = True
    for b, row in enumerate(rows):
        allowed[b, : len(row), : len(row)] = row.allowed()
    return allowed


class _PackedAttention:
    """Attention of rows that lie end to end."""

    def __init__(self, rows: Sequence[Row], device: torch.device, dtype: torch.dtype) -> None:
        lengths = np.array([len(row) for row in rows])
        width = int(lengths.max())
        starts = np.cumsum(lengths) - lengths
        real = np.arange(width) < lengths[:, None]
        # Filling is the row's first token once more: anything finite would do.
        places = starts[:, None] + np.where(real, np.arange(width), 0)
        self._rows, self._width = len(rows), width
        self._places = torch.from_numpy(places.ravel()).to(device)
        self._back = torch.from_numpy(np.flatnonzero(real.ravel())).to(device)
        self._mask = None
        if any(row.branches for row in rows):
            allowed = torch.from_numpy(_own(rows, width))[:, None]
            self._mask = torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, -torch.inf).to(device)

    def __call__(
        self, q_1NTD: Tensor, k_1KTD: Tensor, v_1KTD: Tensor, scale: float, cache: LayerCache | None
    ) -> Tensor:
        heads = q_1NTD.shape[1]
        k_BNTD, v_BNTD = _as_many(self._side_by_side(k_1KTD), heads), _as_many(self._side_by_side(v_1KTD), heads)
        y_BNTD, sums_BNT = _flash(
            self._side_by_side(q_1NTD), k_BNTD, v_BNTD, 0.0, self._mask is None, attn_mask=self._mask, scale=scale
        )
        y_TND: Tensor = y_BNTD.transpose(1, 2).flatten(0, 1)[self._back]
        if cache is None:
            return y_TND.transpose(0, 1)[None]
        before = [_as_many(one[:, :, : cache.length], heads) for one in (cache.keys_BKSD, cache.values_BKSD)]
        shared_1NTD, sums_1NT = _flash(q_1NTD, *before, 0.0, False, scale=scale)
        own_TN = sums_BNT.transpose(1, 2).flatten(0, 1)[self._back]
        share_1NT1 = torch.sigmoid(own_TN.transpose(0, 1)[None] - sums_1NT)[..., None]
        return torch.lerp(shared_1NTD, y_TND.transpose(0, 1)[None], share_1NT1.to(shared_1NTD.dtype))

    def _side_by_side(self, x_1NTD: Tensor) -> Tensor:
        x_TND = x_1NTD[0].transpose(0, 1).index_select(0, self._places)
        return x_TND.view(self._rows, self._width, *x_TND.shape[1:]).transpose(1, 2)


_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
"""Attention that also gives the logarithm of its sums of exponentials, B x N x T; for a processor only."""


def _as_many(x_BKTD: Tensor, heads: int) -> Tensor:
    return x_BKTD if x_BKTD.shape[1] == heads else x_BKTD.repeat_interleave(heads // x_BKTD.shape[1], 1)
