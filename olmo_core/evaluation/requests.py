"""What is asked of a language model: how likely is this continuation after this context; and what came back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from olmo_core.errors import InputError
from olmo_core.evaluation.scores import Status


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question to a model, in token ids (`Encoder.pairs` makes them of texts)."""

    context: tuple[int, ...]
    """Not empty: the continuation's first token needs something before it."""
    continuation: tuple[int, ...]

    def key(self) -> bytes:
        """Return 16 bytes that name the request, for a cache."""
        ids = np.array([len(self.context), *self.context, *self.continuation], np.int64)
        return hashlib.blake2b(ids.tobytes(), digest_size=16).digest()


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a model says of a request."""

    log_likelihood: float
    """Natural log of the continuation's probability, summed in float64 from float32 values; NaN for a failure."""
    tokens: int
    """Of the continuation."""
    greedy: bool
    """Whether each of its tokens was the model's first choice."""
    status: Status
    dropped: int = 0
    """Tokens left out at the context's beginning because the sequence did not fit."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A request as the model can take it."""

    inputs: tuple[int, ...]
    """Context and continuation without its last token, cut at the left."""
    targets: tuple[int, ...]
    """The continuation: target of the last `len(targets)` inputs."""
    dropped: int


def fit(request: Request, context: int, vocabulary: int) -> Fitted | Scored:
    """Return the request cut to the model's context, or what is to be said of one that cannot be asked.

    As Catwalk and lm-eval do, the context is cut at its beginning. Raises InputError for an id that the model does not have:
    then the tokenizer is not the model's.
    """
    n = len(request.continuation)
    if not n or not request.context:
        return Scored(log_likelihood=float("nan"), tokens=n, greedy=False, status="empty")
    if (highest := max(*request.context, *request.continuation)) >= vocabulary:
        raise InputError(
            f"token id {highest} of a request, but the model's vocabulary has {vocabulary}: tokenizer and model do not fit each other"
        )
    if n > context:
        return Scored(log_likelihood=float("nan"), tokens=n, greedy=False, status="too_long")
    whole = request.context + request.continuation[:-1]
    return Fitted(inputs=whole[-context:], targets=request.continuation, dropped=max(0, len(whole) - context))
