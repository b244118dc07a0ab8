"""Reduces text to the words that a bag-of-words classifier sees, the same way in training and in use."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from olmo_core.kernels.quality_strings import leaf

APOSTROPHE = 39
AT = 64
SPACE = 32
LONGEST_ENTITY = 10
"""Bytes of the longest character reference that is dropped: `&thetasym;`."""


@lru_cache(maxsize=1)
def word_bytes() -> npt.NDArray[np.uint8]:
    """For each byte what words have in its place, uint8[256]: ASCII letters in lower case, 0 for what separates words."""
    table = np.zeros(256, np.uint8)
    for byte in range(256):
        if byte >= 0x80 or chr(byte).isalnum():
            table[byte] = byte if byte >= 0x80 else ord(chr(byte).lower())
    return table


@leaf
def separator_size(text, i, words):
    """Return the bytes of the character at byte `i` when it separates words, 0 when it belongs to one.

    Beyond ASCII these are U+0080 to U+00BF, U+2000 to U+203F and U+3000 to U+303F: spaces, dashes, quotes, CJK stops.
    """
    byte = text[i]
    if byte == 0xC2:
        return 2
    if (byte == 0xE2 or byte == 0xE3) and text[i + 1] == 0x80:
        return 3
    return 0 if words[byte] else 1


@leaf
def begins_with(text, i, end, words, prefix):
    """Return whether bytes `i` to `end` begin with a prefix (uint8[k], lower case), letters of either case."""
    if end - i < len(prefix):
        return False
    for j in range(len(prefix)):  # noqa: SIM110  numba compiles no generator
        if words[text[i + j]] != prefix[j] and text[i + j] != prefix[j]:
            return False
    return True


@leaf
def entity_end(text, i, end, words):
    """Return the byte behind the character reference that begins with the `&` at byte `i`, or behind the `&` alone."""
    for j in range(i + 1, min(end, i + LONGEST_ENTITY)):
        byte = text[j]
        if byte == 59:
            return j + 1 if j > i + 1 else i + 1
        if byte >= 0x80 or not (words[byte] or byte == 35):
            break
    return i + 1


@leaf
def write_words(text, start, end, words, http, www, out, o):
    """Write the words of bytes `start` to `end` to `out` from byte `o` on; return the byte behind them."""
    first = o
    i = start
    token = True
    while i < end:
        byte = text[i]
        word = words[byte]
        if token and (byte == AT or word == 104 or word == 119):
            mention = byte == AT and i + 1 < end and words[text[i + 1]]
            if mention or begins_with(text, i, end, words, http) or begins_with(text, i, end, words, www):
                while i < end and text[i] > SPACE:
                    i += 1
                continue
        token = byte <= SPACE
        size = separator_size(text, i, words)
        quote = byte == APOSTROPHE or (byte == 0xE2 and size == 3 and text[i + 2] == 0x99)
        inside = o > first and out[o - 1] != SPACE
        i += max(1, size)
        if size == 0:
            out[o] = word
            o += 1
        elif quote and inside and i < end and separator_size(text, i, words) == 0:
            out[o] = APOSTROPHE
            o += 1
        elif inside:
            out[o] = SPACE
            o += 1
        if byte == 38:
            i = entity_end(text, i - 1, end, words)
    return o - 1 if o > first and out[o - 1] == SPACE else o


@leaf
def write_all_words(text, starts, ends, words, http, www, out, offsets):
    """Write the words of every span to `out` and where each begins to `offsets` (int64[s + 1])."""
    o = 0
    for i in range(len(starts)):
        offsets[i] = o
        o = write_words(text, starts[i], ends[i], words, http, www, out, o)
    offsets[len(starts)] = o


def words_of(
    text: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], padding: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return `(bytes, offsets)`: the words of each span with one space between them, padded; offsets int64[s + 1].

    ASCII letters become lower case. Everything ASCII that is neither a letter nor a digit separates words, except an
    apostrophe (or U+2019) inside one; so do U+0080 to U+00BF, U+2000 to U+203F and U+3000 to U+303F. Tokens that begin as
    addresses (`http`, `www.`) or mentions (`@name`) and character references (`&amp;`) are left out. Other bytes stay.
    """
    out = np.zeros(int((ends - starts).sum()) + padding, np.uint8)
    offsets = np.empty(len(starts) + 1, np.int64)
    http, www = np.frombuffer(b"http", np.uint8), np.frombuffer(b"www.", np.uint8)
    write_all_words(text, starts, ends, word_bytes(), http, www, out, offsets)
    out[offsets[-1] :] = 0
    return out[: offsets[-1] + padding], offsets
