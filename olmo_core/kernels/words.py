"""Words of a document as small integers: split at Unicode whitespace, equal words get equal numbers.

A word is what Python's `str.split()` returns. Numbering compares bytes whenever hashes are equal, so everything that
is computed from the numbers is exact. All kernels take the flat buffers of `olmo_core.kernels.buffers`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba import njit

from olmo_core.kernels.quality_strings import (
    doubled,
    doubled_slots,
    find_slot,
    first_mark,
    leaf,
    load,
    plain_marks,
    plain_until,
    scrambled,
    string_code,
)

ALPHABETIC = 1
"""Bit of `character_classes()`: `str.isalpha()` is true."""

SPACE = 2
"""Bit of `character_classes()`: `str.isspace()` is true, so `str.split()` splits there."""

LOWERED_OUTSIDE = 4
"""Bit a caller may add for non-ASCII characters whose lower case a kernel cannot produce itself."""

CODE_POINTS = 0x110000


@lru_cache(maxsize=1)
def character_classes() -> npt.NDArray[np.uint8]:
    """Bits `ALPHABETIC` and `SPACE` of every code point, from the running Python's own `str` methods (0.2 s, once).

    Python 3.11 has Unicode 14; a later Python knows more letters (`unicodedata.unidata_version` says which).
    2**21 entries, so that no four-byte sequence, even an invalid one, reads outside the table.
    """
    table = np.zeros(1 << 21, np.uint8)
    table[:CODE_POINTS] |= np.fromiter(map(str.isalpha, map(chr, range(CODE_POINTS))), np.uint8, CODE_POINTS)
    spaces = np.fromiter(map(str.isspace, map(chr, range(CODE_POINTS))), np.uint8, CODE_POINTS)
    table[:CODE_POINTS] |= spaces * np.uint8(SPACE)
    return table


@leaf
def sequence_length(lead):
    """Return the number of bytes of the UTF-8 sequence that begins with the byte `lead`."""
    if lead < 0x80:
        return 1
    if lead < 0xE0:
        return 2
    return 3 if lead < 0xF0 else 4


@leaf
def code_point(text, i):
    """Return the code point whose non-ASCII UTF-8 sequence begins at byte `i`."""
    lead = np.int64(text[i])
    if lead < 0xE0:
        return (lead & 0x1F) << 6 | (text[i + 1] & 0x3F)
    if lead < 0xF0:
        return (lead & 0x0F) << 12 | (np.int64(text[i + 1]) & 0x3F) << 6 | (text[i + 2] & 0x3F)
    return (
        (lead & 0x07) << 18
        | (np.int64(text[i + 1]) & 0x3F) << 12
        | (np.int64(text[i + 2]) & 0x3F) << 6
        | (text[i + 3] & 0x3F)
    )


@leaf
def count_characters(text, start, end):
    """Return the number of code points in bytes `start` to `end`."""
    count = 0
    for i in range(start, end):
        count += (text[i] & 0xC0) != 0x80
    return count


@leaf
def is_space(text, i, classes):
    """Return whether the character that begins at byte `i` is whitespace for `str.split()`."""
    point = np.int64(text[i])
    if point >= 0x80:
        point = code_point(text, i)
    return (classes[point] & SPACE) != 0


@leaf
def word_begin(text, i, end, classes):
    """Return the first byte at or behind `i` where a word begins, or `end`."""
    while i < end and is_space(text, i, classes):
        i += sequence_length(text[i])
    return min(i, end)


@leaf
def word_end(text, eights, i, end, classes):
    """Return the first byte at or behind `i` where whitespace begins, or `end`."""
    while True:
        i = plain_until(eights, i, end)
        if i >= end or is_space(text, i, classes):
            return min(i, end)
        i += sequence_length(text[i])


@leaf
def number_until_full(text, eights, i, end, classes, numbers, words, slots, codes, firsts, sizes, counts, distinct):
    """Number words from byte `i` until `end` or until an array is full; return `(next byte, words, distinct)`.

    Apart from `number_words` because arrays that a loop may replace cost it a reference count per use (measured: 31
    against 125 MB/s).
    """
    i = word_begin(text, i, end, classes)
    while i < end and words < len(numbers) and distinct < len(codes):
        begin = i
        chunk = load(eights, begin)
        marks = plain_marks(chunk)
        if marks:
            i = begin + first_mark(marks)
        if marks and i < end and text[i] < 0x80 and classes[text[i]] & SPACE:  # 1 to 7 ASCII bytes: most words
            code = scrambled(chunk & ((np.uint64(1) << np.uint64(8 * (i - begin))) - np.uint64(1)))
        else:
            i = word_end(text, eights, begin, end, classes)
            code = string_code(eights, begin, i - begin)
        slot = find_slot(eights, begin, i - begin, code, slots, codes, firsts, sizes)
        number = slots[slot]
        if number < 0:
            number = np.int32(distinct)
            slots[slot] = number
            codes[distinct] = code
            firsts[distinct] = begin
            sizes[distinct] = i - begin
            counts[distinct] = 0
            distinct += 1
        counts[number] += 1
        numbers[words] = number
        words += 1
        i += 1
        if i >= end or text[i] <= 0x20 or text[i] >= 0x80 or text[i - 1] >= 0x80:
            i = word_begin(text, i - 1, end, classes)
    return i, words, distinct


@njit(nogil=True, cache=True)
def number_words(text, eights, start, end, classes):
    """Split bytes `start` to `end` into words and number the distinct ones in order of first appearance.

    Returns `(numbers, firsts, sizes, counts)`: int32 number of every word in order; int64 first byte, int32 size in
    bytes and int32 count of every distinct word. Scratch grows with what is found: at most 12 bytes a word and 80 a
    distinct word. The document must be shorter than 2**31 bytes.
    """
    numbers = np.empty((end - start) // 5 + 16, np.int32)
    width = 64
    while width * 16 < end - start:
        width *= 2
    codes = np.empty(width // 2, np.uint64)
    firsts = np.empty(width // 2, np.int64)
    sizes = np.empty(width // 2, np.int32)
    counts = np.empty(width // 2, np.int32)
    slots = np.full(width, -1, np.int32)
    words = 0
    distinct = 0
    i = start
    while i < end:
        i, words, distinct = number_until_full(
            text, eights, i, end, classes, numbers, words, slots, codes, firsts, sizes, counts, distinct
        )
        if words == len(numbers):
            numbers = doubled(numbers)
        if distinct == len(codes):
            slots = doubled_slots(slots, codes, distinct)
            codes = doubled(codes)
            firsts = doubled(firsts)
            sizes = doubled(sizes)
            counts = doubled(counts)
    return numbers[:words], firsts[:distinct], sizes[:distinct], counts[:distinct]
