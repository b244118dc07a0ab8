"""Finding ids that occur twice, by 128-bit hashes, in bounded memory.

BLAKE2b is cryptographic: two different ids share a hash with a probability of about n^2 / 2^129 (10^-19 for 10^10
documents), also where someone chose them, so equal hashes are taken for equal ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core.kernels.hash_set import add_hashes

Hashes = npt.NDArray[np.uint64]
_SMALLEST = 1 << 10
_MOST_ROWS = 1 << 26


def id_hashes(ids: pa.StringArray) -> Hashes:
    """Return uint64[n, 2]: BLAKE2b with 16 bytes of each id's UTF-8, little-endian. About a million ids a second."""
    digests = b"".join([blake2b(i, digest_size=16).digest() for i in ids.cast(pa.binary()).to_pylist()])
    return np.frombuffer(digests, "<u8").reshape(-1, 2).astype(np.uint64, copy=False)


class IdSet:
    """A set of id hashes that grows: 32 to 64 bytes per id (open addressing, at most half full)."""

    def __init__(self) -> None:
        self._table: Hashes = np.zeros((_SMALLEST, 2), np.uint64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Add uint64[n, 2]; return bool[n], true where a hash was there before or occurs earlier in the same call."""
        needed = 2 * (self._count + len(hashes))
        if needed > len(self._table):
            old = self._table[self._table.any(axis=1)]
            self._table = np.zeros((1 << (needed - 1).bit_length(), 2), np.uint64)
            add_hashes(self._table, old, np.zeros(len(old), np.bool_))
        repeated = np.zeros(len(hashes), np.bool_)
        self._count += int(add_hashes(self._table, np.ascontiguousarray(hashes), repeated))
        return repeated


def find_duplicates(shards: Sequence[Hashes], most_rows: int = _MOST_ROWS) -> list[npt.NDArray[np.int64]]:
    """Return for each shard the rows (int64, ascending) whose id occurs in an earlier shard or earlier in the same one.

    `shards` holds uint64[n, 2] arrays in the order that decides which one is first; they may be memory maps, and are
    gone through once for every `most_rows` hashes in all. Memory: at most about 64 bytes x `most_rows` besides the result.
    """
    total = sum(len(shard) for shard in shards)
    bits = max(0, (max(1, total) - 1) // most_rows).bit_length()
    found: list[list[npt.NDArray[np.int64]]] = [[] for _ in shards]
    for part in range(1 << bits):
        seen = IdSet()
        for shard, rows_found in zip(shards, found, strict=True):
            # The set places hashes by their first half, so parts are told apart by the second.
            rows = np.arange(len(shard)) if bits == 0 else np.flatnonzero(shard[:, 1] >> np.uint64(64 - bits) == part)
            rows_found.append(rows[seen.add(shard[rows])])
    return [np.sort(np.concatenate(rows)).astype(np.int64) for rows in found]
