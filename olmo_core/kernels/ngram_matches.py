"""Word n-grams that are also in an evaluation set: hashed while the text streams by, and looked up or collected.

Words are those of `shingle_alphabet`: runs of letters, marks and digits, in lower case and without accents; anything
else separates, and in scripts without spaces each character is a word. So neither case nor punctuation, spacing, line
breaks, quotes or soft hyphens keep an n-gram from being found.

Two hashes of every word are folded side by side; an n-gram's are their polynomials modulo 2^64, rolled from word to
word. A text of any length needs scratch for `RING` words only.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from olmo_core.kernels.hash_index import may_hold, place_of
from olmo_core.kernels.quality_strings import leaf, scrambled
from olmo_core.kernels.shingle_alphabet import ALONE, IGNORED
from olmo_core.kernels.words import code_point, sequence_length

RING = 64
"""Words remembered; an n-gram has fewer."""

_FIRST = np.uint64(0x9E3779B97F4A7C15)
_SECOND = np.uint64(0xC2B2AE3D27D4EB4F)
_START = np.uint64(0x27D4EB2F165667C5)
_ITSELF = 2


@leaf
def letter_at(text, i, pages, letters):
    """Return what the character at byte `i` stands for: a folded code point, or a class of `shingle_alphabet`."""
    byte = text[i]
    if byte < 0x80:
        return np.int64(letters[byte])
    point = code_point(text, i)
    folded = np.int64(letters[np.int64(pages[point >> 8]) * 256 + (point & 255)])
    return point if folded == _ITSELF else folded


@leaf
def power(base, exponent):
    """Return base^exponent modulo 2^64."""
    value = np.uint64(1)
    for _ in range(exponent):
        value *= base
    return value


@njit(nogil=True, cache=True)
def scan_ngrams(text, offsets, wanted, lengths, pages, letters, collect, low, high, bits, shift, found, keys, words):
    """Write (row, place of the key, first byte, end byte) of every indexed n-gram to `found` (int64[c, 4]).

    `lengths` (int64[k], below `RING`) are those that the index holds. With `collect` every n-gram is written (place -1) and its
    hash goes to `keys` (uint64[c, 2]). Bytes count from the row's beginning. `words` (int64[rows]) becomes the number of
    words of each row that was looked at. Returns how many n-grams there are, which may be more than were written.
    """
    kinds = len(lengths)
    first_words = np.zeros(RING, np.uint64)
    second_words = np.zeros(RING, np.uint64)
    begins = np.zeros(RING, np.int64)
    first_sums = np.zeros(kinds, np.uint64)
    second_sums = np.zeros(kinds, np.uint64)
    first_powers = np.zeros(kinds, np.uint64)
    second_powers = np.zeros(kinds, np.uint64)
    for k in range(kinds):
        first_powers[k] = power(_FIRST, lengths[k])
        second_powers[k] = power(_SECOND, lengths[k])
    count = 0
    for row in range(len(offsets) - 1):
        if wanted[row]:
            first_sums[:] = 0
            second_sums[:] = 0
            count = _scan_row(
                text, row, offsets[row], offsets[row + 1], lengths, pages, letters, collect, low, high, bits, shift, found,
                keys, words, count, first_words, second_words, begins, first_sums, second_sums, first_powers, second_powers,
            )  # fmt: skip
    return count


@leaf
def _scan_row(
    text, row, start, stop, lengths, pages, letters, collect, low, high, bits, shift, found,
    keys, words, count, first_words, second_words, begins, first_sums, second_sums, first_powers, second_powers,
):  # fmt: skip
    number = 0
    open_ = False
    first = _START
    second = _START
    begin = start
    end = start
    i = start
    while i < stop or open_:
        letter = 0
        if i < stop:
            letter = letter_at(text, i, pages, letters)
        if letter > ALONE:
            if not open_:
                open_ = True
                first = _START
                second = _START
                begin = i
            first = (first ^ np.uint64(letter)) * _FIRST
            second = (second ^ np.uint64(letter)) * _SECOND
            second ^= second >> np.uint64(29)
            i += sequence_length(text[i])
            end = i
            continue
        if letter == IGNORED:
            i += sequence_length(text[i])
            continue
        if not open_:
            at = i
            i += sequence_length(text[i])
            if letter != ALONE:
                continue
            point = code_point(text, at)
            first = (_START ^ np.uint64(point)) * _FIRST
            second = (_START ^ np.uint64(point)) * _SECOND
            begin = at
            end = i
        # A word ended. What ended it is looked at again when the word was open.
        open_ = False
        first = scrambled(first)
        second = scrambled(second ^ _SECOND)
        slot = number & (RING - 1)
        number += 1
        for k in range(len(lengths)):
            length = lengths[k]
            gone_first = np.uint64(0)
            gone_second = np.uint64(0)
            if number > length:
                gone = (number - 1 - length) & (RING - 1)
                gone_first = first_words[gone] * first_powers[k]
                gone_second = second_words[gone] * second_powers[k]
            first_sums[k] = first_sums[k] * _FIRST + first - gone_first
            second_sums[k] = second_sums[k] * _SECOND + second - gone_second
            if number < length:
                continue
            code = scrambled(first_sums[k] + np.uint64(length))
            if not collect and not may_hold(code, bits, shift):
                continue
            check = scrambled(second_sums[k] ^ np.uint64(length))
            place = -1
            if not collect:
                place = place_of(code, check, low, high)
                if place < 0:
                    continue
            if count < len(found):
                found[count, 0] = row
                found[count, 1] = place
                found[count, 2] = (begins[(number - length) & (RING - 1)] if length > 1 else begin) - start
                found[count, 3] = end - start
                if collect:
                    keys[count, 0] = code
                    keys[count, 1] = check
            count += 1
        first_words[slot] = first
        second_words[slot] = second
        begins[slot] = begin
    words[row] = number
    return count
