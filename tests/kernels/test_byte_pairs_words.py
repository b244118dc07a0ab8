"""The memory of pieces changes the time, never the ids: tiny memories that overflow, against none at all."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.byte_pairs import pair_table
from olmo_core.kernels.byte_pairs_encode import SLACK, Vocabulary, encode_rows
from olmo_core.kernels.byte_pairs_words import LONG_BYTES, SHORT_BYTES, Words, empty_words
from olmo_core.kernels.pretokens import LITERAL_ROW
from olmo_core.kernels.unicode_classes import load_tables


def vocabulary() -> Vocabulary:
    """Return bytes as ids + 1, and merges of a few pairs of letters and of pairs of those."""
    pairs = [(a + 1, b + 1) for a in b"abcdxyz" for b in b"aexz"] + [(300, 301), (302, 303), (300, 300), (329, 329)]
    left, right = (np.array(column, np.uint16) for column in zip(*pairs, strict=True))
    return Vocabulary(
        byte_ids=np.arange(1, 257),
        pairs=pair_table(left, right, np.arange(300, 300 + len(pairs), dtype=np.uint16)),
        run_ids=np.zeros(2, np.uint16),
        literals=np.zeros((0, LITERAL_ROW), np.uint8),
        literal_ids=np.zeros(0, np.uint16),
        kinds=load_tables().kinds.copy(),
    )


def encode(texts: list[str], words: Words) -> list[list[int]]:
    text, offsets = text_buffers(pa.array(texts, pa.large_string()))
    ids, id_offsets = np.zeros(int(offsets[-1]) + SLACK, np.uint16), np.zeros(len(offsets), np.int64)
    count = encode_rows(text, offsets, vocabulary(), words, ids, id_offsets)
    assert count == id_offsets[-1]
    return [ids[first:last].tolist() for first, last in zip(id_offsets, id_offsets[1:], strict=False)]


@pytest.mark.parametrize("letters", ["abxz", "aabcdexyz", "漢字かな", "a\0b"])
def test_a_memory_that_overflows_gives_the_same_ids(letters: str) -> None:
    source = random.Random(letters)
    lengths = [*range(1, 40), SHORT_BYTES, LONG_BYTES - 1, LONG_BYTES, LONG_BYTES + 1, 64, 65, 300]
    texts = [" ".join("".join(source.choices(letters, k=source.choice(lengths))) for _ in range(60)) for _ in range(30)]
    texts += texts[::3]
    tiny = empty_words(line_bits=2, entry_bits=1)
    alone = [encode([text], empty_words(4, 2))[0] for text in texts]
    assert encode(texts, tiny) == alone
    assert encode(texts, tiny) == alone, "and again, with the memory full"
    assert encode(texts, empty_words()) == alone


def test_pieces_that_differ_in_zero_bytes_only_are_told_apart() -> None:
    """Keys are padded with zeros, so the length has to be part of them."""
    texts = ["!" + "\0" * count for count in (0, 1, 2, 7, 8, 14, 15, 16, 17, 100, 119, 121)]
    words = empty_words(0, 0)
    for _ in range(2):
        assert [len(row) for row in encode(texts, words)] == [len(text) for text in texts]


def test_entries_begin_at_cache_lines() -> None:
    words = empty_words(3, 2)
    assert words.short.ctypes.data % 64 == words.long.ctypes.data % 64 == 0
    assert (len(words.short), len(words.long)) == (8 * 8, 4 * 32)
