"""A bounded memory of pieces and their ids, so that a frequent word is merged once.

Pieces are kept whole and compared byte for byte, so a collision of hashes can cost time but never change ids.

- Up to 15 bytes and 7 ids (nearly all): two entries of four words share a cache line. The first to come stays, later
  ones take turns in the second entry: early words are the frequent ones, and a change of language still finds room.
- From 16 to 120 bytes and up to 64 ids (rulers, long words, base64): one entry per line, the latest stays.
- Longer ones are merged each time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from olmo_core.kernels.byte_pairs import SHORT, WINDOW, merge_long, merge_short
from olmo_core.kernels.byte_pairs_loads import load64, pointer, store_four

SHORT_BYTES = 15
SHORT_IDS = 7
LONG_BYTES = 120
LONG_IDS = 64
_CACHE_LINE = 64
_LINE_WORDS = 8
_ENTRY_WORDS = 32
_FIRST_ID_WORD = 16
_HASH_1 = np.uint64(0x9E3779B97F4A7C15)
_HASH_2 = np.uint64(0xD6E8FEB86659FD93)


class Words(NamedTuple):
    """Pieces seen and their ids; written by the kernels, so not to be shared by threads that run at once."""

    short: npt.NDArray[np.uint64]
    """uint64[8 lines]: entries of four words: bytes 0-7; bytes 8-14, the length on top; count, three ids; four ids."""
    long: npt.NDArray[np.uint64]
    """uint64[32 entries]: a word of length << 32 | count, 15 words of bytes, 16 words of ids."""
    scratch: npt.NDArray[np.int64]
    """int64[2 SHORT]: room to merge one piece. Kept here because compiled code would free it while pointers to it
    are in use."""


class WordPointers(NamedTuple):
    """Words inside compiled code."""

    short: Any
    lines: Any
    """Number of lines less 1, uint64."""
    long: Any
    entries: Any
    """Number of entries less 1, uint64."""
    scratch: Any


@njit(forceinline=True)
def pointers_of(words):
    """Return the pointers into Words."""
    lines = np.uint64(words.short.shape[0] // _LINE_WORDS - 1)
    entries = np.uint64(words.long.shape[0] // _ENTRY_WORDS - 1)
    return WordPointers(pointer(words.short), lines, pointer(words.long), entries, pointer(words.scratch))


def _aligned_zeros(words: int) -> npt.NDArray[np.uint64]:
    """Return zeros that begin at a cache line's start, so that no entry straddles two."""
    raw = np.zeros(words + _LINE_WORDS, np.uint64)
    skip = (-raw.ctypes.data % _CACHE_LINE) // raw.itemsize
    return raw[skip : skip + words]


def empty_words(line_bits: int = 17, entry_bits: int = 14) -> Words:
    """Return an empty memory of 2^line_bits lines of 64 bytes and 2^entry_bits entries of 256 (8 + 4 MiB)."""
    return Words(
        short=_aligned_zeros(_LINE_WORDS << line_bits),
        long=_aligned_zeros(_ENTRY_WORDS << entry_bits),
        scratch=np.empty(2 * SHORT, np.int64),
    )


@njit(forceinline=True)
def _low_bytes(count):
    """Return a mask of the lowest `count` bytes of a word, 0 <= count < 8."""
    return (np.uint64(1) << np.uint64(8 * count)) - np.uint64(1)


@njit
def _learn_short(text, at, end, low, high, entry, words, merges, out, to):
    """Merge a piece of up to SHORT_BYTES and keep it at word `entry` of `words.short`, if its ids fit."""
    stop = merge_short(text, at, end, merges, words.scratch, out, to)
    count = stop - to
    short = words.short
    if count <= SHORT_IDS:
        first = np.uint64(count)
        second = np.uint64(0)
        for index in range(count):
            if index < 3:
                first |= np.uint64(out[to + index]) << np.uint64(16 * (index + 1))
            else:
                second |= np.uint64(out[to + index]) << np.uint64(16 * (index - 3))
        short[entry] = low
        short[entry + np.uint64(1)] = high
        short[entry + np.uint64(2)] = first
        short[entry + np.uint64(3)] = second
    return stop


@njit(forceinline=True)
def emit_short(text, at, end, words, merges, out, to):
    """Write the ids of the piece `text[at:end]`, up to SHORT_BYTES, to `out[to:]`; return the end of what was written.

    `out` (uint16) needs room for as many ids as the piece has bytes and up to seven more, which may be overwritten.
    """
    length = end - at
    short = words.short
    low = load64(text, at)
    if length < 8:
        low &= _low_bytes(length)
        high = np.uint64(length) << np.uint64(56)
    else:
        high = (load64(text, at + 8) & _low_bytes(length - 8)) | (np.uint64(length) << np.uint64(56))
    mixed = (low ^ (high * _HASH_2) ^ (low >> np.uint64(31))) * _HASH_1
    entry = ((mixed >> np.uint64(36)) & words.lines) << np.uint64(3)
    if short[entry + np.uint64(1)] != high or short[entry] != low:
        free = short[entry + np.uint64(1)] == 0
        if not free:
            entry += np.uint64(4)
        if free or short[entry + np.uint64(1)] != high or short[entry] != low:
            return _learn_short(text, at, end, low, high, entry, words, merges, out, to)
    first = short[entry + np.uint64(2)]
    store_four(out, to, first >> np.uint64(16))
    count = np.int64(first & np.uint64(0xFFFF))
    if count > 3:
        store_four(out, to + 3, short[entry + np.uint64(3)])
    return to + count


@njit
def _merge_any(text, at, end, merges, scratch, out, to):
    if end - at <= SHORT:
        return merge_short(text, at, end, merges, scratch, out, to)
    return merge_long(text, at, end, merges, WINDOW, out, to)


@njit
def emit_long(text, at, end, words, merges, out, to):
    """As `emit_short`, for a piece of more than SHORT_BYTES."""
    length = end - at
    if length > LONG_BYTES:
        return _merge_any(text, at, end, merges, words.scratch, out, to)
    long = words.long
    whole = length >> 3
    rest = load64(text, at + 8 * whole) & _low_bytes(length & 7)
    mixed = np.uint64(length) * _HASH_2
    for index in range(whole):
        mixed = (mixed ^ load64(text, at + 8 * index)) * _HASH_1
        mixed ^= mixed >> np.uint64(29)
    mixed = (mixed ^ rest) * _HASH_1
    entry = _ENTRY_WORDS * np.int64((mixed >> np.uint64(36)) & words.entries)
    same = long[entry] >> np.uint64(32) == np.uint64(length)
    index = 0
    while same and index < whole:
        same = long[entry + 1 + index] == load64(text, at + 8 * index)
        index += 1
    if same and (length & 7 == 0 or long[entry + 1 + whole] == rest):
        count = np.int64(long[entry] & np.uint64(0xFFFFFFFF))
        for four in range((count + 3) >> 2):
            store_four(out, to + 4 * four, long[entry + _FIRST_ID_WORD + four])
        return to + count
    stop = _merge_any(text, at, end, merges, words.scratch, out, to)
    count = stop - to
    if count <= LONG_IDS:
        long[entry] = (np.uint64(length) << np.uint64(32)) | np.uint64(count)
        for index in range(whole):
            long[entry + 1 + index] = load64(text, at + 8 * index)
        if length & 7:
            long[entry + 1 + whole] = rest
        for index in range(count):
            place = entry + _FIRST_ID_WORD + (index >> 2)
            before = np.uint64(0) if index & 3 == 0 else long[place]
            long[place] = before | (np.uint64(out[to + index]) << np.uint64(16 * (index & 3)))
    return stop
