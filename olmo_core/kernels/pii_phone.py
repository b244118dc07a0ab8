"""Phone numbers in text, North American and with a country code (the rules are in `olmo_core.curation.pii`)."""

from __future__ import annotations

from olmo_core.kernels.pii_characters import DIGIT, LETTER, character_before, class_at, compiled, skip_digits

FEWEST_DIGITS = 9
"""Digits of a number with its country code (the shortest in use have 8 or 9)."""

MOST_DIGITS = 15
"""Digits of a number with its country code (ITU-T E.164, section 6.1)."""

LONGEST_GAP = 3
"""Characters of `- . space` between area code and exchange, as in `(555) - 123-4567`."""


@compiled
def is_separator(byte):
    """Tell `-`, `.` and the space."""
    return byte == ord("-") or byte == ord(".") or byte == ord(" ")


@compiled
def begins_freely(text, first, row_first, classes):
    """Tell whether what stands before byte `first` lets a number begin there: no word, other number, path or amount."""
    if first == row_first:
        return True
    before = character_before(text, first)
    byte = text[before]
    if class_at(text, before, classes) & (LETTER | DIGIT):
        return False
    return not (
        byte == ord("_")
        or byte == ord(".")
        or byte == ord("-")
        or byte == ord("+")
        or byte == ord("/")
        or byte == ord("=")
        or byte == ord("#")
        or byte == ord("$")
        or byte == ord("%")
        or byte == ord("&")
        or byte == ord("@")
        or byte == ord(",")
        or byte == ord("\\")
    )


@compiled
def ends_freely(text, stop, end, classes):
    """Tell whether what stands at byte `stop` lets a number end there; an extension (`x12`, `ext`) may follow."""
    if stop >= end:
        return True
    byte = text[stop]
    kind = class_at(text, stop, classes)
    following = class_at(text, stop + 1, classes) if stop + 1 < end else 0
    if kind & DIGIT or byte == ord("_"):
        return False
    if kind & LETTER:
        return (byte == ord("x") and following & DIGIT) or (
            stop + 2 < end and byte == ord("e") and text[stop + 1] == ord("x") and text[stop + 2] == ord("t")
        )
    return not ((byte == ord(".") or byte == ord("-")) and following & DIGIT)


@compiled
def national_end(text, i, end, classes):
    """Return `(end, opened)` of `area exchange line` at byte `i` (a digit or a parenthesis), or end 0.

    `opened`: the area code is followed by `)`, so a `(` belongs before it. Without any separator the area code must be a
    possible one (2 to 9 first, North American Numbering Plan), which excludes times in seconds; a single dot and nothing
    else makes a decimal number.
    """
    i += text[i] == ord("(")
    area = i
    i, digits = skip_digits(text, i, end, 3, classes)
    if digits < 3 or i >= end:
        return 0, False
    opened = text[i] == ord(")")
    i += opened
    gap = i
    while i < end and i - gap < LONGEST_GAP and is_separator(text[i]):
        i += 1
    gap = i - gap
    dot = gap == 1 and text[i - 1] == ord(".")
    i, digits = skip_digits(text, i, end, 3, classes)
    if digits < 3 or i >= end:
        return 0, False
    joined = not is_separator(text[i])
    i += not joined
    i, digits = skip_digits(text, i, end, 4, classes)
    if digits < 4 or not ends_freely(text, i, end, classes):
        return 0, False
    if joined and dot and not opened:
        return 0, False
    if joined and gap == 0 and not opened and (text[area] == ord("0") or text[area] == ord("1")):
        return 0, False
    return i, opened


@compiled
def find_national(text, first, low, row_first, end, classes):
    """Return `(start, end)` of the number of ten digits, or of 1 and ten, whose first digit is at byte `first`; end 0: none.

    Parentheses belong to it when they enclose the area code; none before byte `low` does.
    """
    start = first
    if text[first] == ord("1") and first + 1 < end and (is_separator(text[first + 1]) or text[first + 1] == ord("(")):
        area = first + 1 + is_separator(text[first + 1])
        if area >= end:
            return 0, 0
        stop, closed = national_end(text, area, end, classes)
        opened = text[area] == ord("(")
    else:
        stop, closed = national_end(text, first, end, classes)
        opened = closed and first > low and text[first - 1] == ord("(")
        start -= opened
    if stop == 0 or opened != closed or not begins_freely(text, start, row_first, classes):
        return 0, 0
    return start, stop


@compiled
def find_international(text, plus, row_first, end, classes):
    """Return the end of the number that begins with the `+` at byte `plus` (country code, groups of digits), or 0.

    One separator between groups; the second group may stand in parentheses. A group that would make more than
    `MOST_DIGITS` is not part of it.
    """
    i = plus + 1
    if i >= end or text[i] == ord("0") or not begins_freely(text, plus, row_first, classes):
        return 0
    if text[i] == ord("1"):
        area = i + 1
        area += area < end and is_separator(text[area])
        if area >= end:
            return 0
        stop, closed = national_end(text, area, end, classes)
        return stop if closed == (text[area] == ord("(")) else 0
    stop = counted = groups = total = 0
    decimal = False
    while i < end:
        i, digits = skip_digits(text, i, end, MOST_DIGITS + 1, classes)
        if digits == 0 or total + digits > MOST_DIGITS:
            break
        total += digits
        groups += 1
        stop, counted = i, total
        if i >= end:
            break
        decimal = text[i] == ord(".") if groups == 1 else decimal and groups == 2
        if groups == 1 and (text[i] == ord("(") or (i + 1 < end and text[i] == ord(" ") and text[i + 1] == ord("("))):
            i, digits = skip_digits(text, i + 1 + (text[i] == ord(" ")), end, MOST_DIGITS, classes)
            if digits == 0 or i >= end or text[i] != ord(")"):
                break
            total += digits
            groups += 1
            i += 1
            i += i < end and is_separator(text[i])
        elif is_separator(text[i]):
            i += 1
        else:
            break
    if counted < FEWEST_DIGITS or (decimal and groups == 2) or not ends_freely(text, stop, end, classes):
        return 0
    return stop
