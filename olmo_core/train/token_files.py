"""Token files on this machine: fetched from object storage once, and checked against their digests once.

All ranks of a machine share a cache folder: a file lock lets one of them fetch or hash a file while the others wait, and a
note with the file's size, time and inode saves the next start from reading it again. Correctness hangs on no lock: what
is fetched appears whole, by a rename, under its sha256.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from olmo_core.errors import InputError, OlmoError, StorageError
from olmo_core.storage import Storage
from olmo_core.storage_errors import storage_error

_BLOCK = 1 << 24
_AT_ONCE = 4
"""Files that one rank fetches or hashes at the same time."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One file as it must be."""

    name: str
    """For people: the key within an artifact, or the name in an inventory."""
    path: str
    """Path in the store, or of this machine where there is no `storage`."""
    size: int
    """Bytes."""
    sha256: str
    storage: Storage | None = None
    """None for a file outside the store."""


def default_cache() -> Path:
    """Return the folder for fetched files where a run names none: this user's, in the system's temporary folder."""
    return Path(tempfile.gettempdir()) / f"olmo-tokens-{os.getuid()}"


def local_files(
    wanted: Iterable[Wanted], cache: Path, *, verify: bool, at: Callable[[str], None] = lambda doing: None
) -> list[str]:
    """Return a local path for each file, in their order, after checking sizes and, with `verify`, digests.

    `at` is told of each file that is ready, so as often on one rank as on another (Watch.at).

    Raises InputError for a file that is missing, was cut or was changed; StorageError when the store cannot be read or the
    cache is full.
    """
    files = list(wanted)
    with _cache_errors(cache):
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    for one in files:
        if one.storage is None or one.storage.protocol == "file":
            _check_size(one, _local_path(one))
    # Ranks begin at different files, so that together they hash as many at once as there are.
    turn = os.getpid() % len(files) if files else 0
    order = [*range(turn, len(files)), *range(turn)]
    paths = [""] * len(files)
    threads = ThreadPoolExecutor(_AT_ONCE)
    try:
        for i, path in zip(order, threads.map(lambda i: _local(files[i], cache, verify), order), strict=True):
            paths[i] = path
            at(f"fetching and checking token files, {files[i].name} being ready")
    finally:
        threads.shutdown(cancel_futures=True)  # after an error nobody waits for the other files
    return paths


def _local_path(wanted: Wanted) -> str:
    return wanted.path if wanted.storage is None else wanted.storage.url(wanted.path)


def _local(wanted: Wanted, cache: Path, verify: bool) -> str:
    if wanted.storage is not None and wanted.storage.protocol != "file":
        return _fetched(wanted, wanted.storage, cache, verify)
    path = _local_path(wanted)
    if verify and not _is_verified(path, wanted.sha256, cache):
        with _locked(cache, wanted.sha256):
            if not _is_verified(path, wanted.sha256, cache):
                _check_digest(wanted, path, _sha256(path))
                _note(path, wanted.sha256, cache)
    return path


def _check_size(wanted: Wanted, path: str) -> None:
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise InputError(
            f"token file {wanted.name} cannot be opened at {path}: {error.strerror}; {_remedy(wanted)}"
        ) from error
    if size != wanted.size:
        what = "cut" if size < wanted.size else "changed"
        raise InputError(
            f"token file {path} was {what}: it has {size:,} bytes, expected {wanted.size:,}; {_remedy(wanted)}"
        )


def _check_digest(wanted: Wanted, path: str, seen: str) -> None:
    if seen != wanted.sha256:
        raise InputError(
            f"token file {path} was changed: its sha256 is {seen[:12]}..., expected {wanted.sha256[:12]}...; {_remedy(wanted)}"
        )


def _remedy(wanted: Wanted) -> str:
    if wanted.storage is None:
        return "put the file back as it was, or start a new run, which takes the files as they are now"
    return "`olmo artifacts verify --repair` makes it again"


def _fetched(wanted: Wanted, storage: Storage, cache: Path, verify: bool) -> str:
    """Return the path of the cached copy, fetching it first where it is not there or is damaged."""
    path = str(cache / wanted.sha256)
    if _is_whole(wanted, path, cache, verify):
        return path
    with _locked(cache, wanted.sha256):
        if _is_whole(wanted, path, cache, verify):
            return path
        if (size := storage.size(wanted.path)) != wanted.size:
            seen = "is missing" if size is None else f"has {size:,} bytes, expected {wanted.size:,}"
            raise InputError(f"token file {storage.url(wanted.path)} {seen}; {_remedy(wanted)}")
        with _cache_errors(cache):
            descriptor, temporary = tempfile.mkstemp(dir=cache, prefix=".fetching-")
            try:
                with os.fdopen(descriptor, "wb") as handle:
                    seen = _copy(storage, wanted, handle)
                _check_digest(wanted, storage.url(wanted.path), seen)
                os.replace(temporary, path)
                _note(path, wanted.sha256, cache)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
    return path


def _is_whole(wanted: Wanted, path: str, cache: Path, verify: bool) -> bool:
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_size == wanted.size:
            return not verify or _is_verified(path, wanted.sha256, cache)
    return False


def _copy(storage: Storage, wanted: Wanted, handle: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for start in range(0, wanted.size, _BLOCK):
        block = storage.read(wanted.path, start=start, length=min(_BLOCK, wanted.size - start))
        digest.update(block)
        handle.write(block)
    return digest.hexdigest()


def _sha256(path: str) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _note_path(path: str, sha256: str, cache: Path) -> Path:
    status = os.stat(path)
    about = f"{os.path.realpath(path)}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}\0{sha256}"
    return cache / "verified" / hashlib.sha256(about.encode("utf-8", "surrogateescape")).hexdigest()


def _is_verified(path: str, sha256: str, cache: Path) -> bool:
    return _note_path(path, sha256, cache).exists()


def _note(path: str, sha256: str, cache: Path) -> None:
    with _cache_errors(cache):
        note = _note_path(path, sha256, cache)
        note.parent.mkdir(exist_ok=True)
        note.touch()


@contextlib.contextmanager
def _locked(cache: Path, sha256: str) -> Iterator[None]:
    with _cache_errors(cache):
        folder = cache / "locks"
        folder.mkdir(exist_ok=True)
        handle = open(folder / sha256, "wb")  # noqa: SIM115 (closed below; the with block is for opening only)
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _cache_errors(cache: Path) -> Iterator[None]:
    try:
        yield
    except OlmoError:
        raise
    except OSError as error:
        made = storage_error(error, f"cannot use the cache folder {cache} for token files") or StorageError(str(error))
        raise type(made)(f"{made}; `resources.cache` names another folder") from error
