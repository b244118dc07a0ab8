"""Where the words of a text are: fastText's separators, and white space at both ends as Python strips it.

fastText separates words at NUL, tab, line feed, vertical tab, form feed, carriage return and space, nothing else.
All functions take a pointer to padded bytes (`olmo_core.kernels.buffers`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from olmo_core.kernels.byte_pairs_loads import load64, trailing_zeros

HIGH_BITS = np.uint64(0x8080808080808080)
LOW_BITS = np.uint64(0x7F7F7F7F7F7F7F7F)
SPACES = np.uint64(0x2020202020202020)
FROM_TAB = np.uint64(0x7777777777777777)  # carries into the high bit from 9 up
BEYOND_RETURN = np.uint64(0x7272727272727272)  # carries into the high bit from 14 up


@njit(nogil=True, cache=True)
def separators(block):
    """Return a word with the high bit set in each byte of `block` that separates words: 0, 9 to 13 and 32."""
    low = block & LOW_BITS
    other_than_space = ((block ^ SPACES) & LOW_BITS) + LOW_BITS | block ^ SPACES
    other_than_nul = low + LOW_BITS | block
    controls = (low + FROM_TAB) & ~(low + BEYOND_RETURN) & ~block
    return (~other_than_space | ~other_than_nul | controls) & HIGH_BITS


@njit(nogil=True, cache=True)
def next_word(text, start, end):
    """Return `(start, end)` of the first word from `start` on; both are `end` when there is none."""
    while start < end:
        found = separators(load64(text, start))
        if found & np.uint64(0x80) == 0:
            break
        start += 1
    after = start
    while after < end:
        found = separators(load64(text, after))
        if found != 0:
            after += trailing_zeros(found) >> 3
            break
        after += 8
    return start, min(after, end)


@njit(nogil=True, cache=True)
def space_at(text, i, end):
    """Return the bytes of the white space that begins at byte `i`, 0 if none does; `str.isspace` is the definition."""
    lead = text[i]
    if lead < 0x80:
        return 1 if lead == 32 or 9 <= lead <= 13 or 28 <= lead <= 31 else 0
    if lead == 0xC2 and i + 1 < end:
        return 2 if text[i + 1] == 0x85 or text[i + 1] == 0xA0 else 0
    if (lead == 0xE1 or lead == 0xE2 or lead == 0xE3) and i + 2 < end:
        point = (np.int64(lead) & 0x0F) << 12 | (np.int64(text[i + 1]) & 0x3F) << 6 | (np.int64(text[i + 2]) & 0x3F)
        if 0x2000 <= point <= 0x200A or point == 0x2028 or point == 0x2029 or point == 0x202F:
            return 3
        if point == 0x1680 or point == 0x205F or point == 0x3000:
            return 3
    return 0


@njit(nogil=True, cache=True)
def stripped(text, start, end):
    """Return `(start, end)` without white space on either side, as `str.strip` does."""
    while start < end:
        size = space_at(text, start, end)
        if size == 0:
            break
        start += size
    while start < end:
        size = 1
        while size <= 3 and end - size >= start and space_at(text, end - size, end) != size:
            size += 1
        if size > 3 or end - size < start:
            break
        end -= size
    return start, end
