"""Byte-pair merges of one piece of text, exactly as the `tokenizers` library does them.

The merge of lowest rank goes first, the leftmost of equals. Ids that merges make rise with their rank (checked when
the tokenizer is read), so the id of a merged pair also serves as its rank.

Three ways by length, same result: up to SHORT bytes a scan over all pairs for each merge, quadratic but with no
set-up; up to a window a heap over a linked list; beyond it, windows of the piece that overlap, so that a word of
50 MB takes time linear in its length and no memory of its own.

Why windows may be joined: a sequence of tokens is the encoding of its bytes exactly when each two neighbours are the
encoding of theirs. (Take the first merge that crosses a boundary between two tokens. Up to then the two have been
merged by themselves, so they would be merged across that boundary without the rest too.) If the window that begins
where token t of the window before begins starts with t as well, then all neighbours were seen in one of the two
windows, and the tokens before t, followed by the new window's, encode both. If it does not, the piece is begun again
with windows twice as long (all of it: what the windows before agreed on may be wrong too).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from olmo_core.kernels.byte_pairs_loads import load8, pointer

SHORT = 64
"""Bytes up to which the quadratic scan is used, and a heap beyond. Nearly all pieces have fewer than 16."""
WINDOW = 8192
"""Bytes of a window: 330 kB of scratch, which stays in the second-level cache."""
_NEVER = 0x7FFFFFFF
_PAIR_HASH = np.uint64(0x9E3779B97F4A7C15)


class Merges(NamedTuple):
    """The merge rules inside compiled code (pointers, and so no arrays)."""

    byte_ids: Any
    """int64[256]: the id of each byte; 0 for bytes that valid UTF-8 never holds."""
    pairs: Any
    """The table that `pair_table` makes."""
    mask: Any
    """Its number of slots less 1, uint64."""


@njit(forceinline=True)
def merges_of(byte_ids, pairs):
    """Return the Merges that point into the two arrays."""
    return Merges(pointer(byte_ids), pointer(pairs), np.uint64(pairs.shape[0] - 1))


@njit(forceinline=True)
def _first_slot(key, mask):
    return ((key * _PAIR_HASH) >> np.uint64(32)) & mask


@njit(cache=True)
def _fill_pairs(left, right, merged, pairs):
    mask = np.uint64(pairs.shape[0] - 1)
    for index in range(left.shape[0]):
        key = (np.uint64(left[index]) << np.uint64(16)) | np.uint64(right[index])
        slot = _first_slot(key, mask)
        while pairs[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        pairs[slot] = (key << np.uint64(16)) | np.uint64(merged[index])


def pair_table(
    left: npt.NDArray[np.uint16], right: npt.NDArray[np.uint16], merged: npt.NDArray[np.uint16]
) -> npt.NDArray[np.uint64]:
    """Return the table of the merges `left[i], right[i] -> merged[i]`; `merged` rises with i and is never 0.

    uint64[power of two], open-addressed and at most half full: left << 32 | right << 16 | merged, 0 for a free slot.
    """
    pairs = np.zeros(1 << max(4, (2 * len(left)).bit_length()), np.uint64)
    _fill_pairs(left, right, merged, pairs)
    return pairs


@njit(forceinline=True)
def merged_id(merges, left, right):
    """Return the id, which is also the rank, of two adjacent ids merged; _NEVER where no merge joins them."""
    key = (np.uint64(left) << np.uint64(16)) | np.uint64(right)
    slot = _first_slot(key, merges.mask)
    while True:
        entry = merges.pairs[slot]
        if entry == 0:
            return _NEVER
        if entry >> np.uint64(16) == key:
            return np.int64(entry & np.uint64(0xFFFF))
        slot = (slot + np.uint64(1)) & merges.mask


@njit
def merge_short(text, at, end, merges, scratch, out, to):
    """Merge `text[at:end]`, at most SHORT bytes, to `out[to:]` (uint16) and return the end of what was written.

    `scratch` is int64[2 SHORT]: the ids, and the rank of the pair that begins at each.
    """
    count = end - at
    for index in range(count):
        scratch[index] = merges.byte_ids[load8(text, at + index)]
    for index in range(count - 1):
        scratch[SHORT + index] = merged_id(merges, scratch[index], scratch[index + 1])
    while count > 1:
        best, place = _NEVER, -1
        for index in range(count - 1):
            rank = scratch[SHORT + index]
            if rank < best:
                best, place = rank, index
        if place < 0:
            break
        scratch[place] = best
        for index in range(place + 1, count - 1):
            scratch[index] = scratch[index + 1]
            scratch[SHORT + index] = scratch[SHORT + index + 1]
        count -= 1
        if place < count - 1:
            scratch[SHORT + place] = merged_id(merges, best, scratch[place + 1])
        if place > 0:
            scratch[SHORT + place - 1] = merged_id(merges, scratch[place - 1], best)
    for index in range(count):
        out[to + index] = scratch[index]
    return to + count


@njit
def _push(heap, size, entry):
    """Add an entry to the binary min-heap `heap[:size]`."""
    hole = size
    while hole > 0:
        parent = (hole - 1) >> 1
        if heap[parent] <= entry:
            break
        heap[hole] = heap[parent]
        hole = parent
    heap[hole] = entry


@njit
def _pop(heap, size):
    """Remove and return the smallest entry of the binary min-heap `heap[:size]`."""
    smallest = heap[0]
    entry = heap[size - 1]
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= size - 1:
            break
        if child + 1 < size - 1 and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= entry:
            break
        heap[hole] = heap[child]
        hole = child
    heap[hole] = entry
    return smallest


@njit
def merge_window(text, at, end, merges, ids, starts, links, heap):
    """Merge `text[at:end]` to `ids` and return their number; `starts` gets the bytes before each.

    With n bytes: `ids` and `starts` are int32[n]; scratch is `links`, int32[2, n], and `heap`, int64[2 n]. A heap entry
    is rank << 32 | position: lowest rank first, leftmost of equals. An entry whose pair has changed since is skipped.
    """
    length = end - at
    before, after = links[0], links[1]
    for index in range(length):
        ids[index] = merges.byte_ids[load8(text, at + index)]
        before[index] = index - 1
        after[index] = index + 1
    size = 0
    for index in range(length - 1):
        rank = merged_id(merges, ids[index], ids[index + 1])
        if rank != _NEVER:
            _push(heap, size, (rank << 32) | index)
            size += 1
    while size > 0:
        entry = _pop(heap, size)
        size -= 1
        rank, place = entry >> 32, entry & 0xFFFFFFFF
        follower = after[place]
        if ids[place] < 0 or follower >= length or merged_id(merges, ids[place], ids[follower]) != rank:
            continue
        ids[place] = rank
        ids[follower] = -1
        beyond = after[follower]
        after[place] = beyond
        if beyond < length:
            before[beyond] = place
            next_rank = merged_id(merges, rank, ids[beyond])
            if next_rank != _NEVER:
                _push(heap, size, (next_rank << 32) | place)
                size += 1
        ahead = before[place]
        if ahead >= 0:
            next_rank = merged_id(merges, ids[ahead], rank)
            if next_rank != _NEVER:
                _push(heap, size, (next_rank << 32) | ahead)
                size += 1
    count = 0
    place = 0
    while place < length:
        ids[count] = ids[place]
        starts[count] = place
        count += 1
        place = after[place]
    return count


@njit
def _merge_windows(text, at, end, merges, size, out, to):
    """`merge_long` with windows of `size` bytes; returns -1 where two windows do not agree."""
    ids, starts = np.empty(size, np.int32), np.empty(size, np.int32)
    next_ids, next_starts = np.empty(size, np.int32), np.empty(size, np.int32)
    links, heap = np.empty((2, size), np.int32), np.empty(2 * size, np.int64)
    stop = min(at + size, end)
    count = merge_window(text, at, stop, merges, ids, starts, links, heap)
    while stop < end:
        # The last eighth of a window may depend on what follows it: the next window begins before that.
        shared = count - 1
        while shared > 0 and starts[shared] > size - size // 8:
            shared -= 1
        at += starts[shared]
        stop = min(at + size, end)
        next_count = merge_window(text, at, stop, merges, next_ids, next_starts, links, heap)
        if shared == 0 or next_ids[0] != ids[shared]:
            return -1
        for index in range(shared):
            out[to + index] = ids[index]
        to += shared
        ids, next_ids = next_ids, ids
        starts, next_starts = next_starts, starts
        count = next_count
    for index in range(count):
        out[to + index] = ids[index]
    return to + count


@njit
def merge_long(text, at, end, merges, window, out, to):
    """Merge `text[at:end]` of any length to `out[to:]` (uint16) and return the end of what was written.

    `window` is in bytes, at least 2; scratch is 40 bytes for each of the window's, and grows only where windows do not
    agree, which no real text has been seen to do.
    """
    size = min(window, end - at)
    stop = _merge_windows(text, at, end, merges, size, out, to)
    while stop < 0:
        size = min(2 * size, end - at)
        stop = _merge_windows(text, at, end, merges, size, out, to)
    return stop
