"""From one word to the rows of a fastText input matrix: the word's own row and those of its character n-grams.

The definitions are those of `dictionary.cc` of fastText 0.9.2 (readWord, hash, find, computeSubwords, pushHash), among
them the ones that surprise: the 32-bit FNV-1a hash sign-extends bytes from 0x80 up, NUL separates words, and a word
that begins with `__label__` has no rows even when no label has that name.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Columns that `add_rows` sums at once, in registers: a narrower matrix must be padded to this many columns."""

FNV_SEED = np.uint32(2166136261)
FNV_PRIME = np.uint32(16777619)
SIGN_EXTENSION = np.uint32(0xFFFFFF00)

LABEL_PREFIX = b"__label__"
WORD_START = 60  # "<"
WORD_END = 62  # ">"

LAST_CONTINUATION = np.int8(-65)
"""Bytes up to here, as signed numbers, continue a UTF-8 sequence."""

WINDOW = 256
"""Bytes of a word whose n-grams are collected at once, so that scratch does not grow with a word's length."""


class Lexicon(NamedTuple):
    """What is needed to find the rows of a word; numba takes it apart without copying."""

    slots: npt.NDArray[np.int32]
    """Hash table of power-of-two size, by the word's hash with linear probing: number of an entry, or -1."""

    starts: npt.NDArray[np.int64]
    """Start of each entry in `spellings`, and one end: words first, then labels."""

    spellings: npt.NDArray[np.uint8]
    """The UTF-8 bytes of all entries."""

    words: int
    """Number of words: entries from this number up are labels."""

    bucket: int
    """Number of buckets that n-grams are hashed into; 0 when the model has none."""

    bucket_rows: npt.NDArray[np.int32]
    """Row of each bucket or -1 where it was pruned; empty when bucket b simply has row `words + b`."""

    bucket_kept: npt.NDArray[np.uint8]
    """One bit for each bucket, set where it was not pruned: 32 times smaller than the rows, so it stays in cache."""

    shortest: int
    """Code points of the shortest character n-gram (minn); the brackets around a word count."""

    longest: int
    """Code points of the longest character n-gram (maxn); 0: no character n-grams."""

    end_row: int
    """Row of the word `</s>` that ends every line, or -1 when the model does not have it."""


@intrinsic
def add_rows(
    typing_context: Any, sums: Any, start: Any, matrix: Any, columns: Any, column: Any, rows: Any, first: Any, count: Any
) -> Any:
    """Add columns `column` to `column + LANES` of `count` rows to `sums[start:start + LANES]`, in the order of `rows`.

    `matrix` is float32, flat and row-major with `columns` columns; `rows` is uint32, read from element `first`.
    The sum stays in a vector register, which the plain loop does not manage (half its speed). Every column is added
    up in order and in single precision, as the library does: the result is the same to the bit.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        vector = ir.VectorType(ir.FloatType(), LANES)

        def data(position: int) -> Any:
            return context.make_array(signature.args[position])(context, builder, arguments[position]).data

        def load(address: Any) -> Any:
            value = builder.load(builder.bitcast(address, vector.as_pointer()))
            value.align = 1  # rows of a model that is read through a memory map may lie anywhere
            return value

        target = builder.gep(data(0), [arguments[1]])
        origin = builder.gep(data(2), [arguments[4]])
        rows_from = builder.gep(data(5), [arguments[6]])
        total = cgutils.alloca_once_value(builder, load(target))
        with cgutils.for_range(builder, arguments[7]) as loop:
            row = builder.zext(builder.load(builder.gep(rows_from, [loop.index])), word)
            address = builder.gep(origin, [builder.mul(row, arguments[3])])
            builder.store(builder.fadd(builder.load(total), load(address)), total)
        store = builder.store(builder.load(total), builder.bitcast(target, vector.as_pointer()))
        store.align = 1
        return context.get_dummy_value()

    where = types.int64
    return types.void(sums, where, matrix, where, where, rows, where, where), emit


@njit(nogil=True, cache=True)
def add_all_columns(sums, start, matrix, columns, rows, first, count):
    """Add `count` rows to the padded sum at `start`; see `column_of_block` for its layout."""
    block = 0
    while block * LANES < columns:
        column = min(block * LANES, columns - LANES)
        add_rows(sums, start + block * LANES, matrix, columns, column, rows, first, count)
        block += 1


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
def find_entry(lexicon, text, start, end, code):
    """Return the number of the dictionary entry that is bytes `start` to `end` (hash `code`), or -1."""
    mask = len(lexicon.slots) - 1
    slot = np.int64(code) & mask
    while lexicon.slots[slot] >= 0:
        entry = lexicon.slots[slot]
        begin = lexicon.starts[entry]
        if lexicon.starts[entry + 1] - begin == end - start:
            i = 0
            while i < end - start and lexicon.spellings[begin + i] == text[start + i]:
                i += 1
            if i == end - start:
                return entry
        slot = (slot + 1) & mask
    return -1


@njit(nogil=True, cache=True)
def has_label_prefix(text, start, end):
    """Whether bytes `start` to `end` begin with `__label__`."""
    if end - start < len(LABEL_PREFIX):
        return False
    for i in range(len(LABEL_PREFIX)):
        if text[start + i] != LABEL_PREFIX[i]:
            return False
    return True


@njit(nogil=True, cache=True)
def bracketed(text, start, end, base, window):
    """Copy `<word>` (word = bytes `start` to `end`) from its byte `base` on into `window` (int8); return how much.

    A zero byte follows, unless the window is full.
    """
    size = min(end - start + 2 - base, len(window) - 1)
    for i in range(max(0, 1 - base), min(size, end - start + 1 - base)):
        window[i] = np.int8(text[start + base + i - 1])
    if base == 0:
        window[0] = WORD_START
    if base + size == end - start + 2:
        window[size - 1] = WORD_END
    window[size] = 0
    return size


@njit(nogil=True, cache=True)
def character_buckets(lexicon, window, size, base, rows, count):
    """Append the kept buckets of all character n-grams that begin in the first `WINDOW` bytes of `window` to `rows`.

    `window` holds `size` bytes of `<word>` from its byte `base` on, beyond `WINDOW` only so that the n-grams can be
    completed. A single `<` or `>` is no n-gram. Returns the new count. Free of branches on whether a bucket was kept:
    no processor can predict that.
    """
    inverse = 1.0 / lexicon.bucket
    kept = lexicon.bucket_kept
    pruned = len(kept) > 0
    for position in range(min(size, WINDOW)):
        if window[position] <= LAST_CONTINUATION:
            continue
        code = FNV_SEED
        after = position
        length = 1
        while after < size and length <= lexicon.longest:
            code = np.uint32((code ^ np.uint32(np.int32(window[after]))) * FNV_PRIME)
            after += 1
            while window[after] <= LAST_CONTINUATION:
                code = np.uint32((code ^ np.uint32(np.int32(window[after]))) * FNV_PRIME)
                after += 1
            if length >= lexicon.shortest and (length > 1 or (base + position > 0 and after < size)):
                # code % bucket without a division: the quotient in double precision is at most 1 off
                bucket = np.int64(code) - np.int64(code * inverse) * lexicon.bucket
                bucket += lexicon.bucket if bucket < 0 else 0
                bucket -= lexicon.bucket if bucket >= lexicon.bucket else 0
                rows[count] = bucket
                count += np.int64(kept[bucket >> 3] >> (bucket & 7) & 1) if pruned else 1
            length += 1
    return count


@njit(nogil=True, cache=True)
def buckets_to_rows(lexicon, rows, first, last):
    """Replace kept buckets in `rows` by their rows."""
    if len(lexicon.bucket_rows) == 0:
        for i in range(first, last):
            rows[i] += lexicon.words
    else:
        for i in range(first, last):
            rows[i] = lexicon.bucket_rows[rows[i]]
