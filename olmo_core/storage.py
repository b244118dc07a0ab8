"""One small wrapper over object stores and folders: `file`, `s3` and `memory` by one code path.

Everything is addressed by a path relative to the store's root. What holds for each kind of store:

- `put` and `writer` publish atomically: a reader sees the whole object or none;
- `put_if_absent` decides a race: exactly one caller wins, and each learns the truth (local: `os.link`; S3: PutObject
  with If-None-Match `*`, and a mark that tells one's own success when the answer was lost);
- what one process has done, the next question of any other sees: nothing is cached;
- errors are told apart: StorageError says what to do, TransientStorageError is worth another try.

Credentials and endpoints come from the environment only (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from olmo_core.errors import OlmoError, StorageError
from olmo_core.redaction import SHOWN, has_user
from olmo_core.storage_errors import storage_error
from olmo_core.storage_folder import TEMPORARY, Backend, Folder, Memory
from olmo_core.storage_s3 import Bucket

_READ_AHEAD = 1 << 20
"""Bytes of a file's buffer where every read is a request."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One object found by a listing: path relative to the store's root, size in bytes, modification time in seconds."""

    path: str
    size: int
    modified: float


@dataclass(kw_only=True)
class Written:
    """What a `writer` has published: size in bytes and sha256, known once its block has ended."""

    path: str
    size: int = 0
    sha256: str = ""


class Storage:
    """The objects below one root URI (`/data/store`, `file:///data/store`, `s3://bucket/prefix`, `memory://name`)."""

    def __init__(self, uri: str) -> None:
        """Open the store at `uri`; nothing is created or contacted yet. Raises StorageError for an unknown scheme."""
        protocol, _, rest = uri.partition("://") if "://" in uri else ("file", "", uri)
        if protocol not in ("file", "s3", "memory"):
            raise StorageError(
                f"store {uri!r}: scheme {protocol!r} is not known; use a folder, s3://bucket/prefix or memory://name"
            )
        if has_user(uri) or (protocol == "s3" and ":" in rest.partition("/")[0]):
            raise StorageError(
                f"store {protocol}://{SHOWN} holds a user name or password: they would be seen in logs and manifests. Give s3://bucket/prefix, "
                f"and the credentials in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or in a Prefect block"
            )
        if not rest.strip("/"):
            raise StorageError(f"store {uri!r} names no folder or bucket")
        self.protocol = protocol
        self._root = str(Path(rest).expanduser().absolute()) if protocol == "file" else rest.strip("/")
        self.uri = self._root if protocol == "file" else f"{protocol}://{self._root}"
        kinds: dict[str, type[Folder] | type[Memory] | type[Bucket]] = {"file": Folder, "memory": Memory, "s3": Bucket}
        self._backend: Backend = kinds[protocol](self._root)

    def __repr__(self) -> str:
        return f"Storage({self.uri!r})"

    def __reduce__(self) -> tuple[type[Storage], tuple[str]]:
        return Storage, (self.uri,)

    def url(self, path: str = "") -> str:
        """Return the address of an object for people and for other programs."""
        return f"{self.uri}/{path}" if path else self.uri

    def bucket_key(self, path: str) -> tuple[str, str]:
        """Return the bucket and the key of an object of an S3 store."""
        bucket, _, key = self.url(path).removeprefix("s3://").partition("/")
        return bucket, key

    def web_address(self, path: str) -> str | None:
        """Return an object's address for a browser, unsigned; None where the store has none (folders, memory)."""
        if self.protocol != "s3":
            return None
        bucket, key = self.bucket_key(path)
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        base = f"{endpoint.rstrip('/')}/{bucket}" if endpoint else f"https://{bucket}.s3.amazonaws.com"
        return f"{base}/{quote(key)}"

    # reading
    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return the bytes of an object, or `length` bytes from `start`. Raises StorageError when it is not there."""
        if length == 0:
            return b""  # a range of no bytes cannot be asked for: S3 would send the whole object
        with self._errors("read", path):
            return self._backend.read(path, start, length)

    def open(self, path: str) -> IO[bytes]:
        """Return a seekable file object for reading."""
        with self._errors("open", path):
            return self._backend.open(path) or io.BufferedReader(_RangeReader(self, path), _READ_AHEAD)

    def exists(self, path: str) -> bool:
        """Say whether an object is there; asks the store, never a cache."""
        return self.size(path) is not None

    def size(self, path: str) -> int | None:
        """Return an object's size in bytes, or None when it is not there."""
        with self._errors("look for", path):
            return self._backend.size(path)

    def walk(self, prefix: str) -> Iterator[Listed]:
        """Yield the objects below the folder `prefix`, in order of path; unfinished temporary files are left out."""
        with self._errors("list", prefix):
            found = sorted(self._backend.walk(prefix))
        for path, size, modified in found:
            yield Listed(path=path, size=size, modified=modified)

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly below `prefix`, sorted."""
        return self.contents(prefix)[0]

    def contents(self, prefix: str) -> tuple[list[str], dict[str, Listed]]:
        """Return the folders, sorted, and, by name, the objects directly below `prefix`: one request for both."""
        with self._errors("list", prefix):
            folders, found = self._backend.contents(prefix)
        objects = {path.rsplit("/", 1)[-1]: Listed(path=path, size=size, modified=at) for path, size, at in found}
        return sorted(folders), objects

    def is_there(self) -> bool:
        """Say whether the store has anything at all: its folder exists, or an object below its prefix.

        Raises StorageError when a bucket does not exist.
        """
        if self.protocol == "file":
            return os.path.isdir(self._root)
        folders, objects = self.contents("")
        return bool(folders or objects)

    # writing
    def put(self, path: str, data: bytes) -> Written:
        """Publish `data` at `path` atomically, replacing what is there."""
        with self.writer(path) as (handle, written):
            handle.write(data)
        return written

    @contextlib.contextmanager
    def writer(self, path: str) -> Iterator[tuple[IO[bytes], Written]]:
        """Write an object of any size; it appears at `path`, whole, when the block ends without an error.

        Yields a file object open for writing and a `Written` whose size and sha256 are filled in at the end.
        """
        written = Written(path=path)
        with self._errors("write", path):
            descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, dir=self._backend.staging(path))
            try:
                with os.fdopen(descriptor, "w+b") as raw:
                    hashing = _HashingWriter(raw)
                    yield hashing, written  # type: ignore[misc]
                    raw.flush()
                    written.size, written.sha256 = hashing.size, hashing.digest.hexdigest()
                    self._backend.publish(raw, name, path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Publish `data` at `path` unless something is there; True when it is this call's object that is there.

        When it raises TransientStorageError, nobody knows: the object may be there, and a later call tells.
        """
        with self._errors("write", path):
            return self._backend.put_if_absent(path, data)

    def delete(self, path: str) -> None:
        """Remove an object; it is no error when it is not there."""
        with self._errors("delete", path):
            self._backend.delete(path)

    @contextlib.contextmanager
    def _errors(self, action: str, path: str) -> Iterator[None]:
        try:
            yield
        except OlmoError:
            raise
        except Exception as error:
            made = storage_error(error, f"cannot {action} {self.url(path)}")
            if made is None:
                raise
            raise made from error


class _RangeReader(io.RawIOBase):
    """An object as a file without a buffer: every read is one request, with the store's own errors."""

    def __init__(self, storage: Storage, path: str) -> None:
        size = storage.size(path)
        if size is None:
            raise FileNotFoundError(path)
        self._storage, self._path, self._size, self._position = storage, path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._next(self._size)

    def _next(self, most: int) -> bytes:
        length = max(0, min(most, self._size - self._position))
        data = self._storage.read(self._path, start=self._position, length=length) if length else b""
        self._position += len(data)
        return data


class _HashingWriter(io.RawIOBase):
    """Passes bytes through to a file and hashes them on the way."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.digest = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._raw.write(view)
        self.digest.update(view)
        self.size += len(view)
        return len(view)

    def tell(self) -> int:
        return self.size
