"""Text from Common Crawl's WET files: WARC files of `conversion` records, the crawl's pages as plain text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from olmo_core.documents.files import SourceFile
from olmo_core.documents.http_payload import digest_matches
from olmo_core.documents.record import Document, Parsed, Place, Rejection, canonical_json
from olmo_core.documents.schema import Reason
from olmo_core.documents.streams import HashedFile, compression, decompressed
from olmo_core.documents.warc import place_of, record_fault, record_id, target
from olmo_core.documents.warc_records import WarcRecord, warc_record_stream
from olmo_core.errors import RecipeError

_KEPT = {
    "WARC-Refers-To": "refers_to",
    "WARC-Identified-Content-Language": "content_language",
    "WARC-Identified-Payload-Type": "content_type",
    "WARC-Truncated": "truncated",
}


@dataclass(frozen=True, kw_only=True)
class WetSource:
    """Documents from the conversion records of WET files (plain, .gz, .zst)."""

    kind: Literal["wet"] = "wet"
    name: str
    """The `source` of its documents; letters, digits, `.`, `_` and `-`."""
    paths: tuple[str, ...] = ()
    """Files or glob patterns, local or s3://. Not part of the identity: the inventory of what they match is."""
    root: str | None = None
    """File names are relative to it; by default the longest folder all paths share. Not part of the identity."""
    priority: int = 0
    """Of two near duplicates the one from the source of higher priority stays."""
    max_record_bytes: int = 100_000_000
    """Longer texts are quarantined and never held in memory as a whole."""
    check_digests: bool = True
    """Compare texts with the digest in their record; those that differ are quarantined."""

    def __post_init__(self) -> None:
        """Raise RecipeError for a limit that no text can keep."""
        if self.max_record_bytes < 1:
            raise RecipeError(f"source {self.name!r}: max_record_bytes {self.max_record_bytes}: give at least 1")


def wet_records(source: WetSource, file: SourceFile, stream: HashedFile) -> Iterator[tuple[Place, Parsed]]:
    """Yield every record of a file with the document it holds, or why it holds none.

    Raises InputError when the file is no WARC file, or is truncated or damaged as a whole.
    """
    records = warc_record_stream(
        decompressed(stream, file.name),
        file.url,
        ends_checked=compression(file.name) is not None,
        hold=lambda headers: source.max_record_bytes,
    )
    for record in records:
        yield place_of(record), record_fault(record, "conversion") or _document(source, record)


def _document(source: WetSource, record: WarcRecord) -> Document | Rejection:
    if record.length > source.max_record_bytes:
        return Rejection(
            Reason.TOO_LARGE, f"the text has {record.length} bytes; max_record_bytes is {source.max_record_bytes}"
        )
    told: dict[str, Any] = {"url": target(record)}
    told |= {key: record.header(name) for name, key in _KEPT.items() if record.header(name)}
    declared = record.header("WARC-Payload-Digest") or record.header("WARC-Block-Digest")
    matches = digest_matches(declared, lambda: record.block) if declared and source.check_digests else None
    if matches is False:
        return Rejection(Reason.DIGEST_MISMATCH, f"its content is not what its digest says, {declared[:80]}")
    told |= {"payload_digest": declared, "digest_checked": bool(matches)} if declared else {}
    try:
        text = record.block.decode()
    except UnicodeDecodeError as error:
        return Rejection(Reason.INVALID_UTF8, f"byte {error.start} of the text is not UTF-8 ({error.reason})")
    if not text or text.isspace():
        return Rejection(Reason.EMPTY_TEXT, "the text is empty" if not text else "the text is white space only")
    notes = ("digest checked",) if matches else ()
    return Document(record_id(record), text, None, record.header("WARC-Date"), canonical_json(told), notes)
