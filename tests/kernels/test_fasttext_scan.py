"""Words and white space: the compiled scan against Python's `strip` and a regular expression."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit

from olmo_core.kernels.byte_pairs_loads import pointer
from olmo_core.kernels.fasttext_rows import word_hash
from olmo_core.kernels.fasttext_scan import next_word, stripped
from tests.kernels.fasttext_models import real_texts

WHITE = "".join(c for c in map(chr, range(0x110000)) if c.isspace())

spaced = st.text(st.sampled_from(WHITE + "\x00ab\u00e9\u00a1\u2003\u2100\u3001\u0680\U00010000"), max_size=30)


@njit
def strip_bounds(text, start, end):
    return stripped(pointer(text), start, end)


@njit
def word_bounds(text, start, end, bounds):
    count = 0
    while True:
        start, after = next_word(pointer(text), start, end)
        if start == after:
            return count
        bounds[count, 0] = start
        bounds[count, 1] = after
        count += 1
        start = after


def padded(data: bytes) -> np.ndarray:
    return np.frombuffer(data + bytes(32), np.uint8)


@settings(max_examples=400, deadline=None)
@given(text=spaced | st.text(max_size=30), before=st.text(max_size=3), after=st.text(max_size=3))
@example(text=WHITE + "x" + WHITE, before="", after="")
@example(text=WHITE, before="a", after="b")
def test_strips_as_python_does(text: str, before: str, after: str) -> None:
    prefix, middle, suffix = (part.encode(errors="ignore") for part in (before, text, after))
    start, end = strip_bounds(padded(prefix + middle + suffix), len(prefix), len(prefix) + len(middle))
    assert (prefix + middle + suffix)[start:end] == middle.decode().strip().encode()


@settings(max_examples=400, deadline=None)
@given(data=st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode(errors="ignore")))
@example(data=bytes(range(256)))
@example(data=b"12345678 12345678  1234567\x001234567 ")
def test_words_are_separated_as_in_fasttext(data: bytes) -> None:
    bounds = np.zeros((len(data) + 1, 2), np.int64)
    count = word_bounds(padded(data), 0, len(data), bounds)
    expected = [match.span() for match in re.finditer(rb"[^ \n\r\t\v\f\x00]+", data)]
    assert bounds[:count].tolist() == [list(span) for span in expected]


def test_words_of_real_text() -> None:
    for text in real_texts(300_000):
        data = text.encode()
        bounds = np.zeros((len(data) + 1, 2), np.int64)
        count = word_bounds(padded(data), 0, len(data), bounds)
        assert [data[start:end] for start, end in bounds[:count]] == re.findall(rb"[^ \n\r\t\v\f\x00]+", data)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(min_size=1, max_size=20))
def test_hash_sign_extends_bytes(data: bytes) -> None:
    code = 2166136261
    for byte in data:
        code = (code ^ (byte - 256 if byte >= 128 else byte) & 0xFFFFFFFF) * 16777619 & 0xFFFFFFFF
    assert word_hash(padded(data), 0, len(data)) == code
