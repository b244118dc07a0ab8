"""Exact Jaccard similarity of documents as sets of word shingles."""

from __future__ import annotations

from itertools import pairwise

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.shingle_alphabet import alphabet
from olmo_core.kernels.shingles import BLOCK, next_shingles


def shingle_sets(
    texts: pa.LargeStringArray, width: int, counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Return `(hashes, starts)`: the distinct shingle hashes of text i, ascending, are `hashes[starts[i]:starts[i + 1]]`.

    `counts` are the numbers of shingles that `signatures.tag` gave for these texts; ValueError when one differs,
    because then the texts are not those that were signed. Needs 8 bytes of memory a shingle beside the texts.
    """
    data, offsets = text_buffers(texts)
    pages, letters = alphabet()
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    hashes = np.empty(int(starts[-1]), np.uint64)
    wrong = int(_write_shingles(data, offsets, pages, letters, width, starts, hashes))
    if wrong >= 0:
        raise ValueError(f"text {wrong} of this batch has not the {int(counts[wrong])} shingles of its signature")
    bounds = starts.tolist()
    for first, last in pairwise(bounds):
        hashes[first:last].sort()  # numpy's vectorised sort, several times as fast as a compiled loop's
    return hashes[: int(_keep_distinct(hashes, starts))], starts


@numba.njit(nogil=True, cache=True)
def _write_shingles(data, offsets, pages, letters, width, starts, hashes):
    """Write all shingles of document i to `hashes[starts[i]:starts[i + 1]]`; return the first that does not fit, or -1."""
    words = np.empty(BLOCK + width, np.uint64)
    block = np.empty(BLOCK + width, np.uint64)
    for document in range(len(offsets) - 1):
        at = offsets[document]
        end = offsets[document + 1]
        carried = 0
        total = 0
        room = starts[document + 1] - starts[document]
        while at < end:
            filled, at, carried = next_shingles(data, at, end, pages, letters, words, carried, total, width, block)
            if total + filled > room:
                return document
            for i in range(filled):
                hashes[starts[document] + total + i] = block[i]
            total += filled
        if total != room:
            return document
    return -1


@numba.njit(nogil=True, cache=True)
def _keep_distinct(hashes, starts):
    """Close up the sorted sets in place, each value once; rewrite `starts` and return the length of all."""
    kept = 0
    first = starts[0]
    for document in range(len(starts) - 1):
        last = starts[document + 1]
        starts[document] = kept
        for i in range(first, last):
            if i == first or hashes[i] != hashes[i - 1]:
                hashes[kept] = hashes[i]
                kept += 1
        first = last
    starts[len(starts) - 1] = kept
    return kept


@numba.njit(nogil=True, cache=True)
def jaccard(left, right, threshold):
    """Jaccard similarity of two ascending sets (uint64) where it reaches the threshold, else -1.

    A similarity below the threshold is recognised early: of sets of sizes m and n, at least t (m + n) / (1 + t)
    values must be common. The comparison itself is that of common / union in double precision with the threshold, so
    4 common of 5 reach 0.8.
    """
    both = len(left) + len(right)
    need = np.int64(threshold * both / (1.0 + threshold) - 1e-6)  # rounded down: the last word has the division
    spare_left = len(left) - need
    spare_right = len(right) - need
    common = 0
    i = 0
    j = 0
    while i < len(left) and j < len(right):
        if i - common > spare_left or j - common > spare_right:
            return -1.0
        a = left[i]
        b = right[j]
        common += a == b
        i += a <= b
        j += b <= a
    similarity = common / (both - common) if both > 0 else 0.0
    return similarity if similarity >= threshold else -1.0


@numba.njit(nogil=True, cache=True)
def resolve_in_order(
    first,
    last,
    bucket_of,
    bucket_start,
    bucket_room,
    bucket_filled,
    kept,
    hashes,
    set_start,
    set_size,
    threshold,
    partner,
    similarity,
    full,
    tally,
):
    """Decide rows `first` to `last` of a ranked list, best first; call with consecutive spans from 0.

    A row is compared with the kept rows of its buckets, best-ranked first, until one reaches the threshold: then it
    is a duplicate of that row. Else it is kept and joins its buckets, those that have room.

    bucket_of: (rows, bands) int32, number of the bucket or -1. bucket_start, bucket_room, bucket_filled: each
    bucket's part of `kept` (int32 rows), the places in it and those taken. hashes, set_start, set_size: shingle sets.
    partner (int32, -1 when kept), similarity (float64), full (bool: a bucket had no room for this kept row) and
    tally (int64: pairs compared, pairs that matched) are written.
    """
    bands = bucket_of.shape[1]
    cursor = np.empty(bands, np.int64)
    for row in range(first, last):
        left = hashes[set_start[row] : set_start[row] + set_size[row]]
        for band in range(bands):
            cursor[band] = 0
        while partner[row] < 0:
            best = np.int64(row)
            for band in range(bands):  # merge the buckets' lists, each ascending in rank
                bucket = bucket_of[row, band]
                if bucket >= 0 and cursor[band] < bucket_filled[bucket]:
                    head = np.int64(kept[bucket_start[bucket] + cursor[band]])
                    best = min(best, head)
            if best == row:
                break
            for band in range(bands):
                bucket = bucket_of[row, band]
                if bucket >= 0 and cursor[band] < bucket_filled[bucket]:
                    cursor[band] += kept[bucket_start[bucket] + cursor[band]] == best
            found = jaccard(left, hashes[set_start[best] : set_start[best] + set_size[best]], threshold)
            tally[0] += 1
            if found >= 0.0:
                tally[1] += 1
                partner[row] = best
                similarity[row] = found
        if partner[row] >= 0:
            continue
        for band in range(bands):
            bucket = bucket_of[row, band]
            if bucket >= 0:
                if bucket_filled[bucket] < bucket_room[bucket]:
                    kept[bucket_start[bucket] + bucket_filled[bucket]] = row
                    bucket_filled[bucket] += 1
                else:
                    full[row] = True
