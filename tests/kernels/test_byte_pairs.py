"""Merges against a byte-pair encoder written the obvious way, over small random vocabularies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from olmo_core.kernels.byte_pairs import SHORT, merge_long, merge_short, merges_of, pair_table
from olmo_core.kernels.byte_pairs_loads import pointer

LETTERS = b"abc"
FIRST_ID = 7
"""Id of the first letter: not 0, which is also the id of bytes without a token."""


@njit
def run_merge(text, byte_ids, pairs, window, scratch, out):
    """Merge the whole text in windows, or by the scan for short pieces where window is 0."""
    if window == 0:
        return merge_short(pointer(text), 0, len(text), merges_of(byte_ids, pairs), pointer(scratch), pointer(out), 0)
    return merge_long(pointer(text), 0, len(text), merges_of(byte_ids, pairs), window, pointer(out), 0)


def obvious_merge(ids: list[int], merged: dict[tuple[int, int], int]) -> list[int]:
    """Repeat: of all adjacent pairs with a merge take the one of lowest rank, the leftmost of equals, and merge it."""
    ids = list(ids)
    while True:
        found = [(merged[pair], place) for place, pair in enumerate(zip(ids, ids[1:], strict=False)) if pair in merged]
        if not found:
            return ids
        new, place = min(found)
        ids[place : place + 2] = [new]


@st.composite
def vocabularies(draw: st.DrawFn) -> dict[tuple[int, int], int]:
    """Return random merges: each joins two ids that exist by then, ids rise."""
    merged: dict[tuple[int, int], int] = {}
    following = FIRST_ID + len(LETTERS)
    for _ in range(draw(st.integers(1, 25))):
        known = st.integers(FIRST_ID, following - 1)
        pair = (draw(known), draw(known))
        if pair not in merged:
            merged[pair] = following
            following += 1
    return merged


def compiled_merge(text: bytes, merged: dict[tuple[int, int], int], window: int) -> list[int]:
    byte_ids = np.zeros(256, np.int64)
    byte_ids[list(LETTERS)] = range(FIRST_ID, FIRST_ID + len(LETTERS))
    left, right = np.array(list(merged), np.uint16).reshape(-1, 2).T
    pairs = pair_table(
        np.ascontiguousarray(left), np.ascontiguousarray(right), np.array(list(merged.values()), np.uint16)
    )
    out = np.full(len(text) + 4, 0xFFFF, np.uint16)
    scratch = np.zeros(2 * SHORT, np.int64)
    stop = run_merge(np.frombuffer(text, np.uint8).copy(), byte_ids, pairs, window, scratch, out)
    assert np.all(out[stop:] == 0xFFFF)
    return [int(token) for token in out[:stop]]


def letter_ids(text: bytes) -> list[int]:
    return [FIRST_ID + LETTERS.index(byte) for byte in text]


@settings(max_examples=150, deadline=None)
@given(vocabularies(), st.lists(st.sampled_from(LETTERS), min_size=1, max_size=SHORT).map(bytes))
def test_short_pieces_equal_the_obvious_encoder(merged: dict[tuple[int, int], int], text: bytes) -> None:
    assert compiled_merge(text, merged, 0) == obvious_merge(letter_ids(text), merged)


@settings(max_examples=300, deadline=None)
@given(
    vocabularies(),
    st.lists(st.sampled_from(LETTERS), min_size=1, max_size=250).map(bytes),
    st.sampled_from([2, 3, 8, 9, 16, 40, 1000]),
)
def test_windows_of_any_size_equal_the_obvious_encoder(
    merged: dict[tuple[int, int], int], text: bytes, window: int
) -> None:
    assert compiled_merge(text, merged, window) == obvious_merge(letter_ids(text), merged)


@pytest.mark.parametrize("text", [b"a" * 333, b"ab" * 150, b"aab" * 111, b"abc" * 100 + b"a"])
@pytest.mark.parametrize("window", [8, 64])
def test_periodic_text_in_windows(text: bytes, window: int) -> None:
    a, b = FIRST_ID, FIRST_ID + 1
    merged = {(a, a): 20, (20, 20): 21, (21, 21): 22, (a, b): 23, (23, 23): 24, (24, 24): 25, (20, b): 26, (26, 26): 27}
    assert compiled_merge(text, merged, window) == obvious_merge(letter_ids(text), merged)


def test_windows_that_do_not_agree_grow_until_the_whole_piece_is_one() -> None:
    """Each letter pairs with the next from the right, so whether the first one is paired depends on the last one.

    Windows agree with each other here all along and find only at the piece's end that they were wrong.
    """
    letters = np.arange(100, 160, dtype=np.int64)
    byte_ids = np.zeros(256, np.int64)
    byte_ids[: len(letters)] = letters
    places = np.arange(len(letters) - 2, -1, -1)
    left, right = letters[places].astype(np.uint16), letters[places + 1].astype(np.uint16)
    new = (1000 + np.arange(len(places))).astype(np.uint16)
    merged = {(int(a), int(b)): int(c) for a, b, c in zip(left, right, new, strict=True)}
    first_tokens = set()
    for first in range(4):
        text = np.arange(first, len(letters), dtype=np.uint8)
        out = np.zeros(len(text), np.uint16)
        stop = run_merge(text, byte_ids, pair_table(left, right, new), 8, np.zeros(2 * SHORT, np.int64), out)
        assert out[:stop].tolist() == obvious_merge(letters[text].tolist(), merged)
        first_tokens.add(bool(out[0] >= new[0]))
    assert first_tokens == {True, False}
