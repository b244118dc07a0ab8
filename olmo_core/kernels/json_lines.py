"""Documents from JSON lines: `id` and `text` decoded, every other member of the object laid aside as it is written.

One pass over a block of lines. A line is taken when it is an object whose keys have no escapes and whose id and text are
strings (or the id null) that occur once; other members are only stepped over, and it is the caller who has a library
read them. Anything else is handed back (`LOOK_CLOSER`): a library then says what it is or what is wrong with it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from olmo_core.kernels.byte_pairs_loads import load8, load64, pointer, trailing_zeros
from olmo_core.kernels.json_decoding import (
    BACKSLASH,
    BLOCK,
    NEWLINE,
    QUOTE,
    copy_block,
    decoded,
    is_blank,
    line_feeds,
    string_end,
)
from olmo_core.kernels.quality_strings import leaf

TAKEN, LOOK_CLOSER, TOO_LONG = 0, 1, 2
"""What became of a line."""

_ID = np.uint64(int.from_bytes(b'id"', "little"))
_TEXT = np.uint64(int.from_bytes(b'text"', "little"))
_SOURCE = np.uint64(int.from_bytes(b'source"', "little"))
_THREE, _FIVE, _SEVEN = (np.uint64((1 << 8 * n) - 1) for n in (3, 5, 7))
_NULL = np.uint64(int.from_bytes(b"null", "little"))
_FOUR = np.uint64((1 << 32) - 1)
_SEEN_ID, _SEEN_TEXT, _SEEN_SOURCE = 1, 2, 4


@leaf
def _gap(data, at):
    """Return the first byte at or behind `at` that is no JSON white space; a line feed stops it too."""
    byte = load8(data, at)
    while byte == 0x20 or byte == 0x09 or byte == 0x0D:
        at += 1
        byte = load8(data, at)
    return at


@leaf
def _next_line(data, at, end):
    """Return the first line feed at or behind `at`; there is one before `end`."""
    while at < end:
        marks = line_feeds(data, at)
        if marks != 0:
            return at + trailing_zeros(marks)
        at += BLOCK
    return end


@leaf
def _value_end(data, at, end):
    """Return the byte behind the value that begins at `at`, by brackets and strings alone; -1 where the line ends first."""
    byte = load8(data, at)
    if byte == QUOTE:
        return string_end(data, at + 1, end)
    depth = 0
    while at < end:
        byte = load8(data, at)
        if byte == QUOTE:
            at = string_end(data, at + 1, end)
            if at < 0:
                return -1
            continue
        if byte == 0x7B or byte == 0x5B:
            depth += 1
        elif byte == 0x7D or byte == 0x5D:
            if depth == 0:
                return at
            depth -= 1
            if depth == 0:
                return at + 1
        elif depth == 0 and (byte == 0x2C or byte == 0x20 or byte == 0x09 or byte == 0x0D):
            return at
        elif byte == NEWLINE:
            return -1
        at += 1
    return -1


@leaf
def _equal(data, at, other, size):
    for i in range(size):  # noqa: SIM110 - numba compiles no generators
        if load8(data, at + i) != load8(other, i):
            return False
    return True


@leaf
def _laid_aside(data, start, end, out, to, first):
    """Append the member from `start` to `end` to an object in `out`; return the byte behind it."""
    out[to] = 0x7B if first else 0x2C
    to += 1
    for i in range(0, end - start, BLOCK):
        copy_block(data, start + i, out, to + i)
    return to + (end - start)


@leaf
def _record(data, at, end, own, own_size, text, to, ids, id_to, rest, rest_to):
    """Read the object that begins at `at`.

    Returns (byte behind it or -1, text's end, id's end, rest's end); `rest_to` itself where nothing was laid aside.
    """
    text_to, id_end, rest_end, seen = to, id_to, rest_to, 0
    at = _gap(data, at + 1)
    while True:
        if load8(data, at) != QUOTE:
            return -1, text_to, id_end, rest_end
        start = at
        word = load64(data, at + 1)
        key = 0
        if word & _FIVE == _TEXT:
            key, at = _SEEN_TEXT, at + 6
        elif word & _THREE == _ID:
            key, at = _SEEN_ID, at + 4
        elif word & _SEVEN == _SOURCE:
            key, at = _SEEN_SOURCE, at + 8
        else:
            at = string_end(data, at + 1, end)
            if at < 0:
                return -1, text_to, id_end, rest_end
            for i in range(start, at):
                if load8(data, i) == BACKSLASH:
                    return -1, text_to, id_end, rest_end
        at = _gap(data, at)
        if load8(data, at) != 0x3A or seen & key:
            return -1, text_to, id_end, rest_end
        seen |= key
        at = _gap(data, at + 1)
        if key == _SEEN_TEXT:
            if load8(data, at) != QUOTE:
                return -1, text_to, id_end, rest_end
            at, text_to = decoded(data, at + 1, end, text, to)
        elif key == _SEEN_ID and load8(data, at) == QUOTE:
            at, id_end = decoded(data, at + 1, end, ids, id_to)
        elif key == _SEEN_ID:
            at = at + 4 if load64(data, at) & _FOUR == _NULL else -1
        elif key == _SEEN_SOURCE and _equal(data, at, own, own_size):
            at += own_size
        else:
            at = _value_end(data, at, end)
            if at > 0:
                rest_end = _laid_aside(data, start, at, rest, rest_end, rest_end == rest_to)
        if at < 0:
            return -1, text_to, id_end, rest_end
        at = _gap(data, at)
        byte = load8(data, at)
        if byte == 0x7D:
            break
        if byte != 0x2C:
            return -1, text_to, id_end, rest_end
        at = _gap(data, at + 1)
    at = _gap(data, at + 1)
    if load8(data, at) != NEWLINE or not seen & _SEEN_TEXT or is_blank(text, to, text_to):
        return -1, text_to, id_end, rest_end
    if rest_end > rest_to:
        rest[rest_end] = 0x7D
        rest_end += 1
    return at, text_to, id_end, rest_end


@njit(nogil=True, cache=True)
def scan(block, at, end, own, most, text, text_ends, ids, id_ends, rest, rest_ends, numbers, starts, sizes, states):
    """Read the lines of `block` from byte `at` to `end`, whose last byte is a line feed, until the arrays are full.

    `own` is the value of `source` that goes without saying, as JSON; lines of more than `most` bytes are not taken.
    Blank lines count but make no record. For each record: the line's number from 0, where it starts, its size without
    the line feed, what became of it, and where its text, id (no bytes: none) and laid aside members (likewise; a JSON
    object) end in `text`, `ids` and `rest`. These need the size of the block, two bytes more a line, and padding.
    Returns (records, lines, byte behind the last line).
    """
    data, said = pointer(block), pointer(own)
    text_out, id_out, rest_out = pointer(text), pointer(ids), pointer(rest)
    records = lines = 0
    text_to = id_to = rest_to = 0
    while at < end and records < len(states):
        start = at
        at = _gap(data, at)
        byte = load8(data, at)
        if byte == NEWLINE:
            lines += 1
            at += 1
            continue
        text_end, id_end, rest_end, after = text_to, id_to, rest_to, -1
        if byte == 0x7B:
            after, text_end, id_end, rest_end = _record(
                data, at, end, said, len(own), text_out, text_to, id_out, id_to, rest_out, rest_to
            )
        state = TAKEN
        if after < 0:
            after = _next_line(data, at, end)
            state = LOOK_CLOSER
        if after - start > most:
            state = TOO_LONG
        if state == TAKEN:
            text_to, id_to, rest_to = text_end, id_end, rest_end
        numbers[records] = lines
        starts[records] = start
        sizes[records] = after - start
        states[records] = state
        text_ends[records] = text_to
        id_ends[records] = id_to
        rest_ends[records] = rest_to
        records += 1
        lines += 1
        at = after + 1
    return records, lines, at


@njit(nogil=True, cache=True)
def blank_rows(data, offsets, out):
    """Set `out[i]` where row i (UTF-8) is empty or white space only, as Python's `str.isspace()` has it."""
    text = pointer(data)
    for i in range(len(out)):
        out[i] = is_blank(text, offsets[i], offsets[i + 1])


@njit(nogil=True, cache=True)
def rows_with_exponents(data, offsets):
    """Say of each row whether it matches `[0-9]e[+]?[0-9]`: what a float looks like that may have been an integer."""
    text = pointer(data)
    found = np.zeros(len(offsets) - 1, np.bool_)
    for row in range(len(found)):
        for at in range(offsets[row] + 1, offsets[row + 1] - 1):
            if load8(text, at) == 0x65 and 0x30 <= load8(text, at - 1) <= 0x39:
                after = load8(text, at + 1)
                if after == 0x2B and at + 2 < offsets[row + 1]:
                    after = load8(text, at + 2)
                if 0x30 <= after <= 0x39:
                    found[row] = True
                    break
    return found
