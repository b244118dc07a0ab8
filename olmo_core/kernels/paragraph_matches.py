r"""Paragraphs and whole texts that are also in an evaluation set: hashed, and looked up or collected.

A paragraph is what lies between line feeds (`\n`), as in the Dolma toolkit's deduper. Collecting and looking up run
through the same code, so that what one finds the other does.
"""

from __future__ import annotations

from numba import njit

from olmo_core.kernels.hash_index import may_hold, place_of, second_code
from olmo_core.kernels.quality_strings import eight_bytes, leaf, line_end, string_code
from olmo_core.kernels.word_breaks import all_punctuation, count_words, trimmed_begin, trimmed_end


@leaf
def bounds(text, begin, end, trim, table):
    """Return the first and end byte of what is compared: without white space at the ends when `trim`."""
    if trim and end > begin:
        first = text[begin]
        last = text[end - 1]
        if first <= 32 or first >= 128 or last <= 32 or last >= 128:
            begin = trimmed_begin(text, begin, end, table)
            end = trimmed_end(text, begin, end, table)
    return begin, end


@njit(nogil=True, cache=True)
def collect_paragraphs(text, offsets, fewest_words, whole, trim, table, found, keys):
    """Write (row, first byte, end byte) of paragraphs worth looking for to `found` (int64[c, 3]), their hashes to `keys`.

    These are paragraphs of at least `fewest_words` words (`word_breaks.count_words`) that are not all punctuation; with
    `whole` each text that is not empty, as one. Bytes count from the row's beginning; `keys` is uint64[c, 2].
    Returns how many there are, which may be more than were written.
    """
    eights = eight_bytes(text)
    count = 0
    for row in range(len(offsets) - 1):
        start = offsets[row]
        stop = offsets[row + 1]
        at = start
        while at < stop:
            after = stop if whole else line_end(eights, at, stop)
            begin, end = bounds(text, at, after, trim, table)
            at = after + 1
            if end <= begin:
                continue
            if not whole:
                # The words are counted without the white space around them in any case, as the toolkit does.
                inner = trimmed_begin(text, begin, end, table)
                words = count_words(text, inner, trimmed_end(text, inner, end, table), fewest_words, table)
                if words < fewest_words or all_punctuation(text, begin, end, table):
                    continue
            if count < len(found):
                found[count, 0] = row
                found[count, 1] = begin - start
                found[count, 2] = end - start
                keys[count, 0] = string_code(eights, begin, end - begin)
                keys[count, 1] = second_code(eights, begin, end - begin)
            count += 1
    return count


@njit(nogil=True, cache=True)
def find_paragraphs(text, offsets, wanted, whole, trim, table, low, high, bits, shift, shortest, longest, found):
    """Write (row, place of the key, first byte, end byte) of every indexed paragraph to `found` (int64[c, 4]).

    `wanted` (bool[rows]) says which rows are looked at; with `whole` a text is compared as one. `shortest` and
    `longest` are bytes that an indexed string has. Returns how many there are, which may be more than were written.
    """
    eights = eight_bytes(text)
    count = 0
    for row in range(len(offsets) - 1):
        start = offsets[row]
        stop = offsets[row + 1]
        at = start if wanted[row] else stop
        while at < stop:
            after = stop if whole else line_end(eights, at, stop)
            begin, end = bounds(text, at, after, trim, table)
            at = after + 1
            if end - begin < shortest or end - begin > longest:
                continue
            code = string_code(eights, begin, end - begin)
            if not may_hold(code, bits, shift):
                continue
            place = place_of(code, second_code(eights, begin, end - begin), low, high)
            if place < 0:
                continue
            if count < len(found):
                found[count, 0] = row
                found[count, 1] = place
                found[count, 2] = begin - start
                found[count, 3] = end - start
            count += 1
    return count
