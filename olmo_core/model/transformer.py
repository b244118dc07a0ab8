"""The model: decoder-only transformer with OLMo's choices (arXiv 2402.00838), and the options of its comparison table.

Mathematics only: how parameters are laid out over devices, recomputed or compiled is the trainer's business.

Shapes: B batch, T time, W width, V rows of the output layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

from olmo_core.errors import InputError
from olmo_core.model.attention import Attend, Attention, Positions, build_positions
from olmo_core.model.cache import Cache, LayerCache
from olmo_core.model.config import ModelRecipe
from olmo_core.model.layers import MLP, Embedding, Linear
from olmo_core.model.loss import Losses, RowLosses, linear_cross_entropy
from olmo_core.model.norms import build_norm

R = TypeVar("R")


class Block(nn.Module):
    """One layer: attention and MLP, each added to the residual stream."""

    def __init__(self, recipe: ModelRecipe) -> None:
        super().__init__()
        self.attention_norm = build_norm(recipe)
        self.attention = Attention(recipe)
        self.mlp_norm = build_norm(recipe) if recipe.block == "sequential" else None
        self.mlp = MLP(recipe)

    def forward(self, x_BTW: Tensor, positions: Positions, cache: LayerCache | None = None) -> Tensor:
        """Return the residual stream after this layer."""
        normal_BTW = self.attention_norm(x_BTW)
        attended_BTW = self.attention(normal_BTW, positions, cache)
        if self.mlp_norm is None:
            return x_BTW + attended_BTW + self.mlp(normal_BTW)  # type: ignore[no-any-return]
        x_BTW = x_BTW + attended_BTW
        return x_BTW + self.mlp(self.mlp_norm(x_BTW))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """A language model.

    Built with its weights uninitialised on torch's default device, `meta` included: call `to_empty` and `initialize`, or
    load a checkpoint. `output` is None where the output layer is the embedding (tied).
    """

    def __init__(self, recipe: ModelRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.embedding = Embedding(recipe.embedding_rows, recipe.width)
        self.blocks = nn.ModuleList(Block(recipe) for _ in range(recipe.layers))
        self.norm = build_norm(recipe)
        self.output = None if recipe.tied else Linear(recipe.width, recipe.embedding_rows)
        self.row_losses: RowLosses | None = None
        """A compiled form of the losses' inner part, where the trainer compiles."""

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        labels_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        cache: Cache | None = None,
        z_loss: float | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        attend: Attend | None = None,
        last: bool = False,
        head: Callable[[Tensor, Tensor], R] | None = None,
    ) -> Tensor | Losses | R:
        """Return logits (B x T x V), or with `labels_BT` the sums of losses over all targets.

        `labels_BT`: target of each position (the next token), -100 for none. `documents_BT` (whole numbers): attention
        stays within equal ones. `cache`: of earlier positions, extended by these. `positions` (T or B x T): places of the
        tokens where they are not their numbers in the row. `last`: logits of the last position only, B x 1 x V.
        `mask` (B x 1 x T x S, true where attention is allowed) takes the place of all other rules, and so does
        `attend`, an attention of its own, which reads the cache and does not extend it. `head`: called with the last
        hidden states (B x T x W, normed) and the output layer's weight (V x W) in place of multiplying them; its result
        is returned. `z_loss`: see `Losses`. Raises InputError for a row longer than the model's context, or more than the cache holds.
        """
        x_BTW = self.hidden(
            tokens_BT,
            documents_BT=documents_BT,
            cache=cache,
            positions=positions,
            mask=mask,
            attend=attend,
            last=last,
        )
        weight_VW = self.embedding.weight if self.output is None else self.output.weight
        if head is not None:
            return head(x_BTW, weight_VW)
        if labels_BT is not None:
            return linear_cross_entropy(x_BTW, weight_VW, labels_BT, z_loss=z_loss, row_losses=self.row_losses)
        return F.linear(x_BTW, weight_VW)

    def hidden(
        self,
        tokens_BT: Tensor,
        *,
        documents_BT: Tensor | None = None,
        cache: Cache | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        attend: Attend | None = None,
        last: bool = False,
    ) -> Tensor:
        """Return what the output layer reads, B x T x W; arguments as of `forward`."""
        past = cache.length if cache else 0
        # With a mask a row may hold several sequences side by side, each no longer than the context.
        if mask is None and attend is None and past + tokens_BT.shape[1] > self.recipe.context:
            raise InputError(
                f"{past + tokens_BT.shape[1]} tokens are more than the model's context of {self.recipe.context}; "
                "shorten the text, or split it"
            )
        if cache is not None and attend is None:
            cache.check_room(tokens_BT.shape[1])
        where = build_positions(
            self.recipe,
            tokens_BT,
            documents_BT=documents_BT,
            cache=cache,
            positions=positions,
            mask=mask,
            attend=attend,
        )
        x_BTW = self.embedding(tokens_BT)
        for number, block in enumerate(self.blocks):
            x_BTW = block(x_BTW, where, cache.layers[number] if cache else None)
        if last:
            x_BTW = x_BTW[:, -1:]
        normal_BTW: Tensor = self.norm(x_BTW)
        return normal_BTW
