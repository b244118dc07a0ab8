"""Grouping files into shards by size and a hash of their names, so that one more file touches one group only.

The groups are the leaves of a binary tree over the hashes (extendible hashing, Fagin et al. 1979): a leaf is divided
by the next bit of the hash when its files hold more than the target. A leaf depends on its own files alone, so a
new file changes the leaf it falls into, or divides that one; every other group stays as it is. Counting files off
into groups would move all later ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from olmo_core.documents.files import SourceFile
from olmo_core.errors import RecipeError

_EXPANSION = {".gz": 3, ".zst": 3, ".zstd": 3, ".bz2": 4, ".xz": 4, ".parquet": 2}
"""Bytes of text for a stored byte, roughly, as web text compresses. Part of what decides shard boundaries: a change
changes them (and so needs a new stage version)."""


@dataclass(frozen=True, kw_only=True)
class FileGroup:
    """Files that are read into one shard, in order of name."""

    key: str
    """`b` and the bits of the name hashes that the files share, or `f` and a hash for a file of its own."""
    files: tuple[SourceFile, ...]

    @property
    def size(self) -> int:
        """Bytes as stored, of all files together."""
        return sum(file.size for file in self.files)


def estimated_text_bytes(file: SourceFile) -> int:
    """Return about how much text a file holds: its size times a fixed factor for its compression."""
    return file.size * _EXPANSION.get(PurePosixPath(file.name).suffix.lower(), 1)


def group_files(files: Sequence[SourceFile], target_bytes: int) -> list[FileGroup]:
    """Return groups of about half the target to the target of estimated text each, sorted by key.

    A file over the target is a group of its own, undivided. Groups depend on names and sizes alone, not on the order
    of `files`, on workers or on machines.
    """
    if target_bytes < 1:
        raise RecipeError(f"shard size: {target_bytes} bytes; give at least 1")
    large = [file for file in files if estimated_text_bytes(file) > target_bytes]
    small = [(_bits(file.name), file) for file in files if estimated_text_bytes(file) <= target_bytes]
    groups = [FileGroup(key=f"f{_digest(file.name).hex()[:16]}", files=(file,)) for file in large]
    todo = [("", small)] if small else []
    while todo:
        prefix, members = todo.pop()
        if sum(estimated_text_bytes(file) for _, file in members) <= target_bytes or len(members) == 1:
            groups.append(
                FileGroup(key=f"b{prefix}", files=tuple(sorted((f for _, f in members), key=lambda f: f.name)))
            )
            continue
        for bit in "01":
            below = [member for member in members if member[0][len(prefix)] == bit]
            if below:
                todo.append((prefix + bit, below))
    return sorted(groups, key=lambda group: group.key)


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _bits(name: str) -> str:
    return "".join(f"{byte:08b}" for byte in _digest(name)[:16])
