"""From texts to fastText's hidden vectors: the mean of the input rows of a text's words, n-grams and line end.

Bit-equal to the library (0.9.2) because the rows are summed in its order: all words of the text with their character
n-grams, the row of `</s>`, then the word n-grams. The rows of a word are looked up in a bounded cache of row *lists*:
a cache of summed vectors would be faster and differ by up to 3e-5.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from olmo_core.kernels.byte_pairs_loads import load64, pointer
from olmo_core.kernels.fasttext_rows import (
    append_bucket,
    buckets_to_rows,
    character_buckets,
    fill_window,
    find_entry,
    has_label_prefix,
    word_hash,
)
from olmo_core.kernels.fasttext_scan import next_word, stripped
from olmo_core.kernels.fasttext_view import (
    PENDING,
    WINDOW,
    Lexicon,
    add_rows,
    close_gap,
    rows_at_once,
    view_of,
    window_bytes,
)

NGRAM_FACTOR = np.uint64(116049371)

CACHE_SLOTS = 1 << 18
CACHE_ROWS = 1 << 22
"""Default size of a word cache: up to 131,072 words of at most 15 bytes, 8 MiB of keys, 16 MiB of rows."""

SLOT_FIELDS = 4
"""Numbers in a slot: bytes 0 to 7 of the word; bytes 8 to 14 and its length; place, count and kind of its rows; hash."""

LONGEST_CACHED = 15
MIX_LOW = np.uint64(0x9E3779B97F4A7C15)
MIX_HIGH = np.uint64(0xD6E8FEB86659FD93)
END_OF_LINE = np.uint64(0x3E732F3C)  # "</s>" as a little-endian number
END_HASH = np.int32(-677604519)  # word_hash of "</s>"

ONE = np.uint64(1)
BYTE_BITS = np.uint64(8)
LENGTH_SHIFT = np.uint64(56)
LOW_HALF = np.uint64(0xFFFFFFFF)
COUNT_SHIFT = np.uint64(32)
COUNT_MASK = np.uint64(0x7FFFFFFF)
KIND_SHIFT = np.uint64(63)
FOLD = np.uint64(31)
INDEX_SHIFT = np.uint64(40)


class Workspace(NamedTuple):
    """The word cache and the scratch space of one call at a time. What they hold never changes a result."""

    keys: npt.NDArray[np.uint64]
    """Hash table of the words seen, `SLOT_FIELDS` numbers each: a short word is its own key, so nothing can collide."""

    kept_rows: npt.NDArray[np.uint32]
    """Their row lists, one after the other."""

    filled: npt.NDArray[np.int64]
    """Number of words and of rows held; when there is no room for more, the next text starts with nothing held."""

    rows: npt.NDArray[np.uint32]
    """Rows that are about to be added."""

    window: npt.NDArray[np.int8]
    """A part of a word, and a zero byte."""


def workspace(lexicon: Lexicon, width: int, slots: int = CACHE_SLOTS, kept_rows: int = CACHE_ROWS) -> Workspace:
    """Return an empty workspace for a model with word n-grams up to `width`.

    `slots` is a power of two; at most half of them are filled, so that 1 means no cache.
    """
    if slots & (slots - 1) or slots > 1 << 24:
        raise ValueError(f"{slots} slots: a word cache has a power of two of them, at most 2**24")
    return Workspace(
        np.zeros(slots * SLOT_FIELDS, np.uint64),
        np.zeros(kept_rows, np.uint32),
        np.zeros(2, np.int64),
        np.zeros(rows_at_once(lexicon, width), np.uint32),
        np.zeros(window_bytes(lexicon), np.int8),
    )


class Cache(NamedTuple):
    """Pointers to the word cache of a workspace, and its bounds."""

    keys: Any
    mask: Any
    kept_rows: Any
    filled: Any
    most_words: Any
    most_rows: Any


@njit(nogil=True, cache=True)
def cache_of(space):
    """Return pointers to the word cache of a workspace, emptied if there is no more room in it."""
    slots = len(space.keys) // SLOT_FIELDS
    most_rows = len(space.kept_rows) - len(space.rows)
    if space.filled[0] >= slots // 2 or space.filled[1] > most_rows:
        space.keys[:] = np.uint64(0)
        space.filled[:] = 0
    return Cache(
        pointer(space.keys),
        np.uint64(slots - 1),
        pointer(space.kept_rows),
        pointer(space.filled),
        slots // 2,
        most_rows,
    )


@njit(nogil=True, cache=True)
def cache_key(text, start, size):
    """Return the two numbers that hold a word of at most 15 bytes and its length."""
    low = load64(text, start)
    if size < 8:
        return low & ((ONE << (BYTE_BITS * np.uint64(size))) - ONE), np.uint64(size) << LENGTH_SHIFT
    rest = (ONE << (BYTE_BITS * np.uint64(size - 8))) - ONE
    return low, load64(text, start + 8) & rest | np.uint64(size) << LENGTH_SHIFT


@njit(nogil=True, cache=True)
def cache_slot(cache, low, high):
    """Return the place in `cache.keys` of the slot that holds the word, or of the empty slot where it would go."""
    slot = ((low ^ high * MIX_HIGH ^ low >> FOLD) * MIX_LOW >> INDEX_SHIFT) & cache.mask
    while True:
        place = np.int64(slot) * SLOT_FIELDS
        held = cache.keys[place + 1]
        if held == 0 or (held == high and cache.keys[place] == low):
            return place
        slot = (slot + ONE) & cache.mask


@njit(nogil=True, cache=True)
def list_word(view, at, pending, start, end):
    """Append the rows of a word to the `pending` ones of `view.rows`: `(is a word, its hash, rows, pending)`.

    Labels are no words. A word of `WINDOW` bytes or more is added to the sum at `at` in between.
    """
    code = word_hash(view.text, start, end)
    entry = find_entry(view, start, end, code)
    if entry >= view.words or (entry < 0 and has_label_prefix(view.text, start, end)):
        return False, code, np.int64(0), pending
    before = pending
    if entry >= 0:
        view.rows[pending] = entry
        pending += 1
    if view.longest > 0:
        for base in range(0, end - start + 2, WINDOW):
            if base > 0:
                add_rows(view, at, pending)
                before -= pending
                pending = np.int64(0)
            first = pending
            pending = character_buckets(view, fill_window(view, start, end, base), base, first)
            buckets_to_rows(view, first, pending)
    return True, code, pending - before, pending


@njit(nogil=True, cache=True, forceinline=True)  # a tenth faster over all
def list_short_word(view, cache, at, pending, start, end):
    """Do what `list_word` does for a word of at most 15 bytes, from the cache or so that it gets there."""
    low, high = cache_key(view.text, start, end - start)
    slot = cache_slot(cache, low, high)
    if cache.keys[slot + 1] != 0:
        entry = cache.keys[slot + 2]
        first = np.int64(entry & LOW_HALF)
        count = np.int64(entry >> COUNT_SHIFT & COUNT_MASK)
        for i in range(count):
            view.rows[pending + i] = cache.kept_rows[first + i]
        return entry >> KIND_SHIFT != 0, np.uint32(cache.keys[slot + 3]), count, pending + count
    is_word, code, count, after = list_word(view, at, pending, start, end)
    first = cache.filled[1]
    if cache.filled[0] < cache.most_words and first <= cache.most_rows:
        for i in range(count):
            cache.kept_rows[first + i] = view.rows[pending + i]
        cache.keys[slot] = low
        cache.keys[slot + 1] = high
        cache.keys[slot + 2] = np.uint64(first) | np.uint64(count) << COUNT_SHIFT | np.uint64(is_word) << KIND_SHIFT
        cache.keys[slot + 3] = np.uint64(code)
        cache.filled[0] += 1
        cache.filled[1] += count
    return is_word, code, count, after


@njit(nogil=True, cache=True)
def add_ngrams(view, at, pending, hashes, words, width):
    """Add the `pending` rows and those of all n-grams of 2 to `width` words to the sum at `at`; return how many.

    `hashes` points to the hashes of `words` words, int32: fastText sign-extends them.
    """
    total = np.int64(0)
    for i in range(words):
        code = np.uint64(np.int64(hashes[i]))
        first = pending
        for j in range(i + 1, min(i + width, words)):
            code = code * NGRAM_FACTOR + np.uint64(np.int64(hashes[j]))
            pending = append_bucket(view, np.int64(code % np.uint64(view.bucket)), pending)
        buckets_to_rows(view, first, pending)
        total += pending - first
        if pending >= PENDING:
            add_rows(view, at, pending)
            pending = np.int64(0)
    add_rows(view, at, pending)
    return total


@njit(nogil=True, cache=True)
def hidden_vectors(text, starts, ends, matrix, columns, lexicon, width, space, sums, counts):
    """Fill `sums` (float32, flat, one padded row a text) with hidden vectors and `counts` (int64) with rows added up.

    Text i is bytes `starts[i]` to `ends[i]` of `text`, stripped of white space, and line feeds inside it are spaces;
    a literal `</s>` ends it. `matrix`: float32, flat, row-major with `columns` >= 16 columns. `width`: longest word
    n-gram. The first `columns` numbers of a row of `sums` are the result; a count of 0 means that there is none.
    Scratch: for word n-grams two bytes for each byte of the longest text, touched only as far as it has words.
    """
    tables = view_of(text, lexicon, matrix, columns, sums, space.rows, space.window)
    padded = len(sums) // max(len(starts), 1)
    hashes = np.empty(0, np.int32)
    for document in range(len(starts)):
        at = document * padded
        for column in range(padded):
            sums[at + column] = np.float32(0)
        cache = cache_of(space)
        start, end = stripped(tables.text, starts[document], ends[document])
        if width > 1 and len(hashes) < (end - start) // 2 + 2:
            hashes = np.empty((end - start) // 2 + 2, np.int32)
        words = 0
        pending = np.int64(0)
        total = np.int64(0)
        while True:
            start, after = next_word(tables.text, start, end)
            size = after - start
            if size == 0 or (size == 4 and load64(tables.text, start) & LOW_HALF == END_OF_LINE):
                break
            if pending >= PENDING:
                add_rows(tables, at, pending)
                pending = np.int64(0)
            if size <= LONGEST_CACHED:
                is_word, code, count, pending = list_short_word(tables, cache, at, pending, start, after)
            else:
                is_word, code, count, pending = list_word(tables, at, pending, start, after)
            total += count
            if width > 1 and is_word:
                hashes[words] = np.int32(code)
                words += 1
            start = after
        if pending >= PENDING:
            add_rows(tables, at, pending)
            pending = np.int64(0)
        if lexicon.end_row >= 0:
            tables.rows[pending] = lexicon.end_row
            pending += 1
            total += 1
        if width > 1:
            hashes[words] = END_HASH
            total += add_ngrams(tables, at, pending, pointer(hashes), words + 1, width)
        else:
            add_rows(tables, at, pending)
        counts[document] = total
        if total > 0:
            scale = np.float32(1.0 / total)
            for column in range(padded):
                sums[at + column] *= scale
        close_gap(tables, at)
