"""Templates of the nine core benchmarks, in Catwalk's format and in that of OLMo's in-loop evaluation.

A template makes one item of one row. Sources: allenai/catwalk c3eb82e `catwalk/dependencies/lm_eval/tasks/*.py` and
`catwalk/tasks/eleuther.py`; allenai/OLMo 59a53e3 `olmo/eval/downstream.py`. The two differ less than their numbers:

- BoolQ: Catwalk reads SuperGLUE's (a title before the passage; choices no, yes), in-loop the first one (yes, no);
- SciQ: Catwalk strips the context, so that a question without support does not begin with a line feed;
- the unconditional context is Catwalk's `Answer:` where Catwalk has one, else in-loop's domain conditional.

WinoGrande has none in either format: its choices share the continuation and differ in the context.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from olmo_core.evaluation.items import Format, Item, Problem, Row

ANSWER = "Answer:"
"""The unconditional context of question and answer."""
_LETTERS = ("A", "B", "C", "D", "E")


def ranked(
    *,
    id: str,
    contexts: Sequence[str],
    choices: Sequence[str],
    gold: int,
    unconditional: str | None,
    cluster: str | None = None,
) -> Item:
    """An item of choices without their leading space; one with an empty choice is marked, since it has no tokens."""
    problem: Problem | None = "empty_choice" if any(not choice.strip() for choice in choices) else None
    return Item(
        id=id,
        contexts=tuple(contexts),
        choices=tuple(f" {choice}" for choice in choices),
        gold=gold,
        unconditional=unconditional,
        cluster=cluster,
        problem=problem,
    )


def _letter(answer: str) -> int:
    """Index of an answer key: a letter, or in some rows of ARC a number from 1."""
    return int(answer) - 1 if answer.isdigit() else _LETTERS.index(answer)


def arc(row: Row, index: int, format: Format) -> Item:
    """`Question: ...` and the choices' texts; both formats alike."""
    return ranked(
        id=row["id"],
        contexts=[f"Question: {row['question']}\nAnswer:"],
        choices=row["choices"]["text"],
        gold=_letter(row["answerKey"]),
        unconditional=ANSWER,
    )


def boolq(row: Row, index: int, format: Format) -> Item:
    """Passage and question; `label` (SuperGLUE) or `answer` is whether yes is right."""
    context = f"{row['passage']}\nQuestion: {row['question']}?\nAnswer:"
    if format == "catwalk":
        return ranked(
            id=str(index), contexts=[context], choices=["no", "yes"], gold=int(row["label"]), unconditional=ANSWER
        )
    gold = 0 if row["answer"] else 1
    return ranked(id=str(index), contexts=[context], choices=["yes", "no"], gold=gold, unconditional=ANSWER)


def copa(row: Row, index: int, format: Format) -> Item:
    """The premise without its full stop, a connector, and the choices with a small first letter."""
    connector = {"cause": "because", "effect": "therefore"}[row["question"]]
    return ranked(
        id=str(row["idx"]),
        contexts=[f"{row['premise'].strip()[:-1]} {connector}"],
        choices=[choice[:1].lower() + choice[1:] for choice in (row["choice1"], row["choice2"])],
        gold=int(row["label"]),
        unconditional=connector,
    )


def _hellaswag_text(text: str) -> str:
    """Without the brackets that WikiHow's pages left behind."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def hellaswag(row: Row, index: int, format: Format) -> Item:
    """Activity and the beginning of what happens; the choices are endings."""
    context = _hellaswag_text(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")
    unconditional = ANSWER
    if format == "in_loop":
        unconditional = _hellaswag_text(row["ctx_b"].capitalize()) or _hellaswag_text(row["ctx_a"]).split(" ")[-1]
    return ranked(
        id=str(index),
        contexts=[context],
        choices=[_hellaswag_text(ending) for ending in row["endings"]],
        gold=int(row["label"]),
        unconditional=unconditional,
    )


def openbookqa(row: Row, index: int, format: Format) -> Item:
    """The stem as it is, which the choices complete."""
    stem: str = row["question_stem"]
    return ranked(
        id=row["id"],
        contexts=[stem],
        choices=row["choices"]["text"],
        gold=_letter(row["answerKey"].strip()),
        unconditional=ANSWER if format == "catwalk" else stem.strip().split(" ")[-1],
    )


def piqa(row: Row, index: int, format: Format) -> Item:
    """A goal and two solutions; both formats alike."""
    return ranked(
        id=str(index),
        contexts=[f"Question: {row['goal']}\nAnswer:"],
        choices=[row["sol1"], row["sol2"]],
        gold=int(row["label"]),
        unconditional=ANSWER,
    )


def sciq(row: Row, index: int, format: Format) -> Item:
    """A supporting text, where there is one, and a question; the right choice is always the last."""
    context = f"{row['support'].strip()}\nQuestion: {row['question']}\nAnswer:"
    if format == "catwalk":
        context = f"{row['support']}\nQuestion: {row['question']}\nAnswer:".strip()
    return ranked(
        id=str(index),
        contexts=[context],
        choices=[row["distractor1"], row["distractor2"], row["distractor3"], row["correct_answer"]],
        gold=3,
        unconditional=ANSWER,
    )


def winogrande(row: Row, index: int, format: Format) -> Item:
    """The text up to the gap with each option in it; what follows the gap is scored."""
    before, _, after = row["sentence"].partition("_")
    if not _:
        raise ValueError("its sentence has no gap '_'")
    after = after.strip()
    return ranked(
        id=str(index),
        contexts=[before + row["option1"], before + row["option2"]],
        choices=[after, after],
        gold=int(row["answer"]) - 1,
        unconditional=None,
    )
