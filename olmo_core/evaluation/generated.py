"""Answers that a model writes itself (GSM8K): the most likely continuation up to a stop, and what is read out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import pyarrow as pa

from olmo_core.errors import InputError
from olmo_core.evaluation.answers import last_number
from olmo_core.evaluation.encoder import Encoder
from olmo_core.evaluation.engine import Progress, Scorer, Work
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
    prompts = encoder.prompts([item.context(0) for item in items.items])
    room = scorer.model.context
    fits = [i for i, prompt in enumerate(prompts) if prompt and len(prompt) < room]
    texts: dict[int, tuple[str, bool]] = {}
    seen = sum(len(prompts[i]) for i in fits)
    scorer.work = Work(requests=len(fits), tokens=seen, tokens_unshared=seen)
    if scorer.team is not None:
        scorer.team.tell("generate", (prompts, fits, rule.stop, rule.max_tokens))
    for i, ids in continuations(encoder, scorer, (prompts, fits, rule.stop, rule.max_tokens), progress).items():
        # Special tokens can end an answer, but are no part of it: some have numbers in their names.
        whole = encoder.decode([one for one in ids if one != encoder.end_of_text], special=False)
        stop = _stop(whole, rule.stop)
        texts[i] = (whole if stop is None else whole[:stop], bool(ids) and _ended(encoder, ids, rule.stop))
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


Told = tuple[Sequence[Sequence[int]], Sequence[int], Sequence[str], int]
"""All prompts, the numbers of those that are to be continued, stops, tokens at most."""


def continuations(
    encoder: Encoder, scorer: Scorer, told: Told, progress: Progress | None = None
) -> dict[int, list[int]]:
    """Return the most likely continuation of each prompt that fits; with a team each rank makes its part, and gets all."""
    prompts, fits, stops, most = told
    team, model = scorer.team, scorer.model
    ordered = sorted(fits, key=lambda i: len(prompts[i]))
    starts = range(0, len(ordered), _ROWS)
    if team is not None and not model.sharded:
        starts = starts[team.rank :: team.size]
    found: dict[int, list[int]] = {}
    problem = None
    try:
        for start in starts:
            some = ordered[start : start + _ROWS]
            made = model.continue_greedily([prompts[i] for i in some], most, lambda ids: _ended(encoder, ids, stops))
            found.update(zip(some, made, strict=True))
            told_of = partial(progress or _nobody, len(found), len(ordered))
            if team is not None and model.sharded:
                team.together(told_of)  # all stop here, or none
            else:
                told_of()
    except Exception as error:
        if team is None or model.sharded:
            raise
        problem = error
    if team is None:
        return found
    return {i: ids for part in team.gather(found, problem) for i, ids in part.items()}


def _nobody(done: int, total: int) -> None:
    pass


def _ended(encoder: Encoder, ids: Sequence[int], stops: Sequence[str]) -> bool:
    return ids[-1] in encoder.ends or _stop(encoder.decode(ids), stops) is not None


def _stop(text: str, stops: Sequence[str]) -> int | None:
    """Return where the first stop begins; None where there is none."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return min(places, default=None)
