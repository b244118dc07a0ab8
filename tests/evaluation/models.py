"""Tiny models for the tests of scoring, and the plainest way to score: one sequence at a time, all logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from olmo_core.evaluation.requests import Request
from olmo_core.model.config import ModelRecipe
from olmo_core.model.initialization import initialize
from olmo_core.model.transformer import Transformer

SHAPE = ModelRecipe(
    width=32,
    layers=2,
    heads=4,
    mlp_width=64,
    kv_heads=2,
    vocabulary=90,
    embedding_rows=96,
    context=64,
    end_of_text_id=0,
)


def tiny(seed: int = 0, shape: ModelRecipe = SHAPE) -> Transformer:
    """A model with weights large enough that its probabilities differ."""
    model = Transformer(shape)
    initialize(model, seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 3.0
    return model.eval()


@torch.no_grad()
def one_by_one(model: Transformer, requests: Sequence[Request]) -> list[float]:
    """Log-likelihoods, each from a forward pass of its own over the whole sequence."""
    found = []
    for request in requests:
        ids = torch.tensor([[*request.context, *request.continuation]])[:, -model.recipe.context - 1 :]
        logits = torch.log_softmax(model(ids[:, :-1]).double(), -1)
        picked = logits[0].gather(1, ids[0, 1:, None])[:, 0]
        found.append(float(picked[-len(request.continuation) :].sum()))
    return found
