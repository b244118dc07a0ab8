"""The two rules on texts: what each finds and what it does not, beside plain Python as an oracle."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.curation.contamination import collect, scan
from olmo_core.curation.contamination_verdicts import judge
from olmo_core.curation.decontamination import DecontaminationRecipe, NgramRule, ParagraphRule
from olmo_core.errors import RecipeError
from olmo_core.recipe import from_mapping
from tests.curation.evaluation_items import evaluation_set, index_from, verdicts_on

QUESTION = (
    "Which of these rivers, all of them longer than a thousand kilometres, flows into the Black Sea "
    "after passing through four capitals on its way?"
)
SHORT = "Nine words are enough for one whole n-gram here."
BOTH = DecontaminationRecipe(sets=(evaluation_set(),))
PARAGRAPHS = DecontaminationRecipe(sets=(evaluation_set(),), ngrams=None)
NGRAMS = DecontaminationRecipe(sets=(evaluation_set(),), paragraphs=None)


def page(text: str) -> str:
    return f"Something that stands before it.\n{text}\nAnd something behind."


CHANGES: dict[str, tuple[str, bool, bool]] = {
    "the same": (QUESTION, True, True),
    "white space at its ends": (f"  {QUESTION} \r", True, True),
    "inside a paragraph": (f"He asked: {QUESTION} Nobody knew.", False, True),
    "another case": (QUESTION.upper(), False, True),
    "more spaces between words": (QUESTION.replace(" ", "  "), False, True),
    "broken over lines": (QUESTION.replace(" flows", "\nflows").replace(" capitals", "\ncapitals"), False, True),
    "without punctuation": (re.sub(r"[,?]", "", QUESTION), False, True),
    "accents and soft hyphens": (QUESTION.replace("rivers", "rívers").replace("passing", "pas\u00adsing"), False, True),
    "half of it": (QUESTION[: len(QUESTION) // 2 + 10], False, True),
    "twelve words of it": (" ".join(QUESTION.split()[:12]), False, False),
    "every twelfth word another": (" ".join(w if k % 12 else "other" for k, w in enumerate(QUESTION.split())), False, False),
}  # fmt: skip
"""A copy of the question changed in one way; found by the paragraph rule; found by 13-grams."""


@pytest.mark.parametrize("change", CHANGES)
def test_which_rule_finds_which_copy(change: str) -> None:
    text, by_paragraph, by_ngrams = CHANGES[change]
    for recipe, found in ((PARAGRAPHS, by_paragraph), (NGRAMS, by_ngrams), (BOTH, by_paragraph or by_ngrams)):
        (verdict,) = verdicts_on([page(text)], [QUESTION], recipe)
        assert verdict["keep"] is not found, (change, recipe)
        assert verdict["reason"] == ("contaminated: quiz" if found else None)


def test_the_verdict_shows_what_is_shared() -> None:
    text = page(f"\u2014 é {QUESTION}")
    first, second = (verdicts_on([t], ["of no use", QUESTION], NGRAMS)[0] for t in (text, page(QUESTION[:110])))
    assert (first["set"], first["item"], first["rule"], first["overlap"]) == ("quiz", "i1", "ngrams", 1.0)
    assert text.encode()[first["start"] : first["end"]].decode() == QUESTION.rstrip("?")
    assert 0 < second["overlap"] < 1
    (by_paragraph,) = verdicts_on([page(QUESTION + "  ")], [QUESTION], BOTH)
    assert by_paragraph["rule"] == "paragraph" and len(by_paragraph["matches"]) == 2
    shared = page(QUESTION + "  ").encode()[by_paragraph["start"] : by_paragraph["end"]]
    assert shared.decode() == QUESTION


def test_a_document_that_is_an_item_goes_however_short() -> None:
    for text, keep in (("Yes, we can.", False), ("\n Yes, we can. \n", False), ("Yes, we can. No.", True)):
        (verdict,) = verdicts_on([text], ["Yes, we can."], BOTH)
        assert verdict["keep"] is keep and verdict["rule"] == (None if keep else "document")
    without = DecontaminationRecipe(sets=(evaluation_set(),), paragraphs=ParagraphRule(documents=False))
    assert verdicts_on(["Yes, we can."], ["Yes, we can."], without)[0]["keep"]


def test_thirteen_words_by_unicode_count_punctuation() -> None:
    for paragraph, found in (("a b c d e f g h i j k l m", True), ("a b c d e f g h i j k l", False)):
        recipe = DecontaminationRecipe(sets=(evaluation_set(),), paragraphs=ParagraphRule(documents=False), ngrams=None)
        assert verdicts_on([page(paragraph)], [paragraph], recipe)[0]["keep"] is not found
    marks = ". , ; : ! ? ( ) [ ] - _ * &"
    assert verdicts_on([page(marks)], [marks, QUESTION], PARAGRAPHS)[0]["keep"], "punctuation only is not looked for"
    assert not verdicts_on([page("a, b, c, d, e, f, g.")], ["a, b, c, d, e, f, g."], PARAGRAPHS)[0]["keep"]


def test_items_too_short_for_thirteen_words_are_one_ngram() -> None:
    assert not verdicts_on([page(SHORT.upper())], [SHORT], NGRAMS)[0]["keep"]
    assert verdicts_on([page(SHORT.replace("enough", "plenty"))], [SHORT], NGRAMS)[0]["keep"]
    seven = "Seven words are not enough for it."
    assert verdicts_on([page(seven)], [seven, SHORT], NGRAMS)[0]["keep"]


def test_overlap_is_a_share_of_different_ngrams() -> None:
    words = [f"w{k}" for k in range(33)]  # 21 13-grams
    for share, taken, keep in ((0.5, 23, False), (0.5, 22, True), (1.0, 33, False), (1.0, 32, True)):
        rule = NgramRule(min_overlap=share)
        recipe = DecontaminationRecipe(sets=(evaluation_set(),), paragraphs=None, ngrams=rule)
        texts = [" ".join(words[:taken]), (" ".join(words[:taken]) + " . ") * 3]
        for verdict in verdicts_on(texts, [" ".join(words)], recipe):
            assert verdict["keep"] is keep, (share, taken)
    # An item that repeats itself has fewer different ones.
    recipe = DecontaminationRecipe(sets=(evaluation_set(),), paragraphs=None, ngrams=NgramRule(min_overlap=1.0))
    assert not verdicts_on(["same " * 13], ["same " * 40], recipe)[0]["keep"]


def test_an_exempt_source_keeps_its_documents_and_shows_what_they_hold() -> None:
    (verdict,) = verdicts_on([page(QUESTION)], [QUESTION], BOTH, exempt=True)
    assert (verdict["keep"], verdict["reason"]) == (True, None)
    assert (verdict["set"], verdict["item"], verdict["rule"]) == ("quiz", "i0", "paragraph")


def test_rows_that_were_not_wanted_have_no_verdict() -> None:
    texts = pa.array([page(QUESTION)] * 3 + ["clean"], pa.large_string())
    table, found = judge(texts, np.array([True, False, True, True]), index_from([QUESTION], BOTH), BOTH)
    assert table.column("keep").to_pylist() == [False, None, False, True]
    assert [None if m is None else len(m) for m in table.column("matches").to_pylist()] == [2, None, 2, 0]
    assert sorted(set(found.row.tolist())) == [0, 2]


def test_a_long_document_and_many_matches() -> None:
    """More matches than the kernels' first guess at room, and one document of some megabytes."""
    items = [f"{QUESTION} number {k} of the long list" for k in range(3000)]
    (verdict,) = verdicts_on(["\n".join(items)], items, BOTH)
    held = {(m["item"], m["rule"]) for m in verdict["matches"]}
    assert held == {(k, rule) for k in range(3000) for rule in ("paragraph", "ngrams")}


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def ngrams_of(text: str, n: int, shortest: int) -> set[tuple[str, ...]]:
    words = words_of(text)
    if shortest <= len(words) < n:
        return {tuple(words)}
    return {tuple(words[k : k + n]) for k in range(len(words) - n + 1)}


letters = st.text(alphabet="abAB ,.\n\t-", max_size=60)


@settings(max_examples=300, deadline=None)
@given(items=st.lists(letters, min_size=1, max_size=5), texts=st.lists(letters, min_size=1, max_size=5))
def test_ngrams_beside_plain_python(items: list[str], texts: list[str]) -> None:
    recipe = DecontaminationRecipe(
        sets=(evaluation_set(rules=("ngrams",)),), paragraphs=None, ngrams=NgramRule(length=4, shortest=2)
    )
    wanted = [ngrams_of(item, 4, 2) for item in items]
    verdicts = verdicts_on(texts, items, recipe)
    for text, verdict in zip(texts, verdicts, strict=True):
        words = words_of(text)
        held = {tuple(words[k : k + n]) for n in (2, 3, 4) for k in range(len(words) - n + 1)}
        expected = {k: len(own & held) / len(own) for k, own in enumerate(wanted) if own & held}
        assert {m["item"]: m["overlap"] for m in verdict["matches"]} == pytest.approx(expected)
        for match in verdict["matches"]:
            shared = words_of(text.encode()[match["start"] : match["end"]].decode())
            assert any(tuple(shared[: len(gram)]) == gram for gram in wanted[match["item"]])


@settings(max_examples=300, deadline=None)
@given(
    items=st.lists(letters, min_size=1, max_size=5), texts=st.lists(letters, min_size=1, max_size=5), trim=st.booleans()
)
def test_paragraphs_beside_plain_python(items: list[str], texts: list[str], trim: bool) -> None:
    recipe = DecontaminationRecipe(
        sets=(evaluation_set(),), paragraphs=ParagraphRule(min_words=2, trim=trim, documents=False), ngrams=None
    )

    def shown(paragraph: str) -> str:
        return paragraph.strip() if trim else paragraph

    def counts(paragraph: str) -> bool:
        # In this alphabet: runs of letters and single marks are words; a full stop between letters joins them.
        joined = re.findall(r"[a-zA-Z]+(?:\.[a-zA-Z]+)*|[,.-]", paragraph)
        return len(joined) >= 2 and bool(re.search(r"[a-zA-Z]", paragraph))

    wanted = [{shown(p) for p in item.split("\n") if counts(p)} for item in items]
    for text, verdict in zip(texts, verdicts_on(texts, items, recipe), strict=True):
        held = {shown(p) for p in text.split("\n")}
        assert {m["item"] for m in verdict["matches"]} == {k for k, own in enumerate(wanted) if own & held}


def test_scanning_nothing() -> None:
    index = index_from([QUESTION], BOTH)
    empty = pa.array([], pa.large_string())
    table, _ = judge(empty, np.zeros(0, bool), index, BOTH)
    assert table.num_rows == 0
    assert len(scan(empty, np.zeros(0, bool), {}, index.set_of_item, BOTH).row) == 0
    assert {name: len(k.low) for name, k in collect(empty, BOTH, ("paragraphs", "ngrams")).items()} == {
        "document": 0,
        "paragraph": 0,
        "ngrams": 0,
    }


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"sets": []}, "name at least one set"),
    ({"sets": [{"name": "a", "kind": "text"}] * 2}, "each by a name of its own"),
    ({"sets": [{"name": "A b", "kind": "text"}]}, "evaluation set name 'A b'"),
    ({"sets": [{"name": "a", "kind": "csv"}]}, "'csv' is not one of 'text', 'jsonl', 'dolma-jsonl'"),
    ({"sets": [{"name": "a", "kind": "text", "fields": ["question"]}]}, "read by kind jsonl only"),
    ({"sets": [{"name": "a", "kind": "jsonl", "rules": []}]}, "at least one entry"),
    ({"ngrams": None, "sets": [{"name": "a", "kind": "jsonl", "rules": ["ngrams"]}]}, "nothing would look for it"),
    ({"paragraphs": None, "ngrams": None}, "no rule at all"),
    ({"paragraphs": {"min_words": 0}}, "min_words 0"),
    ({"ngrams": {"length": 64}}, "shortest 8 and length 64"),
    ({"ngrams": {"length": 5}}, "shortest 8 and length 5"),
    ({"ngrams": {"min_overlap": 0.0}}, "min_overlap 0.0: give a share"),
    ({"ngrams": {"min_overlap": 50}}, "min_overlap 50.0: give a share"),
    ({"ngram": {}}, "did you mean 'ngrams'"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_recipes(change: dict[str, Any], message: str) -> None:
    data = {"sets": [{"name": "a", "kind": "text", "paths": ["x"]}], **change}
    with pytest.raises(RecipeError, match=re.escape(message)):
        from_mapping(DecontaminationRecipe, data)
