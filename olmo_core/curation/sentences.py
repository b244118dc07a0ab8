"""Splits documents into sentences, as byte spans, by a few fixed rules instead of a library's model.

The Dolma toolkit gives its sentence classifiers the sentences of BlingFire, or of an untrained Punkt where that is
missing. Both are models that change with their version, and neither ends a sentence at a line end, so that a list or
a menu is one sentence. The rules here:

1. A blank line ends a sentence, and so does a line end, unless the line has at least 50 bytes and the next one begins
   in lower case (hard-wrapped text).
2. Stops (`. ! ?`, the ellipsis, the danda, Arabic stops), with the closing quotes and brackets behind them, end one
   when white space follows and then neither a lower-case letter nor closing punctuation.
3. A single full stop does not when it belongs to a known abbreviation ("Dr. Ng", "e.g. X", "No. 5"), to initials
   ("J. R. R.", "U.S."), or to a number that opens the sentence ("1. Install").
4. Ideographic and full-width stops end one whatever follows.
5. After 4,096 bytes the next white space ends one, so that text without stops comes in pieces.

Every character that is not white space is in exactly one sentence, and no sentence begins or ends with white space.
Agreement with BlingFire 0.1.8 on the boundaries inside 8,369 paragraphs (lines joined): F1 0.97 in two novels, 0.98 in
web text, 0.80 in READMEs; untrained Punkt has 0.89, 0.93 and 0.74 (`tests/oracles/sentence_agreement.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.sentences import split

VERSION = 1
"""Bumped when the same text gives other sentences."""


class Sentences(NamedTuple):
    """The sentences of n texts, s in all, over one flat buffer of their bytes."""

    text: npt.NDArray[np.uint8]
    """Bytes of all texts, padded as `kernels.buffers` does."""
    offsets: npt.NDArray[np.int64]
    """(n + 1,) where each text begins in `text`."""
    starts: npt.NDArray[np.int64]
    """(s,) first byte of each sentence, counted in `text`, not in its own document."""
    ends: npt.NDArray[np.int64]
    """(s,) byte behind each sentence."""
    rows: npt.NDArray[np.int64]
    """(n + 1,) number of the first sentence of each text; the last entry is s."""


def split_sentences(texts: pa.LargeStringArray | pa.StringArray | pa.ChunkedArray) -> Sentences:
    """Split every text; an empty or blank one has no sentence. ValueError for a null text."""
    text, offsets = text_buffers(texts)
    return Sentences(text, offsets, *split(text, offsets))
