"""The Gopher statistics of every document of a batch, in one compiled loop."""

from __future__ import annotations

import numpy as np
from numba import njit

from olmo_core.kernels.lines import repeated_lines
from olmo_core.kernels.ngrams import LONGEST, SHORTEST, ngram_shares
from olmo_core.kernels.quality_strings import eight_bytes, head, leaf
from olmo_core.kernels.words import ALPHABETIC, code_point, count_characters, number_words

ROWS = 19
"""Rows of the output of `gopher_statistics`."""

SHORT_WORD = 256
"""Word lengths below this are counted in a histogram; the median needs a sort only when it is longer."""


@leaf
def word_properties(text, first, size, classes):
    """Return `(characters, has a letter, has a symbol)` of one word; symbols are `#` and U+2026."""
    characters = 0
    alphabetic = 0
    symbol = 0
    for i in range(first, first + size):
        byte = text[i]
        if byte < 0x80:
            characters += 1
            alphabetic |= classes[byte] & ALPHABETIC
            symbol |= byte == ord("#")
        elif byte >= 0xC0:
            characters += 1
            point = code_point(text, i)
            alphabetic |= classes[point] & ALPHABETIC
            symbol |= point == 0x2026
    return characters, alphabetic, symbol


@njit(nogil=True, cache=True)
def median_length(numbers, lengths, counts):
    """Return the median of `lengths[numbers]`; the mean of the middle two for an even count, 0 for none.

    `lengths` and `counts` (int32) belong to distinct words.
    """
    words = len(numbers)
    if words == 0:
        return 0.0
    histogram = np.zeros(SHORT_WORD, np.int64)
    for k in range(len(lengths)):
        if lengths[k] < SHORT_WORD:
            histogram[lengths[k]] += counts[k]
    low = (words - 1) // 2
    high = words // 2
    total = 0
    sum_of_middle = 0
    for length in range(SHORT_WORD):
        before = total
        total += histogram[length]
        if before <= low < total:
            sum_of_middle += length
        if before <= high < total:
            sum_of_middle += length
    if high >= total:
        ordered = np.sort(lengths[numbers])  # half of them have 256 characters, so there are few
        return (np.int64(ordered[low]) + np.int64(ordered[high])) / 2
    return sum_of_middle / 2


@njit(nogil=True, cache=True)
def gopher_statistics(text, offsets, classes, required, statistics):
    """Fill `statistics` (float64[ROWS, n]) for every document.

    Rows 0 to 8: shares of `ngrams.ngram_shares`, n from 2 to 10; 9 characters; 10 words; 11 median word length;
    12 words with a symbol / words; 13 words with a letter / words; 14 required words; 15 lines with a bullet / lines;
    16 lines with an ellipsis / lines; 17 duplicate lines / lines; 18 characters in duplicate lines / characters of all
    words (over 1 is possible: the lines' spaces count above only). All zero for an empty text.
    `required`: words of at most 7 bytes as uint64, first byte lowest, size in the highest byte. Counts are exact below 2**53.
    """
    lines_at = LONGEST - SHORTEST + 7
    eights = eight_bytes(text)
    for row in range(len(offsets) - 1):
        start = offsets[row]
        end = offsets[row + 1]
        found = statistics[:, row]
        found[:] = 0.0
        if start == end:
            continue
        numbers, firsts, sizes, counts = number_words(text, eights, start, end, classes)
        lengths = np.empty(len(firsts), np.int32)
        with_letter = 0
        with_symbol = 0
        needed_words = 0
        word_characters = np.int64(0)
        for k in range(len(firsts)):
            characters, alphabetic, symbol = word_properties(text, firsts[k], sizes[k], classes)
            lengths[k] = characters
            word_characters += characters * counts[k]
            with_letter += alphabetic * counts[k]
            with_symbol += symbol * counts[k]
            if sizes[k] < 8:
                packed = head(eights, firsts[k], sizes[k]) | np.uint64(sizes[k]) << np.uint64(56)
                for word in required:
                    needed_words += counts[k] * (word == packed)
        words = len(numbers)
        shares = np.empty(LONGEST - SHORTEST + 1)
        ngram_shares(numbers, lengths, counts, shares)
        found[: len(shares)] = shares
        found[9] = count_characters(text, start, end)
        found[10] = words
        found[11] = median_length(numbers, lengths, counts)
        found[12] = with_symbol / max(words, 1)
        found[13] = with_letter / max(words, 1)
        found[14] = needed_words
        lines, bullets, ellipses, duplicates, duplicate_characters = repeated_lines(text, eights, start, end)
        found[lines_at] = bullets / lines
        found[lines_at + 1] = ellipses / lines
        found[lines_at + 2] = duplicates / lines
        found[lines_at + 3] = duplicate_characters / max(word_characters, 1)
