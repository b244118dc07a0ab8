"""Word lists: how they are read, and where their entries stand in documents.

An entry matches whole words in any case, where the characters before and behind it are no letter, digit, mark or
underscore ("ass" is not in "class" or `ass_id`, but is in "ass's"). A space in an entry matches any run of white space.
Case is that of single code points, so "ß" does not match "SS". Of several entries the leftmost counts, then the longest;
matches do not overlap. An entry that is a symbol outside ASCII (an emoji) also matches next to a letter.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from olmo_core.errors import AssetError, RecipeError
from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.lexicon import Entries, entries, find, lower

SPANS = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("kind", pa.string())]))
"""Spans of bytes of one document, with the entry that stands there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lexicon:
    """A word list, ready for use."""

    words: tuple[str, ...]
    """Distinct entries in lower case, in the list's order."""
    listed: Entries
    """The same, laid out for the kernel."""


def read_lexicon(path: Path, exclude: Collection[str] = ()) -> Lexicon:
    """Read a `.json` list (or an object with the list `words`), or a text file with one entry on each line.

    RecipeError for an excluded word that the list does not have; AssetError for a file that is no word list.
    """
    try:
        content = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            data = json.loads(content)
            found = data["words"] if isinstance(data, dict) else data
        else:
            found = content.split("\n")
        words = dict.fromkeys(lower(" ".join(word.split())) for word in found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssetError(f"{path} is not a word list ({type(error).__name__}: {error}); fetch it again") from error
    words.pop("", None)
    unknown = [word for word in exclude if lower(word) not in words]
    if unknown:
        raise RecipeError(
            f"content.exclude: {unknown[0]!r} is not in the word list {path.name}; take it out (`exclude: []` for none)"
        )
    kept = tuple(word for word in words if word not in {lower(word) for word in exclude})
    if not kept:
        raise AssetError(f"{path} has no words{' besides those excluded' if exclude else ''}")
    return Lexicon(words=kept, listed=entries(kept))


def match(texts: pa.LargeStringArray, lexicon: Lexicon) -> pa.RecordBatch:
    """Return `lexicon_count`, `lexicon_ratio` (matches by words, 0 without words) and `lexicon_spans`, a row each."""
    text, offsets = text_buffers(texts)
    found = find(text, offsets, lexicon.listed)
    counts = np.diff(found.rows)
    origin = np.repeat(offsets[:-1], counts)
    kinds = pa.array(lexicon.words, pa.string()).take(pa.array(found.which))
    spans = pa.StructArray.from_arrays(
        [pa.array(found.starts - origin), pa.array(found.ends - origin), kinds], fields=list(SPANS.value_type)
    )
    return pa.RecordBatch.from_arrays(
        [
            pa.array(counts.astype(np.int32)),
            pa.array((counts / np.maximum(found.words, 1)).astype(np.float32)),
            pa.ListArray.from_arrays(pa.array(found.rows.astype(np.int32)), spans).cast(SPANS),
        ],
        names=["lexicon_count", "lexicon_ratio", "lexicon_spans"],
    )
