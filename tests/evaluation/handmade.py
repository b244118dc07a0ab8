"""Rows made by hand in the schemas of the benchmarks' files, for tests without their data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from olmo_core.evaluation.benchmarks.definitions import Definition, Table

Rows = list[dict[str, Any]]


def arc(number: int, key: str, texts: list[str], labels: str = "ABCDE") -> dict[str, Any]:
    return {
        "id": f"Made_{number}",
        "question": f"Which of these is number {number}?",
        "choices": {"text": texts, "label": list(labels[: len(texts)])},
        "answerKey": key,
    }


ROWS: Mapping[str, Rows] = {
    "arc_challenge": [arc(0, "B", ["zéro", "one", "two", "three"]), arc(1, "3", ["a", "b", "c"], "12345")],
    "arc_easy": [arc(2, "E", ["a", "b", "c", "d", "e"]), arc(3, "1", ["x", "y"], "12345")],
    "boolq": [
        {"question": "is it so", "passage": "It is so.", "answer": True, "label": 1},
        {"question": "is it not", "passage": "Title -- It is.\nTwo lines.", "answer": False, "label": 0},
    ],
    "copa": [
        {
            "premise": "It rained. ",
            "choice1": "The road was wet.",
            "choice2": "I slept.",
            "question": q,
            "idx": i,
            "label": i,
        }
        for i, q in enumerate(("effect", "cause"))
    ],
    "hellaswag": [
        {
            "activity_label": "Making tea",
            "ctx_a": "A kettle is put on the stove.",
            "ctx_b": "the WATER",
            "endings": [
                "boils. [title] Then it is poured.",
                "[step] sings  [substeps] a song.",
                " runs away.",
                "is cold.",
            ],
            "label": "0",
        },
        {
            "activity_label": "Shoes",
            "ctx_a": "[header] How to tie shoes [title] Take the laces. [step] Pull them",
            "ctx_b": "",
            "endings": ["tight.", "apart.", "into the sea.", "backwards."],
            "label": "3",
        },
    ],
    "openbookqa": [
        {
            "id": "7-1",
            "question_stem": "A stone in water will ",
            "choices": {"text": ["sink", "swim", "sing", "burn"], "label": ["A", "B", "C", "D"]},
            "answerKey": " A",
        },
        {
            "id": "7-2",
            "question_stem": "What is bright?",
            "choices": {"text": ["night", "a cave", "the sun", "soil"], "label": ["A", "B", "C", "D"]},
            "answerKey": "C",
        },
    ],
    "piqa": [
        {"goal": "To open a door,", "sol1": "turn the handle.", "sol2": "paint the handle.", "label": 0},
        {"goal": "Dry a plate", "sol1": "Use water.", "sol2": "Use a towel.", "label": 1},
    ],
    "sciq": [
        {
            "question": "What is H2O?",
            "support": support,
            "distractor1": "salt",
            "distractor2": "air",
            "distractor3": "iron",
            "correct_answer": "water",
        }
        for support in ("", " Water has two kinds of atoms. ")
    ],
    "winogrande": [
        {"sentence": "Ann thanked Eve because _ had helped her.", "option1": "Ann", "option2": "Eve", "answer": "2"},
        {"sentence": "The cup did not fit the box as _was too big.", "option1": "it", "option2": "that", "answer": "1"},
    ],
    "gsm8k": [
        {"question": "Two and two? ", "answer": "2+2=<<2+2=4>>4\n#### 4"},
        {"question": "How much is  a lot?", "answer": "Much.\n#### 1,234"},
    ],
    "truthfulqa_mc2": [
        {
            "question": "Is it?",
            "mc1_targets": {"choices": ["Yes", "No"], "labels": [1, 0]},
            "mc2_targets": {"choices": ["Yes", "No", "It is"], "labels": [1, 0, 1]},
        },
        {"question": "And so?", "mc1_targets": {}, "mc2_targets": {"Nobody knows": 1, "So it is": 0}},
    ],
}
"""By benchmark; `boolq` has the columns of both its files."""

MMLU_ROWS: Rows = [
    {"question": f" Which is {word}? ", "choices": ["this", "that", "both", "none"], "answer": answer}
    for word, answer in (("right", 3), ("left", 0), ("up", 1))
]
MMLU_EXAMPLES: Rows = [
    {"question": f"Example {number}?", "choices": ["w", "x", "y", "z"], "answer": number % 4} for number in range(6)
]


def tables(found: Definition) -> list[tuple[Table, Rows, Rows]]:
    """The rows of a benchmark as `make_items` takes them; MMLU with two of its subjects."""
    if found.benchmark.name == "mmlu":
        return [(table, MMLU_ROWS, MMLU_EXAMPLES) for table in found.tables[:2]]
    return [(found.tables[0], ROWS[found.benchmark.name], [])]
