"""Real prose with natural and made near-duplicates, and the plain-Python truth about it.

Nothing here uses the project's code: words, shingles and Jaccard are written a second time, on Python strings and sets.
"""

from __future__ import annotations

import random
import sysconfig
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import sparse  # type: ignore[import-untyped]

_PROSE_NAMES = ("metadata", "licen", "copying", "notice", "authors", "copyright", "readme", "changes", "history")
_PROSE_ENDS = (".md", ".rst", ".txt")
_NOT_TEXT = (".py", ".pyc", ".gz", ".so", ".png", ".svg")


_INVISIBLE = "\u00ad\u200c\u200d\u200e\u200f\u2060\ufeff\ufe0e\ufe0f"
_SPACELESS = ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "BOPOMOFO", "YI", "THAI", "LAO", "KHMER", "MYANMAR")
_FOLDED = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "MICRO", "COMBINING")


@cache
def read_as(character: str) -> str:
    """What a character contributes to a text of words: a space, nothing, itself between spaces, or a folded letter."""
    if "\uff01" <= character <= "\uff5e":
        character = unicodedata.normalize("NFKC", character)
    if character in _INVISIBLE or "\u0300" <= character <= "\u036f":
        return ""
    if unicodedata.category(character)[0] not in "LMN":
        return " "
    script = unicodedata.name(character).split()[0]
    if script in _SPACELESS:
        return f" {character} "
    if script not in _FOLDED:
        return character
    plain = unicodedata.normalize("NFD", unicodedata.normalize("NFD", character).lower())
    plain = "".join(c for c in plain if not "\u0300" <= c <= "\u036f")
    return plain if len(plain) == 1 else character


def words(text: str) -> list[str]:
    """Words of a text by Python's Unicode tables and the names of characters."""
    return "".join(map(read_as, text)).split()


def shingles(text: str, width: int = 5) -> set[tuple[str, ...]]:
    """The set of runs of `width` words; all words where there are fewer; empty without words."""
    run = words(text)
    if len(run) < width:
        return {tuple(run)} if run else set()
    return {tuple(run[i : i + width]) for i in range(len(run) - width + 1)}


def jaccard(left: set[tuple[str, ...]], right: set[tuple[str, ...]]) -> float:
    """Size of the intersection over size of the union."""
    return len(left & right) / len(left | right) if left or right else 0.0


def all_pairs(sets: list[set[tuple[str, ...]]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Every pair (i < j) that has a shingle in common, and its exact Jaccard similarity."""
    numbers: dict[tuple[str, ...], int] = {}
    columns = [numbers.setdefault(shingle, len(numbers)) for one in sets for shingle in one]
    sizes = np.array([len(one) for one in sets])
    rows = np.repeat(np.arange(len(sets)), sizes)
    has = sparse.csr_matrix((np.ones(len(columns), np.int32), (rows, columns)), shape=(len(sets), len(numbers)))
    common = sparse.triu(has @ has.T, k=1).tocoo()
    pairs = np.stack([common.row, common.col], axis=1).astype(np.int64)
    return pairs, common.data / (sizes[common.row] + sizes[common.col] - common.data)


def real_texts(most: int, shortest: int = 400, longest: int = 20_000) -> list[str]:
    """Up to `most` different texts of `shortest` to `longest` characters that this Python installation carries."""
    found: dict[str, None] = {}
    for path in _prose_files():
        text = path.read_text("utf-8", errors="ignore")[:longest]
        if len(text) >= shortest:
            found[text] = None
        if len(found) == most:
            break
    return list(found)


def _prose_files() -> Iterator[Path]:
    folders = [Path(sysconfig.get_paths()["purelib"]), Path("/usr/share/doc"), Path("/usr/share/common-licenses")]
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            name = path.name.lower()
            prose = name.endswith(_PROSE_ENDS) or any(part in name for part in _PROSE_NAMES)
            if prose and path.suffix not in _NOT_TEXT and path.is_file() and not path.is_symlink():
                yield path


def edited(text: str, similarity: float, seed: int) -> str:
    """The text with words replaced, dropped or put in, as many as leave about that Jaccard similarity.

    An edit of one word of a long text destroys 5 shingles on either side, so a share f of edited words leaves
    (1 - f)^5 of them in common: J = c / (2 - c) with c = (1 - f)^5.
    """
    chance = random.Random(seed)
    run = text.split()
    share = 1.0 - (2.0 * similarity / (1.0 + similarity)) ** 0.2
    changed: list[str] = []
    for word in run:
        if chance.random() >= share:
            changed.append(word)
            continue
        action = chance.randrange(3)
        if action == 0:
            changed.append(f"edit{chance.randrange(10**6)}")
        elif action == 1:
            changed += [word, f"more{chance.randrange(10**6)}"]
    return " ".join(changed)
