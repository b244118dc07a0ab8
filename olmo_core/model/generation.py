"""Text from a model: prompts in, tokens out one by one, each position computed once (key-value cache).

Shapes: B batch, T time, V rows of the output layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from olmo_core.errors import InputError
from olmo_core.model.cache import Cache
from olmo_core.model.sampling import Sampling, choose
from olmo_core.model.transformer import Transformer


def stream(model: Transformer, prompts: Sequence[Sequence[int]], sampling: Sampling) -> Iterator[list[int | None]]:
    """Yield, step by step, the next token of each prompt; None for one that has ended. Ends when all have.

    Prompts may differ in length. Raises InputError for an empty prompt, an id that is not in the vocabulary, or a prompt
    that fills the model's context.
    """
    recipe = model.recipe
    longest = _check(model, prompts)
    new = min(sampling.max_tokens, recipe.context - longest)
    weight = model.embedding.weight
    padding_B = torch.tensor([longest - len(prompt) for prompt in prompts], device=weight.device)
    cache = Cache(
        recipe,
        batch=len(prompts),
        room=longest + new,
        dtype=weight.dtype,
        device=weight.device,
        padding_B=padding_B if padding_B.any() else None,
    )
    rows = [[recipe.padding_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    tokens_BT = torch.tensor(rows, device=weight.device)
    generators = [torch.Generator().manual_seed(sampling.seed) for _ in prompts]
    ended = [False] * len(prompts)
    for _ in range(new):
        logits_BV = _next_logits(model, tokens_BT, cache)
        chosen = [
            None if done else choose(logits_V, sampling, generator)
            for done, logits_V, generator in zip(ended, logits_BV, generators, strict=True)
        ]
        yield chosen
        if sampling.stop_at_end:
            ended = [done or token == recipe.end_of_text_id for done, token in zip(ended, chosen, strict=True)]
        if all(ended):
            return
        fill = [[recipe.end_of_text_id if token is None else token] for token in chosen]
        tokens_BT = torch.tensor(fill, device=weight.device)


def complete(model: Transformer, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[int]]:
    """Return the new tokens of each prompt; arguments and errors as of `stream`."""
    out: list[list[int]] = [[] for _ in prompts]
    for tokens in stream(model, prompts, sampling):
        for row, token in zip(out, tokens, strict=True):
            if token is not None:
                row.append(token)
    return out


@torch.no_grad()
def _next_logits(model: Transformer, tokens_BT: Tensor, cache: Cache) -> Tensor:
    """Return the logits after the last position. Rows of the output layer that are no token are left out."""
    logits_B1V: Tensor = model(tokens_BT, cache=cache, last=True)
    return logits_B1V[:, 0, : model.recipe.vocabulary]


def _check(model: Transformer, prompts: Sequence[Sequence[int]]) -> int:
    """Return the length of the longest prompt."""
    recipe = model.recipe
    for number, prompt in enumerate(prompts):
        if not len(prompt):
            raise InputError(
                f"prompt {number} is empty; begin with a text, or with the end-of-text token ({recipe.end_of_text_id})"
            )
        if not 0 <= min(prompt) <= max(prompt) < recipe.vocabulary:
            wrong = next(token for token in prompt if not 0 <= token < recipe.vocabulary)
            raise InputError(
                f"prompt {number} has the id {wrong}; the model's vocabulary is {recipe.vocabulary:,}: another tokenizer?"
            )
        if len(prompt) >= recipe.context:
            raise InputError(
                f"prompt {number} has {len(prompt):,} tokens and leaves no room in the context of {recipe.context:,}; shorten it"
            )
    return max((len(prompt) for prompt in prompts), default=0)
