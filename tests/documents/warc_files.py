"""WARC files made by hand for tests: sound, odd and broken ones, and an independent reader of their framing."""

from __future__ import annotations

import base64
import gzip
import hashlib
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import zstandard

PROSE = (
    "The ferry was late again, so the people on the quay talked about the weather, the price of diesel and the man who "
    "had once swum across on a bet. Nobody remembered his name, but everybody knew what he had won. "
)


def page(text: str = PROSE * 3, title: str = "Ferry", head: str = "") -> str:
    """Return an HTML page whose main text is `text`."""
    return (
        f"<!DOCTYPE html><html><head><title>{title}</title>{head}</head><body><nav><a href='/'>Home</a></nav>"
        f"<article><p>{text}</p></article></body></html>"
    )


def block(
    body: bytes, content_type: str | None = "text/html; charset=utf-8", status: str = "200 OK", **headers: str
) -> bytes:
    """Return an HTTP answer; keyword names have `_` for `-`."""
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"Content-Type: {content_type}"] if content_type is not None else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def sha1(data: bytes) -> str:
    """Return a digest as crawlers write it."""
    return "sha1:" + base64.b32encode(hashlib.sha1(data).digest()).decode()


def record(content: bytes, kind: str = "response", n: int = 0, **fields: str | None) -> bytes:
    """Return a WARC record without the blank lines behind it; a field that is None is left out."""
    all_fields: dict[str, str | None] = {
        "WARC_Type": kind,
        "WARC_Record_ID": f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{kind}/{n}')}>",
        "WARC_Date": "2026-11-21T10:00:00Z",
        "WARC_Target_URI": f"https://example.org/{n}",
        "Content_Type": "application/http; msgtype=response",
        "Content_Length": str(len(content)),
    } | fields
    lines = ["WARC/1.0", *(f"{k.replace('_', '-')}: {v}" for k, v in all_fields.items() if v is not None)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def response(
    html: str | bytes, n: int = 0, content_type: str | None = "text/html; charset=utf-8", **fields: Any
) -> bytes:
    """Return a record of a page that was fetched well."""
    body = html if isinstance(html, bytes) else html.encode()
    return record(block(body, content_type), n=n, **{"WARC_Payload_Digest": sha1(body), **fields})


def write(path: Path, records: Sequence[bytes], end: bytes = b"\r\n\r\n") -> Path:
    """Write records: plain, one gzip member each, or one zstd frame each, by the suffix."""
    whole = [one + end for one in records]
    if path.suffix == ".gz":
        whole = [gzip.compress(one, mtime=0) for one in whole]
    elif path.suffix == ".zst":
        whole = [zstandard.ZstdCompressor().compress(one) for one in whole]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(whole))
    return path


def minimal_records(data: bytes) -> Iterator[tuple[dict[str, str], bytes]]:
    """Yield fields and block of each record of a sound, decompressed file: the independent reader."""
    at = 0
    while at < len(data):
        end = data.index(b"\r\n\r\n", at)
        lines = data[at:end].decode().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        start = end + 4
        at = start + int(fields["content-length"])
        yield fields, data[start:at]
        at += 4
