"""A fastText classifier in memory, laid out for the compiled kernels, and one copy of it per process."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from olmo_core.curation.fasttext_format import MOST_COUNTED, Loss, StoredModel, read_model
from olmo_core.errors import InputError
from olmo_core.kernels.fasttext_hidden import Workspace
from olmo_core.kernels.fasttext_rows import fill_slots
from olmo_core.kernels.fasttext_view import LANES, Lexicon

END_OF_LINE = b"</s>"


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelTree:
    """The Huffman tree of hierarchical softmax: node i < labels is label i, the last node is the root."""

    left: npt.NDArray[np.int32]
    """Left child of each node, -1 for labels."""

    right: npt.NDArray[np.int32]
    """Right child of each node, -1 for labels."""

    def path(self, label: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Return the output rows from the root to a label (int32), and whether the way turns right there (bool)."""
        labels = (len(self.left) + 1) // 2
        parents = {
            int(child): node for side in (self.left, self.right) for node, child in enumerate(side) if child >= 0
        }
        nodes = [label]
        while nodes[0] in parents:
            nodes.insert(0, parents[nodes[0]])
        turns = [bool(self.right[parent] == child) for parent, child in pairwise(nodes)]
        return np.array(nodes[:-1], np.int32) - np.int32(labels), np.array(turns, np.bool_)


@dataclass(frozen=True, kw_only=True, eq=False)
class FastTextModel:
    """A supervised fastText model. What it predicts never changes; threads may share it."""

    identity: str
    """sha256 of the file, in hexadecimal digits: what recipes and manifests record."""

    labels: tuple[str, ...]
    """Names of the labels, most frequent first, with their prefix (`__label__en`)."""

    columns: int
    """Length of the vectors (dim)."""

    word_ngrams: int
    """Longest word n-gram that has a row; 1: single words only."""

    loss: Loss
    """How the output layer is read."""

    lexicon: Lexicon
    """Words, n-gram buckets and their rows in `matrix`."""

    matrix: npt.NDArray[np.float32]
    """Input rows, flat; for an unquantized model a map of the file, which all processes share."""

    weights: npt.NDArray[np.float32]
    """Output rows, flat: one for each label, or for each inner node of the tree (and one that is not used)."""

    stored_columns: int
    """Columns of a row of `matrix` and `weights`: `columns`, or `LANES` when that is more; the rest is 0."""

    scales: npt.NDArray[np.float32]
    """Factor of each output row."""

    tree: LabelTree | None
    """The tree of hierarchical softmax, None for the other losses."""

    idle: list[Workspace] = field(default_factory=list, repr=False)
    """Word caches and scratch that no call is using: a call takes one, or makes one, and gives it back."""

    @classmethod
    def from_file(cls, path: str | Path) -> FastTextModel:
        """Read a `.bin` or `.ftz` file; InputError when it is missing, truncated, damaged or not a classifier.

        A quantized matrix is expanded to 4 bytes for each row and column. An unquantized one stays in the file,
        which therefore must not be overwritten in place while the model is in use.
        """
        stored = read_model(Path(path))
        matrix, weights = _padded(stored.matrix), _padded(stored.weights)
        has_ngrams = stored.kept is None or len(stored.kept) > 0
        return cls(
            identity=stored.identity,
            labels=tuple(label.decode(errors="replace") for label in stored.labels),
            columns=stored.columns,
            word_ngrams=stored.word_ngrams if has_ngrams else 1,
            loss=stored.loss,
            lexicon=_lexicon(stored, has_ngrams),
            matrix=matrix.reshape(-1),
            weights=weights.reshape(-1),
            stored_columns=matrix.shape[1],
            scales=stored.scales,
            tree=_tree(stored.label_counts) if stored.loss is Loss.HIERARCHICAL_SOFTMAX else None,
        )

    @cached_property
    def label_numbers(self) -> dict[str, int]:
        """Number of each label by its name."""
        return {label: number for number, label in enumerate(self.labels)}


def load(path: str | Path) -> FastTextModel:
    """Return the model in a file, read once per process as long as the file's time and size stay the same."""
    resolved = Path(path).resolve()
    try:
        status = resolved.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot read this fastText model ({error.strerror}); check the path") from error
    return _load(resolved, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _load(path: Path, mtime_ns: int, size: int) -> FastTextModel:
    return FastTextModel.from_file(path)


def _padded(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the matrix read-only, with columns of zeros behind it when it has fewer than the kernels read at once."""
    missing = LANES - matrix.shape[1]
    matrix = np.pad(matrix, ((0, 0), (0, missing))) if missing > 0 else matrix.view()
    matrix.setflags(write=False)  # as a mapped one is: kernels are compiled once for each kind of array
    return matrix


def _lexicon(stored: StoredModel, has_ngrams: bool) -> Lexicon:
    entries = stored.words + stored.labels
    starts = np.cumsum([0, *map(len, entries)], dtype=np.int64)
    spellings = np.frombuffer(b"".join(entries) + b"\0", np.uint8)
    slots = np.full(1 << (2 * len(entries)).bit_length(), -1, np.int32)
    fill_slots(slots, starts, spellings)
    bucket_rows = np.empty(0, np.int32)
    if stored.kept is not None and has_ngrams:
        bucket_rows = np.full(stored.bucket, -1, np.int32)
        bucket_rows[stored.kept[:, 0]] = stored.kept[:, 1] + np.int32(len(stored.words))
    return Lexicon(
        slots=slots,
        starts=starts,
        spellings=spellings,
        words=len(stored.words),
        bucket=stored.bucket,
        bucket_rows=bucket_rows,
        bucket_kept=np.packbits(bucket_rows >= 0, bitorder="little"),
        shortest=stored.shortest,
        longest=stored.longest if has_ngrams else 0,
        end_row=stored.words.index(END_OF_LINE) if END_OF_LINE in stored.words else -1,
    )


def _tree(counts: list[int]) -> LabelTree:
    """Build the Huffman tree as `HierarchicalSoftmaxLoss::buildTree` does, from counts in falling order."""
    labels = len(counts)
    nodes = 2 * labels - 1
    weights = counts + [MOST_COUNTED] * (labels - 1)
    left, right = np.full((2, nodes), -1, np.int32)
    leaf, inner = labels - 1, labels
    for node in range(labels, nodes):
        children = []
        for _ in range(2):
            if leaf >= 0 and weights[leaf] < weights[inner]:
                children.append(leaf)
                leaf -= 1
            else:
                children.append(inner)
                inner += 1
        left[node], right[node] = children
        weights[node] = weights[children[0]] + weights[children[1]]
    return LabelTree(left=left, right=right)
