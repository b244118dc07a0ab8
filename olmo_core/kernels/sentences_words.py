"""Reduces text to the words that a bag-of-words classifier sees, the same way in training and in use."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

APOSTROPHE = 39
AT = 64
SPACE = 32

OTHER, LETTER = 0, 1
LONGEST_ENTITY = 10
"""Bytes of the longest character reference that is dropped: `&thetasym;`."""


@njit(nogil=True, cache=True)
def lowered(byte):
    """Return an ASCII byte in lower case."""
    return byte + 32 if 65 <= byte <= 90 else byte


@njit(nogil=True, cache=True)
def is_word_byte(byte):
    """Return whether a byte belongs to words: ASCII letters and digits, and all of UTF-8's longer sequences."""
    return 97 <= lowered(byte) <= 122 or 48 <= byte <= 57 or byte >= 0x80


@njit(nogil=True, cache=True)
def begins_with(text, i, end, prefix):
    """Return whether bytes `i` to `end` begin with a prefix (uint8[k], lower case), letters of either case."""
    if end - i < len(prefix):
        return False
    for j in range(len(prefix)):  # noqa: SIM110  numba compiles no generator
        if lowered(text[i + j]) != prefix[j]:
            return False
    return True


@njit(nogil=True, cache=True)
def entity_end(text, i, end):
    """Return the byte behind the character reference that begins with the `&` at byte `i`, or `i` if there is none."""
    for j in range(i + 1, min(end, i + LONGEST_ENTITY)):
        byte = text[j]
        if byte == 59:
            return j + 1 if j > i + 1 else i
        if not (97 <= lowered(byte) <= 122 or 48 <= byte <= 57 or byte == 35):
            break
    return i


@njit(nogil=True, cache=True)
def write_words(text, start, end, http, www, out, o):
    """Write the words of bytes `start` to `end` to `out` from byte `o` on; return the byte behind them."""
    first = o
    i = start
    token = True
    while i < end:
        byte = text[i]
        if token and (byte == AT or lowered(byte) == 104 or lowered(byte) == 119):
            mention = byte == AT and i + 1 < end and is_word_byte(text[i + 1])
            if mention or begins_with(text, i, end, http) or begins_with(text, i, end, www):
                while i < end and text[i] > SPACE:
                    i += 1
                continue
        token = byte <= SPACE
        if byte == 0xE2 and text[i + 1] == 0x80:  # U+2000 to U+203F: spaces, dashes and quotes
            i += 3
            if text[i - 1] == 0x99 and o > first and out[o - 1] != SPACE and i < end and is_word_byte(text[i]):
                out[o] = APOSTROPHE
                o += 1
                continue
        elif is_word_byte(byte) or (
            byte == APOSTROPHE and o > first and out[o - 1] != SPACE and i + 1 < end and is_word_byte(text[i + 1])
        ):
            out[o] = lowered(byte)
            o += 1
            i += 1
            continue
        elif byte == 38:
            i = max(i + 1, entity_end(text, i, end))
        else:
            i += 1
        if o > first and out[o - 1] != SPACE:
            out[o] = SPACE
            o += 1
    return o - 1 if o > first and out[o - 1] == SPACE else o


@njit(nogil=True, cache=True)
def write_all_words(text, starts, ends, http, www, out, offsets):
    """Write the words of every span to `out` and where each begins to `offsets` (int64[s + 1])."""
    o = 0
    for i in range(len(starts)):
        offsets[i] = o
        o = write_words(text, starts[i], ends[i], http, www, out, o)
    offsets[len(starts)] = o


def words_of(
    text: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], padding: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return `(bytes, offsets)`: the words of each span with one space between them, padded; offsets int64[s + 1].

    ASCII letters become lower case. Everything ASCII that is neither a letter nor a digit separates words, except an
    apostrophe inside one; so do U+2000 to U+203F, of which U+2019 counts as an apostrophe. Tokens that begin as
    addresses (`http`, `www.`) or mentions (`@name`) and character references (`&amp;`) are left out. Other bytes stay.
    """
    out = np.zeros(int((ends - starts).sum()) + padding, np.uint8)
    offsets = np.empty(len(starts) + 1, np.int64)
    http, www = np.frombuffer(b"http", np.uint8), np.frombuffer(b"www.", np.uint8)
    write_all_words(text, starts, ends, http, www, out, offsets)
    out[offsets[-1] :] = 0
    return out[: offsets[-1] + padding], offsets
