"""The paragraph rule beside the dolma toolkit: the same words counted, the same documents removed."""

from __future__ import annotations

import bz2
import gzip
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from olmo_core.artifacts.output import content_digest
from olmo_core.curation.contamination import collect
from olmo_core.curation.contamination_verdicts import KEYS, judge
from olmo_core.curation.decontamination import VERSION, DecontaminationRecipe, NgramRule, ParagraphRule
from olmo_core.curation.evaluation_sets import list_set, read_items
from olmo_core.documents.files import hash_file
from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.unicode_classes import CODE_POINTS
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


@pytest.mark.parametrize("length", [13, 8])
def test_wikitext_against_real_articles_and_pages(shared_data: Path, length: int) -> None:
    """Held-out WikiText-2 beside a Wikipedia dump and crawled pages: nothing by 13 words, chance by 8; copies are found."""
    one = evaluation_set("wikitext-2", kind="text", paths=(f"{shared_data}/wikitext-2/*.txt",))
    files = list_set(one)
    items = list(read_items(one, files, {f.name: (f.size, hash_file(f)) for f in files}))
    assert len(items) == 2480
    recipe = DecontaminationRecipe(sets=(one,), ngrams=NgramRule(length=length))
    index = index_from([item.text for item in items], recipe)
    dump = bz2.decompress((shared_data / "wiki" / "enwiki-sample.xml.bz2").read_bytes()).decode()
    texts = re.findall(r"<text[^>]*>(.*?)</text>", dump, re.DOTALL)
    for path in sorted((shared_data / "web").glob("*.jsonl.gz")):
        texts += [json.loads(line)["text"] for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert len(texts) == 226
    long = [k for k, item in enumerate(items) if len(item.text.split()) > 40][:50]
    copies = [f"{texts[k]}\n{items[n].text}\n{texts[k]}" for k, n in enumerate(long)]
    edited = [f"{texts[k]} {items[n].text.replace(' @-@ ', '-').title()} {texts[k]}" for k, n in enumerate(long)]
    every = pa.array(texts + copies + edited, pa.large_string())
    verdicts, found = judge(every, np.ones(len(every), bool), index, recipe)
    kept = verdicts.column("keep").to_pylist()
    own = kept[: len(texts)].count(False)
    assert own == 0 if length == 13 else 0 < own < 15, "phrases such as `in the late 19th and early 20th centuries`"
    assert not any(kept[len(texts) :])
    for row, item in enumerate(long * 2):
        rules = set(found.rule[(found.row == len(texts) + row) & (found.item == item)].tolist())
        assert rules == ({1, 2} if row < len(long) else {2}), "exact copies by both rules, edited ones by n-grams"


DIGESTS = {
    1: {
        "document": "177900c5a8633c91",
        "paragraph": "644406c35971d298",
        "ngrams": "10524b88d1c3b20f",
        "verdicts": "365d9876ab9e2ab8",
    }
}
"""By VERSION: logical digests of what is looked for in the toolkit's evaluation documents, and of the verdicts."""


def test_output_changes_only_with_the_version() -> None:
    evaluation, training = corpus()
    recipe = DecontaminationRecipe(sets=(evaluation_set(),))
    texts = [one["text"] for one in evaluation]
    keys = collect(pa.array(texts, pa.large_string()), recipe, ("paragraphs", "ngrams"))
    found = {name: content_digest(pa.table(list(some), schema=KEYS))[:16] for name, some in keys.items()}
    every = pa.array([one["text"] for one in training], pa.large_string())
    table, _ = judge(every, np.ones(len(every), bool), index_from(texts, recipe), recipe)
    found["verdicts"] = content_digest(table)[:16]
    assert found == DIGESTS.get(VERSION), "raise VERSION in olmo_core/curation/decontamination.py, and note the digests"


def test_the_table_is_that_of_the_property_files() -> None:
    """A newer `regex` may know a newer Unicode; for what was there in Unicode 14 hardly anything changes."""
    pytest.importorskip("regex")
    from olmo_core.kernels.word_breaks_build import build_table

    known = np.array([unicodedata.category(chr(point)) not in ("Cn", "Cs") for point in range(CODE_POINTS)])
    different = (build_table() != word_break_table()[:CODE_POINTS]) & known
    assert np.count_nonzero(different) < 30
