"""From what documents hold of the evaluation items to a verdict on each, and the index that they are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core.curation.contamination import Keys, Lookup, Matches, lookup, scan
from olmo_core.curation.decontamination import RULES, DecontaminationRecipe, RuleName
from olmo_core.documents.shards import column

REASON = "contaminated: "
"""Beginning of the reason for which a contaminated document is dropped; the set's name follows."""

KEYS = pa.schema([("low", pa.uint64()), ("high", pa.uint64()), ("item", pa.int32()), ("size", pa.int32())])
"""Columns of a rule's keys in the index artifact."""

ITEMS = pa.schema(
    [
        ("set", pa.string()),
        ("item", pa.string()),
        ("file", pa.string()),
        ("own_id", pa.string()),
        ("bytes", pa.int64()),
        ("paragraphs", pa.int32()),
        ("ngrams", pa.int32()),
    ]
)
"""One row an item, in the order of sets and files; `paragraphs` and `ngrams` are how many of each are looked for."""

_MATCH = pa.struct(
    [
        ("item", pa.int32()),
        ("rule", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("overlap", pa.float64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Index:
    """All items of all evaluation sets and what is looked for of them."""

    items: pa.Table
    """`ITEMS`."""
    sets: tuple[str, ...]
    """Names of the sets in the recipe's order."""
    set_of_item: npt.NDArray[np.int32]
    lookups: Mapping[RuleName, Lookup]


def index_of(items: pa.Table, keys: Mapping[RuleName, Keys], sets: tuple[str, ...]) -> Index:
    """Return the index of sorted keys and the items they are of."""
    numbers = pa.compute.index_in(column(items, "set"), pa.array(sets, pa.string()))
    return Index(
        items=items,
        sets=sets,
        set_of_item=numbers.to_numpy(zero_copy_only=False).astype(np.int32),
        lookups={name: lookup(some, items.num_rows) for name, some in keys.items()},
    )


def judge(
    texts: pa.LargeStringArray,
    wanted: npt.NDArray[np.bool_],
    index: Index,
    recipe: DecontaminationRecipe,
    *,
    exempt: bool = False,
) -> tuple[pa.Table, Matches]:
    """Return a verdict for each document, and the matches behind them.

    Columns: keep (null where the row was not wanted), reason (null when kept); of the first match set, item (its id),
    rule, start, end (bytes of the text) and overlap; and matches, a list of all of them with the items' row numbers in
    the index. An exempt document stays whatever it holds.
    """
    found = scan(texts, wanted, index.lookups, index.set_of_item, recipe)
    rows = len(texts)
    first = np.full(rows, -1, np.int64)
    first[found.row[::-1]] = np.arange(len(found.row))[::-1]
    hit = first >= 0
    place, clean = np.maximum(first, 0), ~hit
    rules = pa.array(RULES, pa.string()).take(pa.array(found.rule))
    sets = pa.array(index.sets, pa.string()).take(pa.array(index.set_of_item[found.item]))
    take = pa.array(place, mask=clean) if len(found.row) else pa.nulls(rows, pa.int64())
    named = sets.take(take)
    reason = pa.compute.binary_join_element_wise(pa.scalar(REASON), named, "") if not exempt else pa.nulls(rows)
    struct = pa.StructArray.from_arrays(
        [pa.array(found.item, pa.int32()), rules, pa.array(found.start), pa.array(found.end), pa.array(found.overlap)],
        fields=list(_MATCH),
    )
    offsets = np.concatenate([[0], np.cumsum(np.bincount(found.row, minlength=rows))])
    matches = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), struct)
    if not wanted.all():
        matches = matches.take(pa.array(np.arange(rows), mask=~wanted))
    table = pa.table(
        {
            "keep": pa.array(clean | exempt, mask=~wanted),
            "reason": reason.cast(pa.string()),
            "set": named,
            "item": column(index.items, "item").take(pa.array(found.item)).take(take),
            "rule": rules.take(take),
            "start": pa.array(found.start).take(take),
            "end": pa.array(found.end).take(take),
            "overlap": pa.array(found.overlap).take(take),
            "matches": matches,
        }
    )
    return table, found
