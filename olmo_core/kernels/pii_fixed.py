"""All e-mail addresses, phone numbers and IPv4 addresses of a batch of texts in one pass."""

from __future__ import annotations

from olmo_core.kernels.pii_characters import DIGIT, MARK, class_at, compiled, skip_digits
from olmo_core.kernels.pii_compatible import EMAIL, IP, PHONE
from olmo_core.kernels.pii_email import find_email
from olmo_core.kernels.pii_ip import find_ip
from olmo_core.kernels.pii_phone import find_international, find_national


@compiled
def find_fixed(text, offsets, classes, rows, starts, ends, kinds):
    """Write the spans of every row, in order and apart, and return an upper bound of their number.

    `rows` (int64), `starts` and `ends` (int64, bytes in the row) and `kinds` (uint8) are of equal length. A result
    above it says how long they must be; up to it, the result is the number of spans. Every finder looks at a bounded
    number of bytes, so time is linear in the text. An e-mail address takes the place of spans that it overlaps and covers
    them (`10.0.0.1@x.org`).
    """
    total = 0
    for row in range(len(offsets) - 1):
        first, end = offsets[row], offsets[row + 1]
        row_first = total
        low = email_low = i = first
        while i < end:
            if not classes[text[i]] & MARK:
                i += 1
                continue
            start, stop, kind, behind = i, 0, IP, i + 1
            if text[i] == ord("@"):
                kind = EMAIL
                start, stop = find_email(text, i, email_low, end, classes)
            elif text[i] == ord("+"):
                kind = PHONE
                stop = find_international(text, i, first, end, classes)
            elif class_at(text, i, classes) & DIGIT:
                behind, _ = skip_digits(text, i, end, end - i, classes)
                if behind < end and text[behind] == ord("."):
                    stop = find_ip(text, i, first, end, classes)
                if stop == 0:
                    kind = PHONE
                    start, stop = find_national(text, i, low, first, end, classes)
            if stop:
                if total <= len(rows):
                    while total > row_first and ends[total - 1] > start - first:
                        total -= 1
                        start = min(start, starts[total] + first)
                if total < len(rows):
                    rows[total], starts[total], ends[total], kinds[total] = row, start - first, stop - first, kind
                total += 1
                low = behind = stop
                email_low = stop if kind == EMAIL else email_low
            i = behind
    return total
