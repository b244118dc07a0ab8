"""Near duplicates over all sources: which documents repeat a better one, and which one that is.

Exact copies are collapsed first. Of what is left, documents that share a band key of their signatures are candidates.
They are decided in the order of rank, best first: a document is compared with the *kept* documents of its buckets,
best-ranked first, by the exact Jaccard similarity of their shingle sets, and dropped for the first that reaches the
threshold. So every dropped document names a kept one that it was verified to repeat. Similarity is not transitive and
nothing is dropped by chains: where B repeats A and C repeats only B, B goes and C stays.

A bucket with more than `bucket_limit` rows is mostly shared boilerplate. There a document is compared with the
best-ranked `bucket_references` kept members only, so that a bucket of n rows costs n and not n^2 comparisons; these
buckets, their rows and the kept rows for which a bucket had no more room are counted.

The outcome depends on texts and ranks alone, not on the order of the rows, on batches or on memory. Each text that
has a candidate is fetched once, in ascending order of row; its shingle set goes to a temporary file of 8 bytes a
distinct shingle (about 1.3 times the text), from which the comparisons read through the page cache. In memory remain
about 100 bytes a document beside the input, and 150 more for one that shares a bucket.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core.curation.near_duplicate_candidates import buckets, exact_heads
from olmo_core.curation.signatures import SignatureRecipe, SignedDocuments
from olmo_core.errors import IntegrityError, RecipeError, StorageError
from olmo_core.kernels.jaccard import resolve_in_order, shingle_sets

VERSION = 2
"""Raised when the same documents and recipe give another resolution, or the stage counts other things about it."""

KINDS = ("", "exact", "near")
"""Names of the codes in `Resolution.kind`."""
EXACT, NEAR = 1, 2

Fetch = Callable[[npt.NDArray[np.int64]], pa.LargeStringArray]
"""Texts of the rows whose ascending numbers are given, in that order."""
Progress = Callable[[int, int], None]
"""Steps done and steps in all; a step reads or decides one document."""

_ROWS_AT_ONCE = 16384


@dataclass(frozen=True, kw_only=True)
class NearDuplicateRecipe:
    """When a document counts as a near duplicate of a better one."""

    threshold: float = 0.8
    """Lowest Jaccard similarity of the two shingle sets at which the worse document is dropped, above 0 to 1."""
    bucket_limit: int = 1000
    """Rows that may share a band key before comparison is confined to the best-ranked of them."""
    bucket_references: int = 64
    """Kept members of a bucket above the limit with which the others are compared, the best-ranked first."""
    signature: SignatureRecipe = field(default_factory=SignatureRecipe)
    """The recipe by which the documents were signed."""

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise RecipeError(f"threshold must be above 0 and at most 1, not {self.threshold!r}")
        if self.bucket_limit < 2 or not 1 <= self.bucket_references <= self.bucket_limit:
            raise RecipeError(
                "bucket_limit must be 2 or more and bucket_references from 1 to bucket_limit, "
                f"not {self.bucket_limit!r} and {self.bucket_references!r}"
            )


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What becomes of every row, and how it was found."""

    keep: npt.NDArray[np.bool_]
    """(n,): False where the document repeats a better one."""
    duplicate_of: npt.NDArray[np.int64]
    """(n,): row of the kept document that it repeats, or -1."""
    jaccard: npt.NDArray[np.float32]
    """(n,): exact similarity to that document, 1 for exact copies, 0 where kept."""
    kind: npt.NDArray[np.int8]
    """(n,): index into `KINDS`. A copy of a document that is itself a near duplicate is near, not exact."""
    pairs: int
    """Candidate pairs compared; pairs whose better member was already dropped never are."""
    matched: int
    """Pairs that reached the threshold: one for each near duplicate but copies of one."""
    rejected: int
    """Pairs that did not."""
    oversized_buckets: int
    """Buckets with more rows than `bucket_limit`, exact copies counted once."""
    rows_in_oversized_buckets: int
    """Different rows in such a bucket."""
    rows_beyond_references: int
    """Kept rows that a full bucket could not take: later rows were not compared with them there."""

    def columns(self) -> pa.RecordBatch:
        """`keep`, `duplicate_of` and `jaccard` (null where kept) and `kind` as Arrow columns."""
        kinds = pa.DictionaryArray.from_arrays(pa.array(self.kind), pa.array(KINDS)).cast(pa.string())
        arrays = [
            pa.array(self.keep),
            pa.array(self.duplicate_of, mask=self.keep),
            pa.array(self.jaccard, mask=self.keep),
            kinds,
        ]
        return pa.RecordBatch.from_arrays(arrays, names=["keep", "duplicate_of", "jaccard", "kind"])


def resolve(
    documents: SignedDocuments,
    fetch_texts: Fetch,
    recipe: NearDuplicateRecipe,
    progress: Progress | None = None,
    *,
    batch_bytes: int = 64 << 20,
    scratch: Path | None = None,
) -> Resolution:
    """Find exact and near duplicates among all documents (the rule is the module's docstring).

    `fetch_texts` is called with ascending rows whose texts have `batch_bytes` together, or with one longer text.
    `scratch` is the folder of the temporary file. Raises IntegrityError when a fetched text is not the signed one,
    StorageError when the temporary file cannot be written.
    """
    if documents.bands.shape[1] != recipe.signature.bands:
        raise ValueError(f"{documents.bands.shape[1]} bands a document, but the recipe says {recipe.signature.bands}")
    head = exact_heads(documents)
    ranked = np.argsort(documents.rank)
    ranked = ranked[(head[ranked] == ranked) & (documents.shingle_count[ranked] > 0)]
    rows, shared = buckets(documents.bands, ranked, recipe.bucket_limit, recipe.bucket_references)
    partner = np.full(len(rows), -1, np.int32)
    similarity = np.zeros(len(rows))
    full = np.zeros(len(rows), np.bool_)
    tally = np.zeros(2, np.int64)
    with _scratch_file(scratch) as file:
        set_start, set_size = _spool(documents, rows, fetch_texts, recipe, progress, batch_bytes, file)
        hashes = np.asarray(np.memmap(file, np.uint64, "r")) if len(rows) else np.empty(0, np.uint64)
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            last = min(first + _ROWS_AT_ONCE, len(rows))
            resolve_in_order(
                first,
                last,
                shared.of_row,
                shared.start,
                shared.room,
                shared.filled,
                shared.kept,
                hashes,
                set_start,
                set_size,
                recipe.threshold,
                partner,
                similarity,
                full,
                tally,
            )
            if progress:
                progress(len(rows) + last, 2 * len(rows))
        del hashes
    keep, duplicate_of, jaccard, kind = _spread(head, rows, partner, similarity)
    return Resolution(
        keep=keep,
        duplicate_of=duplicate_of,
        jaccard=jaccard,
        kind=kind,
        pairs=int(tally[0]),
        matched=int(tally[1]),
        rejected=int(tally[0] - tally[1]),
        oversized_buckets=shared.oversized,
        rows_in_oversized_buckets=shared.rows_in_oversized,
        rows_beyond_references=int(full.sum()),
    )


def _spool(
    documents: SignedDocuments,
    rows: npt.NDArray[np.int64],
    fetch_texts: Fetch,
    recipe: NearDuplicateRecipe,
    progress: Progress | None,
    batch_bytes: int,
    file: IO[bytes],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Fetch the texts of `rows` once, write their shingle sets to `file`; return where each set starts and its size."""
    set_start = np.zeros(len(rows), np.int64)
    set_size = np.zeros(len(rows), np.int64)
    ascending = np.argsort(rows)
    written = done = 0
    for places in _batches(ascending, documents.text_bytes[rows[ascending]], batch_bytes):
        wanted = rows[places]
        texts = fetch_texts(wanted)
        if len(texts) != len(wanted):
            raise IntegrityError(f"asked for the texts of {len(wanted)} rows from {wanted[0]} on, got {len(texts)}")
        counts = documents.shingle_count[wanted].astype(np.int64)
        try:
            hashes, starts = shingle_sets(texts, recipe.signature.shingle_words, counts)
        except ValueError as error:
            raise IntegrityError(
                f"texts of the rows {wanted[0]} to {wanted[-1]} are not those that were signed ({error}); "
                "sign the documents again, with the same recipe"
            ) from error
        with _storage_errors():
            file.write(memoryview(hashes))  # type: ignore[arg-type]
            file.flush()
        set_start[places] = written + starts[:-1]
        set_size[places] = np.diff(starts)
        written += len(hashes)
        done += len(places)
        if progress:
            progress(done, 2 * len(rows))
    return set_start, set_size


def _batches(places: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], most: int) -> Iterator[npt.NDArray[np.int64]]:
    """Cut `places` into runs whose sizes add up to at most `most`, or hold one place."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(places):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield places[first:last]
        first = last


def _spread(
    head: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    partner: npt.NDArray[np.int32],
    similarity: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """From the decisions about compared heads to (keep, duplicate_of, jaccard, kind) of all rows."""
    duplicate_of = np.full(len(head), -1, np.int64)
    jaccard = np.zeros(len(head), np.float32)
    kind = np.zeros(len(head), np.int8)
    near = partner >= 0
    duplicate_of[rows[near]] = rows[partner[near]]
    jaccard[rows[near]] = similarity[near]
    kind[rows[near]] = NEAR
    copies = np.flatnonzero(head != np.arange(len(head)))
    heads = head[copies]
    gone = kind[heads] == NEAR
    duplicate_of[copies] = np.where(gone, duplicate_of[heads], heads)
    jaccard[copies] = np.where(gone, jaccard[heads], np.float32(1.0))
    kind[copies] = np.where(gone, NEAR, EXACT)
    return duplicate_of < 0, duplicate_of, jaccard, kind


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write the temporary file of shingle sets: {error}; name a folder with room as `scratch`"
        ) from error


def _scratch_file(folder: Path | None) -> IO[bytes]:
    with _storage_errors():
        return tempfile.TemporaryFile(dir=folder, prefix="shingle-sets-")
