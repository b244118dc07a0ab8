"""A set of 128-bit hashes by open addressing."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def add_hashes(table, hashes, repeated):
    """Add `hashes` (uint64[n, 2]) to `table` (uint64[power of two, 2], zero where free); return how many are new.

    `repeated` (bool[n], false at first) becomes true where a hash was in the table already. The table must have room.
    The all-zero hash cannot be stored and stands for (0, 1): one more collision among 2^128 values.
    """
    mask = len(table) - 1
    added = 0
    for i in range(len(hashes)):
        low = hashes[i, 0]
        high = hashes[i, 1]
        if low == 0 and high == 0:
            high = np.uint64(1)
        slot = np.int64(low & np.uint64(mask))
        while True:
            if table[slot, 0] == 0 and table[slot, 1] == 0:
                table[slot, 0] = low
                table[slot, 1] = high
                added += 1
                break
            if table[slot, 0] == low and table[slot, 1] == high:
                repeated[i] = True
                break
            slot = (slot + 1) & mask
    return added
