"""Sentences: the rules by example, and what must hold for any text."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.curation.sentences import split_sentences
from olmo_core.kernels.sentences import LONGEST, NEVER, abbreviations

FRAGMENTS = [".", "!", "?", " ", "  ", "\n", "\n\n", "\r\n", "\t", "\x00", "A", "b", "Dr", "e.g", "No", "7", "12", '"']
FRAGMENTS += [")", "”", "…", "。", "！", "é", "É", "я", "\u3000", "\u00a0", "\u2029", "\x85", "\U0001f600", "w" * 60]
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)), max_size=40).map("".join)


def sentences(text: str) -> list[str]:
    """The sentences of one text."""
    found = split_sentences(pa.array([text], pa.large_string()))
    return [found.text[a:b].tobytes().decode() for a, b in zip(found.starts, found.ends, strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t\u3000 ", []),
        ("One", ["One"]),
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Really?! Yes... No… Maybe", ["Really?!", "Yes...", "No…", "Maybe"]),
        ('He said "No!" and left. "Why?" I asked.', ['He said "No!" and left.', '"Why?"', "I asked."]),
        ("(So it is.) Yes. **Bold.** Next", ["(So it is.)", "Yes.", "**Bold.**", "Next"]),
        ("version 3.14 of a.b.c is out. it goes on", ["version 3.14 of a.b.c is out. it goes on"]),
        ("Dr. Ng met Mrs. Day, i.e. Ann. They left.", ["Dr. Ng met Mrs. Day, i.e. Ann.", "They left."]),
        ("J. R. R. Tolkien left the U.S. Army. End", ["J. R. R. Tolkien left the U.S. Army.", "End"]),
        ("See No. 5 and Fig. 2. No. Never.", ["See No. 5 and Fig. 2.", "No.", "Never."]),
        ("1. Install it. 2. Run it.", ["1. Install it.", "2. Run it."]),
        ("It is 7. Then 8. a. b.", ["It is 7.", "Then 8. a. b."]),
        ("Use .NET here. .. note", ["Use .NET here.", ".. note"]),
        ("今日は。元気ですか？はい", ["今日は。", "元気ですか？", "はい"]),
        ("यह है। वह था।", ["यह है।", "वह था।"]),
        ("Он пришёл. Она ушла. и всё", ["Он пришёл.", "Она ушла. и всё"]),
        ("Title\nBody text\r\nMore\rEnd", ["Title", "Body text", "More", "End"]),
        ("short line\ngoes on", ["short line", "goes on"]),
        ("x" * 50 + "\ngoes on\n\nnew", ["x" * 50 + "\ngoes on", "new"]),
        ("x" * 50 + "\r\ngoes on", ["x" * 50 + "\r\ngoes on"]),
        ("x" * 50 + "\nNew", ["x" * 50, "New"]),
        ("x" * 50 + " e.g.\nXylophones", ["x" * 50 + " e.g.", "Xylophones"]),
        ("x" * LONGEST + " y z", ["x" * LONGEST, "y z"]),
    ],
)
def test_rules(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=4))
def test_sentences_cover_all_but_white_space_in_order(texts: list[str]) -> None:
    found = split_sentences(pa.array(texts, pa.large_string()))
    assert found.rows[0] == 0 and found.rows[-1] == len(found.starts) == len(found.ends)
    for row in range(len(texts)):
        at = found.offsets[row]
        for one in range(found.rows[row], found.rows[row + 1]):
            start, end = found.starts[one], found.ends[one]
            assert found.offsets[row] <= at <= start < end <= found.offsets[row + 1]
            between = found.text[at:start].tobytes().decode()
            sentence = found.text[start:end].tobytes().decode()
            assert between.strip() == "" and sentence == sentence.strip()
            at = end
        assert found.text[at : found.offsets[row + 1]].tobytes().decode().strip() == ""


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=5))
def test_a_text_is_split_without_regard_to_its_neighbours(texts: list[str]) -> None:
    found = split_sentences(pa.array(texts, pa.large_string()))
    together = [found.text[a:b].tobytes().decode() for a, b in zip(found.starts, found.ends, strict=True)]
    assert together == [sentence for text in texts for sentence in sentences(text)]


def test_more_sentences_than_first_allowed_for() -> None:
    found = split_sentences(pa.array(["A!\n" * 10_000, "", "B"], pa.large_string()))
    assert list(found.rows) == [0, 10_000, 10_000, 10_001]
    assert (found.ends[:10_000] - found.starts[:10_000] == 2).all()


def test_no_sentence_is_much_longer_than_the_limit() -> None:
    found = split_sentences(pa.array(["word " * 100_000], pa.large_string()))
    assert (found.ends - found.starts).max() <= LONGEST + len("word")


def test_real_text_has_sentences_of_plausible_length() -> None:
    readmes = [str(d.metadata.get_payload()) for d in importlib.metadata.distributions()]  # type: ignore[attr-defined]
    licence = Path(importlib.metadata.__file__).read_text(encoding="utf-8")
    found = split_sentences(pa.array([*readmes, licence], pa.large_string()))
    lengths = found.ends - found.starts
    assert len(lengths) > 1000
    assert 20 < lengths.mean() < 200


def test_abbreviations_fit_eight_bytes() -> None:
    assert all(len(word) <= 8 and word == word.lower() for word in NEVER.split())
    assert all((table[1:] > table[:-1]).all() for table in abbreviations())
