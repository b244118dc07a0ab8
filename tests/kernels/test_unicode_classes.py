"""The shipped Unicode tables against the library that they were made from, and normal form C built on them."""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from olmo_core.kernels.buffers import PADDING, text_buffers
from olmo_core.kernels.unicode_classes import CODE_POINTS, LETTER, NUMBER, OTHER, SETTLED, SPACE, load_tables
from olmo_core.kernels.unicode_classes_build import build_tables
from olmo_core.kernels.unicode_classes_normal import compose

NORMALIZE = normalizers.NFC().normalize_str
MARKS = "\u0300\u0301\u0308\u0323\u0327\u0328\u0331\u0334\u0338\u0345\u0358\u035d\u05b0\u05bc\u064b\u0651\u093c\u094d\u0e38\u0e48\u0f71\u0f72\u302a\u3099\U0001d165\U0001d16d"
STARTERS = "aeAoK<>=!|\n \0é\u1e69\u1100\u1161\u11a7\u11a8\uac00\uac01\u0915\u0958\u09c7\u09be\u0bc6\u0b47\u3046\u212b\u0344\u0374\u0f73\u2add\ufb1d\U0001d15e\U00011131\U00011127\U0002f800"


@pytest.mark.slow
def test_shipped_tables_are_what_the_installed_library_gives() -> None:
    shipped, built = load_tables(), build_tables()
    for name in built._fields:
        differing = np.flatnonzero(getattr(built, name) != getattr(shipped, name)[:CODE_POINTS])
        assert differing.size == 0, f"{name} differs at {[hex(point) for point in differing[:10]]}"


def test_kinds_of_well_known_characters() -> None:
    kinds = load_tables().kinds
    known = {
        "a": LETTER,
        "ʰ": LETTER,
        "漢": LETTER,
        "7": NUMBER,
        "½": NUMBER,
        "Ⅷ": NUMBER,
        "\u00a0": SPACE,
        "\u3000": SPACE,
    }
    known |= {"\u200b": OTHER, "\u0301": OTHER, "'": OTHER, "\0": OTHER, "\x1c": OTHER, "\n": SPACE, "\u0085": SPACE}
    assert {character: int(kinds[ord(character)]) for character in known} == known


def test_nothing_below_the_first_mark_is_unsettled() -> None:
    """`find_unsettled` skips every character whose lead byte is below 0xCC without looking it up."""
    normal = load_tables().normal
    assert np.all(normal[:0x300] == SETTLED)
    assert normal[0x300] != SETTLED
    assert "\u0300".encode()[0] == 0xCC


def compose_texts(texts: list[str]) -> list[str]:
    text, offsets = compose(*text_buffers(pa.array(texts, pa.large_string())), NORMALIZE)
    assert len(text) >= offsets[-1] + PADDING
    assert not text[offsets[-1] :].any()
    return [text[first:last].tobytes().decode() for first, last in zip(offsets, offsets[1:], strict=False)]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.text(alphabet=MARKS + STARTERS, max_size=14), max_size=5))
def test_composed_texts_equal_the_librarys(texts: list[str]) -> None:
    assert compose_texts(texts) == [NORMALIZE(text) for text in texts]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=30).map(lambda text: unicodedata.normalize("NFD", text)), max_size=4))
def test_any_decomposed_texts_equal_the_librarys(texts: list[str]) -> None:
    assert compose_texts(texts) == [NORMALIZE(text) for text in texts]


def test_more_stretches_than_fit_at_first() -> None:
    texts = ["e\u0301 " * 1000, "", "plain", "\u0301" + "o\u0323\u0302x" * 300]
    assert compose_texts(texts) == [NORMALIZE(text) for text in texts]


def test_settled_text_is_returned_as_it_is() -> None:
    """Marks in order that join nothing are not even sent to the library."""

    def refuse(text: str) -> str:
        raise AssertionError(f"nothing in {text!r} needs normalizing")

    text, offsets = text_buffers(
        pa.array(["naïve Wörter 漢字 한국어", "ที่", "x\u0334\u0358", "हिन्दी"], pa.large_string())
    )
    same_text, same_offsets = compose(text, offsets, refuse)
    assert same_text is text
    assert same_offsets is offsets
