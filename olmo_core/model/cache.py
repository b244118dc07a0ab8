"""Keys and values of the positions a model has seen, so that each new token costs one position's work.

Shapes: B batch, K key and value heads, S room for positions, T new positions, D width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from olmo_core.errors import InputError
from olmo_core.model.config import ModelRecipe


class LayerCache:
    """Keys and values of one block; `length` positions of the memory are filled."""

    def __init__(self, keys_BKSD: Tensor, values_BKSD: Tensor) -> None:
        self.keys_BKSD, self.values_BKSD, self.length = keys_BKSD, values_BKSD, 0

    def extend(self, keys_BKTD: Tensor, values_BKTD: Tensor) -> tuple[Tensor, Tensor]:
        """Append new positions and return keys and values of all positions so far."""
        end = self.length + keys_BKTD.shape[2]
        self.keys_BKSD[:, :, self.length : end] = keys_BKTD
        self.values_BKSD[:, :, self.length : end] = values_BKTD
        self.length = end
        return self.keys_BKSD[:, :, :end], self.values_BKSD[:, :, :end]


class Cache:
    """One LayerCache for each block, of the same length; memory for `room` positions is taken at once.

    `padding_B`: positions at the front of each row that are filling and are never attended to, where prompts of
    different lengths are made one batch; None for none.
    """

    def __init__(
        self,
        recipe: ModelRecipe,
        *,
        batch: int,
        room: int,
        dtype: torch.dtype,
        device: torch.device | str,
        padding_B: Tensor | None = None,
    ) -> None:
        shape = (batch, recipe.key_value_heads, room, recipe.head_width)
        # Zeros, not whatever was there: a NaN in a masked position would reach the sum as 0 * NaN.
        memory = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(2 * recipe.layers)]
        self.layers = [LayerCache(*memory[2 * i : 2 * i + 2]) for i in range(recipe.layers)]
        self.room = room
        self.padding_B = padding_B

    @property
    def length(self) -> int:
        """Positions filled."""
        return self.layers[0].length

    def check_room(self, new: int) -> None:
        """Raise InputError where `new` more positions do not fit."""
        if self.length + new > self.room:
            raise InputError(
                f"the cache has room for {self.room} positions and holds {self.length}: {new} more do not fit; make it larger"
            )
