"""What is in a store and what keeps it there: finished artifacts, tags, marks of builds, and everything they reach."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from olmo_core.artifacts import marks
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError
from olmo_core.storage import Listed

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Grace:
    """How long what nothing keeps is spared."""

    artifact_seconds: float = 7 * 86_400.0
    """Since an artifact was finished or last used. A run tags at its end: it must not take longer than this."""
    attempt_seconds: float = 86_400.0
    """Since anything was last written in an attempt."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A finished artifact."""

    ref: ArtifactRef
    inputs: frozenset[str]
    """Addresses."""
    attempt: str
    ended: float
    """Seconds since the epoch."""
    size: int
    """Bytes of the manifest."""
    lists: Hashes
    """Hashes of the paths of its objects: 8 bytes each instead of a hundred."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A store as it is now."""

    nodes: Mapping[str, Node]
    """By address."""
    used: Mapping[str, float]
    """When an artifact was last used, by address, where that is noted."""
    attempts: Mapping[str, Sequence[str]]
    """Names of attempt folders, by address."""
    tagged: frozenset[str]
    """Addresses that tags stand for."""
    marks: Mapping[str, marks.Started] = field(default_factory=dict)
    """Marks of executions that may be under way, by attempt folder."""

    def last(self, address: str) -> float:
        """Return when an artifact was finished or last used."""
        return max(self.nodes[address].ended, self.used.get(address, 0.0))

    def kept(self, keep: Iterable[str], after: float) -> set[str]:
        """Return the addresses of all artifacts that stay: reached from a tag, from `keep`, from a use after a time, or from a build."""
        todo = [*self.tagged, *keep, *(a for a in self.nodes if self.last(a) >= after)]
        for folder, mark in self.marks.items():
            todo += [ref.address for ref in mark.inputs]
            if mark.reuses is None:
                todo += [address for address in self.nodes if _name(address) == _name(folder)]
        reached: set[str] = set()
        while todo:
            address = todo.pop()
            if address in self.nodes and address not in reached:
                reached.add(address)
                todo += self.nodes[address].inputs
        return reached

    def references(self, kept: Iterable[str]) -> Hashes:
        """Return the hashes of all paths that kept manifests and builds under way list, sorted."""
        lists = [self.nodes[address].lists for address in kept] + [hashes(marks.by_path(self.marks))]
        return np.unique(np.concatenate(lists))


def hashes(paths: Iterable[str]) -> Hashes:
    """Return a 64-bit hash for each path. Two paths of one hash would only keep an object too many."""
    digests = (hashlib.blake2b(path.encode(), digest_size=8).digest() for path in paths)
    return np.frombuffer(b"".join(digests), np.uint64)


def contains(references: Hashes, paths: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Say for each path whether it is among the references (sorted hashes)."""
    wanted = hashes(paths)
    if not len(references):
        return np.zeros(len(wanted), bool)
    places = np.minimum(np.searchsorted(references, wanted), len(references) - 1)
    found: npt.NDArray[np.bool_] = references[places] == wanted
    return found


def look(
    store: ArtifactStore,
    young: float,
    known: Mapping[str, Node] | None = None,
    released: Mapping[str, ArtifactRef] | None = None,
) -> View:
    """Return the store as it is now. Marks count in attempts with an object written after `young` (epoch seconds).

    Manifests never change: those in `known` are not read again. Tag files in `released` do not count while they stand for
    the artifact given there. Raises IntegrityError when a manifest, a tag or a mark cannot be read, as nobody knows then
    what it keeps.
    """
    known = known or {}
    nodes: dict[str, Node] = {}
    used: dict[str, float] = {}
    attempts: dict[str, list[str]] = {}
    marked: dict[str, marks.Started] = {}
    for address in addresses(store):
        folders, objects = store.storage.contents(address)
        attempts[address] = [name for name in folders if name.startswith("attempt-")]
        if marks.USED in objects:
            used[address] = objects[marks.USED].modified
        if "manifest.json" in objects:
            nodes[address] = (
                known[address] if address in known else _node(store, address, objects["manifest.json"].size)
            )
        own = nodes[address].attempt if address in nodes else None
        for name in attempts[address]:
            if name != own and (mark := _mark(store, f"{address}/{name}", young)):
                marked[f"{address}/{name}"] = mark
    released = released or {}
    tagged = frozenset(ref.address for path, ref in store.all_tags().items() if released.get(path) != ref)
    return View(nodes=nodes, used=used, attempts=attempts, tagged=tagged, marks=marked)


def addresses(store: ArtifactStore) -> Iterator[str]:
    """Yield the addresses of all artifacts, finished or not."""
    for kind in Kind:
        for name in store.storage.folders(kind):
            for short in store.storage.folders(f"{kind}/{name}"):
                yield f"{kind}/{name}/{short}"


def readable(store: ArtifactStore, kind: Kind | None = None) -> Iterator[Manifest]:
    """Yield the manifests that can be read; for those that cannot, `repair.check` says so."""
    for address in addresses(store):
        path = f"{address}/manifest.json"
        if kind in (None, address.split("/")[0]) and store.storage.exists(path):
            with contextlib.suppress(IntegrityError):
                yield Manifest.from_bytes(store.storage.read(path), path)


def newest(objects: Iterable[Listed]) -> float:
    """Return when the last of some objects was written."""
    return max((one.modified for one in objects), default=0.0)


def _mark(store: ArtifactStore, folder: str, young: float) -> marks.Started | None:
    path = f"{folder}/{marks.STARTED}"
    if newest(store.storage.walk(folder)) < young or not store.storage.exists(path):
        return None
    return marks.read_started(store, path)


def _node(store: ArtifactStore, address: str, size: int) -> Node:
    path = f"{address}/manifest.json"
    try:
        manifest = Manifest.from_bytes(store.storage.read(path), path)
    except IntegrityError as error:
        raise IntegrityError(f"{error}. Nothing was deleted: nobody knows what this manifest lists") from error
    return Node(
        ref=manifest.ref,
        inputs=frozenset(ref.address for ref in manifest.inputs.values()),
        attempt=manifest.attempt,
        ended=marks.finished_at(manifest),
        size=size,
        lists=hashes(one.path for one in manifest.objects),
    )


def _name(path: str) -> str:
    return "/".join(path.split("/")[:2])
