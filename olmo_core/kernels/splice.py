"""Copy a byte buffer with some stretches of it replaced."""

from __future__ import annotations

from numba import njit


@njit(nogil=True, cache=True, _nrt=False)  # type: ignore[call-overload]  # an option without a stub
def splice(text, starts, ends, patches, patch_starts, patch_ends, out):
    """Write `text` to `out` with bytes `starts[k]` to `ends[k]` replaced by `patches[patch_starts[k]:patch_ends[k]]`.

    Stretches are in order and do not overlap (int64 each). `out` is uint8 of exactly the length that comes out; what
    is left of `text` behind the last stretch fills it up.
    """
    position = 0
    written = 0
    for k in range(len(starts)):
        kept = starts[k] - position
        for j in range(kept):
            out[written + j] = text[position + j]
        written += kept
        position = ends[k]
        patched = patch_ends[k] - patch_starts[k]
        for j in range(patched):
            out[written + j] = patches[patch_starts[k] + j]
        written += patched
    for j in range(len(out) - written):
        out[written + j] = text[position + j]
