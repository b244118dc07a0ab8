"""Finds the entries of a word list in UTF-8 text: whole words, phrases, any case, leftmost and longest.

The rules are those of `olmo_core.curation.lexicon`. Entries are lists of code points in lower case, found by a hash of
their first three; each chain is sorted longest first. Kernels take the buffers of `olmo_core.kernels.buffers`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from olmo_core.kernels import words
from olmo_core.kernels.quality_strings import leaf
from olmo_core.kernels.words import code_point, sequence_length

SPACE = 1
"""White space as `str.isspace()` has it; ends a word of the count, and matches a space in a phrase."""
WORD = 2
"""Letters, digits, marks and the underscore: an entry never begins or ends in the middle of a run of these."""

LOWERED = 0x1F000
"""Code points below this have an entry in the table of lower cases; above it nothing has case."""
HEADS = 4096
"""Chains of entries."""


class Entries(NamedTuple):
    """k entries of a word list."""

    points: npt.NDArray[np.int32]
    """Code points of all entries, one behind the other."""
    offsets: npt.NDArray[np.int64]
    """(k + 1,) where each entry begins in `points`."""
    heads: npt.NDArray[np.int32]
    """(HEADS,) first entry of each chain, -1 for none."""
    following: npt.NDArray[np.int32]
    """(k,) next entry of the chain, -1 at its end; never longer than the one before it."""
    first: npt.NDArray[np.bool_]
    """(256,) whether an entry begins with that ASCII character, in either case; true from 0x80 on."""
    short: npt.NDArray[np.bool_]
    """(256,) whether an entry of one or two code points begins with a code point of that last byte."""


class Found(NamedTuple):
    """m matches in n texts."""

    starts: npt.NDArray[np.int64]
    """(m,) first byte of each match, counted in the buffer."""
    ends: npt.NDArray[np.int64]
    """(m,) byte behind each match."""
    which: npt.NDArray[np.int32]
    """(m,) number of the entry."""
    rows: npt.NDArray[np.int64]
    """(n + 1,) number of the first match of each text."""
    words: npt.NDArray[np.int64]
    """(n,) words of each text, as `str.split()` has them."""


@lru_cache(maxsize=1)
def lexicon_classes() -> npt.NDArray[np.uint8]:
    """The bits above for every code point (2**21 entries: no UTF-8 sequence, even an invalid one, reads outside)."""
    known = words.character_classes()
    table = np.where(known & words.SPACE, SPACE, np.where(known & words.ALPHABETIC, WORD, 0)).astype(np.uint8)
    for point in range(0x20000):  # numbers and marks; those of later planes belong to no text worth the time
        character = chr(point)
        if character == "_" or character.isnumeric() or unicodedata.category(character)[0] == "M":
            table[point] = WORD
    return table


@lru_cache(maxsize=1)
def lower_cases() -> npt.NDArray[np.int32]:
    """The lower case of each code point below LOWERED where that is one code point, and itself otherwise."""
    lowered = [chr(point).lower() for point in range(LOWERED)]
    return np.array([ord(low) if len(low) == 1 else point for point, low in enumerate(lowered)], np.int32)


def lower(text: str) -> str:
    """The lower case of a text, code point by code point, as the kernel sees it."""
    table = lower_cases()
    return "".join(chr(table[ord(c)]) if ord(c) < LOWERED else c for c in text)


def entries(listed: Sequence[str]) -> Entries:
    """Lay out distinct, lower-case, non-empty entries; entry i is `listed[i]`."""
    points = [[ord(c) for c in word] for word in listed]
    heads, following = np.full(HEADS, -1, np.int32), np.full(len(listed), -1, np.int32)
    for i in sorted(range(len(listed)), key=lambda i: len(points[i])):  # a longer one goes in front
        slot = slot_of(*key_points(points[i]))
        following[i], heads[slot] = heads[slot], i
    first = np.arange(256) >= 0x80
    for character in {chr(p[0]) for p in points if p[0] < 0x80}:
        first[[ord(character), ord(character.upper())]] = True
    short = np.zeros(256, bool)
    short[[p[0] & 255 for p in points if len(p) < 3]] = True
    return Entries(
        points=np.array([c for p in points for c in p], np.int32),
        offsets=np.cumsum([0, *map(len, points)], dtype=np.int64),
        heads=heads,
        following=following,
        first=first,
        short=short,
    )


def key_points(points: Sequence[int]) -> tuple[int, int, int]:
    """The three code points that an entry is found by, 0 where it is shorter or where a space may be any run of them."""
    second = points[1] if len(points) > 1 else 0
    return points[0], second, points[2] if len(points) > 2 and second != 32 else 0


@leaf
def slot_of(first, second, third):
    """Return the chain of the entries with these key points."""
    return (first * 289 + second * 17 + third + (third >> 5)) & (HEADS - 1)


@leaf
def point_at(text, i, lowers):
    """Return the lower case of the code point that begins at byte `i`."""
    point = np.int64(text[i]) if text[i] < 0x80 else np.int64(code_point(text, i))
    return np.int64(lowers[point]) if point < LOWERED else point


@leaf
def match_end(text, i, end, points, begin, stop, classes, lowers):
    """Return the byte behind the entry `points[begin:stop]` when it stands at byte `i`, or -1.

    A space in the entry stands for any run of white space.
    """
    for k in range(begin, stop):
        if i >= end:
            return -1
        point = point_at(text, i, lowers)
        if points[k] == 32:
            if not classes[point] & SPACE:
                return -1
            while i < end and classes[point_at(text, i, lowers)] & SPACE:
                i += sequence_length(text[i])
            continue
        if point != points[k]:
            return -1
        i += sequence_length(text[i])
    return i


@leaf
def longest_match(text, i, end, slot, listed, classes, lowers):
    """Return `(entry, stop)` of the first entry of a chain that stands at byte `i` and ends with a word, or (-1, i)."""
    entry = listed.heads[slot]
    while entry >= 0:
        begin, behind = listed.offsets[entry], listed.offsets[entry + 1]
        stop = match_end(text, i, end, listed.points, begin, behind, classes, lowers)
        if stop >= 0:
            last = listed.points[behind - 1]
            free = last >= 0x80 and not classes[last] & WORD  # a symbol such as an emoji may touch anything
            if free or stop == end or not classes[point_at(text, stop, lowers)] & WORD:
                return entry, stop
        entry = listed.following[entry]
    return -1, i


@leaf
def entry_at(text, i, end, listed, classes, lowers):
    """Return `(entry, stop)` of the longest entry that stands at byte `i`, or (-1, i)."""
    first = point_at(text, i, lowers)
    after = i + sequence_length(text[i])
    second = np.int64(0)
    third = np.int64(0)
    if after < end:
        second = point_at(text, after, lowers)
        if classes[second] & SPACE:
            second = np.int64(32)
        else:
            after += sequence_length(text[after])
            if after < end:
                third = point_at(text, after, lowers)
                if classes[third] & SPACE:
                    third = np.int64(32)
    entry, stop = longest_match(text, i, end, slot_of(first, second, third), listed, classes, lowers)
    if entry < 0 and listed.short[first & 255]:
        if third:
            entry, stop = longest_match(text, i, end, slot_of(first, second, 0), listed, classes, lowers)
        if entry < 0:
            entry, stop = longest_match(text, i, end, slot_of(first, 0, 0), listed, classes, lowers)
    return entry, stop


@leaf
def bits_before(text, start, i, classes):
    """Return the class bits of the character that ends at byte `i`, or SPACE where the text begins at `start`."""
    if i == start:
        return np.uint8(SPACE)
    i -= 1
    while i > start and (text[i] & 0xC0) == 0x80:
        i -= 1
    return classes[text[i] if text[i] < 0x80 else code_point(text, i)]


@leaf
def count_words(text, i, end, before, classes):
    """Return how many words, as `str.split()` has them, begin in bytes `i` to `end`; `before` is what stands there."""
    count = 0
    while i < end:
        byte = text[i]
        bits = classes[byte] if byte < 0x80 else classes[code_point(text, i)]
        count += before & SPACE and not bits & SPACE
        before = bits
        i += sequence_length(byte)
    return count


@leaf
def find_entries(text, offsets, listed, classes, lowers, row, i, count, starts, ends, which, rows, counts):
    """Write matches to `starts`, `ends` (int64) and `which` (int32) from number `count` on; return `(row, i, count)`.

    Begins in row `row` at byte `i` and stops behind the last row or when the arrays are full. `rows` (int64[n + 1])
    gets the number of the match each row begins with, `counts` (int64[n], zeros at first) the words of each row.
    """
    while row < len(offsets) - 1:
        end = offsets[row + 1]
        before = bits_before(text, offsets[row], i, classes)
        while i < end:
            byte = text[i]
            bits = classes[byte] if byte < 0x80 else classes[code_point(text, i)]
            if listed.first[byte] and (not before & WORD or (byte >= 0x80 and not bits & WORD)):
                entry, stop = entry_at(text, i, end, listed, classes, lowers)
                if entry >= 0:
                    if count == len(starts):
                        return row, i, count
                    starts[count], ends[count], which[count] = i, stop, entry
                    count += 1
                    counts[row] += count_words(text, i, stop, before, classes)
                    before = bits_before(text, offsets[row], stop, classes)
                    i = stop
                    continue
            counts[row] += before & SPACE and not bits & SPACE
            before = bits
            i += sequence_length(byte)
            if bits & WORD:
                while i < end and text[i] < 0x80 and classes[text[i]] & WORD:
                    i += 1  # most bytes: the rest of a word, where nothing begins
        row += 1
        rows[row] = count
    return row, i, count


def find(text: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], listed: Entries) -> Found:
    """Return the matches of the entries in the rows of a buffer."""
    classes, lowers = lexicon_classes(), lower_cases()
    rows, counts = np.zeros(len(offsets), np.int64), np.zeros(len(offsets) - 1, np.int64)
    size = 16 + len(text) // 1024
    starts: npt.NDArray[np.int64] = np.empty(size, np.int64)
    ends: npt.NDArray[np.int64] = np.empty(size, np.int64)
    which: npt.NDArray[np.int32] = np.empty(size, np.int32)
    row, i, count = 0, 0, 0
    while True:
        row, i, count = find_entries(
            text, offsets, listed, classes, lowers, row, i, count, starts, ends, which, rows, counts
        )
        if row == len(offsets) - 1:
            return Found(starts[:count], ends[:count], which[:count], rows, counts)
        starts, ends = np.resize(starts, 2 * count), np.resize(ends, 2 * count)
        which = np.resize(which, 2 * count)
