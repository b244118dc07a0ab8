"""Asks a model a benchmark's items: texts become requests, every choice and its unconditional twin in one pass."""

from __future__ import annotations

from collections.abc import Sequence

from olmo_core.evaluation.encoder import Encoder
from olmo_core.evaluation.engine import Progress, Scorer
from olmo_core.evaluation.items import Item
from olmo_core.evaluation.requests import Request, Scored
from olmo_core.evaluation.scores import SCORED, ItemScores, Status, scores_of


def ask(encoder: Encoder, items: Sequence[Item], scorer: Scorer, progress: Progress | None = None) -> ItemScores:
    """Return the scores of all choices of all items. An item with a problem is not asked; its choices have the status `empty`."""
    asked: list[tuple[str, str]] = []
    for item in items:
        if item.problem is not None:
            continue
        for number, choice in enumerate(item.choices):
            asked.append((item.context(number), choice))
            if item.unconditional is not None:
                asked.append((item.unconditional, choice))
    requests = [Request(context=context, continuation=target) for context, target in encoder.pairs(asked)]
    answers = iter(scorer.score(requests, progress))
    rows: list[list[tuple[str, float, float | None, int, Status]]] = []
    for item in items:
        if item.problem is not None:
            rows.append([(choice, float("nan"), None, 0, "empty") for choice in item.choices])
            continue
        rows.append([])
        for choice in item.choices:
            given = next(answers)
            alone = next(answers) if item.unconditional is not None else None
            rows[-1].append((choice, given.log_likelihood, _value(alone), given.tokens, given.status))
    return scores_of(rows, [item.id for item in items])


def _value(score: Scored | None) -> float | None:
    return score.log_likelihood if score is not None and score.status in SCORED else None
