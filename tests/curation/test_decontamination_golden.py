"""The paragraph rule beside the dolma toolkit: the same words counted, the same documents removed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from olmo_core.curation.contamination_verdicts import judge
from olmo_core.curation.decontamination import DecontaminationRecipe, ParagraphRule
from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.word_breaks import all_punctuation, count_words, trimmed_begin, trimmed_end, word_break_table
from tests.curation.evaluation_items import evaluation_set, index_from
from tests.oracles.dolma_decontamination import corpus, strings

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "dolma_decontamination.json.gz"


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    """What the toolkit said; `tests/oracles/dolma_decontamination.py` asked it."""
    return json.loads(gzip.decompress(GOLDEN.read_bytes()))  # type: ignore[no-any-return]


def counted(texts: list[str], enough: int = 1 << 40) -> list[list[int]]:
    """Our number of words of each text, and whether it is all punctuation."""
    table = word_break_table()
    text, offsets = text_buffers(pa.array(texts, pa.large_string()))
    found = []
    for begin, end in zip(offsets[:-1], offsets[1:], strict=True):
        inner = trimmed_begin(text, begin, end, table)
        words = count_words(text, inner, trimmed_end(text, inner, end, table), enough, table)
        found.append([int(words), int(all_punctuation(text, begin, end, table) and words > 0)])
    return found


def test_words_and_punctuation_as_the_toolkit_counts_them(golden: dict[str, Any]) -> None:
    texts = golden["texts"]
    assert len(texts) > 3000 and len({c[0] for c in golden["counts"]}) > 15
    ours = counted(texts)
    wrong = [
        (ascii(t), mine, theirs)
        for t, mine, theirs in zip(texts, ours, golden["counts"], strict=True)
        if mine != theirs
    ]
    assert not wrong, wrong[:5]
    assert sum(c[1] for c in golden["counts"]) >= 5


def test_counting_stops_when_there_are_enough() -> None:
    assert counted(["one two three four"], enough=2) == [[2, 0]]
    assert counted(["can't stop, 3.14 won’t!"]) == [[6, 0]], "can't|stop|,|3.14|won’t|!"


def test_the_oracle_still_makes_the_same_documents(golden: dict[str, Any]) -> None:
    assert strings()[-9:] == golden["texts"][-9:]
    _, training = corpus()
    assert set(golden["removed"]) < {record["id"] for record in training}


def test_the_same_documents_go_as_with_the_toolkit(golden: dict[str, Any]) -> None:
    evaluation, training = corpus()
    recipe = DecontaminationRecipe(
        sets=(evaluation_set(),), paragraphs=ParagraphRule(trim=False, documents=False), ngrams=None
    )
    index = index_from([one["text"] for one in evaluation], recipe)
    texts = pa.array([one["text"] for one in training], pa.large_string())
    verdicts, _ = judge(texts, np.ones(len(texts), bool), index, recipe)
    gone = [one["id"] for one, keep in zip(training, verdicts.column("keep").to_pylist(), strict=True) if not keep]
    assert gone == golden["removed"] and len(gone) > 10


def test_trimmed_comparison_finds_these_and_more(golden: dict[str, Any]) -> None:
    evaluation, training = corpus()
    recipe = DecontaminationRecipe(sets=(evaluation_set(),), ngrams=None)
    index = index_from([one["text"] for one in evaluation], recipe)
    texts = pa.array([one["text"] for one in training], pa.large_string())
    verdicts, _ = judge(texts, np.ones(len(texts), bool), index, recipe)
    gone = {one["id"] for one, keep in zip(training, verdicts.column("keep").to_pylist(), strict=True) if not keep}
    assert gone > set(golden["removed"]), "a space or carriage return at the end hides nothing"
