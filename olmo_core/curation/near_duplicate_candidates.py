"""The best of every group of exact copies, and the buckets in which near duplicates of it are looked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from olmo_core.curation.signatures import SignedDocuments


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """Rows that share a band key, and room for the kept ones among them. Rows are numbered by rank, best first."""

    of_row: npt.NDArray[np.int32]
    """(rows, bands): number of the row's bucket in that band, or -1 where it is alone."""
    start: npt.NDArray[np.int64]
    """(buckets,): where a bucket's part of `kept` begins."""
    room: npt.NDArray[np.int32]
    """(buckets,): kept rows it may hold: all of its rows, or the references where it is oversized."""
    filled: npt.NDArray[np.int32]
    """(buckets,): kept rows it holds; zeros at first, counted up while rows are decided."""
    kept: npt.NDArray[np.int32]
    """The kept rows of all buckets, each bucket's in order of rank."""
    oversized: int
    """Buckets above the limit."""
    rows_in_oversized: int
    """Different rows in them."""


def exact_heads(documents: SignedDocuments) -> npt.NDArray[np.int64]:
    """For every row the best-ranked row with the same text: itself, where it has no better copy."""
    hashes = documents.text_hash
    order = np.lexsort((documents.rank, hashes[:, 1], hashes[:, 0]))
    ordered = hashes[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    head = np.empty(len(order), np.int64)
    head[order] = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
    return head


def buckets(
    bands: npt.NDArray[np.uint64], ranked: npt.NDArray[np.int64], limit: int, references: int
) -> tuple[npt.NDArray[np.int64], Buckets]:
    """Group the documents `ranked` (rows of `bands`, best first) by band key; return (rows, buckets).

    `rows` are those of `ranked`, still best first, that share at least one key; the buckets number them from 0.
    """
    in_bucket: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]] = []
    sizes: list[npt.NDArray[np.int64]] = []
    shares = np.zeros(len(ranked), np.bool_)
    number = 0
    for band in range(bands.shape[1]):
        members, lengths = _shared(bands[ranked, band])
        shares[members] = True
        in_bucket.append((members, np.repeat(np.arange(number, number + len(lengths), dtype=np.int32), lengths)))
        sizes.append(lengths)
        number += len(lengths)
    size = np.concatenate(sizes)
    oversized = size > limit
    renumber = (np.cumsum(shares) - 1).astype(np.int32)
    of_row = np.full((int(shares.sum()), bands.shape[1]), -1, np.int32)
    in_oversized = np.zeros(len(of_row), np.bool_)
    for band, (members, bucket) in enumerate(in_bucket):
        of_row[renumber[members], band] = bucket
        in_oversized[renumber[members[oversized[bucket]]]] = True
    room = np.where(oversized, references, size).astype(np.int32)
    start = np.cumsum(room, dtype=np.int64) - room
    return ranked[shares], Buckets(
        of_row=of_row,
        start=start,
        room=room,
        filled=np.zeros(len(room), np.int32),
        kept=np.empty(int(room.sum(dtype=np.int64)), np.int32),
        oversized=int(oversized.sum()),
        rows_in_oversized=int(in_oversized.sum()),
    )


def _shared(keys: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Positions whose key another position has too, bucket by bucket, and the sizes of these buckets."""
    order = np.argsort(keys).astype(np.int32)
    ordered = keys[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(keys)])
    lengths = np.diff(np.r_[first, len(keys)])
    return order[np.repeat(lengths > 1, lengths)], lengths[lengths > 1]
