"""What the fastText kernels work on: a lexicon, pointers to the arrays of a call, and sums of matrix rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from olmo_core.kernels.byte_pairs_loads import pointer

LANES = 16
"""Columns that `add_rows` sums at once, in registers: a narrower matrix must be padded to this many columns."""

PENDING = 256
"""Rows that are collected, at least, before they are added up: the processor then fetches several at a time."""

WINDOW = 256
"""Bytes of a word whose n-grams are collected at once, so that scratch does not grow with a word's length."""


class Lexicon(NamedTuple):
    """What is needed to find the rows of a word."""

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


class View(NamedTuple):
    """Pointers to the arrays of one call, for the functions below; made by `view_of`, which says what they point to.

    With arrays in their place the references to them would be counted, atomically, at every call.
    """

    text: Any
    slots: Any
    slot_mask: Any
    starts: Any
    spellings: Any
    words: Any
    bucket: Any
    bucket_rows: Any
    bucket_kept: Any
    pruned: Any
    shortest: Any
    longest: Any
    matrix: Any
    columns: Any
    sums: Any
    rows: Any
    window: Any
    window_size: Any


@njit(nogil=True, cache=True)
def view_of(text, lexicon, matrix, columns, sums, rows, window):
    """Return a `View` of a padded text (uint8), a lexicon, a matrix of `columns` columns and the arrays to write to.

    `matrix` and `sums`: float32, flat. `rows` (uint32, `rows_at_once`): rows that are about to be added. `window`
    (int8, `window_bytes`): a part of a word. The caller must keep all arrays alive, which a pointer does not.
    """
    return View(
        pointer(text),
        pointer(lexicon.slots),
        len(lexicon.slots) - 1,
        pointer(lexicon.starts),
        pointer(lexicon.spellings),
        lexicon.words,
        lexicon.bucket,
        pointer(lexicon.bucket_rows),
        pointer(lexicon.bucket_kept),
        len(lexicon.bucket_kept) > 0,
        lexicon.shortest,
        lexicon.longest,
        pointer(matrix),
        columns,
        pointer(sums),
        pointer(rows),
        pointer(window),
        len(window),
    )


def rows_at_once(lexicon: Lexicon, width: int) -> int:
    """Return the room for rows: `PENDING`, and those of a word's window or of the n-grams of `width` words."""
    return PENDING + WINDOW * max(lexicon.longest - lexicon.shortest + 1, 1) + width


def window_bytes(lexicon: Lexicon) -> int:
    """Return the size of a window: bytes where n-grams begin, bytes where they may end, and a zero byte."""
    return WINDOW + 4 * max(lexicon.longest, 0) + 1


def _add_block(
    typing_context: Any, sums: Any, at: Any, matrix: Any, columns: Any, column: Any, rows: Any, count: Any
) -> Any:
    """Add columns `column` to `column + LANES` of `count` rows to the sum at `at`, in the order of `rows`.

    `sums` and `matrix` point to float32, `rows` to uint32; rows of the matrix have `columns` columns. The sum stays
    in a vector register, which numba does not manage for the plain loop (half as fast). Every column is added up in
    order and in single precision, as the library does: equal to the bit.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, at, matrix, columns, column, rows, count = arguments
        vector = ir.VectorType(ir.FloatType(), LANES)

        def load(address: Any) -> Any:
            value = builder.load(builder.bitcast(address, vector.as_pointer()))
            value.align = 1  # rows that are mapped from a file may begin anywhere
            return value

        target = builder.gep(sums, [at])
        total = cgutils.alloca_once_value(builder, load(target))
        with cgutils.for_range(builder, count) as loop:
            row = builder.load(builder.gep(rows, [loop.index]))
            element = builder.add(builder.mul(builder.zext(row, columns.type), columns), column)
            builder.store(builder.fadd(builder.load(total), load(builder.gep(matrix, [element]))), total)
        store = builder.store(builder.load(total), builder.bitcast(target, vector.as_pointer()))
        store.align = 1
        return context.get_dummy_value()

    number = types.int64
    return types.void(sums, number, matrix, number, number, rows, number), emit


add_block: Any = intrinsic(_add_block)


@njit(nogil=True, cache=True)
def add_rows(view, at, count):
    """Add the first `count` rows listed in `view.rows` to the sum at `at`, block by block of `LANES` columns.

    The last block ends with the last column, so it may repeat columns of the one before; `close_gap` puts them in
    place.
    """
    block = 0
    while block < view.columns:
        column = min(block, view.columns - LANES)
        add_block(view.sums, at + block, view.matrix, view.columns, column, view.rows, count)
        block += LANES


@njit(nogil=True, cache=True)
def close_gap(view, at):
    """Move the columns of the last block of a finished sum to where they belong."""
    last = (view.columns - 1) // LANES * LANES
    gap = last + LANES - view.columns
    for column in range(last, view.columns):
        view.sums[at + column] = view.sums[at + column + gap]
