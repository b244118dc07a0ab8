"""The columns of documents and of quarantined records, and the reasons for which a record is quarantined or passed over."""

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

`file` is the name relative to the source's root; `position` counts lines, rows or WARC records from 1 (0: the file as a
whole); `byte_offset` is where the line or record begins in the decompressed file (null for Parquet); `size` is the record's length in
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
    """The record is longer than the recipe's `max_record_bytes`, the page than its `max_page_bytes` (also unpacked)."""
    MALFORMED_RECORD = "malformed_record"
    """A WARC record whose length, required headers or HTTP status line are missing or cannot be true."""
    DIGEST_MISMATCH = "digest_mismatch"
    """The payload is not what the record's own digest says."""
    BROKEN_ENCODING = "broken_encoding"
    """The body cannot be unpacked as its Content-Encoding or Transfer-Encoding says."""
    UNDECODABLE = "undecodable"
    """No character encoding, declared or detected, fits the bytes of the page."""
    EXTRACTION_TIMEOUT = "extraction_timeout"
    """Taking the text out of the page used more CPU time than the recipe's `page_seconds`."""
    EXTRACTION_FAILED = "extraction_failed"
    """The extractor crashed on the page, gave up, or wanted more memory than the recipe's `page_memory_bytes`."""


class Dropped(StrEnum):
    """Why a well-formed record of a web archive is passed over: it is no page with text. Not counted as malformed."""

    WARCINFO = "warcinfo_record"
    REQUEST = "request_record"
    METADATA = "metadata_record"
    REVISIT = "revisit_record"
    """An answer that the crawler had seen before; its text is not in the record."""
    RESOURCE = "resource_record"
    RESPONSE = "response_record"
    """An unextracted page in a file that is read as WET."""
    CONVERSION = "conversion_record"
    """Text extracted by the crawler (WET), in a file that is read as WARC."""
    SEGMENT = "segmented_record"
    """One part of a page that the crawler divided over several records."""
    OTHER_RECORD = "other_record"
    NOT_HTTP = "not_http"
    """The answer to something else than an HTTP request, such as a DNS look-up."""
    HTTP_REDIRECT = "http_redirect"
    """Status 300 to 399."""
    HTTP_ERROR = "http_error"
    """Status 400 and above."""
    HTTP_OTHER = "http_other_status"
    """Any other status than 200."""
    CONTENT_TYPE = "other_content_type"
    """The type is known and is none that the recipe takes, as for style sheets, JSON or images."""
    BINARY = "binary"
    """Said to be a page, or without a type, but the first bytes are those of a binary format."""
    EMPTY_BODY = "empty_body"
    """An answer without a body."""
    NO_TEXT = "no_text"
    """A page in which the extractor finds no main text, as in log-in forms and link lists."""
