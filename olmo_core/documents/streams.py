"""Bytes of input files: read once, hashed on the way, decompressed, with truncation and damage noticed.

Compression is by suffix (.gz, .zst, .zstd, .bz2, .xz). smart_open opens what is not local, but does not decompress:
the hash is of the stored bytes, and zstandard's own readers return what they have, silently, when a file is cut short.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import PurePosixPath
from typing import IO, Any

import zstandard
from isal import igzip, isal_zlib

from olmo_core.documents.access import reading
from olmo_core.errors import InputError

PIECE = 1 << 20
_HASHED_PIECE = 1 << 17
_ZSTD_PIECE = 1 << 14  # a run-length block turns 4 bytes into 128 KiB: small pieces bound the memory of one step
_ZSTD_WINDOW = 1 << 31  # `zstd --long=31`, as large archives use
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bzip2", ".xz": "xz"}
_DAMAGE: tuple[type[Exception], ...] = (  # type: ignore[assignment]
    EOFError,
    gzip.BadGzipFile,
    isal_zlib.IsalError,  # a class, whatever its stub says
    lzma.LZMAError,
    zstandard.ZstdError,
    OSError,
    ValueError,
)


def compression(name: str) -> str | None:
    """Return gzip, zstd, bzip2, xz or None, by the file's suffix."""
    return _SUFFIXES.get(PurePosixPath(name).suffix.lower())


class HashedFile(io.RawIOBase):
    """A file read from beginning to end once; knows the number and the sha256 of the bytes read so far."""

    def __init__(self, url: str) -> None:
        """Open a local path or a URL. Raises InputError or TransientStorageError."""
        super().__init__()
        self.url = url
        self.position = 0
        self._digest = hashlib.sha256()
        self._all_read = False
        with reading(url, "open"):
            self._raw = _open(url)
            self._status = self._local_status()

    def readable(self) -> bool:
        """Return True: the stream is for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read up to `len(buffer)` bytes; 0 at the end."""
        with reading(self.url):
            count: int = self._raw.readinto(buffer)
        self._count(memoryview(buffer)[:count])
        return count

    def readall(self) -> bytes:
        """Read what is left at once."""
        with reading(self.url):
            data: bytes = self._raw.read()
        self._count(data)
        return data

    def random_access(self) -> IO[bytes]:
        """Read and hash the whole file, then return it for reading at any place; the caller closes it.

        A local file is read a second time through the same descriptor; any other is copied to an unnamed temporary file
        while it is hashed, so that the bytes used are the bytes hashed.
        """
        if self._status is not None:
            self.finish()
            handle = os.fdopen(os.dup(self._raw.fileno()), "rb")
            handle.seek(0)
            return handle
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        try:
            while piece := self.read(PIECE):
                copy.write(piece)
            self.finish()
            copy.seek(0)
        except BaseException:
            copy.close()
            raise
        return copy

    def finish(self) -> tuple[int, str]:
        """Read what is left, and return the file's size and sha256.

        Raises InputError when a local file was written to since it was opened.
        """
        rest = bytearray(0 if self._all_read else PIECE)
        while not self._all_read and self.readinto(rest):
            pass
        self._all_read = True
        if self._local_status() != self._status:
            raise InputError(
                f"{self.url} changed while it was being read; run again when nothing writes to it any more"
            )
        return self.position, self._digest.hexdigest()

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._raw.close()
        super().close()

    def _count(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        self.position += len(data)

    def _local_status(self) -> tuple[int, int] | None:
        if "://" in self.url:
            return None
        status = os.fstat(self._raw.fileno())
        return status.st_size, status.st_mtime_ns


def _open(url: str) -> Any:
    if "://" not in url:
        return open(url, "rb", buffering=0)
    import smart_open  # here: local reading needs no cloud packages

    parameters = {"client": _s3_client()} if url.startswith("s3://") else {}
    return smart_open.open(url, "rb", compression="disable", transport_params=parameters)


@cache
def _s3_client() -> Any:
    import boto3  # here: local reading needs no cloud packages

    # A session of its own: files are opened from several threads, and boto3's default session must not be.
    return boto3.session.Session().client("s3")


def decompressed(stream: HashedFile, name: str) -> Iterator[bytes]:
    """Yield the content of a file, decompressed as its suffix says, in pieces of about 1 MiB.

    Several gzip members, zstd frames, bzip2 or xz streams behind one another are one file, as the tools have it; gzip
    and xz may be followed by zero bytes. Raises InputError, naming the position, when compressed data is truncated,
    damaged (a checksum fails) or, for gzip and zstd, followed by something else; when a compressed file has no bytes at
    all (an interrupted download, while an empty plain file is legal); and when suffix and content disagree.
    """
    codec = compression(name)
    buffered = io.BufferedReader(stream, PIECE)
    try:
        _check_magic(buffered.peek(6)[:6], stream.url, codec)
        made = 0
        pieces = _pieces(buffered, codec)
        while True:
            try:
                piece = next(pieces, None)
            except _DAMAGE as error:
                # isal keeps back what it had decompressed of the last piece: its number would be wrong.
                counted = codec != "gzip"
                if isinstance(error, EOFError):
                    where = f"truncated: it ends after {stream.position} compressed bytes"
                    where += f", which give {made} decompressed bytes" if counted else ""
                else:
                    where = f"damaged somewhere before compressed byte {stream.position}"
                    where += f", after {made} good decompressed bytes" if counted else ""
                raise InputError(f"{stream.url}: {codec} data is {where} ({error}); get the file again") from error
            if piece is None:
                return
            made += len(piece)
            yield piece
    finally:
        buffered.detach()


def content_filler(stream: HashedFile, name: str) -> Callable[[memoryview], int]:
    """Return a function that writes a file's next bytes, decompressed, into a buffer; it returns 0 at the end.

    As `decompressed`, and raises as that does; bytes of a file that is not compressed are read to where they are wanted.
    """
    if compression(name) is not None:
        return pieces_filler(decompressed(stream, name))
    checked = False

    def fill(buffer: memoryview) -> int:
        nonlocal checked
        count = 0
        # A piece at a time, so that it is in the core's cache when it is hashed.
        while count < len(buffer) and (more := stream.readinto(buffer[count : count + _HASHED_PIECE])):
            count += more
        if not checked:
            checked = True
            _check_magic(bytes(buffer[: min(count, 6)]), stream.url, None)
        return count

    return fill


def pieces_filler(pieces: Iterable[bytes]) -> Callable[[memoryview], int]:
    """Return a function that fills buffers from pieces of any size."""
    iterator = iter(pieces)
    rest = memoryview(b"")

    def fill(buffer: memoryview) -> int:
        nonlocal rest
        while not rest:
            piece = next(iterator, None)
            if piece is None:
                return 0
            rest = memoryview(piece)
        size = min(len(buffer), len(rest))
        buffer[:size] = rest[:size]
        rest = rest[size:]
        return size

    return fill


def _check_magic(head: bytes, url: str, codec: str | None) -> None:
    if not head:
        if codec:
            raise InputError(
                f"{url}: 0 bytes is not even an empty {codec} file: an interrupted download? Get the file again"
            )
        return
    found = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if codec is None and found:
        raise InputError(
            f"{url}: holds {found} data but its name does not say so; give it the suffix of its compression"
        )
    if codec and found != codec and not (codec == "zstd" and head[1:4] == b"\x2a\x4d\x18"):
        raise InputError(
            f"{url}: is not {codec} data, whatever its name says (it begins with {head!r}); correct its name, or get it again"
        )


def _pieces(buffered: io.BufferedReader[HashedFile], codec: str | None) -> Iterator[bytes]:
    if codec == "zstd":
        yield from _gathered(_zstd_pieces(buffered))
        return
    opened: Any = buffered
    if codec == "gzip":
        opened = igzip.IGzipFile(fileobj=buffered)  # type: ignore[no-untyped-call]
    elif codec == "bzip2":
        opened = bz2.BZ2File(buffered)
    elif codec == "xz":
        opened = lzma.LZMAFile(buffered)  # noqa: SIM115 - owns nothing
    # read1: what comes before a cut or damaged place is had, and counted; read would lose up to a whole piece of it.
    yield from _gathered(iter(lambda: opened.read1(PIECE), b""))


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield pieces joined to about 1 MiB; what came before an error is yielded before the error is raised."""
    some: list[bytes] = []
    size = 0
    try:
        for piece in pieces:
            some.append(piece)
            size += len(piece)
            if size >= PIECE:
                yield b"".join(some)
                some, size = [], 0
    except _DAMAGE:
        if some:
            yield b"".join(some)
        raise
    if some:
        yield b"".join(some)


def _zstd_pieces(buffered: io.BufferedReader[HashedFile]) -> Iterator[bytes]:
    """Decompress frame after frame; the frame that the file's end cuts is an EOFError."""
    context = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    frame: Any = None
    while data := buffered.read(_ZSTD_PIECE):
        while data:
            frame = frame or context.decompressobj()
            yield frame.decompress(data)
            data = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("the last zstd frame has no end")
