r"""Lines of one document (split at `\n` only): bullets, ellipses, duplicates, and which lines look unfinished."""

from __future__ import annotations

import numpy as np
from numba import njit

from olmo_core.kernels.quality_strings import (
    doubled,
    doubled_slots,
    eight_bytes,
    find_slot,
    leaf,
    line_end,
    string_code,
)
from olmo_core.kernels.words import count_characters, is_space, sequence_length

NO_ENDING_PUNCTUATION = 1
"""Bit of `line_faults`: the stripped line does not end with one of `. ? ! "`."""

TOO_FEW_WORDS = 2
"""Bit of `line_faults`: the line has fewer words than asked for."""


@leaf
def number_lines_until_full(eights, begin, end, slots, codes, firsts, sizes, counts, distinct):
    """Number non-empty lines from byte `begin` until none is left or an array is full.

    Returns `(next line's first byte, distinct lines, lines, empty lines)`; behind the last line comes `end + 1`.
    """
    lines = 0
    empty = 0
    while begin <= end and distinct < len(codes):
        stop = line_end(eights, begin, end)
        size = stop - begin
        lines += 1
        if size == 0:
            empty += 1
        else:
            code = string_code(eights, begin, size)
            slot = find_slot(eights, begin, size, code, slots, codes, firsts, sizes)
            number = slots[slot]
            if number < 0:
                number = np.int32(distinct)
                slots[slot] = number
                codes[distinct] = code
                firsts[distinct] = begin
                sizes[distinct] = size
                counts[distinct] = 0
                distinct += 1
            counts[number] += 1
        begin = stop + 1
    return begin, distinct, lines, empty


@njit(nogil=True, cache=True)
def repeated_lines(text, eights, start, end):
    """Return `(lines, bullets, ellipses, duplicates, duplicate_characters)` of bytes `start` to `end` (int64 each).

    bullets: lines that begin with `*` or `-`; ellipses: that end with U+2026; duplicates: all copies of lines that
    occur more than once, empty lines included; duplicate_characters: code points of those copies, spaces included.
    Lines are compared byte by byte. Scratch: at most 72 bytes for every distinct non-empty line.
    """
    width = 64
    while width * 64 < end - start:
        width *= 2
    codes = np.empty(width // 2, np.uint64)
    firsts = np.empty(width // 2, np.int64)
    sizes = np.empty(width // 2, np.int32)
    counts = np.empty(width // 2, np.int32)
    slots = np.full(width, -1, np.int32)
    distinct = 0
    lines = 0
    empty = 0
    begin = start
    while begin <= end:
        begin, distinct, more, more_empty = number_lines_until_full(
            eights, begin, end, slots, codes, firsts, sizes, counts, distinct
        )
        lines += more
        empty += more_empty
        if distinct == len(codes):
            slots = doubled_slots(slots, codes, distinct)
            codes = doubled(codes)
            firsts = doubled(firsts)
            sizes = doubled(sizes)
            counts = doubled(counts)
    bullets = 0
    ellipses = 0
    duplicates = empty if empty > 1 else 0
    duplicate_characters = 0
    for k in range(distinct):
        first = firsts[k]
        last = first + sizes[k] - 1
        if text[first] == ord("*") or text[first] == ord("-"):
            bullets += counts[k]
        if sizes[k] >= 3 and text[last] == 0xA6 and text[last - 1] == 0x80 and text[last - 2] == 0xE2:
            ellipses += counts[k]
        if counts[k] > 1:
            duplicates += counts[k]
            duplicate_characters += counts[k] * count_characters(text, first, last + 1)
    return lines, bullets, ellipses, duplicates, duplicate_characters


@leaf
def line_faults(text, begin, end, classes, fewest_words):
    """Return the bits `NO_ENDING_PUNCTUATION` and `TOO_FEW_WORDS` of the line in bytes `begin` to `end`."""
    faults = NO_ENDING_PUNCTUATION
    i = end
    while i > begin:
        i -= 1
        while i > begin and (text[i] & 0xC0) == 0x80:
            i -= 1
        if not is_space(text, i, classes):
            last = text[i]
            if last == ord(".") or last == ord("?") or last == ord("!") or last == ord('"'):
                faults = 0
            break
    words = 0
    inside = False
    i = begin
    while i < end and words < fewest_words:
        space = is_space(text, i, classes)
        words += not space and not inside
        inside = not space
        i += sequence_length(text[i])
    return faults | (TOO_FEW_WORDS if words < fewest_words else 0)


@njit(nogil=True, cache=True)
def count_faulty_lines(text, offsets, classes, fewest_words, counts):
    """Fill `counts` (int64[3, n]) with each document's lines, lines with no ending punctuation, with too few words."""
    eights = eight_bytes(text)
    for row in range(len(offsets) - 1):
        end = offsets[row + 1]
        begin = offsets[row]
        lines = 0
        unfinished = 0
        short = 0
        while True:
            stop = line_end(eights, begin, end)
            faults = line_faults(text, begin, stop, classes, fewest_words)
            lines += 1
            unfinished += (faults & NO_ENDING_PUNCTUATION) != 0
            short += (faults & TOO_FEW_WORDS) != 0
            if stop >= end:
                break
            begin = stop + 1
        counts[0, row] = lines
        counts[1, row] = unfinished
        counts[2, row] = short


@njit(nogil=True, cache=True)
def fill_faulty_lines(text, offsets, classes, fewest_words, unfinished, short):
    """Write the byte spans of faulty lines, counted before: `unfinished` and `short` are int64[total, 2].

    A span runs from the line's first byte through its line feed, relative to the document. The line after a final
    line feed is empty, has both faults, and gives an empty span (as in the toolkit).
    """
    u = 0
    s = 0
    eights = eight_bytes(text)
    for row in range(len(offsets) - 1):
        start = offsets[row]
        end = offsets[row + 1]
        begin = start
        while True:
            stop = line_end(eights, begin, end)
            after = min(stop + 1, end)
            faults = line_faults(text, begin, stop, classes, fewest_words)
            if faults & NO_ENDING_PUNCTUATION:
                unfinished[u, 0] = begin - start
                unfinished[u, 1] = after - start
                u += 1
            if faults & TOO_FEW_WORDS:
                short[s, 0] = begin - start
                short[s, 1] = after - start
                s += 1
            if stop >= end:
                break
            begin = after
