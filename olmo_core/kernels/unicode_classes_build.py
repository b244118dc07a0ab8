"""Make `unicode_classes.npz` from the `tokenizers` library: `python -m olmo_core.kernels.unicode_classes_build`.

Run it after raising the library's version; a change of any table changes token ids, so raise the VERSION of the
stages that encode text. Takes about 5 s.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, normalizers

from olmo_core.kernels.unicode_classes import (
    CODE_POINTS,
    LETTER,
    NUMBER,
    OTHER,
    SPACE,
    UNSETTLED,
    UnicodeTables,
    run_lengths,
)

TABLES_FILE = Path(__file__).with_name("unicode_classes.npz")
_STEP = 1 << 14
_PLAIN = "!"
"""A starter that composes with nothing."""
_STARTERS = ("A", "<", "\u1100", "\uac00", "\uac01", "\u0915", "\u0b47", "\u3046", "\U00011131")
"""Starters that do compose with what follows, one of each sort (ASCII, jamo, Hangul, Indic, kana, astral)."""
_LOW, _HIGH = "\u0334", "\u0345"
"""A mark of the lowest and one of the highest combining class (1 and 240)."""
_NOTHING_JOINS_FROM = 0x20000
"""From the third plane on there are ideographs, tags and private use only."""


def _scalar_values() -> list[int]:
    return [point for point in range(CODE_POINTS) if not 0xD800 <= point < 0xE000]


def _points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def matching(pattern: str, substitute: str) -> npt.NDArray[np.bool_]:
    """Return which code points match a one-character pattern in the library's regular expressions.

    `substitute` is a character that does not match: each match is replaced by it, and what changed had matched.
    """
    replace = normalizers.Replace(Regex(pattern), substitute)
    scalars = _scalar_values()
    found = np.zeros(CODE_POINTS, bool)
    for first in range(0, len(scalars), _STEP):
        before = "".join(map(chr, scalars[first : first + _STEP]))
        points = _points(before)
        found[points[points != _points(replace.normalize_str(before))]] = True
    return found


def _changed(normalize: Callable[[str], str], before: list[str]) -> npt.NDArray[np.bool_]:
    """Return which strings a normalizer changes; none holds a line feed, which joins nothing and keeps them apart."""
    changed = np.zeros(len(before), bool)
    for first in range(0, len(before), _STEP):
        lines = before[first : first + _STEP]
        text = "\n".join(lines)
        if (normal := normalize(text)) != text:
            changed[first : first + len(lines)] = [a != b for a, b in zip(normal.split("\n"), lines, strict=True)]
    return changed


def _order_classes(normalize: Callable[[str], str], marks: list[int]) -> npt.NDArray[np.uint8]:
    """Return the order class of each mark: 1 for the first to stand, or UNSETTLED if it cannot be told.

    One known mark of each combining class serves as anchor; the library reorders the pairs (mark, anchor) or
    (anchor, mark) exactly when their classes differ.
    """
    by_class: dict[int, str] = {}
    for point in marks:
        if (combining := unicodedata.combining(chr(point))) and normalize(_PLAIN + chr(point)) == _PLAIN + chr(point):
            by_class.setdefault(combining, chr(point))
    anchors = [by_class[combining] for combining in sorted(by_class)]
    pairs = [_PLAIN + chr(point) + anchor for point in marks for anchor in anchors]
    swapped = [_PLAIN + anchor + chr(point) for point in marks for anchor in anchors]
    shape = (len(marks), len(anchors))
    after = _changed(normalize, pairs).reshape(shape)
    before = _changed(normalize, swapped).reshape(shape)
    known = (~after & ~before).sum(axis=1) == 1
    return np.where(known, 1 + after.sum(axis=1), UNSETTLED).astype(np.uint8)


def _normal_classes() -> npt.NDArray[np.uint8]:
    """Return SETTLED, an order class or UNSETTLED for each code point, from what the library's NFC does.

    UNSETTLED: what NFC changes when alone, what ends a canonical decomposition, and what was seen to join a starter.
    """
    compose, decompose = normalizers.NFC().normalize_str, normalizers.NFD().normalize_str
    scalars = np.array([point for point in _scalar_values() if point != ord("\n")])
    # Between a mark of a high class and one of the lowest class nothing moves but what is a mark or changes itself.
    suspects = scalars[_changed(compose, [_PLAIN + _HIGH + chr(point) + _LOW for point in scalars])]
    alone = _changed(compose, [_PLAIN + chr(point) for point in suspects])
    unsettled = np.zeros(CODE_POINTS, bool)
    unsettled[suspects[alone]] = True
    joinable = scalars[scalars < _NOTHING_JOINS_FROM]
    for starter in _STARTERS:
        unsettled[joinable[_changed(compose, [starter + chr(point) for point in joinable])]] = True
    first_part = np.zeros(CODE_POINTS, bool)
    for point in scalars[_changed(decompose, [chr(point) for point in scalars])]:
        parts = decompose(chr(point))
        unsettled[ord(parts[-1])] |= len(parts) > 1
        first_part[ord(parts[0])] |= compose(chr(point)) == chr(point)
    if np.any(first_part & unsettled):
        raise ValueError("a composed character begins with one that may join what stands before it")
    marks = [*suspects[~alone].tolist(), ord(_HIGH), ord(_LOW)]
    normal = np.zeros(CODE_POINTS, np.uint8)
    normal[marks] = _order_classes(compose, marks)
    normal[unsettled] = UNSETTLED
    return normal


def build_tables() -> UnicodeTables:
    """Return both tables, uint8[CODE_POINTS], as the installed library has them."""
    kinds = np.full(CODE_POINTS, OTHER, np.uint8)
    claimed = np.zeros(CODE_POINTS, np.uint8)
    for pattern, substitute, kind in ((r"\p{L}", "!", LETTER), (r"\p{N}", "!", NUMBER), (r"\s", "!", SPACE)):
        found = matching(pattern, substitute)
        kinds[found] = kind
        claimed += found
    other = matching(r"[^\s\p{L}\p{N}]", "x")
    scalars = _scalar_values()
    if claimed.max() > 1 or not np.array_equal(other[scalars], kinds[scalars] == OTHER):
        raise ValueError("the library's classes of letters, numbers, spaces and the rest are not a partition")
    return UnicodeTables(kinds=kinds, normal=_normal_classes())


def write_tables(path: Path = TABLES_FILE) -> None:
    """Write the tables as runs of equal values, compressed (about 10 kB)."""
    tables = build_tables()
    kind_starts, kind_values = run_lengths(tables.kinds)
    normal_starts, normal_values = run_lengths(tables.normal)
    np.savez_compressed(
        path,
        kind_starts=kind_starts,
        kind_values=kind_values,
        normal_starts=normal_starts,
        normal_values=normal_values,
    )


if __name__ == "__main__":
    write_tables()
