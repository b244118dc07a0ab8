"""Signatures: what a document must carry so that its exact and near copies can be found without its text.

`tag` adds a 128-bit hash of the raw text, for exact copies, and the band keys of a MinHash of its word shingles, for
near copies: 160 bytes a document with the default 20 bands of 6 rows. Equal band keys make candidates only;
`near_duplicates` verifies each by the exact Jaccard similarity of the shingle sets.

Why 20 x 6: a pair of similarity s becomes a candidate with 1 - (1 - s^6)^20, that is 0.998 at 0.8 and 0.92 at 0.7, so
hardly a pair above the usual threshold of 0.8 is missed; what is caught below it is rejected by verification. The
9 x 13 bands that datasketch chooses for the same threshold balance both errors and find 40% of the pairs at 0.8.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core.errors import RecipeError
from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.minhash import band_keys, minhash, permutations
from olmo_core.kernels.shingle_alphabet import alphabet

VERSION = 1
"""Raised when the same text and recipe give other columns."""

HASH_BYTES = 16
_ROWS_AT_ONCE = 8192
"""Documents whose minima are held at a time (4 MB of scratch with 120 permutations)."""


@dataclass(frozen=True, kw_only=True)
class SignatureRecipe:
    """What is hashed and how many chances a pair of documents has to meet."""

    shingle_words: int = 5
    """Words in a shingle, 1 to 64. Five is what datatrove and text-dedup take; fewer find looser matches."""
    bands: int = 20
    """Band keys of a document, 1 to 1,024; a pair is a candidate when one of them is equal."""
    rows: int = 6
    """Minima hashed into a band key, 1 to 64; more make candidates rarer and more similar."""
    seed: int = 1
    """Chooses the permutations, 0 to 2^31 - 1. Signatures of different seeds cannot be compared."""

    def __post_init__(self) -> None:
        for name, highest in (("shingle_words", 64), ("bands", 1024), ("rows", 64), ("seed", 2**31 - 1)):
            value = getattr(self, name)
            lowest = 0 if name == "seed" else 1
            if not isinstance(value, int) or not lowest <= value <= highest:
                raise RecipeError(f"{name} must be a whole number from {lowest} to {highest}, not {value!r}")

    def candidate_probability(self, similarity: float) -> float:
        """Chance that two documents of that Jaccard similarity share a band: 1 - (1 - s^rows)^bands."""
        return float(1.0 - (1.0 - similarity**self.rows) ** self.bands)


def schema(recipe: SignatureRecipe) -> pa.Schema:
    """The columns `tag` adds."""
    return pa.schema(
        [
            pa.field("text_hash", pa.binary(HASH_BYTES), nullable=False),
            pa.field("text_bytes", pa.int64(), nullable=False),
            pa.field("shingle_count", pa.int32(), nullable=False),
            pa.field("bands", pa.list_(pa.field("item", pa.uint64(), nullable=False), recipe.bands), nullable=False),
        ]
    )


def tag(texts: pa.LargeStringArray, recipe: SignatureRecipe) -> pa.RecordBatch:
    """Sign every text: `text_hash`, `text_bytes`, `shingle_count` and `bands`, in the order of the rows.

    text_hash: BLAKE2b-128 of the UTF-8 bytes as they are; n different texts share one with at most n^2 / 2^129.
    text_bytes: their number, by which later stages bound what they read at a time.
    shingle_count: shingles with repetitions; 0 for a text without words, whose `bands` are zeros and mean nothing.
    bands: keys of the bands (uint64), to be compared within one position only.
    """
    data, offsets = text_buffers(texts)
    rows = len(texts)
    bands = np.empty((rows, recipe.bands), np.uint64)
    counts = np.empty(rows, np.int64)
    multipliers, increments = permutations(recipe.bands * recipe.rows, recipe.seed)
    pages, letters = alphabet()
    for first in range(0, rows, _ROWS_AT_ONCE):
        part = slice(first, min(first + _ROWS_AT_ONCE, rows))
        minima = np.empty((part.stop - first, len(multipliers)), np.uint32)
        starts = offsets[first : part.stop + 1]
        minhash(data, starts, pages, letters, recipe.shingle_words, multipliers, increments, minima, counts[part])
        band_keys(minima, counts[part], recipe.rows, bands[part])
    columns = schema(recipe)
    keys = pa.FixedSizeListArray.from_arrays(pa.array(bands.reshape(-1)), type=columns.field("bands").type)
    hashes = _text_hashes(data, offsets)
    sizes = pa.array(np.diff(offsets))
    shingles = pa.array(np.minimum(counts, np.iinfo(np.int32).max).astype(np.int32))
    return pa.RecordBatch.from_arrays([hashes, sizes, shingles, keys], schema=columns)


@dataclass(frozen=True, kw_only=True)
class SignedDocuments:
    """The signatures of all documents of all sources, one row each, and their ranks."""

    text_hash: npt.NDArray[np.uint64]
    """(n, 2): the two halves of the 128-bit hash of the text."""
    text_bytes: npt.NDArray[np.int64]
    """(n,): length of the text in UTF-8, by which reading is bounded."""
    shingle_count: npt.NDArray[np.int32]
    """(n,): 0 marks a text without words, which is nobody's near duplicate."""
    bands: npt.NDArray[np.uint64]
    """(n, bands): the band keys."""
    rank: npt.NDArray[np.int64]
    """(n,): lower is better; no two are equal."""

    def __post_init__(self) -> None:
        rows = len(self.rank)
        shapes = (self.text_hash.shape, self.text_bytes.shape, self.shingle_count.shape, self.bands.shape[:1])
        if shapes != ((rows, 2), (rows,), (rows,), (rows,)):
            raise ValueError(f"{rows} ranks, but text_hash, text_bytes, shingle_count, bands have shapes {shapes}")
        if len(np.unique(self.rank)) != rows:
            raise ValueError(f"ranks must be unique: {rows} rows have {len(np.unique(self.rank))} different ones")

    @classmethod
    def from_columns(cls, columns: pa.RecordBatch | pa.Table, rank: npt.NDArray[np.int64]) -> SignedDocuments:
        """Take over the columns of `signatures.tag`."""
        table = (pa.Table.from_batches([columns]) if isinstance(columns, pa.RecordBatch) else columns).combine_chunks()
        hashes, bands = (_single(table.column(name)) for name in ("text_hash", "bands"))
        width = hashes.type.byte_width
        start = hashes.offset * width
        raw = np.frombuffer(hashes.buffers()[1], np.uint8)[start : start + len(hashes) * width]
        return cls(
            text_hash=raw.view(np.uint64).reshape(-1, 2),
            text_bytes=table.column("text_bytes").to_numpy(),
            shingle_count=table.column("shingle_count").to_numpy(),
            bands=bands.flatten().to_numpy().reshape(len(bands), bands.type.list_size),
            rank=np.asarray(rank, np.int64),
        )


def text_hashes(texts: pa.LargeStringArray) -> pa.FixedSizeBinaryArray:
    """Return the column `text_hash` alone (n,)."""
    return _text_hashes(*text_buffers(texts))


def _text_hashes(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> pa.FixedSizeBinaryArray:
    text = data.data
    ends = offsets.tolist()
    raw = b"".join(hashlib.blake2b(text[start:end], digest_size=HASH_BYTES).digest() for start, end in pairwise(ends))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(HASH_BYTES), len(offsets) - 1, [None, pa.py_buffer(raw)])


def _single(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
