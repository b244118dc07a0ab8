"""The columns of documents and of quarantined records, and the reasons for which a record is quarantined."""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

DOCUMENTS: pa.Schema = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("added", pa.string(), nullable=True),
        pa.field("created", pa.string(), nullable=True),
        pa.field("metadata", pa.string(), nullable=False),
    ]
)
"""Dolma's fields. `id` is unique within a source, `text` is never empty, `metadata` is a JSON object as canonical text
(sorted keys, no spaces, `{}` when there is none)."""

QUARANTINE: pa.Schema = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("byte_offset", pa.int64(), nullable=True),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("raw", pa.binary(), nullable=False),
    ]
)
"""One row for each record that could not become a document.

`file` is the name relative to the source's root; `position` counts lines or rows from 1 (0: the file as a whole);
`byte_offset` is where the line begins in the decompressed file (null for Parquet); `size` is the record's length in
bytes; `reason` is a `Reason`; `detail` says it in words; `raw` holds the record's first `RAW_BYTES` bytes."""

RAW_BYTES = 1_000


class Reason(StrEnum):
    """Why a record was quarantined."""

    BROKEN_JSON = "broken_json"
    """The line is not JSON: cut short, a raw control character or NUL byte, NaN, nesting deeper than 1,024."""
    NOT_AN_OBJECT = "not_an_object"
    """The line is JSON but no object."""
    INVALID_UTF8 = "invalid_utf8"
    """The bytes are not UTF-8, or a string holds half of a surrogate pair, which UTF-8 cannot express."""
    MISSING_TEXT = "missing_text"
    """There is no text, or it is null."""
    EMPTY_TEXT = "empty_text"
    """The text is empty or white space only."""
    WRONG_TYPE = "wrong_type"
    """A field has a type it may not have: text, id, added or created that is no string, metadata that is no object."""
    DUPLICATE_ID = "duplicate_id"
    """An earlier record of the same file group has this id."""
    TOO_LARGE = "too_large"
    """The record is longer than the recipe's `max_record_bytes`."""
