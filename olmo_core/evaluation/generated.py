"""Answers that a model writes itself (GSM8K): the most likely continuation up to a stop, and what is read out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

from olmo_core.errors import InputError
from olmo_core.evaluation.answers import last_number
from olmo_core.evaluation.encoder import Encoder
from olmo_core.evaluation.engine import Progress, Scorer
from olmo_core.evaluation.items import Items
from olmo_core.evaluation.metrics import MetricValues, exact_match

_ROWS = 16
"""Prompts that are continued together."""


def answer(
    encoder: Encoder, items: Items, scorer: Scorer, progress: Progress
) -> tuple[MetricValues, Mapping[str, int], pa.Table]:
    """Return exact match, how many answers were of which kind, and a table of all texts.

    `ok`; `no_answer`: nothing to read in the text (wrong, but counted apart); `cut`: `max_tokens` or the context ended it before
    a stop; `too_long`: the prompt leaves no room, a failure that is not scored.
    """
    rule = items.benchmark.generation
    if rule is None:
        raise InputError(f"{items.benchmark.name}: its answers are chosen, not generated")
    prompts = encoder.encode([item.context(0) for item in items.items])
    room = scorer.model.context
    fits = [i for i, prompt in enumerate(prompts) if prompt and len(prompt) < room]
    texts: dict[int, tuple[str, bool]] = {}

    def ended(ids: Sequence[int]) -> bool:
        return ids[-1] == encoder.end_of_text or _stop(encoder.decode(ids), rule.stop) is not None

    ordered = sorted(fits, key=lambda i: len(prompts[i]))
    for start in range(0, len(ordered), _ROWS):
        some = ordered[start : start + _ROWS]
        made = scorer.model.continue_greedily([prompts[i] for i in some], rule.max_tokens, ended)
        for i, ids in zip(some, made, strict=True):
            whole = encoder.decode([one for one in ids if one != encoder.end_of_text])
            stop = _stop(whole, rule.stop)
            texts[i] = (whole if stop is None else whole[:stop], bool(ids) and ended(ids))
        progress(min(start + _ROWS, len(ordered)), len(ordered))
    status: list[str] = []
    answers: list[str | None] = []
    for i in range(len(items.items)):
        if i not in texts:
            status.append("too_long")
            answers.append(None)
            continue
        text, stopped = texts[i]
        read = last_number(text)
        status.append("no_answer" if read is None else "ok" if stopped else "cut")
        answers.append(read or "")
    table = pa.table(
        {
            "item": pa.array([item.id for item in items.items], pa.string()),
            "text": pa.array([texts[i][0] if i in texts else None for i in range(len(status))], pa.string()),
            "answer": pa.array(answers, pa.string()),
            "right": pa.array([item.answer for item in items.items], pa.string()),
            "status": pa.array(status, pa.string()),
        }
    )
    return exact_match(items.items, answers), dict(Counter(status)), table


def _stop(text: str, stops: Sequence[str]) -> int | None:
    """Return where the first stop begins; None where there is none."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return min(places, default=None)
