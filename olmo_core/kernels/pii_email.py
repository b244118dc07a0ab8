"""E-mail addresses in text: the parts before and behind an @ (the rules are in `olmo_core.curation.pii`)."""

from __future__ import annotations

from olmo_core.kernels.pii_characters import ADDRESS, DIGIT, LETTER, SPACE, character_before, class_at, compiled
from olmo_core.kernels.words import sequence_length

LONGEST_LOCAL = 64
"""Bytes before the @ (RFC 5321, section 4.5.3.1.1)."""

LONGEST_DOMAIN = 255
"""Bytes behind the @ (RFC 5321, section 4.5.3.1.2)."""


@compiled
def local_start(text, at, low, classes):
    """Return the start of the local part before the @ at byte `at`, not before `low`; `at` when there is none.

    Leading punctuation is not part of it. None when it is too long or the login of a URL (`https://user:secret@host`).
    """
    start = at
    while start > low:
        before = character_before(text, start)
        if not class_at(text, before, classes) & (LETTER | DIGIT | ADDRESS):
            break
        start = before
        if at - start > LONGEST_LOCAL:
            return at
    while start < at and classes[text[start]] & ADDRESS and text[start] != ord("_"):
        start += 1
    login = start
    if login > low and text[login - 1] == ord(":"):
        login -= 1
        while login > low and start - login < LONGEST_LOCAL and classes[text[login - 1]] & (LETTER | DIGIT | ADDRESS):
            login -= 1
    if login - 2 >= low and text[login - 1] == ord("/") and text[login - 2] == ord("/"):
        return at
    return start


@compiled
def domain_end(text, first, end, classes):
    """Return the end of the domain that begins at byte `first`, or 0: labels, dots between them, a last one of letters.

    The last label ends before a hyphen, unless it is an encoded one (`xn--`).
    """
    if first >= end or text[first] == ord("-"):
        return 0
    label = i = first
    while i < end and i - first <= LONGEST_DOMAIN:
        if text[i] == ord("-") or class_at(text, i, classes) & (LETTER | DIGIT):
            i += sequence_length(text[i])
        elif text[i] == ord(".") and i > label and i + 1 < end and class_at(text, i + 1, classes) & (LETTER | DIGIT):
            i += 1
            label = i
        else:
            break
    if label == first or i - first > LONGEST_DOMAIN:
        return 0
    if i - label > 4 and text[label] == ord("x") and text[label + 1] == ord("n") and text[label + 3] == ord("-"):
        while text[i - 1] == ord("-"):
            i -= 1
        return i
    letters = 0
    j = label
    while j < i and class_at(text, j, classes) & LETTER:
        j += sequence_length(text[j])
        letters += 1
    return j if letters >= 2 and (j == i or text[j] == ord("-")) else 0


@compiled
def find_email(text, at, low, end, classes):
    """Return `(start, end)` of the e-mail address around the @ at byte `at`, or end 0.

    Not an address: what is followed by another @, by `_`, by `:` and a path (`git@host:path`) or by `(` and no space
    (a call).
    """
    stop = domain_end(text, at + 1, end, classes)
    if stop == 0:
        return 0, 0
    start = local_start(text, at, low, classes)
    if start == at:
        return 0, 0
    if stop < end:
        if text[stop] == ord("@") or text[stop] == ord("_"):
            return 0, 0
        if stop + 1 < end:
            following = class_at(text, stop + 1, classes)
            path = following & (LETTER | DIGIT) or text[stop + 1] == ord("/") or text[stop + 1] == ord("~")
            if text[stop] == ord(":") and path:
                return 0, 0
            if text[stop] == ord("(") and not following & SPACE:
                return 0, 0
    return start, stop
