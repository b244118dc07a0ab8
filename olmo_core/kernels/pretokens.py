r"""Where GPT-2's pattern ends each piece of a text, and where added tokens stand, in UTF-8 bytes.

The pattern, as the `tokenizers` library's ByteLevel pre-tokenizer applies it to each segment between added tokens:

    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

Added tokens match first, leftmost and longest: runs of two spaces or more (cut greedily at the longest known run), and
literals such as `|||EMAIL_ADDRESS|||`. A literal is ASCII, holds no space and begins with a character of kind OTHER
that is not an apostrophe, so it can only begin where a piece begins or inside a piece of kind OTHER; that character
carries the LITERAL bit in `kinds`. The end of a segment counts as the end of the text for `\s+(?!\S)`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from olmo_core.kernels.byte_pairs_loads import load8, load64, trailing_zeros
from olmo_core.kernels.unicode_classes import LETTER, LITERAL, NUMBER, OTHER, SPACE
from olmo_core.kernels.unicode_classes_normal import code_point

_SPACE_BYTE = 32
_APOSTROPHE = 39

# Eight bytes at a time, each in its own lane: `x | 0x20` folds case, adding carries into the lane's high bit.
_HIGH_BITS = np.uint64(0x8080808080808080)
_LOW_BITS = np.uint64(0x7F7F7F7F7F7F7F7F)
_CASE_BITS = np.uint64(0x2020202020202020)
_FROM_A = np.uint64(0x1F1F1F1F1F1F1F1F)
_AFTER_Z = np.uint64(0x0505050505050505)


LITERAL_ROW = 64
"""Bytes of a row of the array of literals: the length, then up to 63 bytes."""


class Added(NamedTuple):
    """The added tokens that match in a text, inside compiled code."""

    run_ids: Any
    """uint16[longest_run + 1]: the id of n spaces, for n from 2 up."""
    longest_run: Any
    """Spaces in the longest run that is an added token; less than 2 where none is."""
    literals: Any
    """uint8[count * LITERAL_ROW], longest first."""
    literal_ids: Any
    """uint16[count]."""
    count: Any


@njit(forceinline=True)
def _ascii_non_letters(eight):
    """Return a word with the high bit of each byte set that is not an ASCII letter."""
    folded = (eight & _LOW_BITS) | _CASE_BITS
    return ~((folded + _FROM_A) & ~(folded + _AFTER_Z) & ~eight) & _HIGH_BITS


@njit
def literal_at(text, at, end, added):
    """Return the row of the longest literal that stands at `at` and ends by `end`, or -1."""
    for row in range(added.count):
        first = row * LITERAL_ROW
        length = load8(added.literals, first)
        if at + length <= end:
            matched = 0
            while matched < length and text[at + matched] == added.literals[first + 1 + matched]:
                matched += 1
            if matched == length:
                return row
    return -1


@njit(forceinline=True)
def space_run_at(text, at, end, added):
    """Return the length of the added token of spaces at `at`, at least 2 and at most the longest known; 0 for none."""
    if load8(text, at) != _SPACE_BYTE or load8(text, at + 1) != _SPACE_BYTE or at + 1 >= end or added.longest_run < 2:
        return 0
    length = 2
    while length < added.longest_run and at + length < end and load8(text, at + length) == _SPACE_BYTE:
        length += 1
    return length


@njit(forceinline=True)
def added_at(text, at, end, kinds, added):
    """Return `(bytes, id)` of the added token at `at`, where none begins before; 0 bytes for none."""
    run = space_run_at(text, at, end, added)
    if run:
        return run, np.int64(added.run_ids[run])
    lead = load8(text, at)
    if lead < 0x80 and load8(kinds, lead) & LITERAL:
        row = literal_at(text, at, end, added)
        if row >= 0:
            return load8(added.literals, row * LITERAL_ROW), np.int64(added.literal_ids[row])
    return 0, 0


@njit(forceinline=True)
def _contraction_end(text, at, end):
    """Return the end of the contraction whose apostrophe stands at `at`, or `at` if there is none."""
    if at + 1 < end:
        second = load8(text, at + 1)
        if second == 115 or second == 116 or second == 109 or second == 100:  # s t m d
            return at + 2
        if at + 2 < end:
            third = load8(text, at + 2)
            if (third == 101 and (second == 114 or second == 118)) or (second == 108 and third == 108):  # re ve ll
                return at + 3
    return at


@njit(forceinline=True)
def letters_end(text, at, end, kinds):
    r"""Return the end of `\p{L}*` from `at`."""
    while at < end:
        stops = _ascii_non_letters(load64(text, at))
        if stops == 0:
            at += 8
            continue
        at += trailing_zeros(stops) >> 3
        if at >= end or load8(text, at) < 0x80:
            break
        point, length = code_point(text, at)
        if not load8(kinds, point) & LETTER:
            break
        at += length
    return min(at, end)


@njit(forceinline=True)
def plain_word_end(text, at, end, kinds):
    """Return the end of the word at `at` where an ASCII letter, perhaps after one space, begins it, else `at`.

    A short cut to what `piece_end` gives for most pieces: nothing else can begin there.
    """
    body = at + np.int64(load8(text, at) == _SPACE_BYTE)
    if np.uint64((load8(text, body) | 0x20) - 0x61) < np.uint64(26) and body < end:
        return letters_end(text, body + 1, end, kinds)
    return at


@njit(forceinline=True)
def _numbers_end(text, at, end, kinds):
    r"""Return the end of `\p{N}*` from `at`."""
    while at < end:
        point, length = code_point(text, at)
        if not load8(kinds, point) & NUMBER:
            break
        at += length
    return at


@njit(forceinline=True)
def _others_end(text, at, end, kinds, added):
    r"""Return the end of `[^\s\p{L}\p{N}]+` from `at`, where no literal stands, or the next literal's start."""
    point, length = code_point(text, at)
    at += length
    while at < end:
        point, length = code_point(text, at)
        kind = load8(kinds, point)
        if not kind & OTHER or (kind & LITERAL and literal_at(text, at, end, added) >= 0):
            break
        at += length
    return at


@njit
def _spaces_end(text, at, end, kinds, added):
    r"""Return the end of `\s+(?!\S)|\s+` from `at`, where a space stands that is no part of an added token.

    All spaces where the segment ends with them, else all but the last one (which may lead the next piece) but for
    a single one.
    """
    last = at
    count = 0
    while at < end:
        if space_run_at(text, at, end, added):
            return at
        point, length = code_point(text, at)
        kind = load8(kinds, point)
        if not kind & SPACE:
            if count == 1 or (kind & LITERAL and literal_at(text, at, end, added) >= 0):
                return at
            return last
        last = at
        count += 1
        at += length
    return at


@njit(forceinline=True)
def piece_end(text, at, end, kinds, added):
    """Return the end of the piece that begins at `at`, where no added token stands, in the text that ends at `end`."""
    first = load8(text, at)
    body = at
    if first == _SPACE_BYTE and at + 1 < end:
        body += 1
    point, length = code_point(text, body)
    kind = load8(kinds, point)
    if kind & LETTER:
        return letters_end(text, body + length, end, kinds)
    if kind & SPACE:
        return _spaces_end(text, at, end, kinds, added)
    if kind & NUMBER:
        return _numbers_end(text, body + length, end, kinds)
    if first == _APOSTROPHE:
        after = _contraction_end(text, at, end)
        if after > at:
            return after
    if body > at and kind & LITERAL and literal_at(text, body, end, added) >= 0:
        return body
    return _others_end(text, body, end, kinds, added)
