"""How token files are cut into chunks: which chunk is where, without reading any.

Each file is cut into whole chunks and its tail is dropped, as OLMo does; chunks are numbered through the files in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from olmo_core.recipe import fingerprint


@dataclass(frozen=True, kw_only=True)
class OpenFile:
    """One file of token ids on this machine."""

    name: str
    """Key in the artifact, or name in the inventory."""
    path: str
    sha256: str
    dtype: str
    tokens: int
    label_mask: str | None = None
    """Path of one boolean for each token."""
    label_mask_sha256: str | None = None


def evenly_spread(chunks: int, most: int | None = None) -> npt.NDArray[np.int64]:
    """Return the numbers of all chunks, or of `most` that stand evenly apart, in order: floor(i chunks / most)."""
    taken = chunks if most is None else min(chunks, most)
    return np.arange(taken, dtype=np.int64) * chunks // max(taken, 1)


class Chunks:
    """Chunks of `sequence_length` tokens, numbered from 0 to `chunks`."""

    def __init__(self, files: Sequence[OpenFile], *, sequence_length: int) -> None:
        self.files, self.sequence_length = tuple(files), sequence_length
        counts = [file.tokens // sequence_length for file in self.files]
        self.starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        """First chunk of each file, and the number of all (files + 1,)."""
        self.chunks = int(self.starts[-1])
        self.tokens = sum(file.tokens for file in self.files)
        self.dropped_tokens = self.tokens - self.chunks * sequence_length
        """Tokens in the tails of files, which no chunk has."""
        self.fingerprint = fingerprint(
            {
                "sequence_length": sequence_length,
                "files": [[f.sha256, f.dtype, f.tokens, f.label_mask_sha256] for f in self.files],
            }
        )
        """Of digests, types and sequence length: equal only for the same chunks under the same numbers."""

    def locate(self, number: int) -> tuple[int, int]:
        """Return the index of a chunk's file, and the chunk's first token in it."""
        index = int(np.searchsorted(self.starts, number, side="right")) - 1
        return index, (number - int(self.starts[index])) * self.sequence_length

    def covering(self, file: int, first: int, end: int) -> range:
        """Return the chunks that hold any of the tokens `first` to `end` of a file; none where they lie in its tail."""
        start, count = int(self.starts[file]), int(self.starts[file + 1] - self.starts[file])
        return range(
            start + min(first // self.sequence_length, count), start + min(-(-end // self.sequence_length), count)
        )
