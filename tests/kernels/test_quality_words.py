"""Words are those of `str.split()`, and equal numbers mean equal words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.quality_strings import eight_bytes, string_code
from olmo_core.kernels.words import ALPHABETIC, SPACE, character_classes, number_words

WHITESPACE = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2005\u200a\u2028\u2029\u202f\u205f\u3000"
NO_WHITESPACE = "\x00\x1b!\x7f\x80\x84\xad\u180e\u200b\u2060\ufeff\u0301\u00e9\u4e2d\U0001f595"
TEXTS = st.text(st.sampled_from("ab" + WHITESPACE + NO_WHITESPACE) | st.characters(codec="utf-8"), max_size=60)


def words_of(texts: list[str], row: int) -> list[str]:
    text, offsets = text_buffers(pa.array(texts, pa.large_string()))
    numbers, firsts, sizes, counts = number_words(
        text, eight_bytes(text), offsets[row], offsets[row + 1], character_classes()
    )
    distinct = [text[first : first + size].tobytes().decode() for first, size in zip(firsts, sizes, strict=True)]
    assert len(set(distinct)) == len(distinct)
    assert list(dict.fromkeys(numbers.tolist())) == list(range(len(distinct)))  # numbered by first appearance
    assert np.bincount(numbers, minlength=len(distinct)).tolist() == counts.tolist()
    return [distinct[number] for number in numbers]


def test_classes_are_those_of_python() -> None:
    classes = character_classes()
    for point in [*range(0x3100), *range(0x1F000, 0x1F600), 0x10FFFF]:
        assert bool(classes[point] & ALPHABETIC) == chr(point).isalpha()
        assert bool(classes[point] & SPACE) == chr(point).isspace()
    assert not classes[0x110000:].any()


@settings(deadline=None)
@given(TEXTS, TEXTS, TEXTS)
def test_words_are_those_of_split(before: str, text: str, after: str) -> None:
    assert words_of([before, text, after], 1) == text.split()


@pytest.mark.parametrize("space", WHITESPACE)
def test_every_whitespace_character_splits(space: str) -> None:
    assert words_of([f"{space}one{space}{space}long-word-one{space}é{space}"], 0) == ["one", "long-word-one", "é"]


@pytest.mark.parametrize("size", [1, 6, 7, 8, 9, 15, 16, 17, 24, 25, 1000])
def test_words_that_differ_in_one_byte_are_told_apart(size: int) -> None:
    words = ["x" * size, *("x" * place + "y" + "x" * (size - place - 1) for place in range(size)), "x" * (size + 1)]
    text = " ".join(words * 2)
    assert words_of([text], 0) == text.split()


def test_arrays_grow_with_what_is_found() -> None:
    for text in (" ".join(map(str, range(30_000))), "a " * 50_000, "\n".join(f"{i:x}" for i in range(3_000)) * 2):
        assert words_of([text], 0) == text.split()


def test_same_hash_is_not_taken_for_the_same_word() -> None:
    # Two strings of 16 bytes with one hash, made by undoing the first round of `string_code`.
    text = np.zeros(96, np.uint8)
    text[:16] = np.frombuffer(b"abcdefghijklmnop", np.uint8)
    golden, word = 0x9E3779B97F4A7C15, (1 << 64) - 1
    states = []
    for first in (text[:8].tobytes(), b"ABCDEFGH"):
        state = int.from_bytes(first, "little") * golden & word
        states.append(state ^ state >> 32)
    tail = int.from_bytes(text[8:16].tobytes(), "little") ^ states[0] ^ states[1]
    text[17:33] = np.frombuffer(b"ABCDEFGH" + tail.to_bytes(8, "little"), np.uint8)
    text[16] = ord(" ")
    eights = eight_bytes(text)
    assert string_code(eights, 0, 16) == string_code(eights, 17, 16)
    only_high = np.zeros(1 << 21, np.uint8)
    only_high[ord(" ")] = SPACE  # whatever bytes the forged half has, they are one word
    numbers, _, sizes, _ = number_words(text, eights, 0, 33, only_high)
    assert numbers.tolist() == [0, 1]
    assert sizes.tolist() == [16, 16]
