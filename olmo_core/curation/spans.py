"""Spans of several taggers merged into one list of replacements, and texts rewritten with them.

A span is `[start, end)` in bytes of a document's UTF-8 text. `merge` takes the span columns of any number of taggers,
each with what to put in place of its spans, and `rewrite` makes the new texts; nothing else in curation changes text.

    masked = rewrite(texts, merge(Edit(spans=pii_spans, replacement=MASKS), Edit(spans=toxic_spans, replacement="")))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.errors import IntegrityError
from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.splice import splice

Integers = npt.NDArray[np.int64]

REPLACEMENTS = pa.list_(pa.struct({"start": pa.int64(), "end": pa.int64(), "replacement": pa.string()}))
"""Type of what `merge` returns: spans in order, none empty, none overlapping, each with its replacement."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One span column and what to put in place of its spans."""

    spans: pa.ListArray
    """`list<struct<start, end, ...>>`, one list for each row; with `kind` when the replacement is a mapping."""
    replacement: str | Mapping[str, str]
    """What to put in place: one string, or one for each kind of span. An empty string removes."""


def merge(*edits: Edit) -> pa.ListArray:
    """Return the replacements of all edits as one column of type `REPLACEMENTS`.

    Spans that overlap (share a byte, also through others) become one span over their union. It is removed when one of
    them is to be removed; otherwise the mask of the one that starts first stands for all, of those the longest, of
    those the one of the earlier edit. Spans that only touch stay apart. Empty spans mean nothing and are left out.
    Raises IntegrityError when columns differ in rows, hold nulls, or a span is reversed or negative.
    """
    if not edits:
        raise ValueError("merge needs at least one edit, to know the number of rows")
    row_count = len(edits[0].spans)
    found = [_positions(edit.spans, row_count, f"edit {number}") for number, edit in enumerate(edits)]
    rows, starts, ends = (np.concatenate([columns[i] for columns in found]) for i in range(3))
    texts = [""]
    masks = np.concatenate([_replacements(edits[i], columns[3], texts, f"edit {i}") for i, columns in enumerate(found)])
    order = _order(rows, starts, ends)
    rows, starts, ends, masks = rows[order], starts[order], ends[order], masks[order]
    if len(order) == 0:
        return pa.array([[]] * row_count, REPLACEMENTS)
    firsts = _first_of_overlapping(rows, starts, ends)
    masks = np.where(np.minimum.reduceat(masks, firsts) == 0, 0, masks[firsts])
    union = pa.StructArray.from_arrays(
        [
            pa.array(starts[firsts]),
            pa.array(np.maximum.reduceat(ends, firsts)),
            pa.array(texts, pa.string()).take(pa.array(masks)),
        ],
        fields=list(REPLACEMENTS.value_type),
    )
    bounds = np.searchsorted(rows[firsts], np.arange(row_count + 1))
    return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), union, type=REPLACEMENTS)


def rewrite(texts: pa.LargeStringArray, replacements: pa.ListArray) -> pa.LargeStringArray:
    """Return the texts with their spans replaced; rows without spans come out as they are.

    `replacements` is what `merge` returns, one list for each text. Raises IntegrityError, naming the row, when a span
    is not within its text, cuts a character in two, or overlaps another.
    """
    if len(replacements) != len(texts):
        raise IntegrityError(
            f"{len(replacements)} lists of spans for {len(texts)} texts; the columns belong to other rows"
        )
    rows, starts, ends, flat = _positions(replacements, len(texts), "replacements")
    text, offsets = text_buffers(texts)
    lengths = np.diff(offsets)
    _refuse(ends > lengths[rows], rows, starts, ends, "ends behind its text")
    firsts, lasts = starts + offsets[rows], ends + offsets[rows]
    cuts = ((text[firsts] & 0xC0) == 0x80) | ((text[lasts] & 0xC0) == 0x80)
    _refuse(cuts, rows, starts, ends, "cuts a character in two")
    overlaps = np.zeros(len(rows), np.bool_)
    overlaps[1:] = firsts[1:] < lasts[:-1]
    _refuse(overlaps, rows, starts, ends, "overlaps or precedes the one before it (merge them first)")
    patches, patch_offsets = text_buffers(flat.field("replacement"))
    growth = np.diff(patch_offsets) - (ends - starts)
    new_lengths = lengths + np.bincount(rows, weights=growth, minlength=len(texts)).astype(np.int64)
    new_offsets = np.concatenate(([0], np.cumsum(new_lengths)))
    out = np.empty(int(new_offsets[-1]), np.uint8)
    splice(text, firsts, lasts, patches, patch_offsets, out)
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(new_offsets), pa.py_buffer(out))


def _order(rows: Integers, starts: Integers, ends: Integers) -> Integers:
    """Return the indices of the spans that are not empty by row, start, longest first, then as they are.

    One 64-bit key where it fits: each column comes in order, which a stable sort of the key makes use of (1.1 million
    spans: 0.05 s, with `lexsort` 0.3).
    """
    reach = int(ends.max(initial=0)) + 1
    if (int(rows.max(initial=0)) + 1) * reach * reach < 2**63:
        order = np.argsort((rows * reach + starts) * reach + (reach - 1 - (ends - starts)), kind="stable")
    else:
        order = np.lexsort((starts - ends, starts, rows))
    return order[ends[order] > starts[order]]


def _first_of_overlapping(rows: Integers, starts: Integers, ends: Integers) -> Integers:
    """Return the indices at which groups of overlapping spans begin; spans are ordered by row and start."""
    reach = int(ends.max())
    furthest = np.maximum.accumulate(rows * reach + ends)
    begins = np.ones(len(rows), bool)
    begins[1:] = rows[1:] * reach + starts[1:] >= furthest[:-1]
    return np.flatnonzero(begins)


def _positions(spans: pa.ListArray, row_count: int, name: str) -> tuple[Integers, Integers, Integers, pa.StructArray]:
    """Return row, start and end of every span, and the spans themselves without their lists."""
    if len(spans) != row_count:
        raise IntegrityError(
            f"{name} has spans for {len(spans)} rows, not {row_count}; the columns belong to other rows"
        )
    flat = spans.flatten()
    columns = [flat.field("start"), flat.field("end")]
    if spans.null_count or flat.null_count or any(column.null_count for column in columns):
        raise IntegrityError(f"{name} has null spans; a row without spans holds an empty list")
    rows = np.repeat(np.arange(row_count), pc.list_value_length(spans).to_numpy(zero_copy_only=False))
    starts, ends = (column.to_numpy(zero_copy_only=False).astype(np.int64) for column in columns)
    _refuse((starts < 0) | (ends < starts), rows, starts, ends, "is reversed or negative")
    return rows, starts, ends, flat


def _replacements(edit: Edit, flat: pa.StructArray, texts: list[str], name: str) -> Integers:
    """Return the position in `texts` of the replacement of every span of an edit; new ones are appended."""
    by_kind = {"": edit.replacement} if isinstance(edit.replacement, str) else edit.replacement
    texts.extend(text for text in dict.fromkeys(by_kind.values()) if text not in texts)
    positions = np.array([texts.index(text) for text in by_kind.values()], np.int64)
    if isinstance(edit.replacement, str):
        return np.full(len(flat), positions[0])
    kinds = flat.field("kind").cast(pa.string())
    numbers = pc.index_in(kinds, pa.array(list(by_kind), pa.string()))
    if numbers.null_count:
        unknown = pc.unique(kinds.filter(pc.is_null(numbers))).to_pylist()
        raise IntegrityError(f"{name} has spans of kinds {unknown}, but replacements only for {sorted(by_kind)}")
    of_span: Integers = positions[numbers.to_numpy(zero_copy_only=False)]
    return of_span


def _refuse(wrong: npt.NDArray[np.bool_], rows: Integers, starts: Integers, ends: Integers, what: str) -> None:
    """Raise IntegrityError for the first span marked in `wrong`."""
    if wrong.any():
        k = int(np.flatnonzero(wrong)[0])
        raise IntegrityError(
            f"row {rows[k]}: span [{starts[k]}, {ends[k]}) {what} ({int(wrong.sum())} such spans in the batch)"
        )
