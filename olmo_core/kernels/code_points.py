"""Byte offsets into UTF-8 text as offsets in code points, which is how Python and the Dolma toolkit count."""

from __future__ import annotations

from numba import njit

compiled = njit(nogil=True, cache=True, _nrt=False)  # type: ignore[call-overload]  # an option without a stub

BLOCK = 64
"""Bytes between two places whose code points are known: an eighth of the text in memory, 32 bytes to count on average."""


@compiled
def count_blocks(text, size, blocks):
    """Write to `blocks[k]` (int64) the number of code points that begin in the first `64 k` bytes of `text`.

    `size` is the length of the text in `text`, which may be longer; `blocks` has `size // 64 + 1` elements.
    """
    seen = 0
    for k in range(size):
        if k % 64 == 0:
            blocks[k // 64] = seen
        seen += (text[k] & 0xC0) != 0x80
    if size % 64 == 0:
        blocks[size // 64] = seen


@compiled
def code_points_before(text, blocks, places, out):
    """Write to `out[i]` (int64) the number of code points that begin in the first `places[i]` bytes of `text`."""
    for i in range(len(places)):
        block = places[i] // 64
        seen = blocks[block]
        for k in range(block * 64, places[i]):
            seen += (text[k] & 0xC0) != 0x80
        out[i] = seen
