"""Byte strings inside a text, eight bytes at a time: load, scan, hash, compare, number.

`eights` is the text's buffer seen as little-endian 64-bit integers (`eight_bytes(text)`). Loading eight bytes at any
position takes two aligned loads; the padding of `buffers.text_buffers` makes that safe up to 16 bytes behind the end.
Equal strings are found by hash, size and then bytes, so numbers are exact: a hash collision costs time only.
"""

from __future__ import annotations

import numpy as np
from numba import njit

leaf = njit(nogil=True, cache=True, _nrt=False)  # type: ignore[call-overload]  # as in numba/core/extending.py
"""Compiles a function that allocates nothing: without reference counts on the arrays it is given.

Counting costs two atomic operations an array and call, which LLVM cannot remove around loops (measured on the
whole of `gopher_statistics`: 15 MB/s with, 62 without). A function that does allocate fails to compile with it.
"""

ONES = np.uint64(0x0101010101010101)
HIGHS = np.uint64(0x8080808080808080)
ABOVE_SPACE = np.uint64(0x2121212121212121)
LINE_FEEDS = np.uint64(0x0A0A0A0A0A0A0A0A)
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit(nogil=True, cache=True)
def eight_bytes(text):
    """Return the uint8 buffer as uint64 (its last 0 to 7 bytes, which are padding, left off)."""
    return text[: len(text) // 8 * 8].view(np.uint64)


@leaf
def load(eights, i):
    """Return bytes `i` to `i + 8` as one integer, byte `i` lowest."""
    shift = np.uint64((i & 7) << 3)
    return eights[i >> 3] >> shift | (eights[(i >> 3) + 1] << np.uint64(1)) << (np.uint64(63) - shift)


@leaf
def first_mark(marks):
    """Return which byte (0 to 7) is the lowest with its high bit set in `marks`, which is not 0."""
    below = (marks & (~marks + np.uint64(1))) - np.uint64(1)
    return np.int64(((below & ONES) * ONES) >> np.uint64(56)) - 1


@leaf
def plain_marks(chunk):
    """Set the high bit of bytes that are not printable ASCII (0x21 to 0x7F); exact up to the first such byte."""
    return ((chunk - ABOVE_SPACE) | chunk) & HIGHS


@leaf
def plain_until(eights, i, end):
    """Return the first byte at or behind `i` outside 0x21 to 0x7F, or `end`."""
    while i < end:
        marks = plain_marks(load(eights, i))
        if marks:
            return min(i + first_mark(marks), end)
        i += 8
    return end


@leaf
def line_end(eights, i, end):
    """Return the first line feed at or behind byte `i`, or `end`."""
    while i < end:
        chunk = load(eights, i) ^ LINE_FEEDS
        marks = (chunk - ONES) & ~chunk & HIGHS
        if marks:
            return min(i + first_mark(marks), end)
        i += 8
    return end


@leaf
def scrambled(value):
    """Spread a 64-bit value over all bits, one to one (the finalizer of MurmurHash3, Appleby 2011)."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


@leaf
def head(eights, i, size):
    """Return bytes `i` to `i + size` as one integer; `size` is 1 to 8."""
    shift = np.uint64(64 - 8 * size)
    return load(eights, i) << shift >> shift


@leaf
def string_code(eights, begin, size):
    """Return the 64-bit hash of a non-empty byte string; of strings of one size up to 8, one to one."""
    code = np.uint64(0)
    while size > 8:
        code = (code ^ load(eights, begin)) * GOLDEN
        code ^= code >> np.uint64(32)
        begin += 8
        size -= 8
    return scrambled(code ^ head(eights, begin, size))


@leaf
def same_string(eights, a, b, size):
    """Return whether the byte strings of `size` at `a` and `b` are equal."""
    while size > 8:
        if load(eights, a) != load(eights, b):
            return False
        a += 8
        b += 8
        size -= 8
    return head(eights, a, size) == head(eights, b, size)


@leaf
def find_slot(eights, begin, size, code, slots, codes, firsts, sizes):
    """Return the slot of the byte string of `size` at `begin` with hash `code`, or the free one it belongs in.

    `slots` (int32, a power of two long, -1 = free) holds entry numbers; entry k is the string of `sizes[k]` bytes at
    `firsts[k]` with hash `codes[k]`. Linear probing.
    """
    mask = len(slots) - 1
    slot = np.int64(code & np.uint64(mask))
    while slots[slot] >= 0:
        entry = slots[slot]
        if (
            codes[entry] == code
            and sizes[entry] == size
            and (size <= 8 or same_string(eights, firsts[entry], begin, size))
        ):
            break
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
