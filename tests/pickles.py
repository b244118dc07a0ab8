"""Pickles for tests: one that leaves a mark where it is read, and what tells a pickle from other files."""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.flows.in_sight import content


class _Marking:
    """Unpickled, it creates a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.mark,)  # type: ignore[return-value]


def marking(mark: Path) -> bytes:
    """A pickle that creates the file `mark` when it is read."""
    return pickle.dumps(_Marking(mark))


def torch_like(mark: Path) -> bytes:
    """The same in the archive that torch.save writes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", marking(mark))
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def is_pickle(raw: bytes) -> bool:
    """Whether the bytes are a pickle from beginning to end, or an archive with one, as torch and numpy write them."""
    if raw[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return any(name.endswith(".pkl") or is_pickle(archive.read(name)) for name in archive.namelist())
    if raw[:6] == b"\x93NUMPY":
        return b"'descr': '|O'" in raw[:200]
    if len(raw) < 2 or not raw.endswith(pickle.STOP):
        return False
    stream = io.BytesIO(raw)
    try:
        for _ in pickletools.genops(stream):
            pass
    except ValueError:
        return False
    return stream.read(1) == b""


def pickles(files: Mapping[str, bytes] | Path) -> list[str]:
    """The names of those files (of a folder, or name -> bytes) that are pickles."""
    each: Iterator[tuple[str, bytes]]
    if isinstance(files, Path):
        each = ((str(file), content(file)) for file in sorted(files.rglob("*")) if file.is_file())
    else:
        each = iter(files.items())
    return [name for name, raw in each if is_pickle(raw)]
