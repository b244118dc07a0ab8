"""JSON strings as UTF-8: a block of bytes at a time up to the next quote, escape, control or non-ASCII byte.

Strict (RFC 8259 and UTF-8): whatever is not exactly right makes a function return -1, and the caller asks a library
what is wrong. Functions take pointers (`byte_pairs_loads`); buffers have `PADDING` bytes behind
their end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from olmo_core.kernels.byte_pairs_loads import load8, trailing_zeros
from olmo_core.kernels.quality_strings import leaf

QUOTE, BACKSLASH, NEWLINE = 0x22, 0x5C, 0x0A
BLOCK = 32
"""Bytes looked at together: one vector register with AVX2, two or four with smaller ones."""
PADDING = 2 * BLOCK
"""Bytes behind the end of every buffer that is read or written here."""
_ESCAPES = np.zeros(128, np.uint8)
"""The character of each escape of one letter."""
_ESCAPES[np.frombuffer(b'"/\\bfnrt', np.uint8)] = np.frombuffer(b'"/\\\b\f\n\r\t', np.uint8)


def _vector(builder: Any, pointer: Any, index: Any) -> Any:
    address = builder.gep(pointer, [index])
    value = builder.load(builder.bitcast(address, ir.VectorType(ir.IntType(8), BLOCK).as_pointer()))
    value.align = 1
    return value


def _marks(builder: Any, *lanes: Any) -> Any:
    """Return one bit for each of the lanes in which one of the comparisons holds, as uint64."""
    either = lanes[0]
    for one in lanes[1:]:
        either = builder.or_(either, one)
    return builder.zext(builder.bitcast(either, ir.IntType(BLOCK)), ir.IntType(64))


def _all(byte: int) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(8), BLOCK), [byte] * BLOCK)


def _stops(typing_context: Any, bytes_: Any, index: Any) -> Any:
    """Return a bit for each quote, backslash and control byte of the block at `index`, the first lowest."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _vector(builder, *arguments)
        lanes = builder.icmp_unsigned("<", block, _all(0x20)), builder.icmp_unsigned("==", block, _all(QUOTE))
        return _marks(builder, *lanes, builder.icmp_unsigned("==", block, _all(BACKSLASH)))

    return types.uint64(types.CPointer(types.uint8), types.int64), emit


def _non_ascii(typing_context: Any, bytes_: Any, index: Any) -> Any:
    """Return a bit for each non-ASCII byte of the block at `index`, the first lowest."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _marks(builder, builder.icmp_signed("<", _vector(builder, *arguments), _all(0)))

    return types.uint64(types.CPointer(types.uint8), types.int64), emit


def _line_feeds(typing_context: Any, bytes_: Any, index: Any) -> Any:
    """Return a bit for each line feed of the block at `index`, the first lowest."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _vector(builder, *arguments)
        return _marks(builder, builder.icmp_unsigned("==", block, _all(NEWLINE)))

    return types.uint64(types.CPointer(types.uint8), types.int64), emit


def _copy_block(typing_context: Any, source: Any, at: Any, out: Any, to: Any) -> Any:
    """Copy a block of bytes."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, at, out, to = arguments
        block = _vector(builder, source, at)
        address = builder.gep(out, [to])
        store = builder.store(block, builder.bitcast(address, block.type.as_pointer()))
        store.align = 1
        return context.get_dummy_value()

    byte = types.CPointer(types.uint8)
    return types.void(byte, types.int64, byte, types.int64), emit


stops: Any = intrinsic(_stops)
non_ascii: Any = intrinsic(_non_ascii)
line_feeds: Any = intrinsic(_line_feeds)
copy_block: Any = intrinsic(_copy_block)


@leaf
def decoded(source, at, end, out, to):
    """Write what a JSON string says, from byte `at` behind its opening quote on, to `out` from byte `to` on.

    Returns the bytes behind the closing quote and behind what was written, or (-1, to) when the string does not end
    before `end`, is not UTF-8, or has an escape that is none or half of a surrogate pair.
    """
    start = to
    other = np.uint64(0)
    while at < end:
        copy_block(source, at, out, to)
        marks = stops(source, at)
        other |= non_ascii(source, at)
        done = 0
        while marks != 0:
            place = trailing_zeros(marks)
            to += place - done
            byte = load8(source, at + place)
            if byte == QUOTE:
                return (at + place + 1, to) if other == 0 or is_utf8(out, start, to) else (-1, to)
            letter = load8(source, at + place + 1)
            if byte != BACKSLASH or letter >= 0x80:
                return -1, to
            value = _ESCAPES[letter]
            done = place + 2
            if value == 0:
                if letter != 0x75:
                    return -1, to
                at, to = _code_point(source, at + done, out, to)
                if at < 0:
                    return -1, to
                done = -1
                break
            out[to] = value
            to += 1
            copy_block(source, at + done, out, to)
            marks = marks >> np.uint64(done) << np.uint64(done)
        if done >= 0:
            step = max(done, BLOCK)
            at += step
            to += step - done
    return -1, to


@leaf
def _code_point(source, at, out, to):
    """Write the character of the escape whose digits begin at byte `at`; return the next positions, or (-1, to)."""
    point = _four_digits(source, at)
    at += 4
    if point < 0 or 0xDC00 <= point < 0xE000:
        return -1, to
    if 0xD800 <= point < 0xDC00:
        if load8(source, at) != BACKSLASH or load8(source, at + 1) != 0x75:
            return -1, to
        low = _four_digits(source, at + 2)
        if not 0xDC00 <= low < 0xE000:
            return -1, to
        at += 6
        point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00)
        out[to] = 0xF0 | point >> 18
        out[to + 1] = 0x80 | (point >> 12 & 0x3F)
        out[to + 2] = 0x80 | (point >> 6 & 0x3F)
        out[to + 3] = 0x80 | (point & 0x3F)
        return at, to + 4
    if point < 0x80:
        out[to] = point
        return at, to + 1
    if point < 0x800:
        out[to] = 0xC0 | point >> 6
        out[to + 1] = 0x80 | (point & 0x3F)
        return at, to + 2
    out[to] = 0xE0 | point >> 12
    out[to + 1] = 0x80 | (point >> 6 & 0x3F)
    out[to + 2] = 0x80 | (point & 0x3F)
    return at, to + 3


@leaf
def _four_digits(source, at):
    """Return the number that four hexadecimal digits write, or -1."""
    value = 0
    for i in range(4):
        byte = load8(source, at + i)
        if 0x30 <= byte <= 0x39:
            digit = byte - 0x30
        elif 0x61 <= (byte | 0x20) <= 0x66:
            digit = (byte | 0x20) - 0x57
        else:
            return -1
        value = value << 4 | digit
    return value


@leaf
def is_utf8(text, at, end):
    """Say whether bytes are well-formed UTF-8."""
    while at < end:
        marks = non_ascii(text, at)
        if marks == 0:
            at += BLOCK
            continue
        at += trailing_zeros(marks)
        while at < end and load8(text, at) >= 0x80:
            length = sequence(text, at)
            at += length
            if length == 0 or at > end:
                return False
    return True


@leaf
def sequence(source, at):
    """Return the length of the well-formed UTF-8 sequence of 2 to 4 bytes at `at` (Unicode table 3-7), or 0."""
    lead = load8(source, at)
    second = load8(source, at + 1)
    if lead < 0xC2 or lead > 0xF4 or second & 0xC0 != 0x80:
        return 0
    if lead < 0xE0:
        return 2
    if load8(source, at + 2) & 0xC0 != 0x80:
        return 0
    if lead < 0xF0:
        return 0 if (lead == 0xE0 and second < 0xA0) or (lead == 0xED and second >= 0xA0) else 3
    if load8(source, at + 3) & 0xC0 != 0x80:
        return 0
    return 0 if (lead == 0xF0 and second < 0x90) or (lead == 0xF4 and second >= 0x90) else 4


@leaf
def string_end(source, at, end):
    """Return the byte behind the closing quote of a string that goes on at `at`; -1 at a control byte or `end`.

    Escapes are stepped over and bytes not looked at any closer.
    """
    while at < end:
        marks = stops(source, at)
        if marks == 0:
            at += BLOCK
            continue
        at += trailing_zeros(marks)
        byte = load8(source, at)
        if byte == QUOTE:
            return at + 1 if at < end else -1
        if byte != BACKSLASH or load8(source, at + 1) < 0x20:
            return -1
        at += 2
    return -1


@leaf
def is_blank(text, at, end):
    """Say whether UTF-8 text is empty or white space only, as Python's `str.isspace()` has it."""
    while at < end:
        byte = load8(text, at)
        if byte == 0x20 or 0x09 <= byte <= 0x0D or 0x1C <= byte <= 0x1F:
            at += 1
        elif byte == 0xC2 and (load8(text, at + 1) == 0x85 or load8(text, at + 1) == 0xA0):
            at += 2
        elif byte == 0xE1 or byte == 0xE2 or byte == 0xE3:
            point = byte & 0xF
            point = (point << 6 | (load8(text, at + 1) & 0x3F)) << 6 | (load8(text, at + 2) & 0x3F)
            if not (
                point == 0x1680
                or 0x2000 <= point <= 0x200A
                or point == 0x2028
                or point == 0x2029
                or point == 0x202F
                or point == 0x205F
                or point == 0x3000
            ):
                return False
            at += 3
        else:
            return False
    return True
