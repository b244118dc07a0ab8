"""Files of an export: what each is made from, whether it stands already, and the job that writes some of them.

A job leaves a note of its finished files below `NOTES`; an export that was cut short reads the notes, and writes only
what is missing, damaged, or made from something else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal, get_args

from olmo_core.storage import Storage, Written

Part = Literal["documents", "attributes", "corpus", "tokens"]
PARTS: tuple[Part, ...] = get_args(Part)
NOTES = ".olmo-export"
"""Folder of the notes, in the export's folder while it is under way."""
_BLOCK = 1 << 23


@dataclass(frozen=True, kw_only=True)
class Target:
    """A file that shall be there."""

    path: str
    """Relative to the export's folder."""
    part: Part
    made_from: str
    """sha256 over the content digests of what it is made from, and over how it is written."""


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """A file that is there."""

    path: str
    part: Part
    made_from: str
    size: int
    """Bytes."""
    sha256: str
    rows: int
    """Lines; tokens for `.npy`; 0 for a configuration."""

    def to_json(self) -> dict[str, Any]:
        """Return the file as JSON values."""
        return dict(self.__dict__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Files that one worker writes together because they are made from the same objects."""

    name: str
    store: str
    to: str
    targets: tuple[Target, ...]
    known: Mapping[str, ExportedFile]
    """By path: files that an earlier export left, as far as it says."""
    inputs: Mapping[str, Any]
    work: Callable[[Job, Sequence[Target]], list[ExportedFile]]
    """Writes the given ones of its targets. Top-level, picklable."""
    size: int = 0
    """Bytes of input, for progress and for starting large ones first."""

    def write(self, target: Target, rows: int, fill: Callable[[IO[bytes]], None]) -> ExportedFile:
        """Write one target: it appears, whole, when `fill` has returned."""
        with Storage(self.to).writer(target.path) as (handle, written):
            fill(handle)
        return _file(target, written, rows)


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What became of a job."""

    written: tuple[ExportedFile, ...]
    found: tuple[ExportedFile, ...]
    """Files that were there already, whole, and made from the same."""


def run_job(job: Job) -> Finished:
    """Do one job in a worker process and leave its note."""
    to = Storage(job.to)
    found = {t.path: job.known[t.path] for t in job.targets if _stands(to, t, job.known.get(t.path))}
    missing = [target for target in job.targets if target.path not in found]
    written = job.work(job, missing) if missing else []
    files = [*found.values(), *written]
    if written:
        note = json.dumps([one.to_json() for one in files], ensure_ascii=False).encode()
        to.put(f"{NOTES}/{job.name}.json", note)
    return Finished(written=tuple(written), found=tuple(found.values()))


def notes(to: Storage) -> dict[str, ExportedFile]:
    """Return the files that notes tell of, by path. A note that cannot be read is as good as none."""
    found: dict[str, ExportedFile] = {}
    for listed in to.walk(NOTES):
        if listed.path.endswith(".json"):
            try:
                files = [ExportedFile(**one) for one in json.loads(to.read(listed.path))]
            except (ValueError, TypeError):
                continue
            found.update({one.path: one for one in files})
    return found


def _stands(to: Storage, target: Target, known: ExportedFile | None) -> bool:
    """Say whether a file is there as it shall be, by size and sha256."""
    if known is None or known.made_from != target.made_from or to.size(target.path) != known.size:
        return False
    digest = hashlib.sha256()
    with to.open(target.path) as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest() == known.sha256


def _file(target: Target, written: Written, rows: int) -> ExportedFile:
    return ExportedFile(**target.__dict__, size=written.size, sha256=written.sha256, rows=rows)
