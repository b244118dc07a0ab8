"""The file format of fastText models (`.bin`, and `.ftz` when quantized), read into arrays and checked.

Format version 12, that of fastText 0.9.1 and later: `FastText::loadModel`, `Args::load`, `Dictionary::load`,
`QuantMatrix::load` and `ProductQuantizer::load` in its sources. Little-endian, not aligned, without checksums: so that
a damaged file gives an error and not wrong predictions, all sizes and numbers are checked against each other.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from olmo_core.errors import InputError

MAGIC = struct.pack("<i", 793712314)
VERSION = 12
SUPERVISED = 3
WORD, LABEL = 0, 1

CENTROIDS = 256
"""Product quantization writes one byte for each part of a row: the number of one of 256 centroids."""

UNPRUNED = -1
"""Stands for the number of kept n-grams when all were kept."""

LONGEST_NGRAM = 1000
MOST_BUCKETS = 1 << 26
MOST_COUNTED = 10**15
"""Bounds on minn, maxn and wordNgrams, on buckets, and on how often a word was seen: above is damage, not a model."""


class Loss(IntEnum):
    """How the output layer is read, by fastText's numbers."""

    HIERARCHICAL_SOFTMAX = 1
    NEGATIVE_SAMPLING = 2
    SOFTMAX = 3
    ONE_VS_ALL = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredModel:
    """What a supervised model's file holds."""

    identity: str
    """sha256 of the file, in hexadecimal digits."""

    columns: int
    """Length of the vectors (dim)."""

    word_ngrams: int
    """Longest word n-gram (wordNgrams); 1: single words only."""

    loss: Loss
    """How the output layer is read."""

    bucket: int
    """Number of buckets that n-grams are hashed into."""

    shortest: int
    """Code points of the shortest character n-gram (minn)."""

    longest: int
    """Code points of the longest character n-gram (maxn)."""

    words: list[bytes]
    """Words; word i has row i of the input matrix."""

    labels: list[bytes]
    """Labels, most frequent first."""

    label_counts: list[int]
    """How often each label was seen in training."""

    kept: npt.NDArray[np.int32] | None
    """Buckets that were not pruned and their rows after those of the words, int32 (n, 2); None: all were kept."""

    matrix: npt.NDArray[np.float32]
    """Input matrix, float32 (words + buckets, columns); unless it was quantized, a read-only map of the file."""

    weights: npt.NDArray[np.float32]
    """Output matrix, float32 (labels, columns)."""

    scales: npt.NDArray[np.float32]
    """Factor of each output row: the norm of a quantized one, else 1. (Input rows have theirs multiplied in.)"""


class ModelFile:
    """A file and a position in it; every read says what it is for, so that an error can name it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        try:
            with path.open("rb") as stream:
                self.data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: empty files cannot be mapped
            raise InputError(f"{path}: cannot read this fastText model ({error}); check the path") from error

    def check(self, condition: bool | np.bool_, fault: str) -> None:
        """Raise InputError unless the condition holds."""
        if not condition:
            raise InputError(f"{self.path}: {fault}; get the file again, or name another model")

    def numbers(self, layout: str, what: str) -> tuple[Any, ...]:
        """Read numbers by their `struct` letters."""
        return struct.unpack_from("<" + layout, self.data, self.advance(struct.calcsize("<" + layout), what))

    def array(self, kind: type[np.generic], count: int, what: str) -> npt.NDArray[Any]:
        """Return `count` numbers of a numpy type as a read-only view of the file."""
        return np.frombuffer(self.data, kind, count, self.advance(count * np.dtype(kind).itemsize, what))

    def text(self, what: str) -> bytes:
        """Read up to the next NUL byte."""
        end = self.data.find(b"\0", self.position)
        self.check(end >= 0, f"truncated: the file ends at byte {len(self.data)}, inside {what}")
        start, self.position = self.position, end + 1
        return self.data[start:end]

    def advance(self, size: int, what: str) -> int:
        """Move on by `size` bytes and return the position before."""
        start = self.position
        end = len(self.data)
        self.check(0 <= size <= end - start, f"truncated: {what} needs {size} bytes at {start}, the file ends at {end}")
        self.position += size
        return start


def read_model(path: Path) -> StoredModel:
    """Read a supervised model; InputError when the file is missing, truncated, damaged or something else."""
    file = ModelFile(path)
    start = bytes(file.data[:4])
    file.check(start == MAGIC, f"not a fastText model: begins with bytes {start.hex(' ')}, not {MAGIC.hex(' ')}")
    _, version = file.numbers("2i", "magic number and version")
    file.check(version == VERSION, f"format version {version}, but only version {VERSION} can be read")
    columns, _, _, _, _, width, loss, kind, bucket, shortest, longest, _, _ = file.numbers("12id", "the arguments")
    file.check(kind == SUPERVISED, "not a classifier: the file holds word vectors (cbow or skipgram)")
    file.check(columns > 0, f"impossible dim {columns}")
    file.check(0 < width <= LONGEST_NGRAM, f"impossible wordNgrams {width}")
    file.check(shortest >= 0 and longest <= LONGEST_NGRAM, f"impossible minn {shortest} or maxn {longest}")
    file.check(loss in iter(Loss), f"unknown loss {loss}")

    entries, words, labels = file.numbers("3i", "the size of the dictionary")
    _, pruned = file.numbers("2q", "the size of the dictionary")
    file.check(words >= 0 < labels and words + labels == entries, f"{entries=} but {words=} and {labels=}")
    file.check(pruned >= UNPRUNED, f"impossible number of kept n-grams {pruned}")
    file.check(
        0 < bucket <= MOST_BUCKETS or (bucket == 0 and (pruned == 0 or (width == 1 and longest <= 0))),
        f"impossible bucket {bucket}",
    )
    spellings, counts = _read_dictionary(file, words, entries)
    pairs = file.array(np.int32, 2 * max(pruned, 0), "the table of kept n-grams").reshape(-1, 2)
    file.check(np.all((pairs >= 0) & (pairs < (bucket, pruned))), "kept n-grams out of range")

    (quantized,) = file.numbers("?", "the kind of input matrix")
    file.check(quantized or pruned == UNPRUNED, "the n-grams were pruned, but the input matrix is not quantized")
    if quantized:
        matrix, norms = _read_quantized(file, "the input matrix")
        matrix *= norms[:, None]
    else:
        matrix = _read_dense(file, "the input matrix")
    least = words + (bucket if pruned == UNPRUNED else pruned)
    file.check(matrix.shape[0] >= least and matrix.shape[1] == columns, f"input {matrix.shape} for {(least, columns)}")
    (quantized_output,) = file.numbers("?", "the kind of output matrix")
    if quantized and quantized_output:
        weights, scales = _read_quantized(file, "the output matrix")
    else:
        weights, scales = _read_dense(file, "the output matrix"), np.ones(labels, np.float32)
    file.check(weights.shape == (labels, columns), f"output matrix is {weights.shape}, not {(labels, columns)}")
    file.check(file.position == len(file.data), f"{len(file.data) - file.position} bytes too long")
    return StoredModel(
        identity=hashlib.sha256(file.data).hexdigest(),
        columns=columns,
        word_ngrams=width,
        loss=Loss(loss),
        bucket=bucket,
        shortest=shortest,
        longest=longest,
        words=spellings[:words],
        labels=spellings[words:],
        label_counts=counts[words:],
        kept=None if pruned == UNPRUNED else pairs,
        matrix=matrix,
        weights=weights,
        scales=scales,
    )


def _read_dictionary(file: ModelFile, words: int, entries: int) -> tuple[list[bytes], list[int]]:
    """Return the spellings and the counts of all entries: words, then labels."""
    spellings: list[bytes] = []
    counts: list[int] = []
    for number in range(entries):
        what = f"entry {number} of {entries} of the dictionary"
        spellings.append(file.text(what))
        count, kind = file.numbers("qb", what)
        file.check(kind == (WORD if number < words else LABEL), f"{what} has the wrong kind {kind}")
        file.check(0 <= count < MOST_COUNTED, f"{what} has the count {count}")
        counts.append(count)
    return spellings, counts


def _read_dense(file: ModelFile, what: str) -> npt.NDArray[np.float32]:
    rows, columns = file.numbers("2q", what)
    file.check(rows >= 0 and columns > 0, f"{what} has an impossible shape {(rows, columns)}")
    return file.array(np.float32, rows * columns, what).reshape(rows, columns)


def _read_quantized(file: ModelFile, what: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the rows without their norms, float32 (rows, columns), and the norms (1 where they were not split off).

    The flag in the matrix counts: lid.176.ftz has norms although its arguments say that it has none.
    """
    has_norms, rows, columns, size = file.numbers("?qqi", what)
    file.check(rows >= 0 and columns > 0, f"{what} has an impossible shape {(rows, columns)}")
    codes = file.array(np.uint8, size, f"{what}, codes")
    matrix = _decode(file, codes, rows, columns, what)
    norms = np.ones(rows, np.float32)
    if has_norms:
        codes = file.array(np.uint8, rows, f"{what}, codes of norms")
        norms = _decode(file, codes, rows, 1, f"{what}, norms").reshape(rows)
    return matrix, norms


def _decode(file: ModelFile, codes: npt.NDArray[np.uint8], rows: int, columns: int, what: str) -> npt.NDArray[Any]:
    """Read centroids and return the rows that `codes`, one byte for each part of a row, stand for."""
    dim, parts, width, last_width = file.numbers("4i", f"{what}, shape of the centroids")
    file.check(
        dim == columns == (parts - 1) * width + last_width and width > 0 and 0 < last_width <= width,
        f"{what}: {parts} parts of {width} and {last_width} columns are not {columns} columns",
    )
    file.check(len(codes) == rows * parts, f"{what}: {len(codes)} codes for {rows} rows of {parts} parts")
    centroids = file.array(np.float32, dim * CENTROIDS, f"{what}, centroids")
    codes = codes.reshape(rows, parts)
    matrix = np.empty((rows, columns), np.float32)
    for part in range(parts):
        start = part * width
        end = min(start + width, columns)
        table = centroids[start * CENTROIDS : end * CENTROIDS].reshape(CENTROIDS, end - start)
        matrix[:, start:end] = table[codes[:, part]]
    return matrix
