"""Bodies of HTTP answers: chunks, content encodings, bombs, digests."""

from __future__ import annotations

import base64
import gzip
import hashlib
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from olmo_core.documents.http_payload import (
    PayloadError,
    PayloadTooLarge,
    dechunked,
    digest_matches,
    split_http,
    unpacked,
)

DATA = b"The quick brown fox. " * 500
LIMIT = 1 << 20


def raw_deflate(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(data) + deflate.flush()


def by_brotli(data: bytes) -> bytes:
    brotli = pytest.importorskip("brotli", reason="brotli is not installed here")
    packed: bytes = brotli.compress(data)
    return packed


ENCODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "two members": ("gzip", lambda d: gzip.compress(d[:100]) + gzip.compress(d[100:])),
    "deflate": ("Deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "zstd": ("zstd", zstandard.ZstdCompressor().compress),
    "br": ("br", by_brotli),
    "both": ("deflate, gzip", lambda d: gzip.compress(zlib.compress(d))),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_content_encodings(name: str) -> None:
    label, pack = ENCODINGS[name]
    packed = pack(DATA)
    assert unpacked(packed, label, LIMIT, cut=False) == DATA
    with pytest.raises(PayloadTooLarge, match="more than 5000 bytes"):
        unpacked(packed, label, 5000, cut=False)
    cut = packed[: len(packed) // 2]
    with pytest.raises(PayloadError, match="content encoding"):
        unpacked(cut, label, LIMIT, cut=False)
    part = unpacked(cut, label, LIMIT, cut=True)
    assert DATA.startswith(part)


@pytest.mark.parametrize(
    "pack",
    [
        lambda data: gzip.compress(data),
        lambda data: zstandard.ZstdCompressor().compress(data),
        lambda data: gzip.compress(gzip.compress(data)),
    ],
)
def test_a_bomb_is_noticed_before_it_fills_the_memory(pack: Callable[[bytes], bytes]) -> None:
    """100 MB of zeros in some hundred kB or less; the peak stays far below."""
    import tracemalloc

    packed = pack(bytes(100_000_000))
    label = "zstd" if packed.startswith(b"\x28") else "gzip" if len(packed) > 10_000 else "gzip, gzip"
    tracemalloc.start()
    with pytest.raises(PayloadTooLarge):
        unpacked(packed, label, LIMIT, cut=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000


def test_half_a_million_empty_gzip_members_are_soon_through() -> None:
    assert unpacked(gzip.compress(b"") * 100_000, "gzip", LIMIT, cut=False) == b""


def test_a_body_stored_unpacked_with_its_old_header_is_taken_as_it_is() -> None:
    assert unpacked(b"<html>", "gzip", LIMIT, cut=False) == b"<html>"
    assert unpacked(b"<html>", "zstd", LIMIT, cut=False) == b"<html>"
    assert unpacked(b"<html>", "identity", LIMIT, cut=False) == b"<html>"
    assert dechunked(b"<html>", cut=False) == b"<html>"


@pytest.mark.parametrize("label", ["rot13", "compress", ",".join(["gzip"] * 10)])
def test_an_unknown_encoding_is_an_error(label: str) -> None:
    with pytest.raises(PayloadError):
        unpacked(b"\x1f\x8bdata", label, LIMIT, cut=False)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.booleans())
def test_chunks_are_joined(chunks: list[bytes], extended: bool) -> None:
    sent = b"".join(b"%x%s\r\n%s\r\n" % (len(c), b";a=b" if extended else b"", c) for c in chunks) + b"0\r\n\r\n"
    assert dechunked(sent, cut=False) == b"".join(chunks)


def test_chunks_that_are_not_what_they_say() -> None:
    good = b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"
    assert dechunked(good[:-5], cut=False) == b"helloworld"  # the server closed the connection instead
    with pytest.raises(PayloadError, match="chunk of 5 bytes has 2"):
        dechunked(good[:15], cut=False)
    assert dechunked(good[:15], cut=True) == b"hellowo"
    with pytest.raises(PayloadError, match="byte 10 of the body begins no chunk"):
        dechunked(good.replace(b"5\r\nworld", b"zz\r\nworld"), cut=False)


def test_digests() -> None:
    sha1 = hashlib.sha1(DATA)
    for written in (
        "sha1:" + base64.b32encode(sha1.digest()).decode(),
        "SHA-1:" + base64.b32encode(sha1.digest()).decode().lower(),
        "sha1:" + sha1.hexdigest(),
        "sha256:" + hashlib.sha256(DATA).hexdigest(),
        "sha-256:" + base64.b32encode(hashlib.sha256(DATA).digest()).decode().rstrip("="),
        "md5:" + hashlib.md5(DATA).hexdigest(),
    ):
        assert digest_matches(written, lambda: DATA) is True
        assert digest_matches(written, lambda: b"other", lambda: DATA) is True
        assert digest_matches(written, lambda: b"other") is False
    for unknown in ("", "crc32:00000000", "sha1:", "sha1:!!!!", "sha1:ABCD", "no digest"):
        assert digest_matches(unknown, lambda: DATA) is None


def test_http_answers() -> None:
    found = split_http(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody\r\n\r\nmore")
    assert found is not None
    assert (found[0].get_statuscode(), found[0].get_header("a"), found[1]) == ("200", "b", b"body\r\n\r\nmore")
    found = split_http(b"HTTP/2 301\nLocation: x\n\n")
    assert found is not None and (found[0].get_statuscode(), found[1]) == ("301", b"")
    assert split_http(b"<html>HTTP/1.1 200 OK\r\n\r\n") is None
    assert split_http(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000 + b"\r\n\r\nbody") is None
