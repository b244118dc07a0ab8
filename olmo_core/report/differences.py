"""Two texts that are nearly the same: which words only one of them has, and how much they share in between."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

WORDS = 6000
"""Words of each text that are looked at."""
COMPARED = 600
"""Words of each that are compared with each other behind what both begin with; difflib's time grows with the square."""
LONGEST = 40
"""Characters; what has no white space for longer is compared in pieces of this length."""
_WORD = re.compile(rf"\S{{1,{LONGEST}}}\s*")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of words that both texts have, or that the one has where the other has something else or nothing."""

    same: bool
    left: tuple[str, ...]
    right: tuple[str, ...]
    """Words with the white space behind them."""


def compare(left: str, right: str) -> list[Run]:
    """Return the two texts as runs of words in order, equal ones and others in turn; white space does not count."""
    a, b = (_WORD.findall(text[: WORDS * (LONGEST + 1)])[:WORDS] for text in (left, right))
    a_words, b_words = [word.rstrip() for word in a], [word.rstrip() for word in b]
    first = _common(a_words, b_words)
    last = _common(a_words[first:][::-1], b_words[first:][::-1])
    a_end, b_end = len(a) - last, len(b) - last
    runs = [Run(same=True, left=tuple(a[:first]), right=tuple(b[:first]))]
    runs += _middle(a[first:a_end], b[first:b_end])
    runs.append(Run(same=True, left=tuple(a[a_end:]), right=tuple(b[b_end:])))
    return [run for run in runs if run.left or run.right]


def _common(left: list[str], right: list[str]) -> int:
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count


def _middle(left: list[str], right: list[str]) -> Iterator[Run]:
    a, b = left[:COMPARED], right[:COMPARED]
    matcher = SequenceMatcher(None, [w.rstrip() for w in a], [w.rstrip() for w in b], autojunk=False)
    for tag, i, j, k, m in matcher.get_opcodes():
        yield Run(same=tag == "equal", left=tuple(a[i:j]), right=tuple(b[k:m]))
    if len(left) > COMPARED or len(right) > COMPARED:
        yield Run(same=False, left=tuple(left[COMPARED:]), right=tuple(right[COMPARED:]))
