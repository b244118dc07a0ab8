"""A small model and some tokens; without transformers, whose import takes seconds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from olmo_core.model.config import ModelRecipe
from olmo_core.model.initialization import initialize
from olmo_core.model.transformer import Transformer


def small(**changed: Any) -> ModelRecipe:
    """A model that a test can run in milliseconds."""
    values = {"width": 64, "layers": 3, "heads": 4, "mlp_width": 128, "vocabulary": 500, "embedding_rows": 512}
    return ModelRecipe(**{**values, "context": 128, "end_of_text_id": 499, **changed})


def ours(recipe: ModelRecipe, seed: int = 1) -> Transformer:
    """Our model with initial weights; weights and biases of norms are moved from 1 and 0, so that they count."""
    model = Transformer(recipe)
    initialize(model, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def tokens(batch: int, time: int, seed: int = 0) -> Tensor:
    """Random ids without 1: transformers gives the padding id's embedding no gradient."""
    return torch.randint(2, 500, (batch, time), generator=torch.Generator().manual_seed(seed))


def next_tokens(tokens_BT: Tensor) -> Tensor:
    """The label of each position: the next token, none for the last."""
    return torch.cat((tokens_BT[:, 1:], torch.full_like(tokens_BT[:, :1], -100)), dim=1)
