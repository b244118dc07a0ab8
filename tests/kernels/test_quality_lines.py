r"""Line statistics and line faults against `str.split("\n")` and `str.strip()`."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.lines import (
    NO_ENDING_PUNCTUATION,
    TOO_FEW_WORDS,
    count_faulty_lines,
    fill_faulty_lines,
    line_faults,
    repeated_lines,
)
from olmo_core.kernels.quality_strings import eight_bytes
from olmo_core.kernels.words import character_classes

PIECES = [
    "\n",
    "\n\n",
    "word",
    " ",
    "* point",
    "- point",
    "\u2026",
    "...",
    ".",
    '"',
    "?",
    "!",
    "\u3000",
    "\x85",
    "é",
    "\r",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


def repeated(text: str) -> tuple[int, ...]:
    buffer, offsets = text_buffers(pa.array(["before\n", text, "*after\u2026"], pa.large_string()))
    return tuple(repeated_lines(buffer, eight_bytes(buffer), offsets[1], offsets[2]))


def counted(text: str) -> tuple[int, ...]:
    lines = text.split("\n")
    copies = {line: count for line, count in Counter(lines).items() if count > 1}
    return (
        len(lines),
        sum(line.startswith(("*", "-")) for line in lines),
        sum(line.endswith("\u2026") for line in lines),
        sum(copies.values()),
        sum(len(line) * count for line, count in copies.items()),
    )


@settings(deadline=None)
@given(TEXTS)
def test_repeated_lines(text: str) -> None:
    assert repeated(text) == counted(text)


def test_many_distinct_lines() -> None:
    text = "\n".join(f"line {k % 7000}" for k in range(9000))
    assert repeated(text) == counted(text)


@settings(deadline=None)
@given(TEXTS)
def test_line_faults(line: str) -> None:
    line = line.replace("\n", " ")
    buffer, offsets = text_buffers(pa.array(["x y z.", line, "x"], pa.large_string()))
    faults = line_faults(buffer, offsets[1], offsets[2], character_classes(), 3)
    assert bool(faults & NO_ENDING_PUNCTUATION) == (not line.strip().endswith((".", "?", "!", '"')))
    assert bool(faults & TOO_FEW_WORDS) == (len(line.split()) < 3)


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=4))
def test_spans_are_the_faulty_lines(texts: list[str]) -> None:
    buffer, offsets = text_buffers(pa.array(texts, pa.large_string()))
    counts = np.zeros((3, len(texts)), np.int64)
    count_faulty_lines(buffer, offsets, character_classes(), 3, counts)
    unfinished = np.zeros((counts[1].sum(), 2), np.int64)
    short = np.zeros((counts[2].sum(), 2), np.int64)
    fill_faulty_lines(buffer, offsets, character_classes(), 3, unfinished, short)
    unfinished_left, short_left = unfinished.tolist(), short.tolist()
    for row, text in enumerate(texts):
        raw = text.encode()
        place = 0
        lines = raw.split(b"\n")
        assert counts[0, row] == len(lines)
        for k, line in enumerate(lines):
            span = [place, place + len(line) + (k < len(lines) - 1)]
            place = span[1]
            if not line.decode().strip().endswith((".", "?", "!", '"')):
                assert unfinished_left.pop(0) == span
            if len(line.decode().split()) < 3:
                assert short_left.pop(0) == span
    assert not unfinished_left
    assert not short_left
