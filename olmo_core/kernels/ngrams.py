"""Repeated word n-grams (2 to 10) of one document, exact, without hashing words.

An n-gram is numbered by the pair (its first n-1 words, its last n-1 words), whose numbers are already known: one
64-bit key with nothing left to collide. An n-gram can only repeat where both halves of that pair repeat, so each
length looks only at the survivors of the one before: in prose few are left after trigrams, which is why lengths 5 to
10 cost next to nothing.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from olmo_core.kernels.quality_strings import leaf, scrambled

SHORTEST = 2
LONGEST = 10
MOST_COMMON_UP_TO = 4
"""Lengths 2 to 4 are measured by their most common n-gram, 5 to 10 by all that repeat."""


@leaf
def number_pairs(positions, grams, alive, slots, keys, counts):
    """Number the neighbouring pairs of grams in place; return how many pairs there are.

    `positions[:alive]` are word positions in order, `grams[:alive]` (int64) the numbers of the grams that begin there.
    After the call they hold the positions with a gram at the next position too, and the number of that pair, given in
    order of first appearance; `counts[k]` is how often pair k occurs. `slots` is scratch, free (-1) at entry.
    """
    pairs = 0
    for k in range(alive - 1):  # without a branch: which position has a neighbour is as good as random
        neighbours = positions[k + 1] == positions[k] + 1
        grams[pairs] = grams[k] << 32 | grams[k + 1]
        positions[pairs] = positions[k]
        pairs += neighbours
    mask = len(slots) - 1
    distinct = 0
    for k in range(pairs):
        key = grams[k]
        slot = np.int64(scrambled(np.uint64(key)) & np.uint64(mask))
        while slots[slot] >= 0 and keys[slots[slot]] != key:
            slot = (slot + 1) & mask
        pair = slots[slot]
        if pair < 0:
            pair = np.int32(distinct)
            slots[slot] = pair
            keys[pair] = key
            counts[pair] = 0
            distinct += 1
        counts[pair] += 1
        grams[k] = pair
    return pairs


@njit(nogil=True, cache=True)
def ngram_shares(numbers, lengths, word_counts, shares):
    """Fill `shares` (float64[9]) with the shares of characters in repeated n-grams, n from 2 to 10.

    `numbers` (int32, one a word, counted from 0 in order of first appearance), `lengths` and `word_counts` (int32,
    characters and occurrences of each distinct word) come from `words.number_words`. As the Dolma toolkit's `gopher_v1` defines them:
    n <= 4: occurrences x characters of the most common n-gram (of equals the one that comes first) / characters of all
    words; n >= 5: characters of all n-grams that occur more than once, each occurrence counted, / characters of all
    n-grams. 0 where a document has fewer than n words (the toolkit emits nothing there).
    Scratch: 52 bytes a word at most (every word repeated, every n-gram distinct); about 20 in prose.
    """
    words = len(numbers)
    alive = 0
    for k in range(len(lengths)):
        if word_counts[k] > 1:
            alive += word_counts[k]
    reached = np.empty(words + 1, np.int32)  # characters before each word
    reached[0] = 0
    positions = np.empty(alive + 1, np.int32)
    grams = np.empty(alive + 1, np.int64)
    alive = 0
    for p in range(words):
        reached[p + 1] = reached[p] + lengths[numbers[p]]
        positions[alive] = p
        grams[alive] = numbers[p]
        alive += word_counts[numbers[p]] > 1
    keys = np.empty(alive, np.int64)
    counts = np.empty(alive, np.int32)
    width = 16
    while width < 2 * alive:
        width *= 2
    slots = np.empty(width, np.int32)

    every_head = np.int64(0)  # sum of reached[0 .. n-1]
    every_tail = np.int64(0)  # sum of reached[words-n+1 .. words]
    if words > 0:
        every_head = np.int64(reached[0])
        every_tail = np.int64(reached[words])
    for n in range(SHORTEST, LONGEST + 1):
        shares[n - SHORTEST] = 0.0
        if words < n:
            continue
        every_head += reached[n - 1]
        every_tail += reached[words - n + 1]
        while width > 16 and width >= 4 * alive:
            width //= 2
        slots[:width] = -1
        alive = number_pairs(positions, grams, alive, slots[:width], keys, counts)
        most = 1
        most_characters = reached[n]  # nothing repeats: the first n-gram is the first of equals
        repeated_characters = np.int64(0)
        kept = 0
        for k in range(alive):
            count = counts[grams[k]]
            p = positions[k]
            characters = reached[p + n] - reached[p]
            repeated_characters += characters if count > 1 else 0
            if count > most:
                most = count
                most_characters = characters
            positions[kept] = p
            grams[kept] = grams[k]
            kept += count > 1
        alive = kept
        if n <= MOST_COMMON_UP_TO:
            shares[n - SHORTEST] = np.int64(most) * np.int64(most_characters) / reached[words]
        else:
            shares[n - SHORTEST] = repeated_characters / (every_tail - every_head)
