"""MinHash of word shingles, reduced to one 64-bit key for each band of a locality-sensitive hash table.

Each permutation is x -> a x + b modulo 2^32 with a odd, a bijection, applied to the upper half of the 64-bit shingle
hash (the scheme that datasketch 2.0 calls `affine32`); the smallest value over a document's shingles is kept. Two
documents agree in one permutation with a probability of their Jaccard similarity J. A band key hashes `rows` minima,
so bands are equal with J^rows and at least one of `bands` with 1 - (1 - J^rows)^bands (Broder 1997; Leskovec,
Rajaraman and Ullman, Mining of Massive Datasets, section 3.4).

Why 32 bits: one 32-bit multiplication costs a third of a 64-bit one. The price is that different shingles share a
32-bit value now and then, which raises the estimate of J by about n / 2^33 for documents of n shingles: 10^-4 at a
million shingles, and candidates are verified by exact Jaccard anyway.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from olmo_core.kernels.shingles import BLOCK, MULTIPLIER, mix, next_shingles

_LARGEST = np.uint32(0xFFFFFFFF)
_HALF = np.uint64(32)


def permutations(count: int, seed: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """`count` odd multipliers and increments (uint32), drawn by SplitMix64 from the seed.

    Written out so that no library's generator can change them: signatures are compared across years.
    """
    steps = np.arange(1, 2 * count + 1, dtype=np.uint64) + np.uint64(seed) * np.uint64(1 << 32)
    value = steps * np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    drawn = ((value ^ (value >> np.uint64(31))) >> np.uint64(32)).astype(np.uint32)
    return drawn[:count] | np.uint32(1), drawn[count:].copy()


@numba.njit(nogil=True, cache=True)
def _lower(shingles, count, multipliers, increments, minima):
    """Lower each permutation's minimum by `count` shingle hashes (uint32); the inner loop runs in vector registers."""
    for p in range(len(multipliers)):
        a = multipliers[p]
        b = increments[p]
        least = minima[p]
        for i in range(count):
            least = min(least, np.uint32(shingles[i] * a + b))
        minima[p] = least


@numba.njit(nogil=True, cache=True)
def minhash(data, offsets, pages, letters, width, multipliers, increments, minima, counts):
    """Write the minima (uint32, documents x permutations) and the numbers of shingles (int64) of all documents.

    The minima of a document without words are all 2^32 - 1.
    """
    words = np.empty(BLOCK + width, np.uint64)
    hashes = np.empty(BLOCK + width, np.uint64)
    halves = np.empty(BLOCK + width, np.uint32)
    minima[:] = _LARGEST
    for document in range(len(offsets) - 1):
        at = offsets[document]
        end = offsets[document + 1]
        carried = 0
        total = 0
        while at < end:
            filled, at, carried = next_shingles(data, at, end, pages, letters, words, carried, total, width, hashes)
            for i in range(filled):
                halves[i] = np.uint32(hashes[i] >> _HALF)
            _lower(halves, filled, multipliers, increments, minima[document])
            total += filled
        counts[document] = total


@numba.njit(nogil=True, cache=True)
def band_keys(minima, counts, rows, keys):
    """Write one key (uint64, documents x bands) for every `rows` minima; zeros where a document has no shingle."""
    for document in range(len(minima)):
        for band in range(keys.shape[1]):
            value = np.uint64(band)
            if counts[document] > 0:
                for row in range(band * rows, (band + 1) * rows):
                    value = value * MULTIPLIER + np.uint64(minima[document, row])
                    value ^= value >> _HALF
                keys[document, band] = mix(value)
            else:
                keys[document, band] = 0
