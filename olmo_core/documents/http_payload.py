"""The body of an HTTP answer in a WARC record: unpacked within a limit, and compared with the record's digest."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import zstandard
from warcio.statusandheaders import StatusAndHeaders, StatusAndHeadersParser

from olmo_core.documents.warc_records import MOST_HEADER
from olmo_core.errors import AssetError

_STEP = 1 << 12
"""Bytes decompressed at once: deflate makes at most 1,032 times as many of them, so a bomb is noticed early."""
_ZSTD_STEP = 1 << 8  # a block of 4 bytes makes 128 KiB
_BROTLI_STEP = 1 << 20  # of output
_MOST_ENCODINGS = 4
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_MAGIC = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
_NAMES = {"x-gzip": "gzip", "x-compress": "compress"}
_DIGEST_SIZES = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64}


class PayloadError(ValueError):
    """A body that is not packed the way its headers say."""


class PayloadTooLarge(ValueError):
    """A body that is longer than the limit once it is unpacked."""


def split_http(block: bytes) -> tuple[StatusAndHeaders, bytes] | None:
    """Return status and headers of an HTTP answer, and its body as it was sent; None when it does not begin as one."""
    if not re.match(rb"HTTP/\d", block):
        return None
    end = _HEADER_END.search(block, 0, MOST_HEADER)
    if end is None and len(block) > MOST_HEADER:
        return None
    head = block[: end.end()] if end else block
    parsed = StatusAndHeadersParser(["HTTP/1.0", "HTTP/1.1"], verify=False).parse(io.BytesIO(head))
    return parsed, block[len(head) :]


def dechunked(body: bytes, *, cut: bool) -> bytes:
    """Return a body without the lengths of chunked transfer encoding.

    One that does not begin with a chunk's length is returned as it is: many crawlers store it without them and keep the
    header. With `cut` (the crawler says it did not get all) the end may be missing. Raises PayloadError when a later
    length is missing or wrong.
    """
    first = _CHUNK_SIZE.match(body)
    if first is None:
        return body
    chunks: list[bytes] = []
    at = 0
    while True:
        found = _CHUNK_SIZE.match(body, at)
        if found is None:
            if cut or (chunks and at >= len(body)):
                # Servers that close the connection instead of sending the last, empty chunk are common.
                break
            raise PayloadError(f"chunked transfer encoding: byte {at} of the body begins no chunk")
        size = int(found[1], 16)
        if size == 0:
            break
        chunk = body[found.end() : found.end() + size]
        chunks.append(chunk)
        if len(chunk) < size and not cut:
            raise PayloadError(f"chunked transfer encoding: a chunk of {size} bytes has {len(chunk)}")
        at = found.end() + size
        at += 2 if body[at : at + 2] == b"\r\n" else body[at : at + 1] == b"\n"
    return b"".join(chunks)


def unpacked(body: bytes, encodings: str, limit: int, *, cut: bool) -> bytes:
    """Return a body without its content encodings (gzip, deflate, br, zstd; several, divided by commas).

    One that does not begin as its encoding does is returned as it is: many crawlers store it unpacked and keep the
    header. With `cut` the end may be missing. Raises PayloadTooLarge as soon as there are more than `limit` bytes,
    PayloadError for damaged data and for encodings that are not known.
    """
    applied = [one.strip().lower() for one in encodings.split(",")]
    if len(applied) > _MOST_ENCODINGS:
        raise PayloadError(f"{len(applied)} content encodings on top of each other")
    for written in reversed(applied):
        encoding = _NAMES.get(written, written)
        if encoding in ("", "identity", "none", "utf-8") or not body:
            continue
        if encoding in _MAGIC and not body.startswith(_MAGIC[encoding]):
            continue
        try:
            body = _bounded(_steps(encoding, body, cut), limit)
        except (zlib.error, zstandard.ZstdError, EOFError) as error:
            raise PayloadError(f"content encoding {encoding}: {error}") from None
    return body


def _bounded(pieces: Iterator[bytes], limit: int) -> bytes:
    made: list[bytes] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise PayloadTooLarge(f"more than {limit} bytes once it is unpacked")
        made.append(piece)
    return b"".join(made)


def _steps(encoding: str, body: bytes, cut: bool) -> Iterator[bytes]:
    if encoding == "gzip":
        return _inflated(body, 31, cut)
    if encoding == "deflate":
        # The standard means zlib's format, some servers send it without zlib's header.
        try:
            zlib.decompressobj().decompress(body[:_STEP], 1)
        except zlib.error:
            return _inflated(body, -15, cut)
        return _inflated(body, 15, cut)
    if encoding == "zstd":
        return _zstd(body, cut)
    if encoding == "br":
        return _brotli(body, cut)
    raise PayloadError(f"content encoding {encoding[:40]!r} is not known; known are gzip, deflate, br and zstd")


def _inflated(body: bytes, window: int, cut: bool) -> Iterator[bytes]:
    """Decompress deflate data; further gzip members are part of it, other bytes behind it are not."""
    at = 0
    while True:
        inflate = zlib.decompressobj(window)
        while not inflate.eof:
            data = body[at : at + _STEP]
            try:
                piece = inflate.decompress(data)
            except zlib.error:
                if cut:
                    return
                raise
            if not data and not inflate.eof:
                if cut:
                    return
                raise EOFError("the data is cut short")
            at += len(data) - len(inflate.unused_data)
            yield piece
        if window != 31 or body[at : at + 2] != _MAGIC["gzip"]:
            return


def _zstd(body: bytes, cut: bool) -> Iterator[bytes]:
    # RFC 8878 lets a browser refuse windows over 8 MiB.
    frame = zstandard.ZstdDecompressor(max_window_size=1 << 23).decompressobj()
    for at in range(0, len(body), _ZSTD_STEP):
        try:
            yield frame.decompress(body[at : at + _ZSTD_STEP])
        except zstandard.ZstdError:
            if cut:
                return
            raise
        if frame.eof:
            return
    if not cut:
        raise EOFError("the data is cut short")


def _brotli(body: bytes, cut: bool) -> Iterator[bytes]:
    try:
        import brotli  # here: few archives need it
    except ImportError:
        raise AssetError(
            "a page is packed with br: `pip install brotli`, which is part of olmo-flows[curation]"
        ) from None
    unpack: Any = brotli.Decompressor()
    data = body
    while not unpack.is_finished():
        try:
            piece = unpack.process(data, output_buffer_limit=_BROTLI_STEP)
        except brotli.error as error:
            if cut:
                return
            raise PayloadError(f"content encoding br: {error}") from None
        data = b""
        if not piece and unpack.can_accept_more_data() and not unpack.is_finished():
            if cut:
                return
            raise EOFError("the data is cut short")
        yield piece


def digest_matches(declared: str, *candidates: Callable[[], bytes]) -> bool | None:
    """Say whether a digest such as `sha1:LGEVYOXKUFJKDTK5U4IEQ4XRYNUD3P4H` is that of one of the candidates.

    None when it cannot be checked: an algorithm that is not known, or no digest in base32 or hexadecimal.
    """
    label, _, value = declared.partition(":")
    algorithm = label.strip().lower().replace("-", "")
    expected = _digest_bytes(algorithm, value.strip())
    if expected is None:
        return None
    return any(hashlib.new(algorithm, one()).digest() == expected for one in candidates)


def _digest_bytes(algorithm: str, value: str) -> bytes | None:
    size = _DIGEST_SIZES.get(algorithm)
    if size is None:
        return None
    try:
        if len(value) == 2 * size:
            return bytes.fromhex(value)
        decoded = base64.b32decode(value.rstrip("=").upper() + "=" * (-len(value.rstrip("=")) % 8))
    except (ValueError, binascii.Error):
        return None
    return decoded if len(decoded) == size else None
