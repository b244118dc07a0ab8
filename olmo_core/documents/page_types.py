"""What kind of thing an HTTP answer holds, by what it says and by its first bytes (WHATWG MIME Sniffing Standard)."""

from __future__ import annotations

import re
from typing import Literal

PageKind = Literal["html", "plain"]

_KINDS: dict[str, PageKind] = {"text/html": "html", "application/xhtml+xml": "html", "text/plain": "plain"}
_UNKNOWN = {"", "unknown/unknown", "application/unknown", "*/*", "application/octet-stream"}
"""Types that say nothing: the bytes decide."""

_BINARY = (
    b"%PDF-", b"%!PS-Adobe-", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"\xff\xd8\xff", b"BM", b"\x00\x00\x01\x00",
    b"\x00\x00\x02\x00", b"RIFF", b"II*\x00", b"MM\x00*", b"\x1f\x8b\x08", b"PK\x03\x04", b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c",
    b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"\x7fELF", b"MZ", b"OggS\x00", b"ID3", b"fLaC", b"MThd\x00\x00\x00\x06",
    b"FORM", b".snd", b"\x1aE\xdf\xa3", b"\x00\x01\x00\x00\x00", b"OTTO\x00", b"ttcf\x00", b"wOFF", b"wOF2",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"SQLite format 3\x00", b"\xca\xfe\xba\xbe", b"CWS", b"FWS", b"{\\rtf",
)  # fmt: skip
"""Beginnings of documents, images, archives, programs, audio, video and fonts. Those that are letters only are taken for
binary where a byte that no text has comes soon behind them."""
_NO_TEXT_BYTE = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_LOOKED_AT = 1445
_HTML = re.compile(
    rb"<(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p)[\s>]|<!--|<\?xml[^>]{0,200}\?>\s*<(?:!doctype html|html)",
    re.IGNORECASE,
)
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")


def essence(content_type: str) -> str:
    """Return `type/subtype` of a Content-Type header, in small letters."""
    return content_type.split(";")[0].split(",")[0].strip().lower()


def charset_parameter(content_type: str) -> str | None:
    """Return the charset that a Content-Type header names, None when it names none."""
    found = re.search(r"charset\s*=\s*[\"']?\s*([^\s\"';,]+)", content_type, re.IGNORECASE)
    return found[1] if found else None


def claimed_kind(content_type: str) -> PageKind | Literal["unknown", "other"]:
    """Return what an answer says it is: a page of text, something else, or nothing."""
    kind = essence(content_type)
    return "unknown" if kind in _UNKNOWN else _KINDS.get(kind, "other")


def looks_binary(body: bytes, charset: str | None) -> bool:
    """Say whether a body is a binary format by its first bytes, or holds bytes near its beginning that no text has."""
    head = body[:_LOOKED_AT]
    if head.startswith(_WIDE_BOMS) or (
        charset is not None and charset.lower().startswith(("utf-16", "utf-32", "ucs-2"))
    ):
        return False
    if _NO_TEXT_BYTE.search(head):
        # A NUL or two in a page of text are a fault of its making; a format has them by the dozen.
        return head.startswith(_BINARY) or len(_NO_TEXT_BYTE.findall(head)) > max(1, len(head) // 100)
    return head.startswith((b"%PDF-", b"%!PS-Adobe-", b"{\\rtf", b"GIF87a", b"GIF89a"))


def looks_like_html(body: bytes) -> bool:
    """Say whether a body without a type begins as HTML does."""
    return _HTML.match(body[:_LOOKED_AT].lstrip(b"\xef\xbb\xbf \t\r\n\x0c")) is not None
