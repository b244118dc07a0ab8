"""One small wrapper over object stores and folders: `file`, `s3` and `memory` by one code path.

Everything is addressed by a path relative to the store's root. What the store adds to fsspec:

- `put` and `writer` publish atomically: a reader sees the whole object or none;
- `put_if_absent` decides a race: exactly one caller wins (local: `os.link`; S3: PutObject with If-None-Match `*`);
- errors are told apart: StorageError says what to do, TransientStorageError is worth another try.

Credentials and endpoints come from the environment only (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import fsspec

from olmo_core.errors import OlmoError, StorageError
from olmo_core.redaction import SHOWN, has_user
from olmo_core.storage_errors import CUT, check_endpoint, signs_of, storage_error

_ABSENT = (FileNotFoundError, NotADirectoryError)
_S3_OPTIONS = {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 5, "mode": "standard"}}
"""Seconds, and attempts in all: a store that is down is given up after some seconds, one that hangs after some minutes."""
_S3_BUFFER = 1 << 20
_memory_lock = threading.Lock()


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

    def __repr__(self) -> str:
        return f"Storage({self.uri!r})"

    def __reduce__(self) -> tuple[type[Storage], tuple[str]]:
        return Storage, (self.uri,)

    @property
    def _fs(self) -> Any:
        return _filesystem(self.protocol)

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def url(self, path: str = "") -> str:
        """Return the address of an object for people and for other programs."""
        return f"{self.uri}/{path}" if path else self.uri

    def web_address(self, path: str) -> str | None:
        """Return an object's address for a browser, unsigned; None where the store has none (folders, memory)."""
        if self.protocol != "s3":
            return None
        bucket, key = self._bucket_key(path)
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        base = f"{endpoint.rstrip('/')}/{bucket}" if endpoint else f"https://{bucket}.s3.amazonaws.com"
        return f"{base}/{quote(key)}"

    # reading
    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return the bytes of an object, or `length` bytes from `start`. Raises StorageError when it is not there."""
        if length == 0:
            return b""  # a range of no bytes cannot be asked for: S3 would send the whole object
        with self._errors("read", path):
            end = None if length is None else start + length
            try:
                data: bytes = self._fs.cat_file(self._full(path), start=start or None, end=end)
            except Exception as error:
                signs = signs_of(error)
                if "InvalidRange" in signs:  # S3 refuses a range that begins at the end or behind it
                    return b""
                if not signs & CUT:
                    raise
                data = self._fs.cat_file(self._full(path), start=start or None, end=end)
            return data

    def open(self, path: str) -> IO[bytes]:
        """Return a seekable file object for reading."""
        with self._errors("open", path):
            if self.protocol == "s3":
                return io.BufferedReader(_RangeReader(self, path), _S3_BUFFER)
            handle: IO[bytes] = self._fs.open(self._full(path), "rb")
            return handle

    def exists(self, path: str) -> bool:
        """Say whether an object is there; asks the store, never a cache."""
        return self.size(path) is not None

    def size(self, path: str) -> int | None:
        """Return an object's size in bytes, or None when it is not there."""
        with self._errors("look for", path):
            try:
                info = self._fs.info(self._full(path))
            except _ABSENT as error:
                _raise_without_bucket(error)
                return None
            return int(info["size"]) if info["type"] == "file" else None

    def walk(self, prefix: str) -> Iterator[Listed]:
        """Yield the objects below the folder `prefix`, in order of path; unfinished temporary files are left out."""
        with self._errors("list", prefix):
            try:
                found = self._fs.find(self._full(prefix), detail=True)
            except _ABSENT as error:
                _raise_without_bucket(error)
                found = {}
        cut = len(self._root) + 1
        for full, info in sorted(found.items()):
            name = full.lstrip("/") if self.protocol == "memory" else full
            if not Path(name).name.startswith(".tmp-"):
                yield Listed(path=name[cut:], size=int(info["size"]), modified=_modified(info))

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly below `prefix`, sorted."""
        with self._errors("list", prefix):
            try:
                entries = self._fs.ls(self._full(prefix), detail=True)
            except _ABSENT as error:
                _raise_without_bucket(error)
                return []
            return sorted(Path(e["name"]).name for e in entries if e["type"] == "directory")

    def contents(self, prefix: str) -> tuple[list[str], dict[str, Listed]]:
        """Return the folders and, by name, the objects directly below `prefix`: one request for both."""
        with self._errors("list", prefix):
            try:
                entries = self._fs.ls(self._full(prefix), detail=True)
            except _ABSENT as error:
                _raise_without_bucket(error)
                return [], {}
        folders, objects = [], {}
        for entry in entries:
            name = Path(entry["name"]).name
            if entry["type"] == "directory":
                folders.append(name)
            elif not name.startswith(".tmp-"):
                objects[name] = Listed(path=f"{prefix}/{name}", size=int(entry["size"]), modified=_modified(entry))
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
        folder = Path(self._full(path)).parent if self.protocol == "file" else None
        with self._errors("write", path):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=folder)
            try:
                with os.fdopen(descriptor, "w+b") as raw:
                    hashing = _HashingWriter(raw)
                    yield hashing, written  # type: ignore[misc]
                    raw.flush()
                    written.size, written.sha256 = hashing.size, hashing.digest.hexdigest()
                    if folder is not None:
                        os.fsync(raw.fileno())
                    elif self.protocol == "s3":
                        raw.seek(0)
                        bucket, key = self._bucket_key(path)
                        _s3_client().upload_fileobj(raw, bucket, key, ExtraArgs=_content_type(path))
                    else:
                        raw.seek(0)
                        self._fs.pipe_file(self._full(path), raw.read())
                if folder is not None:
                    os.chmod(name, 0o644)
                    os.replace(name, self._full(path))
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Publish `data` at `path` unless something is there; True when this call did it.

        On S3 a retried request can meet its own success: the caller compares contents when it gets False.
        """
        with self._errors("write", path):
            if self.protocol == "file":
                return _link_new(Path(self._full(path)), data)
            if self.protocol == "memory":
                with _memory_lock:
                    if self._fs.exists(self._full(path)):
                        return False
                    self._fs.pipe_file(self._full(path), data)
                    return True
            bucket, key = self._bucket_key(path)
            client = _s3_client()
            try:
                client.put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
            except client.exceptions.ClientError as error:
                signs = signs_of(error)
                # 409: another request for this key was under way, and may have been one that put nothing.
                if "412" in signs or ("409" in signs and self.exists(path)):
                    return False
                raise
            return True

    def delete(self, path: str) -> None:
        """Remove an object; it is no error when it is not there."""
        with self._errors("delete", path), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._full(path))

    def _bucket_key(self, path: str) -> tuple[str, str]:
        bucket, _, key = self._full(path).partition("/")
        return bucket, key

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
    """An S3 object as a file: every read is one request, with the store's own errors."""

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


def _link_new(target: Path, data: bytes) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".tmp-{secrets.token_hex(8)}"
    try:
        with open(temporary, "xb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _content_type(path: str) -> dict[str, str]:
    """Return what makes a browser show a page instead of saving it."""
    return {"ContentType": "text/html; charset=utf-8"} if path.endswith(".html") else {}


def _modified(info: dict[str, Any]) -> float:
    value = info.get("mtime") or info.get("LastModified") or info.get("created") or 0.0
    return float(value.timestamp() if hasattr(value, "timestamp") else value)


def _raise_without_bucket(error: Exception) -> None:
    """Let "not found" pass as an answer, unless it is the whole bucket that is missing."""
    if "NoSuchBucket" in signs_of(error):
        raise error


@cache
def _filesystem(protocol: str) -> Any:
    if protocol != "s3":
        return fsspec.filesystem(protocol)
    check_endpoint()
    # max_concurrency: an object is read by one request, not by one for its size and others for its parts.
    options = {"use_listings_cache": False, "skip_instance_cache": True, "max_concurrency": 1}
    made = fsspec.filesystem("s3", config_kwargs=_S3_OPTIONS, **options)
    made.retries = 1  # its own, around those of _S3_OPTIONS: they would multiply
    return made


@cache
def _s3_client() -> Any:
    import boto3  # here: the local store needs no AWS package
    from botocore.config import Config  # type: ignore[import-untyped]

    check_endpoint()
    return boto3.session.Session().client("s3", config=Config(**_S3_OPTIONS))


def forget_clients() -> None:
    """Make clients anew from now on: those there are have the credentials of their first use."""
    _filesystem.cache_clear()
    _s3_client.cache_clear()
