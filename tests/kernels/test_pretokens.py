"""Pieces of GPT-2's pattern against the library's pre-tokenizer, without added tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit
from tokenizers import pre_tokenizers

from olmo_core.kernels.buffers import PADDING
from olmo_core.kernels.byte_pairs_loads import pointer
from olmo_core.kernels.pretokens import LITERAL_ROW, Added, piece_end, plain_word_end
from olmo_core.kernels.unicode_classes import load_tables

SPLITTER = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


@njit
def find_ends(text, length, kinds, ids, literals, ends):
    """Write the end of each piece, by `piece_end` alone, and check that the short cut agrees where it applies."""
    source, classes = pointer(text), pointer(kinds)
    added = Added(pointer(ids), 0, pointer(literals), pointer(ids), 0)
    at, count = 0, 0
    while at < length:
        end = piece_end(source, at, length, classes, added)
        short_cut = plain_word_end(source, at, length, classes)
        if short_cut != at and short_cut != end:
            return -1
        at = end
        ends[count] = at
        count += 1
    return count


def pieces(text: str, behind: bytes) -> list[str]:
    """Return the pieces of the text, with other bytes behind it that must not matter."""
    data = text.encode()
    padded = np.frombuffer(data + behind + bytes(PADDING), np.uint8).copy()
    ends = np.zeros(len(data) + 1, np.int64)
    nothing = np.zeros(1, np.uint16)
    count = find_ends(padded, len(data), load_tables().kinds.copy(), nothing, np.zeros(LITERAL_ROW, np.uint8), ends)
    assert count >= 0, "the short cut for plain words differs from the pattern"
    bounds = [0, *ends[:count].tolist()]
    return [data[first:last].decode() for first, last in zip(bounds, bounds[1:], strict=False)]


def library_pieces(text: str) -> list[str]:
    return [text[first:last] for _, (first, last) in SPLITTER.pre_tokenize_str(text)]


AWKWARD = st.sampled_from(
    [
        *"abzAZ'sdmtrevl \t\n\r\v\f\0\x1c019.,|<>-_²½é漢가ⅧʰѢא",
        *"\u00a0\u0085\u2003\u2028\u3000\u200b\u0301\u1100\u0663\ufeff\U0001d400\U0001f469",
        *("'re", "'LL", "  ", "\r\n"),
    ]
)


@settings(max_examples=600, deadline=None)
@given(st.lists(AWKWARD, max_size=25).map("".join), st.sampled_from([b"", b"x", b" ", b" x", b"'s", b"\n"]))
@example("it's  I'LL 're ''ve\n\n x\n\t y  ", b"s")
def test_pieces_equal_the_librarys(text: str, behind: bytes) -> None:
    assert pieces(text, behind) == library_pieces(text)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text_equals_the_librarys(text: str) -> None:
    assert pieces(text, b"") == library_pieces(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("don't DON'T", ["don", "'t", " DON", "'", "T"]),
        (" 's", [" '", "s"]),
        ("a\n\n b", ["a", "\n\n", " b"]),
        ("a\n\nb", ["a", "\n", "\n", "b"]),
        ("a  ", ["a", "  "]),
        ("1٣x²", ["1٣", "x", "²"]),
    ],
)
def test_known_pieces(text: str, expected: list[str]) -> None:
    assert pieces(text, b"") == expected
