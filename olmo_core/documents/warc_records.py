"""The records of a WARC file (ISO 28500, 1.0 and 1.1), one after another, in bounded memory.

warcio parses the headers; the framing is ours, because warcio's iterator takes a damaged gzip member for the end of the
file, stops at the first record whose length is wrong, and reads headers of any length. Here a record that cannot be true
is handed over with its fault, and reading goes on at the next one.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from warcio.statusandheaders import StatusAndHeaders, StatusAndHeadersParser

from olmo_core.documents.schema import RAW_BYTES
from olmo_core.errors import InputError

MOST_HEADER = 1 << 18
"""Bytes of a record's header at most, and of the HTTP header in it: addresses and cookies are long, but not this long."""
_VERSIONS = ["WARC/1.1", "WARC/1.0", "WARC/0.18", "WARC/0.17"]
_START = re.compile(rb"(?:\A|\n)WARC/[01]\.\d\d?\r?\n")
_LATER_START = re.compile(rb"\nWARC/[01]\.\d\d?\r?\n")
_LONGEST_START = 12
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_PIECE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class WarcRecord:
    """One record, or bytes that should be one."""

    number: int
    """From 1."""
    offset: int
    """Where it begins in the decompressed file."""
    size: int
    """Bytes from there to the end of its block, without the blank lines that follow."""
    headers: StatusAndHeaders
    """Its named fields; empty when they cannot be read."""
    block: bytes
    """The beginning of its block, as long as was asked for."""
    length: int
    """Bytes of the whole block."""
    fault: str | None
    """What is wrong with it, None for a sound record."""
    raw: bytes
    """Its first `RAW_BYTES` bytes."""

    def header(self, name: str) -> str:
        """Return the value of a named field without white space around it, empty when it is missing."""
        return (self.headers.get_header(name) or "").strip()


class _Pieces:
    """A stream of bytes with look-ahead: knows its offset, and takes bytes back."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._source = iter(pieces)
        self._held = b""
        self._at = 0
        self.offset = 0

    def _more(self) -> bool:
        piece = next(self._source, None)
        if piece is None:
            return False
        self._held = self._held[self._at :] + piece
        self._at = 0
        return True

    def peek(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end of the file, without taking them."""
        while len(self._held) - self._at < size and self._more():
            pass
        return self._held[self._at : self._at + size]

    def take(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end of the file."""
        parts: list[bytes] = []
        while size:
            part = self._held[self._at : self._at + size]
            if not part:
                if not self._more():
                    break
                continue
            parts.append(part)
            self._at += len(part)
            self.offset += len(part)
            size -= len(part)
        return b"".join(parts)

    def skip(self, size: int) -> int:
        """Pass over bytes; returns how many there were."""
        left = size
        while left:
            passed = len(self.take(min(left, _PIECE)))
            if not passed:
                break
            left -= passed
        return size - left

    def back(self, data: bytes) -> None:
        """Take back what was read last."""
        self._held = data + self._held[self._at :]
        self._at = 0
        self.offset -= len(data)

    def until(self, pattern: re.Pattern[bytes], most: int) -> bytes | None:
        """Take and return everything up to the end of the first match within `most` bytes; None when there is none."""
        size = 1 << 11
        while True:
            seen = self.peek(min(size, most))
            found = pattern.search(seen)
            if found:
                return self.take(found.end())
            if len(seen) < size:
                return None
            size *= 2


def warc_record_stream(
    pieces: Iterable[bytes], url: str, *, ends_checked: bool, hold: Callable[[StatusAndHeaders], int]
) -> Iterator[WarcRecord]:
    """Yield the records of a decompressed file; of each block the first `hold(headers)` bytes are kept.

    A record whose header cannot be read, or behind whose block no other one begins, has a `fault`; reading goes on at
    the next line that looks like the beginning of a record. Raises InputError when the file does not begin as a WARC
    file does, and when it ends within a record although nothing else would have noticed that it was cut
    (`ends_checked` is False: it is not compressed).
    """
    stream = _Pieces(pieces)
    number = 0
    while True:
        stream.take(_blank(stream))
        head = stream.peek(RAW_BYTES)
        if not head:
            return
        if number == 0 and not head.startswith(b"WARC/"):
            raise InputError(
                f"{url}: is no WARC file: it begins with {head[:20]!r}; name another kind of source, or correct the paths"
            )
        number += 1
        yield _record(stream, number, head, url, ends_checked, hold)


def _record(
    stream: _Pieces,
    number: int,
    raw: bytes,
    url: str,
    ends_checked: bool,
    hold: Callable[[StatusAndHeaders], int],
) -> WarcRecord:
    offset = stream.offset
    headers, fault = _headers(stream)
    block, length = b"", 0
    if fault is None:
        fault, length = _length(headers)
    if fault is None:
        block = stream.take(min(length, hold(headers)))
        there = len(block) + stream.skip(length - len(block))
        if there < length and not ends_checked:
            raise InputError(
                f"{url}: ends {length - there} bytes before record {number} (at byte {offset}) does, going by its "
                f"Content-Length: an interrupted download? Get the file again"
            )
        if there < length:
            fault = f"its Content-Length is {length}, but the file ends after {there} bytes of it"
        elif not _at_boundary(stream):
            fault = f"no record begins where it should end: its Content-Length, {length}, is wrong"
        if fault is not None and there == len(block):
            stream.back(block)  # the next record may have begun in what was taken for this one's block
    if fault is not None:
        _to_next(stream)
        block = b""
    size = stream.offset - offset
    return WarcRecord(
        number=number,
        offset=offset,
        size=size,
        headers=headers,
        block=block,
        length=length,
        fault=fault,
        raw=raw[:size],
    )


def _headers(stream: _Pieces) -> tuple[StatusAndHeaders, str | None]:
    nothing = StatusAndHeaders("", [], "")
    if not stream.peek(5).startswith(b"WARC/"):
        return nothing, "it does not begin with WARC/ and a version"
    head = stream.until(_HEADER_END, MOST_HEADER)
    if head is None:
        stream.take(5)  # or it would be found again as the next record
        return nothing, f"its header has no end within {MOST_HEADER} bytes"
    headers = StatusAndHeadersParser(_VERSIONS, verify=False).parse(io.BytesIO(head))
    if headers.protocol.upper() not in _VERSIONS:
        return headers, f"its version is {headers.protocol[:20]!r}; known are {', '.join(_VERSIONS)}"
    return headers, None


def _length(headers: StatusAndHeaders) -> tuple[str | None, int]:
    declared = headers.get_header("Content-Length")
    if declared is None:
        return "it has no Content-Length", 0
    # int() takes signs, underscores and the digits of all scripts
    if not re.fullmatch(r"[0-9]{1,15}", declared.strip()):
        return f"its Content-Length is {declared[:40]!r}", 0
    return None, int(declared)


def _blank(stream: _Pieces) -> int:
    """Return how many bytes of line ends come next."""
    size = 16
    while True:
        seen = stream.peek(size)
        blank = len(seen) - len(seen.lstrip(b"\r\n"))
        if blank < len(seen) or len(seen) < size:
            return blank
        size *= 2


def _at_boundary(stream: _Pieces) -> bool:
    """Say whether line ends and another record come next, or the end of the file."""
    blank = _blank(stream)
    following = stream.peek(blank + 5)[blank:]
    return not following or (blank > 0 and following == b"WARC/")


def _to_next(stream: _Pieces) -> None:
    """Pass over bytes until a record begins: here, when the faulty one's header was all of it, or at a later line."""
    first = True
    while True:
        seen = stream.peek(_PIECE)
        found = (_START if first else _LATER_START).search(seen)
        if found:
            stream.take(found.end() - len(found[0].lstrip(b"\n")))
            return
        first = False
        if len(seen) < _PIECE:
            stream.take(len(seen))
            return
        stream.take(_PIECE - _LONGEST_START)
