"""Columns of a stage as the toolkit's attributes: named spans in code points, one JSON object a document.

    {"id": "a", "source": "web", "attributes": {"quality__quality__gopher_word_count": [[0, 1503, 251.0]], ...}}

What becomes of a column:

number, boolean   one span over the whole text with the value as its score (0.0 and 1.0), none where it is null
spans             one span each, with its `score`, else 1.0; PII by kind (`..._spans__email`), so that the toolkit can
                  replace each kind by its own mask
category          a short list of words (language, reason, kind of duplicate): the value becomes the end of the key,
                  `language__language__language__en`, score 1.0, so that a filter can ask whether it is there
other text        no attribute: a number cannot hold it. It stands in the line's own object `values`, which the toolkit
                  passes over: `{"near_duplicates__near_duplicates__duplicate_of": "wiki/12"}`
anything else     left out (hashes and bands of signatures), and named in `export.json`
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.curation import pii
from olmo_core.documents.shards import column
from olmo_core.dolma_export.json_columns import STRING, fields, from_buffers, joined, quoted, scores, whole
from olmo_core.errors import IntegrityError, RecipeError
from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.code_points import BLOCK, code_points_before, count_blocks

CATEGORIES = {
    ("language", "language"),
    ("selection", "reason"),
    ("near-duplicates", "kind"),
    ("decontamination", "set"),
    ("splits", "split"),
}
"""Stage and column of text that is one of a few words."""
KINDS: Mapping[tuple[str, str], tuple[str, ...]] = {("pii", "pii_spans"): pii.KINDS}
"""Stage and column of spans that get a key for each kind, and the kinds."""
_WORD = re.compile("[^a-zA-Z0-9_]")


def variable(name: str) -> str:
    """Return a name as the toolkit's `make_variable_name` has it."""
    return _WORD.sub("_", name)


def key(stage: str, name: str) -> str:
    """Return the attribute of a column: experiment, tagger and type, of which the first two are the stage."""
    return f"{variable(stage)}__{variable(stage)}__{variable(name)}"


def keys(stage: str, schema: pa.Schema) -> dict[str, str]:
    """Return the key of each column that can be written. Raises RecipeError when two columns get the same one."""
    found: dict[str, str] = {}
    for one in schema:
        if _kind(one.type) is None:
            continue
        name = key(stage, one.name)
        if name in found.values():
            other = next(column for column, known in found.items() if known == name)
            raise RecipeError(
                f"{stage}: the columns {other!r} and {one.name!r} would both be the attribute {name!r}, as the toolkit "
                "knows only letters, digits and '_'; give the rules other names"
            )
        found[one.name] = name
    return found


def left_out(schema: pa.Schema) -> list[str]:
    """Return the columns that have no form in the toolkit's attributes."""
    return [one.name for one in schema if _kind(one.type) is None]


def _kind(kind: pa.DataType) -> str | None:
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
    spans = inner is not None and pa.types.is_struct(inner) and {"start", "end"} <= {f.name for f in inner}
    return "spans" if spans else None


class Offsets:
    """The code points of some texts: lengths, and where a byte of one is."""

    def __init__(self, texts: pa.Array) -> None:
        self._text, self._starts = text_buffers(texts)
        size = int(self._starts[-1])
        self._blocks = np.zeros(size // BLOCK + 1, np.int64)
        count_blocks(self._text, size, self._blocks)
        self._before = self._points(self._starts)
        self.lengths: npt.NDArray[np.int64] = np.diff(self._before)

    def _points(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        out = np.empty(len(places), np.int64)
        code_points_before(self._text, self._blocks, places, out)
        return out

    def of(self, rows: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], what: str) -> npt.NDArray[np.int64]:
        """Return byte offsets into the texts of `rows` as offsets in code points.

        Raises IntegrityError, naming `what`, for one that is outside its text or within a character.
        """
        places = self._starts[rows] + offsets
        wrong = (offsets < 0) | (places > self._starts[rows + 1])
        places = np.where(wrong, 0, places)
        wrong |= (places < self._starts[rows + 1]) & ((self._text[places] & 0xC0) == 0x80)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise IntegrityError(
                f"{what}: byte {offsets[first]} of row {rows[first]} is outside its text or within a character; the "
                "column belongs to other documents, or its stage is at fault"
            )
        return self._points(places) - self._before[rows]


def attribute_lines(stage: str, documents: pa.Table, tags: pa.Table, what: str) -> pa.LargeStringArray:
    """Return one JSON object with its line feed for each document.

    `documents` has id, source and text, `tags` the columns of the stage for the same rows. Raises IntegrityError,
    naming `what` (the object), when rows differ in number, a span is not within its text, or a value is NaN.
    """
    rows = documents.num_rows
    if tags.num_rows != rows:
        raise IntegrityError(f"{what}: {tags.num_rows} rows for {rows} documents; it is damaged, or not of this shard")
    points = Offsets(column(documents, "text"))
    attributes: list[pa.Array] = []
    values: list[pa.Array] = []
    for name, attribute in keys(stage, tags.schema).items():
        own = column(tags, name)
        kind = _kind(own.type)
        where = f"{what}: column {name}"
        if kind == "number":
            attributes.append(_over_text(f'"{attribute}"', points, scores(own, where)))
        elif kind == "spans":
            attributes += _span_fields(attribute, own, points, KINDS.get((stage, name)), where)
        elif (stage, name) in CATEGORIES:
            words = pc.dictionary_encode(own.cast(STRING))
            ends = pa.array([variable(word) for word in words.dictionary.to_pylist()], STRING).take(words.indices)
            attributes.append(_over_text(joined(f'"{attribute}__', ends, '"'), points, pa.scalar("1.0", STRING)))
        else:
            values.append(joined(f',"{attribute}":', quoted(own)))
    pieces = [joined(f',"{name}":', quoted(column(documents, name))) for name in ("id", "source")]
    pieces.append(joined(',"attributes":', fields(rows, *attributes)))
    if values:
        held = fields(rows, *values)
        pieces.append(joined(',"values":', pc.if_else(pc.equal(held, "{}"), pa.scalar(None, STRING), held)))
    return joined(fields(rows, *pieces), "\n")


def _over_text(name: str | pa.Array, points: Offsets, score: pa.Array | pa.Scalar) -> pa.LargeStringArray:
    """Return the field of a value that is about the whole text."""
    return joined(",", name, ":[[0,", whole(points.lengths), ",", score, "]]")


def _span_fields(
    attribute: str, spans: pa.ListArray, points: Offsets, kinds: tuple[str, ...] | None, what: str
) -> list[pa.LargeStringArray]:
    """Return the fields of a span column, one for each kind where there are kinds."""
    counts = pc.fill_null(pc.list_value_length(spans), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    rows = np.repeat(np.arange(len(spans)), counts)
    flat = spans.flatten()
    starts, ends = (flat.field(n).to_numpy(zero_copy_only=False).astype(np.int64) for n in ("start", "end"))
    score = scores(flat.field("score"), what) if "score" in {f.name for f in flat.type} else "1.0"
    first, last = points.of(rows, starts, what), points.of(rows, ends, what)
    written = joined(",[", whole(first), ",", whole(last), ",", score, "]") if len(flat) else pa.array([], STRING)
    if kinds is None:
        return [_lists(attribute, rows, written, len(spans))]
    found = flat.field("kind").cast(STRING)
    unknown = pc.unique(found.filter(pc.invert(pc.is_in(found, pa.array(kinds, STRING))))).to_pylist()
    if unknown:
        raise IntegrityError(f"{what} has spans of kinds {unknown}, and only {', '.join(kinds)} are known")
    fields_ = []
    for kind in kinds:
        mine = pc.equal(found, kind)
        chosen = mine.to_numpy(zero_copy_only=False).astype(bool)
        fields_.append(_lists(f"{attribute}__{kind}", rows[chosen], written.filter(mine), len(spans)))
    return fields_


def _lists(attribute: str, rows: npt.NDArray[np.int64], spans: pa.LargeStringArray, count: int) -> pa.LargeStringArray:
    """Return the field `,"attribute":[...]` of each of `count` rows from its spans; null for a row without any.

    The spans of a row lie behind one another in memory already: new offsets into the same bytes make them one string.
    """
    bounds = np.searchsorted(rows, np.arange(count + 1))
    if not len(spans):
        return pa.nulls(count, STRING)
    _, offsets, data = spans.buffers()
    at = np.frombuffer(offsets, np.int64)[spans.offset : spans.offset + len(spans) + 1]
    lists = pc.utf8_slice_codeunits(from_buffers(at[bounds], data), 1)
    some = pa.array(np.diff(bounds) > 0)
    return pc.if_else(some, joined(f',"{attribute}":[', lists, "]"), pa.scalar(None, STRING))
