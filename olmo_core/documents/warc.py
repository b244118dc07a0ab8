"""Web pages from WARC files: the answers of a crawl, and the main text of each page."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from warcio.statusandheaders import StatusAndHeaders

from olmo_core.documents import http_payload
from olmo_core.documents.extraction import Extracted, Extraction, ExtractionSettings, Page, in_batches
from olmo_core.documents.files import SourceFile
from olmo_core.documents.page_types import (
    PageKind,
    charset_parameter,
    claimed_kind,
    essence,
    looks_binary,
    looks_like_html,
)
from olmo_core.documents.record import Document, Parsed, PassedOver, Place, Rejection, canonical_json
from olmo_core.documents.schema import Dropped, Reason
from olmo_core.documents.streams import HashedFile, compression, decompressed
from olmo_core.documents.warc_records import MOST_HEADER, WarcRecord, warc_record_stream
from olmo_core.errors import RecipeError

_LIBRARIES = {
    "trafilatura": ("trafilatura", "lxml", "justext", "charset-normalizer"),
    "none": ("charset-normalizer",),
}
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?Z)?)?)?")
"""W3C's profile of ISO 8601 in UTC, with less precision too, as WARC 1.1 allows."""
_NOT_PAGES = {
    "warcinfo": Dropped.WARCINFO,
    "request": Dropped.REQUEST,
    "metadata": Dropped.METADATA,
    "revisit": Dropped.REVISIT,
    "resource": Dropped.RESOURCE,
    "conversion": Dropped.CONVERSION,
    "response": Dropped.RESPONSE,
    "continuation": Dropped.SEGMENT,
}


@dataclass(frozen=True, kw_only=True)
class WarcSource:
    """Documents from the HTML pages of WARC files (1.0 and 1.1; plain, .gz, .zst)."""

    kind: Literal["warc"] = "warc"
    name: str
    """The `source` of its documents; letters, digits, `.`, `_` and `-`."""
    paths: tuple[str, ...] = ()
    """Files or glob patterns, local or s3://. Not part of the identity: the inventory of what they match is."""
    root: str | None = None
    """File names are relative to it; by default the longest folder all paths share. Not part of the identity."""
    priority: int = 0
    """Of two near duplicates the one from the source of higher priority stays."""
    extractor: Literal["trafilatura", "none"] = "trafilatura"
    """How HTML becomes text: the main text by trafilatura, or the page's source as it is."""
    favour_precision: bool = True
    """trafilatura's choice between less text and more that does not belong to the page's content; datatrove's default."""
    pages: tuple[PageKind, ...] = ("html",)
    """Which pages are taken: `html` (text/html, application/xhtml+xml), `plain` (text/plain, which is not extracted)."""
    max_page_bytes: int = 10_000_000
    """Larger pages, as sent or unpacked, are quarantined. Common Crawl cuts pages at 1 to 5 MiB."""
    page_seconds: float = 30.0
    """CPU seconds for the text of one page; one that needs more is quarantined. Most need 0.02."""
    page_memory_bytes: int = 3 << 30
    """Memory of the extraction process (each worker has one); a page that needs more is quarantined."""
    check_digests: bool = True
    """Compare payloads with the digest in their record (MD5, SHA-1, SHA-2); those that differ are quarantined."""

    def __post_init__(self) -> None:
        """Raise RecipeError for limits that no page can keep."""
        if self.max_page_bytes < 1 or not 0.01 <= self.page_seconds <= 86_400 or self.page_memory_bytes < 1 << 28:
            raise RecipeError(
                f"source {self.name!r}: max_page_bytes {self.max_page_bytes}, page_seconds {self.page_seconds:g}, page_memory_bytes "
                f"{self.page_memory_bytes}: give at least 1, 0.01 to 86400, and at least {1 << 28}"
            )
        if not self.pages:
            raise RecipeError(f"source {self.name!r}: pages is empty; name html, plain or both")


@dataclass(frozen=True, kw_only=True)
class WarcIdentity:
    """What decides how WARC files become documents: the source without its places, and the libraries that do the work."""

    source: WarcSource
    libraries: dict[str, str]
    """Version by distribution name: another version may find other text in a page, so it makes other documents."""


def warc_identity(source: WarcSource) -> WarcIdentity:
    """Return the identity of a source that has no places any more."""
    return WarcIdentity(
        source=source, libraries={name: importlib.metadata.version(name) for name in _LIBRARIES[source.extractor]}
    )


def extraction_settings(source: WarcSource) -> ExtractionSettings:
    """Return what the extraction process of a source does."""
    name = "trafilatura" if source.extractor == "trafilatura" else "markup"
    return ExtractionSettings(
        function=f"olmo_core.documents.extraction_process:{name}",
        options={"favour_precision": source.favour_precision},
        page_seconds=source.page_seconds,
        memory_bytes=source.page_memory_bytes,
    )


class _Found(NamedTuple):
    """A page before extraction, or what became of a record that has none."""

    place: Place
    id: str | None
    created: str | None
    metadata: dict[str, Any]
    parsed: Parsed | None


def warc_records(
    source: WarcSource, extraction: Extraction, file: SourceFile, stream: HashedFile
) -> Iterator[tuple[Place, Parsed]]:
    """Yield every record of a file with the document it holds, or why it holds none.

    Raises InputError when the file is no WARC file, or is truncated or damaged as a whole.
    """
    ends_checked = compression(file.name) is not None
    records = warc_record_stream(
        decompressed(stream, file.name),
        file.url,
        ends_checked=ends_checked,
        # Of requests and other crawler's notes nothing is needed, however large they are.
        hold=lambda headers: _held(source, headers),
    )
    items = (_with_page(source, record) for record in records)
    for found in in_batches(items, extraction, _finished):
        assert found.parsed is not None
        yield found.place, found.parsed


def _held(source: WarcSource, headers: StatusAndHeaders) -> int:
    is_page = (headers.get_header("WARC-Type") or "").strip().lower() == "response"
    return source.max_page_bytes + MOST_HEADER if is_page else 0


def place_of(record: WarcRecord) -> Place:
    """Return where a record was found."""
    return Place(record.number, record.offset, record.size, record.raw)


def record_fault(record: WarcRecord, wanted: str) -> Rejection | PassedOver | None:
    """Return what any record is that is malformed or not of the type `wanted`; None for one that is to be read."""
    if record.fault is not None:
        return Rejection(Reason.MALFORMED_RECORD, f"record {record.number}: {record.fault}")
    kind = record.header("WARC-Type").lower()
    if not kind:
        return Rejection(Reason.MALFORMED_RECORD, f"record {record.number}: it has no WARC-Type")
    if kind != wanted:
        return PassedOver(_NOT_PAGES.get(kind, Dropped.OTHER_RECORD))
    if record.header("WARC-Segment-Number"):
        return PassedOver(Dropped.SEGMENT)
    if not target(record):
        return Rejection(Reason.MALFORMED_RECORD, f"record {record.number}: it has no WARC-Target-URI")
    date = record.header("WARC-Date")
    if not _DATE.fullmatch(date):
        return Rejection(Reason.MALFORMED_RECORD, f"record {record.number}: its WARC-Date is {date[:40]!r}")
    return None


def target(record: WarcRecord) -> str:
    """Return a record's address; Wget 1.19 and 1.21 write it in angle brackets."""
    return record.header("WARC-Target-URI").removeprefix("<").removesuffix(">")


def record_id(record: WarcRecord) -> str:
    """Return the record's own id; without one, a hash of address, date and content, the same wherever the record lies."""
    own = record.header("WARC-Record-ID")
    if own:
        return own
    digest = hashlib.sha256(f"{target(record)}\n{record.header('WARC-Date')}\n".encode() + record.block)
    return f"sha256:{digest.hexdigest()}"


def _with_page(source: WarcSource, record: WarcRecord) -> tuple[_Found, Page | None]:
    place = place_of(record)
    not_read = record_fault(record, "response")
    if not_read is not None:
        return _Found(place, None, None, {}, not_read), None
    told: dict[str, Any] = {"url": target(record)}
    page = _page(source, record, told)
    if isinstance(page, Rejection | PassedOver):
        return _Found(place, None, None, {}, page), None
    return _Found(place, record_id(record), record.header("WARC-Date"), told, None), page


def _page(source: WarcSource, record: WarcRecord, told: dict[str, Any]) -> Page | Rejection | PassedOver:
    """Return the page of a response, noting what is to be known of it in `told`."""
    if not told["url"].lower().startswith(("http:", "https:")):
        return PassedOver(Dropped.NOT_HTTP)
    if not record.length:
        return PassedOver(Dropped.EMPTY_BODY)
    split = http_payload.split_http(record.block)
    if split is None:
        return Rejection(Reason.MALFORMED_RECORD, f"record {record.number}: its block is no HTTP answer")
    http, sent = split
    status = http.get_statuscode()
    if status != "200":
        return _other_status(record, status)
    told["http_status"] = 200
    http_type = http.get_header("Content-Type") or ""
    content_type = record.header("WARC-Identified-Payload-Type") or http_type
    kind = claimed_kind(content_type)
    if kind == "other" or (kind != "unknown" and kind not in source.pages):
        return PassedOver(Dropped.CONTENT_TYPE)
    charset = charset_parameter(http_type)
    packed = (http.get_header("Content-Encoding") or "").strip()
    if not packed and looks_binary(sent, charset) and (http.get_header("Transfer-Encoding") is None):
        return PassedOver(Dropped.BINARY)
    if record.length > len(record.block) or len(sent) > source.max_page_bytes:
        return _too_large(source, f"the record's block has {record.length} bytes")
    body = _body(source, record, http, sent, told)
    if not isinstance(body, bytes):
        return body
    if not body:
        return PassedOver(Dropped.EMPTY_BODY)
    if looks_binary(body, charset):
        return PassedOver(Dropped.BINARY)
    if kind == "unknown":
        if "html" not in source.pages or not looks_like_html(body):
            return PassedOver(Dropped.CONTENT_TYPE)
        kind = "html"
    told["content_type"] = essence(content_type) or "text/html"
    if language := http.get_header("Content-Language"):
        told["content_language"] = language.strip()
    return Page(kind == "html", charset, body)


def _other_status(record: WarcRecord, status: str) -> Rejection | PassedOver:
    if not re.fullmatch(r"[1-9]\d\d", status):
        return Rejection(Reason.MALFORMED_RECORD, f"record {record.number}: its HTTP status is {status[:20]!r}")
    if status[0] == "3":
        return PassedOver(Dropped.HTTP_REDIRECT)
    return PassedOver(Dropped.HTTP_ERROR if status[0] >= "4" else Dropped.HTTP_OTHER)


def _body(
    source: WarcSource, record: WarcRecord, http: StatusAndHeaders, sent: bytes, told: dict[str, Any]
) -> bytes | Rejection:
    """Return a response's body as a browser would see it, after its digest was checked."""
    cut = record.header("WARC-Truncated").lower()
    if cut:
        told["truncated"] = cut
    try:
        chunked = (http.get_header("Transfer-Encoding") or "").strip().lower() == "chunked"
        whole = http_payload.dechunked(sent, cut=bool(cut)) if chunked else sent
        fault = None
    except http_payload.PayloadError as error:
        whole, fault = b"", Rejection(Reason.BROKEN_ENCODING, str(error))
    encodings = http.get_header("Content-Encoding") or ""
    unpacked = b""
    if fault is None:
        try:
            unpacked = http_payload.unpacked(whole, encodings, source.max_page_bytes, cut=bool(cut))
        except http_payload.PayloadTooLarge as error:
            fault = _too_large(source, str(error))
        except http_payload.PayloadError as error:
            fault = Rejection(Reason.BROKEN_ENCODING, str(error))
    if source.check_digests:
        mismatch = _check_digest(record, sent, whole, unpacked, told)
        fault = mismatch or fault
    return fault or unpacked


def _check_digest(
    record: WarcRecord, sent: bytes, whole: bytes, unpacked: bytes, told: dict[str, Any]
) -> Rejection | None:
    """Compare a payload with its digest, or the block with its own where there is none of the payload.

    Crawlers disagree about what the payload is: the body as sent (Wget, Heritrix), without the lengths of chunks (the
    standard), or unpacked (Common Crawl).
    """
    declared = record.header("WARC-Payload-Digest")
    if declared:
        told["payload_digest"] = declared
        forms = dict.fromkeys((sent, whole, unpacked))
        matches = http_payload.digest_matches(declared, *(lambda form=form: form for form in forms))  # type: ignore[misc]
    else:
        declared = record.header("WARC-Block-Digest")
        matches = http_payload.digest_matches(declared, lambda: record.block) if declared else None
    told["digest_checked"] = bool(matches)
    if matches is False and not told.get("truncated"):
        return Rejection(Reason.DIGEST_MISMATCH, f"its content is not what its digest says, {declared[:80]}")
    return None


def _too_large(source: WarcSource, said: str) -> Rejection:
    return Rejection(Reason.TOO_LARGE, f"{said}; max_page_bytes is {source.max_page_bytes}")


def _finished(found: _Found, answer: Extracted | None) -> _Found:
    """Return a page with the document that its extraction made of it."""
    assert answer is not None
    if answer.outcome == "timeout":
        return found._replace(
            parsed=Rejection(Reason.EXTRACTION_TIMEOUT, f"{answer.detail} ({found.metadata['url'][:200]})")
        )
    if answer.outcome == "failed":
        return found._replace(
            parsed=Rejection(Reason.EXTRACTION_FAILED, f"{answer.detail} ({found.metadata['url'][:200]})")
        )
    if answer.outcome == "undecodable":
        return found._replace(parsed=Rejection(Reason.UNDECODABLE, "no character encoding fits the page's bytes"))
    if answer.outcome == "no_text":
        return found._replace(parsed=PassedOver(Dropped.NO_TEXT))
    metadata = found.metadata | {"charset": answer.charset, "charset_found_by": answer.found_by}
    notes = [f"charset found by {answer.found_by}"]
    if answer.declared is not None:
        metadata["charset_declared"] = answer.declared
        notes.append("charset declared otherwise")
    if answer.errors:
        metadata["charset_errors"] = answer.errors
        notes.append("malformed characters replaced")
    if "truncated" in metadata:
        notes.append("truncated by the crawler")
    if metadata.get("digest_checked"):
        notes.append("digest checked")
    document = Document(found.id, answer.text, None, found.created, canonical_json(metadata), tuple(notes))
    return found._replace(parsed=document)
