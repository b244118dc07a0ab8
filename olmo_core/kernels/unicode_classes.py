"""What a tokenizer must know about each code point: its kind in the pattern, and whether NFC may touch it.

The tables come from the `tokenizers` library's own regular expressions and normalizer, not from Python's
`unicodedata`: Python 3.11's tables differ from the library's on 9,272 letters and 120 numbers. The script
`unicode_classes_build.py` makes `unicode_classes.npz`; a test makes them again and compares.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

LETTER = 1
r"""Kind of `\p{L}`."""
NUMBER = 2
r"""Kind of `\p{N}`."""
SPACE = 4
r"""Kind of `\s`."""
OTHER = 8
r"""Kind of `[^\s\p{L}\p{N}]`."""
LITERAL = 16
"""Set besides OTHER where an added token may begin; differs by tokenizer, so it is in no shipped table."""

SETTLED = 0
"""Normal-form class: a starter that NFC keeps and that never joins what stands before it."""
UNSETTLED = 255
"""Normal-form class: NFC may replace it, or join it to what stands before it. Between the two: a mark that only
needs to stand in order; marks of a higher class go after marks of a lower one."""

CODE_POINTS = 0x110000
TABLE_SIZE = 1 << 21
"""Entries in a table: all that four UTF-8 bytes can encode, so that even a corrupt byte reads inside the table."""


class UnicodeTables(NamedTuple):
    """Two tables over code points, uint8[TABLE_SIZE], read-only."""

    kinds: npt.NDArray[np.uint8]
    """LETTER, NUMBER, SPACE or OTHER."""
    normal: npt.NDArray[np.uint8]
    """SETTLED, an order class from 1 to 254, or UNSETTLED."""


def run_lengths(table: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Return `(starts, values)` of a table's runs of equal values: what the .npz file holds."""
    starts = np.flatnonzero(np.diff(table, prepend=np.uint8(~table[0]))).astype(np.int32)
    return starts, table[starts]


def _expand(starts: npt.NDArray[np.int32], values: npt.NDArray[np.uint8], fill: int) -> npt.NDArray[np.uint8]:
    table = np.full(TABLE_SIZE, fill, np.uint8)
    table[:CODE_POINTS] = np.repeat(values, np.diff(starts, append=CODE_POINTS))
    table.flags.writeable = False
    return table


@cache
def load_tables() -> UnicodeTables:
    """Return the shipped tables, expanded once per process (4 MiB, about 5 ms)."""
    with (
        files(__package__).joinpath("unicode_classes.npz").open("rb") as stream,
        np.load(stream, allow_pickle=False) as stored,
    ):
        return UnicodeTables(
            kinds=_expand(stored["kind_starts"], stored["kind_values"], OTHER),
            normal=_expand(stored["normal_starts"], stored["normal_values"], SETTLED),
        )
