"""A folder, and a dictionary in memory, as the places where a `Storage` keeps its objects."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, Protocol

TEMPORARY = ".tmp-"
"""Beginning of the names of files that are not yet published; a process that is killed leaves them."""

Found = tuple[str, int, float]
"""Path relative to the root, size in bytes, modification time in seconds."""


class Backend(Protocol):
    """What a kind of store has to know; paths are relative to the root. Errors are the library's own."""

    def open(self, path: str) -> IO[bytes] | None:
        """Return a seekable file object for reading, None where reading is by ranges only."""

    def read(self, path: str, start: int, length: int | None) -> bytes:
        """Return the bytes of an object from `start` on, `length` of them at most."""

    def size(self, path: str) -> int | None:
        """Return an object's size, None when there is no such object."""

    def walk(self, prefix: str) -> Iterator[Found]:
        """Yield the objects below a folder, in any order."""

    def contents(self, prefix: str) -> tuple[list[str], list[Found]]:
        """Return the names of the folders, and the objects, directly below a folder, in any order."""

    def staging(self, path: str) -> str | None:
        """Return the folder in which a file must be written that shall be published at `path`; None: any."""

    def publish(self, raw: IO[bytes], name: str, path: str) -> None:
        """Make a whole file, open as `raw` and called `name`, the object at `path`, replacing what is there."""

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Publish unless something is there; True when this call did it."""

    def delete(self, path: str) -> None:
        """Remove an object that may be there."""


class Folder:
    """Objects are files below a folder."""

    def __init__(self, root: str) -> None:
        self._root = root

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def open(self, path: str) -> IO[bytes]:
        """Return the file, open."""
        return open(self._full(path), "rb")

    def read(self, path: str, start: int, length: int | None) -> bytes:
        """Return a part of the file."""
        with open(self._full(path), "rb") as handle:
            handle.seek(start)
            return handle.read(-1 if length is None else length)

    def size(self, path: str) -> int | None:
        """Return the file's size; a folder is no object."""
        try:
            status = os.stat(self._full(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def walk(self, prefix: str) -> Iterator[Found]:
        """Yield the files; one that vanishes meanwhile is left out, a folder that cannot be read is an error."""
        for folder, _, names in os.walk(self._full(prefix), onerror=_raise_unless_gone):
            for name in names:
                full = f"{folder}/{name}"
                if not name.startswith(TEMPORARY):
                    with contextlib.suppress(FileNotFoundError):
                        status = os.stat(full)
                        yield full[len(self._root) + 1 :], status.st_size, status.st_mtime

    def contents(self, prefix: str) -> tuple[list[str], list[Found]]:
        """Return the folders and files; what vanishes meanwhile is left out."""
        folders: list[str] = []
        found: list[Found] = []
        try:
            with os.scandir(self._full(prefix)) as entries:
                for entry in entries:
                    if entry.is_dir():
                        folders.append(entry.name)
                    elif not entry.name.startswith(TEMPORARY):
                        with contextlib.suppress(FileNotFoundError):
                            status = entry.stat()
                            path = f"{prefix}/{entry.name}" if prefix else entry.name
                            found.append((path, status.st_size, status.st_mtime))
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        return folders, found

    def staging(self, path: str) -> str | None:
        """Return the object's own folder, made: a file can be renamed there for certain."""
        folder = Path(self._full(path)).parent
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    def publish(self, raw: IO[bytes], name: str, path: str) -> None:
        """Rename the file, once its bytes are on the disk."""
        os.fsync(raw.fileno())
        os.chmod(name, 0o644)
        os.replace(name, self._full(path))

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Link a temporary file to the name: the file system lets one caller do that."""
        temporary = f"{self.staging(path)}/{TEMPORARY}{secrets.token_hex(8)}"
        try:
            with open(temporary, "xb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            try:
                os.link(temporary, self._full(path))
            except FileExistsError:
                # Network file systems repeat a request whose answer was lost, and meet their own success.
                return os.stat(temporary).st_nlink == 2
            return True
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

    def delete(self, path: str) -> None:
        """Remove the file."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._full(path))


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


class Memory:
    """Objects are in this process only: for tests."""

    def __init__(self, root: str) -> None:
        self._objects, self._lock = _memory(root)

    def open(self, path: str) -> None:
        """Say that there are no files here: reading is by ranges."""

    def read(self, path: str, start: int, length: int | None) -> bytes:
        """Return a part of the object."""
        if path not in self._objects:
            raise FileNotFoundError(path)
        return self._objects[path][0][start : None if length is None else start + length]

    def size(self, path: str) -> int | None:
        """Return the object's size."""
        return len(self._objects[path][0]) if path in self._objects else None

    def walk(self, prefix: str) -> Iterator[Found]:
        """Yield the objects."""
        for path, (data, modified) in list(self._objects.items()):
            if not prefix or path.startswith(f"{prefix}/"):
                yield path, len(data), modified

    def contents(self, prefix: str) -> tuple[list[str], list[Found]]:
        """Return the first components of what lies deeper, and what does not."""
        cut = len(prefix) + 1 if prefix else 0
        below = list(self.walk(prefix))
        folders = {path[cut:].split("/")[0] for path, _, _ in below if "/" in path[cut:]}
        return list(folders), [one for one in below if "/" not in one[0][cut:]]

    def staging(self, path: str) -> str | None:
        """Any folder will do."""
        return None

    def publish(self, raw: IO[bytes], name: str, path: str) -> None:
        """Take the file's content."""
        raw.seek(0)
        self._objects[path] = (raw.read(), time.time())

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Decide by a lock."""
        with self._lock:
            if path in self._objects:
                return False
            self._objects[path] = (data, time.time())
            return True

    def delete(self, path: str) -> None:
        """Forget the object."""
        self._objects.pop(path, None)


@cache
def _memory(root: str) -> tuple[dict[str, tuple[bytes, float]], threading.Lock]:
    return {}, threading.Lock()
