"""Bring texts to Unicode normal form C by touching only the stretches that may need it.

Nearly all text is in form C already. One pass finds the stretches that may not be (quick check of UAX 15 section 9,
on tables taken from the library), the library normalizes those, all in one string, and one pass puts them back. A
stretch begins at the last starter before something unsettled or out of order, and ends before the next settled
starter, so its normal form depends on nothing outside it.

Plain English goes through the first pass at several GB/s; 2,102 suspicious code points and a fallback for whole
documents, the obvious way, cost most of the time on prose.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from numba import njit

from olmo_core.kernels.buffers import PADDING
from olmo_core.kernels.byte_pairs_loads import load8, load64, pointer
from olmo_core.kernels.unicode_classes import SETTLED, UNSETTLED, load_tables

_HIGH_BITS = np.uint64(0x8080808080808080)
_FIRST_MARK_LEAD = 0xCC
"""Lead byte of U+0300, the first code point that is not settled (a test says so)."""
_FIRST_CAPACITY = 256
_LINE_FEED = 10


@njit(forceinline=True)
def code_point(text, at):
    """Return `(code point, bytes)` of the character whose first byte is `text[at]`; text is valid UTF-8."""
    lead = load8(text, at)
    if lead < 0x80:
        return lead, 1
    if lead < 0xE0:
        return ((lead & 0x1F) << 6) | (load8(text, at + 1) & 0x3F), 2
    if lead < 0xF0:
        return ((lead & 0x0F) << 12) | ((load8(text, at + 1) & 0x3F) << 6) | (load8(text, at + 2) & 0x3F), 3
    return (
        ((lead & 0x07) << 18)
        | ((load8(text, at + 1) & 0x3F) << 12)
        | ((load8(text, at + 2) & 0x3F) << 6)
        | (load8(text, at + 3) & 0x3F),
        4,
    )


@njit(nogil=True, cache=True)
def find_unsettled(text, offsets, normal, stretches):
    """Write `(first byte, end byte, row)` of each stretch that NFC may change to `stretches` (int64[capacity, 3]).

    Returns how many there are, which may be more than were written; stretches do not overlap and are in order.
    """
    source, classes = pointer(text), pointer(normal)
    found = 0
    for row in range(offsets.shape[0] - 1):
        start, end = offsets[row], offsets[row + 1]
        at = start
        while at < end:
            if not load64(source, at) & _HIGH_BITS:
                at += 8
                continue
            lead = load8(source, at)
            if lead < _FIRST_MARK_LEAD:
                at += 1
                continue
            point, length = code_point(source, at)
            order = load8(classes, point)
            if order == SETTLED:
                at += length
                continue
            first = at
            if first > start and load8(source, first - 1) != _LINE_FEED:
                first -= 1
                while first > start and load8(source, first) & 0xC0 == 0x80:
                    first -= 1
            suspicious = False
            highest = 0
            while order != SETTLED:
                suspicious |= order == UNSETTLED or order < highest
                highest = order
                at += length
                if at >= end:
                    break
                point, length = code_point(source, at)
                order = load8(classes, point)
            if suspicious:
                if found < stretches.shape[0]:
                    stretches[found, 0], stretches[found, 1], stretches[found, 2] = first, at, row
                found += 1
    return found


@njit(forceinline=True)
def _copy(source, first, end, target, to):
    """Copy `source[first:end]` to `target[to:]` and return the end of what was written (compiles to memcpy)."""
    for index in range(end - first):
        target[to + index] = source[first + index]
    return to + end - first


@njit(nogil=True, cache=True)
def gather(text, stretches, gathered):
    """Write the stretches one after another to `gathered` (uint8), with a line feed after each."""
    to = 0
    for index in range(stretches.shape[0]):
        to = _copy(text, stretches[index, 0], stretches[index, 1], gathered, to)
        gathered[to] = _LINE_FEED
        to += 1


@njit(nogil=True, cache=True)
def splice(text, offsets, stretches, replacements, spliced, new_offsets):
    """Copy `text` to `spliced` with each stretch replaced by the next line of `replacements`, and set `new_offsets`.

    Returns the bytes written, which are also the last new offset.
    """
    to = 0
    line = 0
    index = 0
    for row in range(offsets.shape[0] - 1):
        new_offsets[row] = to
        read = offsets[row]
        while index < stretches.shape[0] and stretches[index, 2] == row:
            to = _copy(text, read, stretches[index, 0], spliced, to)
            stop = line
            while replacements[stop] != _LINE_FEED:
                stop += 1
            to = _copy(replacements, line, stop, spliced, to)
            line = stop + 1
            read = stretches[index, 1]
            index += 1
        to = _copy(text, read, offsets[row + 1], spliced, to)
    new_offsets[offsets.shape[0] - 1] = to
    return to


def compose(
    text: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], normalize: Callable[[str], str]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the buffers of the texts in normal form C; the same arrays when nothing had to be looked at.

    `text` and `offsets` as `text_buffers` gives them; `normalize` is the library's NFC. The result is padded alike.
    """
    normal = load_tables().normal
    stretches = np.empty((_FIRST_CAPACITY, 3), np.int64)
    found = find_unsettled(text, offsets, normal, stretches)
    if not found:
        return text, offsets
    if found > len(stretches):
        stretches = np.empty((found, 3), np.int64)
        find_unsettled(text, offsets, normal, stretches)
    stretches = stretches[:found]
    gathered = np.empty(int((stretches[:, 1] - stretches[:, 0]).sum()) + found, np.uint8)
    gather(text, stretches, gathered)
    before = gathered.tobytes()
    after = normalize(before.decode("utf-8")).encode("utf-8")
    if after == before:
        return text, offsets
    replacements = np.frombuffer(after, np.uint8)
    spliced = np.empty(int(offsets[-1]) + len(after) - len(before) + PADDING, np.uint8)
    new_offsets = np.empty_like(offsets)
    spliced[splice(text, offsets, stretches, replacements, spliced, new_offsets) :] = 0
    return spliced, new_offsets
