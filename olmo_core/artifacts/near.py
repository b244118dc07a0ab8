"""What somebody may have meant who named an artifact that is not there: the nearest names and tags, at a listing or two."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from olmo_core.artifacts.ref import Kind
from olmo_core.storage import Storage

_MOST = 3
_ALIKE = 0.5
"""Share of the letters of two names that go together, from difflib: `tyni` and `tiny` have this."""


def near_names(storage: Storage, kind: str, name: str) -> list[str]:
    """Return `kind/name` of what has a name like this one and is of this kind; else of what has this very name and is of another."""
    there = storage.folders(kind)
    if name not in there and (alike := get_close_matches(name, there, _MOST, _ALIKE)):
        return [f"{kind}/{one}" for one in alike]
    return [f"{one}/{name}" for one in Kind if one != kind and name in storage.folders(str(one))][:_MOST]


def near_tags(tag: str, there: Iterable[str]) -> list[str]:
    """Return the tags like this one: by their numbers where they begin alike (`step99`: `step100-tokens0B`), else by their letters."""
    word, numbers = _parts(tag)
    alike = {one: _parts(one)[1] for one in there if _parts(one)[0] == word}
    if numbers and any(alike.values()):
        apart = {one: [abs(a - b) for a, b in zip(numbers, of, strict=False)] for one, of in alike.items() if of}
        return sorted(apart, key=lambda one: (apart[one], one))[:2]
    return get_close_matches(tag, list(there), _MOST, _ALIKE)


def _parts(tag: str) -> tuple[str, list[int]]:
    """Return what stands before the first number of a tag, and its numbers."""
    return re.split(r"[0-9]", tag, maxsplit=1)[0], [int(one) for one in re.findall(r"[0-9]+", tag)]
