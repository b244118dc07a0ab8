"""Strings as JSON writes them: quoted, with quotes, backslashes and control characters escaped, all else as it is."""

from __future__ import annotations

import numpy as np
from numba import njit

compiled = njit(nogil=True, cache=True, _nrt=False)  # type: ignore[call-overload]  # an option without a stub

_SHORT = {8: b"b", 9: b"t", 10: b"n", 12: b"f", 13: b"r", 34: b'"', 92: b"\\"}


def _table() -> tuple[np.ndarray, np.ndarray]:
    """Return, by byte, how many bytes its escaped form has, and the letter behind the backslash (`u`: six bytes)."""
    sizes, letters = np.ones(256, np.int64), np.zeros(256, np.uint8)
    sizes[:32], letters[:32] = 6, ord("u")
    for byte, letter in _SHORT.items():
        sizes[byte], letters[byte] = 2, letter[0]
    return sizes, letters


SIZES, LETTERS = _table()


@compiled
def quoted_offsets(text, offsets, sizes, out):
    """Write to `out` (int64, n + 1) where the quoted form of each row of `text` begins in one buffer of all."""
    out[0] = 0
    for row in range(len(offsets) - 1):
        size = 2
        for k in range(offsets[row], offsets[row + 1]):
            size += sizes[text[k]]
        out[row + 1] = out[row] + size


@compiled
def quote(text, offsets, letters, starts, out):
    """Write the quoted form of each row of `text` to `out` (uint8), row i from `starts[i]`."""
    for row in range(len(offsets) - 1):
        at = starts[row]
        out[at] = 34
        at += 1
        for k in range(offsets[row], offsets[row + 1]):
            byte = text[k]
            letter = letters[byte]
            if letter == 0:
                out[at] = byte
                at += 1
                continue
            out[at] = 92
            out[at + 1] = letter
            at += 2
            if letter == 117:  # u: four hexadecimal digits, of which the first two are 0 for a control character
                low = byte & 15
                out[at] = 48
                out[at + 1] = 48
                out[at + 2] = 48 + (byte >> 4)
                out[at + 3] = 48 + low if low < 10 else 87 + low
                at += 4
        out[at] = 34
