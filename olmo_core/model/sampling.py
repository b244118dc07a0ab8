"""From logits to the next token: greedy, or drawn at a temperature from the likeliest tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from olmo_core.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen, and when to stop."""

    max_tokens: int = 100
    """New tokens at most; fewer where the model's context ends."""
    temperature: float = 0.0
    """Logits are divided by it before the softmax; 0: the likeliest token, always."""
    top_k: int | None = None
    """Draw from the so many likeliest tokens; None: from all."""
    top_p: float | None = None
    """Draw from the fewest likeliest tokens that together have this probability; None: from all."""
    seed: int = 0
    """Of the draws; each row of a batch draws for itself, whatever the other rows are."""
    stop_at_end: bool = True
    """A row ends with the end-of-text token, which is given too."""

    def __post_init__(self) -> None:
        """Raise RecipeError, naming the field, for values that cannot be."""
        if self.max_tokens < 1:
            raise RecipeError(f"max_tokens: {self.max_tokens}; it must be at least 1")
        if not 0 <= self.temperature < float("inf"):
            raise RecipeError(f"temperature: {self.temperature}; it must be 0 (greedy) or more")
        if self.top_k is not None and self.top_k < 1:
            raise RecipeError(f"top_k: {self.top_k}; it must be at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise RecipeError(f"top_p: {self.top_p}; it must be above 0 and at most 1")


def probabilities(logits_V: Tensor, sampling: Sampling) -> Tensor:
    """Return the distribution that is drawn from, float32: temperature, then top-k, then top-p, as transformers does it.

    The temperature must not be 0.
    """
    logits_V = logits_V.float() / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < logits_V.numel():
        least = torch.topk(logits_V, sampling.top_k).values[-1]
        logits_V = logits_V.masked_fill(logits_V < least, -torch.inf)
    if sampling.top_p is not None and sampling.top_p < 1:
        ascending, order = torch.sort(logits_V)
        below = ascending.softmax(-1).cumsum(-1) <= 1 - sampling.top_p
        below[-1] = False  # the likeliest stays whatever top_p is
        logits_V = logits_V.masked_fill(torch.zeros_like(below).scatter(0, order, below), -torch.inf)
    return logits_V.softmax(-1)


def choose(logits_V: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Return the next token. Draws are made on the CPU, so that a seed means the same on every device."""
    if sampling.temperature == 0:
        return int(logits_V.argmax())
    return int(torch.multinomial(probabilities(logits_V.cpu(), sampling), 1, generator=generator))
