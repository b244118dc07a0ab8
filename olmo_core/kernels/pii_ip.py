"""IPv4 addresses in text, told from versions and section numbers (the rules are in `olmo_core.curation.pii`)."""

from __future__ import annotations

import numpy as np

from olmo_core.kernels.pii_characters import DIGIT, LETTER, character_before, class_at, compiled, octet_at

VERSION_WORDS = np.array(
    [
        list(word.ljust(8).encode())
        for word in ("version", "versions", "ver", "release", "rev", "revision", "section", "sections")
    ],
    np.uint8,
)
"""Words that make the number behind them a version or a section, in lower case, each filled up with spaces."""

LONGEST_GAP = 4
"""Characters of ` : = " ' (` between such a word and the number."""


@compiled
def follows_version_word(text, first, row_first):
    """Tell whether the word before byte `first` is one of `VERSION_WORDS` (`version 1.2.3.4`, `__version__ = "1.2.3.4"`)."""
    i = first
    while i > row_first and first - i < LONGEST_GAP:
        byte = text[i - 1]
        if not (byte == 0x20 or byte == 0x3A or byte == 0x3D or byte == 0x22 or byte == 0x27 or byte == 0x28):
            break
        i -= 1
    while i > row_first and (text[i - 1] == ord("_") or text[i - 1] == ord(".")):
        i -= 1
    stop = i
    while i > row_first and stop - i <= 8 and ord("a") <= text[i - 1] | 0x20 <= ord("z"):
        i -= 1
    size = stop - i
    if size == 0 or size > 8:
        return False
    for word in range(len(VERSION_WORDS)):
        same = 0
        while same < size and text[i + same] | 0x20 == VERSION_WORDS[word, same]:
            same += 1
        if same == size and (size == 8 or VERSION_WORDS[word, size] == 0x20):
            return True
    return False


@compiled
def begins_freely(text, first, row_first, classes):
    """Tell whether what stands before byte `first` lets an address begin there."""
    if first == row_first:
        return True
    before = character_before(text, first)
    byte = text[before]
    kind = class_at(text, before, classes)
    if kind & (LETTER | DIGIT) or byte == ord("_") or byte == ord(".") or byte == ord("^") or byte == ord("~"):
        return False
    if before == row_first:
        return True
    further = character_before(text, before)
    if byte == ord(" ") and text[further] == ord("=") and further > row_first:
        byte = text[further]
        further = character_before(text, further)
    if byte == ord("-") or byte == ord("/"):
        return not class_at(text, further, classes) & LETTER
    if byte == ord("="):
        mark = text[further]
        return not (mark == ord("=") or mark == ord("<") or mark == ord(">") or mark == ord("~") or mark == ord("!"))
    return True


@compiled
def ends_freely(text, stop, end, classes):
    """Tell whether what stands at byte `stop` lets an address end there."""
    if stop >= end:
        return True
    byte = text[stop]
    if class_at(text, stop, classes) & (LETTER | DIGIT) or byte == ord("_"):
        return False
    if stop + 1 < end:
        following = class_at(text, stop + 1, classes)
        if byte == ord(".") and following & (LETTER | DIGIT):
            return False
        if byte == ord("-") and following & LETTER:
            return False
    return True


@compiled
def find_ip(text, first, row_first, end, classes):
    """Return the end of the IPv4 address whose first digit is at byte `first`, where a run of digits begins, or 0.

    Four numbers up to 255. Those that begin with 0, 127 or 255 (this host, loopback, masks) are nobody's address.
    """
    value, i = octet_at(text, first, end)
    if value == 0 or value == 127 or value >= 255:
        return 0
    for _ in range(3):
        if value > 255 or i >= end or text[i] != ord("."):
            return 0
        value, i = octet_at(text, i + 1, end)
    if value > 255 or not ends_freely(text, i, end, classes) or not begins_freely(text, first, row_first, classes):
        return 0
    return 0 if follows_version_word(text, first, row_first) else i
