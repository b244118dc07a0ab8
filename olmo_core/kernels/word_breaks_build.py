"""Make `word_breaks.npz` from the `regex` package: `python -m olmo_core.kernels.word_breaks_build`.

The properties are those of the Unicode version that the installed `regex` knows (2026.11: Unicode 17). A new table may
change which evaluation paragraphs have 13 words: raise the VERSION of olmo_core/curation/decontamination.py with it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import regex

from olmo_core.kernels.unicode_classes import CODE_POINTS, run_lengths
from olmo_core.kernels.word_breaks import CLASSES, PICTOGRAPH, PUNCTUATION, SPACE

TABLE_FILE = Path(__file__).with_name("word_breaks.npz")
_PUNCTUATION = r"[[:punct:]]|\s|[\U0001f300-\U0001f64f\U0001f680-\U0001f6ff\u2600-\u26ff\u2700-\u27bf]"
"""One character of the toolkit's `not_alphanum_paragraph_v1` (dolma/taggers/punctuation.py, 1.2.1)."""


def _matching(pattern: str, text: str) -> npt.NDArray[np.int64]:
    return np.array([ord(found.group()) for found in regex.finditer(pattern, text)], np.int64)


def build_table() -> npt.NDArray[np.uint8]:
    """Return class and bits of every code point, uint8[CODE_POINTS]."""
    text = "".join(chr(point) for point in range(CODE_POINTS) if not 0xD800 <= point < 0xE000)
    table = np.zeros(CODE_POINTS, np.uint8)
    for number, name in enumerate(CLASSES):
        table[_matching(rf"\p{{Word_Break={name}}}", text)] = number
    for pattern, bit in ((r"\p{Extended_Pictographic}", PICTOGRAPH), (_PUNCTUATION, PUNCTUATION)):
        table[_matching(pattern, text)] |= bit
    table[[point for point in range(CODE_POINTS) if chr(point).isspace()]] |= SPACE
    return table


def write_table(path: Path = TABLE_FILE) -> None:
    """Write the table as runs of equal values, compressed (a few kB)."""
    starts, values = run_lengths(build_table())
    np.savez_compressed(path, starts=starts, values=values)


if __name__ == "__main__":
    write_table()
