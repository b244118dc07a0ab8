"""Templates: what each makes of rows made by hand, word for word, and that no output changes without a new version."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from olmo_core.evaluation.benchmarks import gsm8k, truthfulqa
from olmo_core.evaluation.benchmarks.definitions import CORE, DEFINITIONS, definition
from olmo_core.evaluation.benchmarks.loading import known_digests, make_items
from olmo_core.evaluation.items import Format, Item, baselines, digest
from tests.evaluation.handmade import ROWS, tables

GOLDEN: dict[str, str] = json.loads((Path(__file__).parent / "golden" / "templates.json").read_text())
KEYS = [d.benchmark.key for d in DEFINITIONS.values()]


def made(name: str, format: Format = "catwalk", shots: int | None = None) -> tuple[Item, ...]:
    found = definition(name, format)
    return make_items(found, tables(found), shots=shots)


@pytest.mark.parametrize("found", DEFINITIONS.values(), ids=KEYS)
def test_output_changes_only_with_a_new_version(found: object) -> None:
    """Where a template's output was changed on purpose: count its version up, and write the new digests.

    golden/templates.json (print them with this test's message), and benchmarks/digests.json from the real files.
    """
    found = next(d for d in DEFINITIONS.values() if d is found)
    key = found.benchmark.key
    assert key in GOLDEN, f"{key} has no digest: {digest(make_items(found, tables(found)))}"
    assert digest(make_items(found, tables(found))) == GOLDEN[key]


def test_every_version_has_its_digests_and_no_other() -> None:
    assert sorted(GOLDEN) == sorted(known_digests()) == sorted(KEYS)


def test_digest_sees_every_part_of_an_item() -> None:
    item = made("arc_easy")[0]
    changed = [
        dataclasses.replace(item, id="x"),
        dataclasses.replace(item, contexts=("Question: \nAnswer:",)),
        dataclasses.replace(item, choices=(*item.choices[:-1], " z")),
        dataclasses.replace(item, gold=0),
        dataclasses.replace(item, golds=(1,)),
        dataclasses.replace(item, answer="1"),
        dataclasses.replace(item, unconditional="A:"),
        dataclasses.replace(item, cluster="c"),
        dataclasses.replace(item, problem="empty_choice"),
    ]
    assert len({digest([one]) for one in (item, *changed)}) == 10


@pytest.mark.parametrize("format", ["catwalk", "in_loop"])
@pytest.mark.parametrize("name", CORE)
def test_choices_begin_with_one_space_and_nothing_is_empty(name: str, format: Format) -> None:
    for item in made(name, format):
        assert all(choice[0] == " " and choice.strip() for choice in item.choices)
        assert item.problem is None
        assert item.gold is not None


def test_arc_reads_keys_that_are_letters_and_numbers() -> None:
    first, second = made("arc_challenge")
    assert first.contexts == ("Question: Which of these is number 0?\nAnswer:",)
    assert (first.id, first.choices, first.gold) == ("Made_0", (" zéro", " one", " two", " three"), 1)
    assert (second.choices, second.gold, second.unconditional) == ((" a", " b", " c"), 2, "Answer:")
    assert [item.gold for item in made("arc_easy")] == [4, 0]


def test_boolq_has_its_answers_in_each_reference_s_order() -> None:
    catwalk, in_loop = made("boolq"), made("boolq", "in_loop")
    assert catwalk[1].contexts == ("Title -- It is.\nTwo lines.\nQuestion: is it not?\nAnswer:",)
    assert [(item.choices, item.gold) for item in catwalk] == [((" no", " yes"), 1), ((" no", " yes"), 0)]
    assert [(item.choices, item.gold) for item in in_loop] == [((" yes", " no"), 0), ((" yes", " no"), 1)]


def test_copa_joins_its_sentences() -> None:
    effect, cause = made("copa")
    assert effect.contexts == ("It rained therefore",)
    assert cause.contexts == ("It rained because",)
    assert effect.choices == (" the road was wet.", " i slept.")
    assert (effect.unconditional, cause.unconditional) == ("therefore", "because")


def test_hellaswag_loses_its_brackets() -> None:
    first, second = made("hellaswag")
    assert first.contexts == ("Making tea: A kettle is put on the stove. The water",)
    assert first.choices == (" boils.. Then it is poured.", "  sings  a song.", " runs away.", " is cold.")
    assert second.contexts == ("Shoes: How to tie shoes. Take the laces. Pull them",)
    assert [item.unconditional for item in made("hellaswag", "in_loop")] == ["The water", "them"]


def test_openbookqa_is_completed() -> None:
    first, second = made("openbookqa")
    assert first.contexts == ("A stone in water will ",)
    assert [first.gold, second.gold] == [0, 2]
    assert [item.unconditional for item in made("openbookqa", "in_loop")] == ["will", "bright?"]


def test_piqa() -> None:
    item = made("piqa")[0]
    assert item.contexts == ("Question: To open a door,\nAnswer:",)
    assert item.choices == (" turn the handle.", " paint the handle.")


def test_sciq_without_support_begins_with_a_line_feed_in_loop_only() -> None:
    question = "Question: What is H2O?\nAnswer:"
    assert [item.contexts[0] for item in made("sciq")] == [question, f"Water has two kinds of atoms. \n{question}"]
    assert [item.contexts[0] for item in made("sciq", "in_loop")] == [
        f"\n{question}",
        f"Water has two kinds of atoms.\n{question}",
    ]
    assert made("sciq")[0].choices == (" salt", " air", " iron", " water")


def test_winogrande_has_a_context_for_each_choice() -> None:
    first, second = made("winogrande")
    assert first.contexts == ("Ann thanked Eve because Ann", "Ann thanked Eve because Eve")
    assert first.choices == (" had helped her.", " had helped her.")
    assert (first.context(0), first.context(1)) == first.contexts
    assert second.choices == (" was too big.", " was too big.")
    assert (first.gold, second.gold, first.unconditional) == (1, 0, None)


def test_mmlu_shows_five_examples_of_the_subject() -> None:
    catwalk, in_loop = made("mmlu"), made("mmlu", "in_loop")
    start = "The following are multiple choice questions (with answers) about abstract algebra"
    assert (
        catwalk[0]
        .contexts[0]
        .startswith(f"{start}.\n\nExample 0?\n A. w\n B. x\n C. y\n D. z\nAnswer: A\n\nExample 1?\n A.")
    )
    assert (
        in_loop[0]
        .contexts[0]
        .startswith(f"{start}:\n\nExample 0?\nA. w\nB. x\nC. y\nD. z\nAnswer: A\n\nExample 1?\nA.")
    )
    assert "Example 4?" in catwalk[0].shots and "Example 5?" not in catwalk[0].shots
    assert (
        catwalk[0].contexts[0] == f"{catwalk[0].shots}Which is right?\n A. this\n B. that\n C. both\n D. none\nAnswer:"
    )
    assert catwalk[0].choices == (" A", " B", " C", " D")
    assert [(item.id, item.cluster) for item in catwalk[2:4]] == [
        ("abstract_algebra/2", "abstract_algebra"),
        ("anatomy/0", "anatomy"),
    ]
    assert made("mmlu", shots=0)[0].shots == f"{start}.\n\n"


def test_truthfulqa_has_several_right_answers_in_any_order() -> None:
    first, second = made("truthfulqa_mc2")
    assert first.contexts == (f"{truthfulqa.PROMPT}Q: Is it?\nA:",)
    assert (first.choices, first.golds, first.gold) == ((" Yes", " No", " It is"), (0, 2), None)
    assert (second.choices, second.golds) == ((" Nobody knows", " So it is"), (0,))


def test_gsm8k_is_generated() -> None:
    first, second = made("gsm8k")
    assert first.contexts[0] == f"{gsm8k.prefix(8, 'catwalk')}Question: Two and two?\nAnswer:"
    assert first.contexts[0].startswith("Answer the following questions.\n\nQuestion: There are 15 trees")
    assert made("gsm8k", "in_loop")[0].contexts[0].startswith("Question: There are 15 trees")
    assert (first.answer, second.answer, first.choices) == ("4", "1234", ())
    assert made("gsm8k", shots=1)[0].contexts[0].count("Question:") == 2
    rule = definition("gsm8k", "catwalk").benchmark.generation
    assert rule is not None and (rule.stop, rule.max_tokens) == (("\n",), 512)


def test_an_empty_choice_marks_the_item_and_is_left_out_of_the_baselines() -> None:
    found = definition("piqa", "catwalk")
    rows = [{**ROWS["piqa"][0], "sol2": " "}, ROWS["piqa"][1]]
    items = make_items(found, [(found.tables[0], rows, [])])
    assert [item.problem for item in items] == ["empty_choice", None]
    assert baselines(items) == (0.5, 1.0)
    assert baselines(items[:1]) is None
