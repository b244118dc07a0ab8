"""Looking for evaluation items in documents: what is looked for, as sorted hashes, and what each document holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core.curation.decontamination import RULES, DecontaminationRecipe, NgramRule, ParagraphRule, RuleName
from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.hash_index import HashIndex, hash_index
from olmo_core.kernels.ngram_matches import scan_ngrams
from olmo_core.kernels.paragraph_matches import collect_paragraphs, find_paragraphs
from olmo_core.kernels.shingle_alphabet import alphabet
from olmo_core.kernels.word_breaks import word_break_table

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


class Keys(NamedTuple):
    """Hashes of what is looked for by one rule, each with the item it is of; one row for each pair."""

    low: npt.NDArray[np.uint64]
    high: npt.NDArray[np.uint64]
    item: npt.NDArray[np.int32]
    size: npt.NDArray[np.int32]
    """Bytes of a paragraph or text, words of an n-gram."""


class Lookup(NamedTuple):
    """The keys of one rule, ready to be looked up."""

    hashes: HashIndex
    starts: Integers
    """Distinct key k is of the items `items[starts[k]:starts[k + 1]]`."""
    items: npt.NDArray[np.int32]
    sizes: Integers
    """Different sizes of keys, ascending."""
    per_item: Integers
    """Number of keys of each item."""


class Matches(NamedTuple):
    """Every item that a document holds, by every rule; sorted by row, set, rule and item. Arrays of equal length."""

    row: Integers
    item: Integers
    rule: Integers
    """Index into `RULES`."""
    start: Integers
    """First byte of the first match in the document."""
    end: Integers
    overlap: npt.NDArray[np.float64]
    """Share of the item's n-grams; 1 for the other rules."""


_EMPTY = np.zeros(0, np.int64)
_NONE = Matches(row=_EMPTY, item=_EMPTY, rule=_EMPTY, start=_EMPTY, end=_EMPTY, overlap=np.zeros(0))


def sorted_keys(parts: Sequence[Keys]) -> Keys:
    """Return the keys of all parts in order of hash and item, each once."""
    low = np.concatenate([part.low for part in parts])
    high = np.concatenate([part.high for part in parts])
    item = np.concatenate([part.item for part in parts])
    size = np.concatenate([part.size for part in parts])
    order = np.lexsort((item, high, low))
    low, high, item = low[order], high[order], item[order]
    new = np.ones(len(low), bool)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1]) | (item[1:] != item[:-1])
    return Keys(low[new], high[new], item[new], size[order][new])


def lookup(keys: Keys, items: int) -> Lookup:
    """Return sorted keys ready to be looked up; `items` is how many items there are in all."""
    new = np.ones(len(keys.low), bool)
    new[1:] = (keys.low[1:] != keys.low[:-1]) | (keys.high[1:] != keys.high[:-1])
    first = np.flatnonzero(new)
    return Lookup(
        hash_index(keys.low[first], keys.high[first]),
        np.append(first, len(keys.low)),
        keys.item,
        np.unique(keys.size).astype(np.int64),
        np.bincount(keys.item, minlength=items).astype(np.int64),
    )


def _all_found(width: int, run: Callable[[Integers, Hashes], int]) -> tuple[Integers, Hashes]:
    """Return what a kernel finds; it runs once more, with more room, when there was more than fitted."""
    room = 1 << 12
    while True:
        found, keys = np.empty((room, width), np.int64), np.empty((room, 2), np.uint64)
        count = run(found, keys)
        if count <= room:
            return found[:count], keys[:count]
        room = count


def collect(texts: pa.LargeStringArray, recipe: DecontaminationRecipe, rules: Sequence[str]) -> Mapping[RuleName, Keys]:
    """Return what is to be looked for in other texts, by rule; `item` is the row. `rules` are those of the set."""
    text, offsets = text_buffers(texts)
    result: dict[RuleName, Keys] = {}
    if recipe.paragraphs and "paragraphs" in rules:
        if recipe.paragraphs.documents:
            result["document"] = _collect_paragraphs(text, offsets, recipe.paragraphs, whole=True)
        result["paragraph"] = _collect_paragraphs(text, offsets, recipe.paragraphs, whole=False)
    if recipe.ngrams and "ngrams" in rules:
        result["ngrams"] = _collect_ngrams(text, offsets, recipe.ngrams)
    return result


def _collect_paragraphs(text: npt.NDArray[np.uint8], offsets: Integers, rule: ParagraphRule, *, whole: bool) -> Keys:
    table = word_break_table()

    def run(found: Integers, keys: Hashes) -> int:
        count: int = collect_paragraphs(text, offsets, rule.min_words, whole, rule.trim, table, found, keys)
        return count

    found, keys = _all_found(3, run)
    return _keys(found[:, 0], keys, found[:, 2] - found[:, 1])


def _keys(row: Integers, keys: Hashes, size: Integers) -> Keys:
    return sorted_keys([Keys(keys[:, 0], keys[:, 1], row.astype(np.int32), size.astype(np.int32))])


def _collect_ngrams(text: npt.NDArray[np.uint8], offsets: Integers, rule: NgramRule) -> Keys:
    nothing = hash_index(np.zeros(0, np.uint64), np.zeros(0, np.uint64))

    def grams(length: int, wanted: npt.NDArray[np.bool_]) -> tuple[Keys, Integers]:
        found, keys, words = _scan(text, offsets, wanted, np.array([length]), nothing, collect=True)
        return _keys(found[:, 0], keys, np.full(len(found), length)), words

    whole, words = grams(rule.length, np.ones(len(offsets) - 1, bool))
    short = [n for n in range(rule.shortest, rule.length) if (words == n).any()]
    return sorted_keys([whole, *(grams(n, words == n)[0] for n in short)])


def _scan(
    text: npt.NDArray[np.uint8],
    offsets: Integers,
    wanted: npt.NDArray[np.bool_],
    lengths: Integers,
    hashes: HashIndex,
    *,
    collect: bool,
) -> tuple[Integers, Hashes, Integers]:
    """Return n-grams (row, place, first byte, end byte), their hashes when collecting, and the words of each row."""
    pages, letters = alphabet()
    words = np.zeros(len(offsets) - 1, np.int64)

    def run(found: Integers, keys: Hashes) -> int:
        count: int = scan_ngrams(text, offsets, wanted, lengths, pages, letters, collect, *hashes, found, keys, words)
        return count

    return (*_all_found(4, run), words)


def scan(
    texts: pa.LargeStringArray,
    wanted: npt.NDArray[np.bool_],
    lookups: Mapping[RuleName, Lookup],
    set_of_item: npt.NDArray[np.int32],
    recipe: DecontaminationRecipe,
) -> Matches:
    """Return what the wanted rows hold of the evaluation items. `set_of_item` is each item's set by number."""
    text, offsets = text_buffers(texts)
    parts = [_NONE]
    for name in RULES:
        if name not in lookups or not len(lookups[name].hashes.low):
            continue
        keys = lookups[name]
        if name == "ngrams":
            found, _, _ = _scan(text, offsets, wanted, keys.sizes, keys.hashes, collect=False)
            parts.append(_overlaps(found, keys, name, recipe.ngrams.min_overlap if recipe.ngrams else None))
        else:
            trim = recipe.paragraphs is None or recipe.paragraphs.trim
            found = _find_paragraphs(text, offsets, wanted, keys, whole=name == "document", trim=trim)
            parts.append(_overlaps(found, keys, name, None))
    every = Matches(
        row=np.concatenate([part.row for part in parts]),
        item=np.concatenate([part.item for part in parts]),
        rule=np.concatenate([part.rule for part in parts]),
        start=np.concatenate([part.start for part in parts]),
        end=np.concatenate([part.end for part in parts]),
        overlap=np.concatenate([part.overlap for part in parts]),
    )
    return _taken(every, np.lexsort((every.item, every.rule, set_of_item[every.item], every.row)))


def _taken(matches: Matches, order: npt.NDArray[Any]) -> Matches:
    return Matches(
        row=matches.row[order],
        item=matches.item[order],
        rule=matches.rule[order],
        start=matches.start[order],
        end=matches.end[order],
        overlap=matches.overlap[order],
    )


def _find_paragraphs(
    text: npt.NDArray[np.uint8],
    offsets: Integers,
    wanted: npt.NDArray[np.bool_],
    keys: Lookup,
    *,
    whole: bool,
    trim: bool,
) -> Integers:
    table = word_break_table()
    shortest, longest = keys.sizes[0], keys.sizes[-1]

    def run(found: Integers, _: Hashes) -> int:
        count: int = find_paragraphs(text, offsets, wanted, whole, trim, table, *keys.hashes, shortest, longest, found)
        return count

    return _all_found(4, run)[0]


def _overlaps(found: Integers, keys: Lookup, rule: RuleName, least: float | None) -> Matches:
    """Return one match for each row and item, from places of keys in rows (n, 4), where enough of the item is there."""
    if not len(found):
        return _NONE
    # Each key once a row, where it comes first: a key of many items that a document repeats would multiply.
    order = np.lexsort((found[:, 2], found[:, 1], found[:, 0]))
    found = found[order]
    fresh = np.ones(len(found), bool)
    fresh[1:] = (found[1:, :2] != found[:-1, :2]).any(axis=1)
    found = found[fresh]
    many = keys.starts[found[:, 1] + 1] - keys.starts[found[:, 1]]
    each = np.repeat(np.arange(len(found)), many)
    behind = np.arange(len(each)) - np.repeat(np.cumsum(many) - many, many)
    item = keys.items[keys.starts[found[each, 1]] + behind].astype(np.int64)
    row, _, start, end = found[each].T
    order = np.lexsort((end, start, item, row))
    row, item, start, end = row[order], item[order], start[order], end[order]
    new = np.ones(len(row), bool)
    new[1:] = (row[1:] != row[:-1]) | (item[1:] != item[:-1])
    first = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    overlap = np.ones(len(first))
    if rule == "ngrams":
        overlap = np.bincount(group, minlength=len(first)) / keys.per_item[item[first]]
    # The first match together with those that overlap it, in order of place.
    gap = new.copy()
    gap[1:] |= start[1:] > end[:-1]
    stretch = np.cumsum(gap)
    ends = np.maximum.reduceat(np.where(stretch == stretch[first][group], end, 0), first)
    code = np.full(len(first), RULES.index(rule), np.int64)
    every = Matches(row=row[first], item=item[first], rule=code, start=start[first], end=ends, overlap=overlap)
    return _taken(every, overlap >= (least or 0.0))
