"""Terms of the C4 rules in lower-cased text: words as whole tokens, phrases anywhere, without copying the text.

The kernel lower-cases ASCII as it reads. Characters whose lower case only Python knows and that could decide a match
(U+212A KELVIN SIGN becomes `k`, U+0130 begins with `i`) are marked in `classes` with `LOWERED_OUTSIDE`: the caller
repeats those few documents on text that it lower-cased itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from olmo_core.kernels.quality_strings import (
    GOLDEN,
    HIGHS,
    ONES,
    eight_bytes,
    find_slot,
    first_mark,
    leaf,
    load,
    scrambled,
    string_code,
)
from olmo_core.kernels.words import LOWERED_OUTSIDE, code_point, sequence_length, word_begin, word_end

SPACE_BYTE = 0x20
JAVASCRIPT = np.frombuffer(b"javascript", np.uint8)

HAS_CURLY_BRACE, HAS_LOREM_IPSUM, HAS_JAVASCRIPT, HAS_TERM, NEEDS_LOWERING = range(5)
"""Rows of the output of `find_terms`."""


class Terms(NamedTuple):
    """Lower-cased terms in the form the kernel reads: first the phrase `lorem ipsum`, other phrases, then words."""

    text: npt.NDArray[np.uint8]
    """All terms, one behind the other, with the padding of `buffers.text_buffers`."""
    offsets: npt.NDArray[np.int64]
    """First byte of every term, and the end."""
    phrases: int
    """How many of them are phrases: they hold a space, at neither end."""
    anchors: npt.NDArray[np.int64]
    """Byte of each phrase's first space, from the phrase's start."""
    heads: npt.NDArray[np.int32]
    """First phrase for every pair of bytes around the anchor (before + 256 x after), -1 = none (65,536)."""
    following: npt.NDArray[np.int32]
    """Next phrase with the same pair, or -1."""
    slots: npt.NDArray[np.int32]
    """Hash table of the words (entries count from the first word)."""
    codes: npt.NDArray[np.uint64]
    """Hash of every word."""
    longest: int
    """Bytes of the longest word."""


@njit(nogil=True, cache=True)
def word_table(text, firsts, sizes):
    """Return `(slots, codes)` of distinct words for `find_word`; at most one slot in sixteen is taken."""
    eights = eight_bytes(text)
    codes = np.empty(len(firsts), np.uint64)
    width = 16
    while width < 16 * len(firsts):
        width *= 2
    slots = np.full(width, -1, np.int32)
    for k in range(len(firsts)):
        codes[k] = string_code(eights, firsts[k], sizes[k])
        slots[find_slot(eights, firsts[k], sizes[k], codes[k], slots, codes, firsts, sizes)] = k
    return slots, codes


@leaf
def lower_byte(byte):
    """Return an ASCII capital as its small letter, any other byte as it is."""
    return byte | 0x20 if 0x41 <= byte <= 0x5A else byte


@leaf
def lower_eight(chunk):
    """Return eight bytes with the ASCII capitals among them made small."""
    sevens = chunk & ~HIGHS
    from_a = sevens + ONES * np.uint64(0x80 - 0x41)
    behind_z = sevens + ONES * np.uint64(0x7F - 0x5A)
    capitals = ~chunk & HIGHS & (from_a ^ behind_z)
    return chunk | capitals >> np.uint64(2)


@leaf
def lowered_code(eights, begin, size):
    """Return `string_code` of the string with its ASCII capitals made small."""
    code = np.uint64(0)
    while size > 8:
        code = (code ^ lower_eight(load(eights, begin))) * GOLDEN
        code ^= code >> np.uint64(32)
        begin += 8
        size -= 8
    shift = np.uint64(64 - 8 * size)
    return scrambled(code ^ lower_eight(load(eights, begin)) << shift >> shift)


@leaf
def lowered_equal(text, begin, wanted, first, size):
    """Return whether `text[begin:][:size]`, ASCII capitals made small, is `wanted[first:][:size]`."""
    for j in range(size):  # noqa: SIM110  all() over a generator does not compile
        if lower_byte(text[begin + j]) != wanted[first + j]:
            return False
    return True


@leaf
def is_word(text, eights, begin, size, terms):
    """Return whether the lower-cased word at `begin` is one of the terms."""
    if size > terms.longest:
        return False
    code = lowered_code(eights, begin, size)
    mask = len(terms.slots) - 1
    slot = np.int64(code & np.uint64(mask))
    while terms.slots[slot] >= 0:
        k = terms.slots[slot]
        first = terms.offsets[terms.phrases + k]
        if (
            terms.codes[k] == code
            and terms.offsets[terms.phrases + k + 1] - first == size
            and lowered_equal(text, begin, terms.text, first, size)
        ):
            return True
        slot = (slot + 1) & mask
    return False


@leaf
def holds_javascript(text, begin, end):
    """Return whether bytes `begin` to `end` hold `javascript` in any ASCII case."""
    for i in range(begin, end - len(JAVASCRIPT) + 1):
        if lower_byte(text[i]) == ord("j") and lowered_equal(text, i, JAVASCRIPT, 0, len(JAVASCRIPT)):
            return True
    return False


@leaf
def needs_lowering(text, eights, start, end, classes):
    """Return whether a character in bytes `start` to `end` is marked `LOWERED_OUTSIDE`."""
    i = start
    while i < end:
        high = load(eights, i) & HIGHS
        if not high:
            i += 8
            continue
        i += first_mark(high)
        if i >= end:
            break
        if classes[code_point(text, i)] & LOWERED_OUTSIDE:
            return True
        i += sequence_length(text[i])
    return False


@leaf
def find_phrases(text, start, end, space, terms):
    """Return bits of the phrases whose first space is at byte `space`: 1 lorem ipsum, 2 any other."""
    found = 0
    k = terms.heads[np.int64(lower_byte(text[space - 1])) + 256 * np.int64(lower_byte(text[space + 1]))]
    while k >= 0:
        begin = space - terms.anchors[k]
        size = terms.offsets[k + 1] - terms.offsets[k]
        if begin >= start and begin + size <= end and lowered_equal(text, begin, terms.text, terms.offsets[k], size):
            found |= 1 if k == 0 else 2
        k = terms.following[k]
    return found


@leaf
def find_terms_in(text, eights, start, end, classes, terms):
    """Return `(lorem ipsum or not and other phrases, as bits; javascript; a word of the terms)` for one document."""
    phrases = 0
    javascript = False
    word = False
    i = word_begin(text, start, end, classes)
    while i < end:
        begin = i
        i = word_end(text, eights, i, end, classes)
        word = word or is_word(text, eights, begin, i - begin, terms)
        if i - begin >= len(JAVASCRIPT) and not javascript:
            javascript = holds_javascript(text, begin, i)
        if i + 1 < end and text[i] == SPACE_BYTE:
            phrases |= find_phrases(text, start, end, i, terms)
        i = word_begin(text, i, end, classes)
    return phrases, javascript, word


@njit(nogil=True, cache=True)
def find_terms(text, offsets, classes, terms, found):
    """Fill `found` (bool[5, n], rows named above) for every document.

    `terms` holds `lorem ipsum` and the naughty phrases and words. A word matches a whole whitespace-separated token, a
    phrase and `javascript` any stretch of the text. Rows with NEEDS_LOWERING are to be repeated on lower-cased text.
    """
    eights = eight_bytes(text)
    for row in range(len(offsets) - 1):
        start = offsets[row]
        end = offsets[row + 1]
        braces = 0
        for i in range(start, end):
            braces += text[i] == ord("{")
        phrases, javascript, word = find_terms_in(text, eights, start, end, classes, terms)
        found[HAS_CURLY_BRACE, row] = braces > 0
        found[HAS_LOREM_IPSUM, row] = phrases & 1
        found[HAS_JAVASCRIPT, row] = javascript
        found[HAS_TERM, row] = word or phrases & 2
        found[NEEDS_LOWERING, row] = needs_lowering(text, eights, start, end, classes)
