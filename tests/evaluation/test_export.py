"""Benchmarks as files: questions without the template's words, ids that evaluations know, what to look for."""

from __future__ import annotations

import json
from pathlib import Path

from olmo_core.evaluation.benchmarks import core, mmlu
from olmo_core.evaluation.benchmarks.export import export, fields, question
from olmo_core.evaluation.items import Item
from tests.evaluation.planted import plant, statement

ARC = core.arc(
    {"id": "a1", "question": "What is ice?", "choices": {"text": ["water", "fire"]}, "answerKey": "A"}, 0, "catwalk"
)


def test_a_question_is_without_the_words_of_its_template() -> None:
    assert question(ARC) == "What is ice?"
    gap = {"sentence": "Ann thanked Eve because _ had helped.", "option1": "Ann", "option2": "Eve", "answer": "2"}
    assert question(core.winogrande(gap, 0, "catwalk")) == "Ann thanked Eve because Eve had helped."
    row = {"question": "Which?", "choices": ["w", "x", "y", "z"], "answer": 1, "subject": "anatomy"}
    assert question(mmlu.mmlu(row, 0, "catwalk")) == "Which?\n A. w\n B. x\n C. y\n D. z"
    shots = Item(id="x", contexts=("Q: a\nA: b\n\nQ: What?\nA:",), choices=(" c", " d"), gold=0, shots="Q: a\nA: b\n\n")
    assert question(shots) == "What?"


def test_choices_are_looked_for_where_they_are_sentences() -> None:
    assert fields([ARC]) == ("question",)
    long = " " + "word " * 9
    assert fields([Item(id="x", contexts=("goal",), choices=(long, long), gold=0)]) == ("question", "choices")
    assert fields([Item(id="x", contexts=("sum",), answer="3")]) == ("question",)


def test_files_have_a_line_for_each_item(tmp_path: Path) -> None:
    assert export(["truthfulqa_mc2"], str(tmp_path), stand_in=True) == {"truthfulqa_mc2": (12, ("question",))}
    rows = [json.loads(line) for line in (tmp_path / "truthfulqa_mc2.jsonl").read_text().splitlines()]
    assert [set(row) for row in rows] == [{"id", "question", "choices"}] * 12
    assert len({row["id"] for row in rows}) == 12


def test_planted_documents_hold_every_item_as_often_as_asked(tmp_path: Path) -> None:
    items = [
        Item(id=str(i), contexts=(f"Question: q{i}?\nAnswer:",), choices=(f" a{i}", " b"), gold=0) for i in range(7)
    ]
    assert plant(items, tmp_path / "leak.jsonl", copies=5, together=3, filling=4) == 15
    texts = [json.loads(line)["text"] for line in (tmp_path / "leak.jsonl").read_text().splitlines()]
    assert all(sum(statement(item) in text for text in texts) == 5 for item in items)
    assert len(set(texts)) == len(texts)
