"""From the UTF-8 bytes of many texts to token ids: the compiled encoder's entry point."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from olmo_core.kernels.byte_pairs import merges_of
from olmo_core.kernels.byte_pairs_loads import pointer
from olmo_core.kernels.byte_pairs_words import SHORT_BYTES, emit_long, emit_short, pointers_of
from olmo_core.kernels.pretokens import Added, added_at, piece_end, plain_word_end

SLACK = 16
"""Elements to leave behind the ids: the kernel stores up to seven past the last one."""


class Vocabulary(NamedTuple):
    """What the encoder reads of a tokenizer with 16-bit ids."""

    byte_ids: npt.NDArray[np.int64]
    """int64[256]: the id of each byte; 0 for bytes that valid UTF-8 never holds."""
    pairs: npt.NDArray[np.uint64]
    """The merges, as `byte_pairs.pair_table` gives them."""
    run_ids: npt.NDArray[np.uint16]
    """uint16[longest run + 1]: the id of n spaces, for n from 2 up; fewer than 3 where no run is an added token."""
    literals: npt.NDArray[np.uint8]
    """uint8[literals, pretokens.LITERAL_ROW]: the other added tokens: length, then bytes; longest first."""
    literal_ids: npt.NDArray[np.uint16]
    """uint16[literals]."""
    kinds: npt.NDArray[np.uint8]
    """uint8[unicode_classes.TABLE_SIZE]: kinds of code points, with LITERAL set where a literal may begin."""


@njit(nogil=True, cache=True)
def encode_rows(text, offsets, vocabulary, words, ids, id_offsets):
    """Write the ids of all rows to `ids` and where each row's begin to `id_offsets` (int64[rows + 1]).

    `text` (uint8, padded) and `offsets` (int64[rows + 1]) are valid UTF-8 in normal form C; `ids` (uint16) has as many
    elements as the text has bytes, plus SLACK. Returns the number of ids.
    """
    source, out = pointer(text), pointer(ids)
    merges = merges_of(vocabulary.byte_ids, vocabulary.pairs)
    added = Added(
        pointer(vocabulary.run_ids),
        vocabulary.run_ids.shape[0] - 1,
        pointer(vocabulary.literals),
        pointer(vocabulary.literal_ids),
        vocabulary.literals.shape[0],
    )
    kinds = pointer(vocabulary.kinds)
    known = pointers_of(words)
    to = 0
    id_offsets[0] = 0
    for row in range(offsets.shape[0] - 1):
        at, end = offsets[row], offsets[row + 1]
        while at < end:
            stop = plain_word_end(source, at, end, kinds)
            if stop == at:
                length, token = added_at(source, at, end, kinds, added)
                if length:
                    out[to] = token
                    to += 1
                    at += length
                    continue
                stop = piece_end(source, at, end, kinds, added)
            if stop - at <= SHORT_BYTES:
                to = emit_short(source, at, stop, known, merges, out, to)
            else:
                to = emit_long(source, at, stop, known, merges, out, to)
            at = stop
        id_offsets[row + 1] = to
    return to
