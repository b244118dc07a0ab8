"""Words of a document as small integers: split at Unicode whitespace, equal words get equal numbers.

A word is what Python's `str.split()` returns. Numbering compares bytes whenever hashes are equal, so everything that
is computed from the numbers is exact. All kernels take the flat buffers of `olmo_core.kernels.buffers`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba import njit

ALPHABETIC = 1
"""Bit of `character_classes()`: `str.isalpha()` is true."""

SPACE = 2
"""Bit of `character_classes()`: `str.isspace()` is true, so `str.split()` splits there."""

LOWERED_OUTSIDE = 4
"""Bit a caller may add for non-ASCII characters whose lower case a kernel cannot produce itself."""

HASH_SEED = np.uint64(0xCBF29CE484222325)
HASH_PRIME = np.uint64(0x100000001B3)
MIXER = np.uint64(0x9E3779B97F4A7C15)

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


@njit(nogil=True, cache=True)
def sequence_length(lead):
    """Return the number of bytes of the UTF-8 sequence that begins with the byte `lead`."""
    if lead < 0x80:
        return 1
    if lead < 0xE0:
        return 2
    return 3 if lead < 0xF0 else 4


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
def count_characters(text, start, end):
    """Return the number of code points in bytes `start` to `end`."""
    count = 0
    for i in range(start, end):
        count += (text[i] & 0xC0) != 0x80
    return count


@njit(nogil=True, cache=True)
def scrambled(value):
    """Spread a 64-bit value over all bits (the finalizer of MurmurHash3, Appleby 2011)."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


@njit(nogil=True, cache=True)
def find_slot(text, begin, size, code, slots, codes, firsts, sizes):
    """Return the slot of the byte string `text[begin:begin + size]` with hash `code`, or the free one it belongs in.

    `slots` (int32, a power of two long, -1 = free) holds entry numbers; entry k is `text[firsts[k]:][:sizes[k]]` with
    hash `codes[k]`. Linear probing; bytes are compared when hash and size are equal.
    """
    mask = len(slots) - 1
    slot = np.int64(code & np.uint64(mask))
    while slots[slot] >= 0:
        entry = slots[slot]
        if codes[entry] == code and sizes[entry] == size:
            first = firsts[entry]
            same = 0
            while same < size and text[first + same] == text[begin + same]:
                same += 1
            if same == size:
                return slot
        slot = (slot + 1) & mask
    return slot


@njit(nogil=True, cache=True)
def doubled_slots(slots, codes, entries):
    """Return a table twice as large as `slots` with the first `entries` entries put back by their hashes."""
    wider = np.full(2 * len(slots), -1, np.int32)
    mask = len(wider) - 1
    for entry in range(entries):
        slot = np.int64(codes[entry] & np.uint64(mask))
        while wider[slot] >= 0:
            slot = (slot + 1) & mask
        wider[slot] = entry
    return wider


@njit(nogil=True, cache=True)
def doubled(array):
    """Return a copy of a one-dimensional array with room for twice as many elements."""
    wider = np.empty(2 * len(array), array.dtype)
    wider[: len(array)] = array
    return wider


@njit(nogil=True, cache=True)
def number_words(text, start, end, classes):
    """Split bytes `start` to `end` into words and number the distinct ones in order of first appearance.

    Returns `(numbers, firsts, sizes)`: int32 number of every word in order; int64 first byte and int32 size in bytes
    of every distinct word. Scratch grows with what is found: at most 4 bytes a word and 40 a distinct word.
    The document must be shorter than 2**31 bytes.
    """
    numbers = np.empty((end - start) // 8 + 16, np.int32)
    codes = np.empty((end - start) // 16 + 16, np.uint64)
    firsts = np.empty(len(codes), np.int64)
    sizes = np.empty(len(codes), np.int32)
    width = 64
    while width < len(codes):
        width *= 2
    slots = np.full(width, -1, np.int32)
    words = 0
    distinct = 0
    i = start
    while True:
        while i < end:
            if text[i] < 0x80:
                if not classes[text[i]] & SPACE:
                    break
                i += 1
            else:
                if not classes[code_point(text, i)] & SPACE:
                    break
                i += sequence_length(text[i])
        if i >= end:
            break
        begin = i
        code = HASH_SEED
        while i < end:
            byte = text[i]
            if byte < 0x80:
                if classes[byte] & SPACE:
                    break
                code = (code ^ np.uint64(byte)) * HASH_PRIME
                i += 1
            else:
                point = code_point(text, i)
                if classes[point] & SPACE:
                    break
                code = (code ^ np.uint64(point)) * HASH_PRIME
                i += sequence_length(byte)
        code = scrambled(code)
        slot = find_slot(text, begin, i - begin, code, slots, codes, firsts, sizes)
        number = slots[slot]
        if number < 0:
            if distinct == len(codes):
                codes = doubled(codes)
                firsts = doubled(firsts)
                sizes = doubled(sizes)
            number = np.int32(distinct)
            codes[distinct] = code
            firsts[distinct] = begin
            sizes[distinct] = i - begin
            slots[slot] = number
            distinct += 1
            if 2 * distinct > len(slots):
                slots = doubled_slots(slots, codes, distinct)
        if words == len(numbers):
            numbers = doubled(numbers)
        numbers[words] = number
        words += 1
    return numbers[:words], firsts[:distinct], sizes[:distinct]
