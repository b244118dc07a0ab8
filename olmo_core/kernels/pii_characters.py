"""Character classes for the PII kernels: white space, digits and letters at a byte position of UTF-8 text."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba import njit

from olmo_core.kernels.words import ALPHABETIC, CODE_POINTS, character_classes, code_point, sequence_length
from olmo_core.kernels.words import SPACE as WORD_SPACE

SPACE = 1
"""`str.isspace()`, which is what `\\s` means in Python's `re`."""

DIGIT = 2
"""`str.isdecimal()`, which is what `\\d` means in Python's `re`: Arabic-Indic and full-width digits, for example."""

LETTER = 4
"""`str.isalpha()` below U+0E00: letters of scripts that put spaces between words (Latin to Arabic, not Thai, not Han).
Text runs into an address without a space in the others, so their letters are not part of one."""

ADDRESS = 8
"""ASCII characters of the part of an e-mail address before the @, letters and digits aside: `. _ % + -`."""

MARK = 16
"""A byte at which a PII kernel has to look: `@`, `+`, ASCII digits, and first bytes of digits outside ASCII."""

FIRST_SPACELESS = 0x0E00


@lru_cache(maxsize=1)
def pii_classes() -> npt.NDArray[np.uint8]:
    """Return the bits above for each code point (0.2 s, once); `MARK` is for byte values, not code points.

    2**21 entries, so that no four-byte sequence, even an invalid one, reads outside the table.
    """
    words = character_classes()
    table = np.zeros(len(words), np.uint8)
    table[(words & WORD_SPACE) != 0] = SPACE
    table[:FIRST_SPACELESS][(words[:FIRST_SPACELESS] & ALPHABETIC) != 0] |= LETTER
    digits = np.fromiter(map(str.isdecimal, map(chr, range(CODE_POINTS))), np.bool_, CODE_POINTS)
    table[:CODE_POINTS][digits] |= DIGIT
    for character in "._%+-":
        table[ord(character)] |= ADDRESS
    table[[ord("@"), ord("+")]] |= MARK
    for point in np.nonzero(digits)[0]:
        table[chr(point).encode()[0]] |= MARK
    table.setflags(write=False)
    return table


compiled = njit(nogil=True, cache=True, _nrt=False)  # type: ignore[call-overload]  # an option without a stub
"""Compiles a function that allocates nothing, without reference counts on its arrays: counting them costs two atomic
operations an array and call. A function that does allocate fails to compile with it."""


@compiled
def class_at(text, i, classes):
    """Return the class bits of the character that begins at byte `i`."""
    byte = text[i]
    return classes[byte] if byte < 0x80 else classes[code_point(text, i)]


@compiled
def character_before(text, i):
    """Return the first byte of the character that ends just before byte `i`, which is not where the text begins."""
    i -= 1
    while text[i] & 0xC0 == 0x80:
        i -= 1
    return i


@compiled
def skip_digits(text, i, end, most, classes):
    """Return `(position behind, count)` of the run of up to `most` digits that begins at byte `i`."""
    count = 0
    while i < end and count < most and class_at(text, i, classes) & DIGIT:
        i += sequence_length(text[i])
        count += 1
    return i, count


@compiled
def octet_at(text, i, end):
    """Return `(value, position behind)` of the ASCII digits at byte `i`, three at most; value 1000 when there is none."""
    value = 0
    first = i
    while i < end and i < first + 3 and ord("0") <= text[i] <= ord("9"):
        value = 10 * value + text[i] - ord("0")
        i += 1
    return (value if i > first else 1000), i
