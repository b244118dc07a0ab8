"""From one word to the rows of a fastText input matrix: the word's own row and those of its character n-grams.

The definitions are those of `dictionary.cc` of fastText 0.9.2 (readWord, hash, find, computeSubwords, pushHash), among
them the ones that surprise: the 32-bit FNV-1a hash sign-extends bytes from 0x80 up, NUL separates words, and a word
that begins with `__label__` has no rows even when no label has that name.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from olmo_core.kernels.fasttext_view import WINDOW

FNV_SEED = np.uint32(2166136261)
FNV_PRIME = np.uint32(16777619)
SIGN_EXTENSION = np.uint32(0xFFFFFF00)

LABEL_PREFIX = b"__label__"
WORD_START = 60  # "<"
WORD_END = 62  # ">"

LAST_CONTINUATION = np.int8(-65)
"""Bytes up to here, as signed numbers, continue a UTF-8 sequence."""


@njit(nogil=True, cache=True)
def word_hash(text, start, end):
    """Return fastText's FNV-1a hash (uint32) of bytes `start` to `end`: bytes from 0x80 up count as negative."""
    code = FNV_SEED
    for i in range(start, end):
        byte = np.uint32(text[i])
        if byte >= 0x80:
            byte |= SIGN_EXTENSION
        code = np.uint32((code ^ byte) * FNV_PRIME)
    return code


@njit(nogil=True, cache=True)
def fill_slots(slots, starts, spellings):
    """Enter all dictionary entries in the hash table `slots`, which holds -1 throughout and has room for them."""
    mask = len(slots) - 1
    for entry in range(len(starts) - 1):
        slot = np.int64(word_hash(spellings, starts[entry], starts[entry + 1])) & mask
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = entry


@njit(nogil=True, cache=True)
def find_entry(view, start, end, code):
    """Return the number of the dictionary entry that is bytes `start` to `end` (hash `code`), or -1."""
    slot = np.int64(code) & view.slot_mask
    while view.slots[slot] >= 0:
        entry = np.int64(view.slots[slot])
        begin = view.starts[entry]
        if view.starts[entry + 1] - begin == end - start:
            i = 0
            while i < end - start and view.spellings[begin + i] == view.text[start + i]:
                i += 1
            if i == end - start:
                return entry
        slot = (slot + 1) & view.slot_mask
    return np.int64(-1)


@njit(nogil=True, cache=True)
def has_label_prefix(text, start, end):
    """Whether bytes `start` to `end` begin with `__label__`."""
    matched = 0
    while matched < len(LABEL_PREFIX) and start + matched < end and text[start + matched] == LABEL_PREFIX[matched]:
        matched += 1
    return matched == len(LABEL_PREFIX)


@njit(nogil=True, cache=True)
def fill_window(view, start, end, base):
    """Copy `<word>` (word = bytes `start` to `end`) from its byte `base` on to the window; return how much.

    A zero byte follows.
    """
    whole = end - start + 2
    size = min(whole - base, view.window_size - 1)
    for i in range(max(0, 1 - base), min(size, whole - 1 - base)):
        view.window[i] = view.text[start + base + i - 1]
    if base == 0:
        view.window[0] = WORD_START
    if base + size == whole:
        view.window[size - 1] = WORD_END
    view.window[size] = 0
    return size


@njit(nogil=True, cache=True)
def character_buckets(view, size, base, count):
    """Append the kept buckets of the character n-grams in the window to `view.rows`; return the new count.

    The window holds `size` bytes of `<word>` from its byte `base` on: n-grams that begin in the first `WINDOW` of
    them. A single `<` or `>` is no n-gram. Without branches on whether a bucket was kept: no processor can predict it.
    """
    inverse = 1.0 / view.bucket
    for position in range(min(size, WINDOW)):
        if view.window[position] <= LAST_CONTINUATION:
            continue
        code = FNV_SEED
        after = position
        length = 1
        while after < size and length <= view.longest:
            code = np.uint32((code ^ np.uint32(np.int32(view.window[after]))) * FNV_PRIME)
            after += 1
            while view.window[after] <= LAST_CONTINUATION:
                code = np.uint32((code ^ np.uint32(np.int32(view.window[after]))) * FNV_PRIME)
                after += 1
            if length >= view.shortest and (length > 1 or (base + position > 0 and after < size)):
                # code % bucket without a division: the quotient in double precision is at most 1 off
                bucket = np.int64(code) - np.int64(code * inverse) * view.bucket
                bucket += view.bucket if bucket < 0 else 0
                bucket -= view.bucket if bucket >= view.bucket else 0
                count = append_bucket(view, bucket, count)
            length += 1
    return count


@njit(nogil=True, cache=True)
def append_bucket(view, bucket, count):
    """Write a bucket to `view.rows[count]` and return the new count: one more, unless the bucket was pruned."""
    view.rows[count] = bucket
    return count + (np.int64(view.bucket_kept[bucket >> 3] >> (bucket & 7) & 1) if view.pruned else 1)


@njit(nogil=True, cache=True)
def buckets_to_rows(view, first, last):
    """Replace kept buckets in `view.rows` by their rows."""
    for i in range(first, last):
        view.rows[i] = view.bucket_rows[view.rows[i]] if view.pruned else view.rows[i] + view.words
