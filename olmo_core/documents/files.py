"""The files of a source: what is known of one without reading it, and the digest that comes from reading it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from olmo_core.documents.streams import HashedFile
from olmo_core.errors import InputError

Expected = Mapping[str, tuple[int, str]]
"""What an inventory says of files: size in bytes and sha256, by name."""


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file from outside, as a listing shows it."""

    name: str
    """Path relative to the source's root, with `/`; the file's identity, together with its content."""
    url: str
    """Where it lies now: an absolute local path or a URL such as s3://bucket/key. Not part of the identity."""
    size: int
    """Bytes."""
    version: str
    """Changes when the file is replaced: the ETag on S3, else the modification time in nanoseconds."""


def is_local(url: str) -> bool:
    """Say whether an address is a path on this machine."""
    return "://" not in url


def modification(status: os.stat_result) -> str:
    """Return the `version` of a local file."""
    return str(status.st_mtime_ns)


def hash_file(file: SourceFile) -> str:
    """Return the sha256 of a file's bytes, reading it once in pieces of 1 MiB.

    Raises InputError when it cannot be read or its length is not what the listing said, TransientStorageError when a
    remote store does not answer.
    """
    with HashedFile(file.url) as stream:
        size, sha256 = stream.finish()
    if size != file.size:
        raise InputError(
            f"{file.url}: the listing said {file.size} bytes, {size} were read: it changed meanwhile; run again when it is complete"
        )
    return sha256


def check_expected(file: SourceFile, size: int, sha256: str, expected: Expected | None) -> None:
    """Raise InputError when a file's bytes are not what the inventory says."""
    if expected is None:
        return
    if file.name not in expected:
        raise InputError(f"{file.url}: the inventory has no file {file.name!r}; make the inventory again")
    if (size, sha256) != expected[file.name]:
        known_size, known = expected[file.name]
        raise InputError(
            f"{file.url} changed: the inventory says {known_size} bytes, sha256 {known}; read were {size} bytes, sha256 {sha256}. "
            f"Run again when nothing writes to it any more (--rehash if its size and time are the same as before)"
        )
