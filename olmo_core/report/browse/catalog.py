"""What a store holds, as far as its pages show it: read once, manifest by manifest, without their long lists of objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from olmo_core.artifacts import graph
from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest, StoredObject
from olmo_core.artifacts.reach import addresses
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError

OBJECTS = 60
"""Objects of an artifact that its page lists."""
_AT_ONCE = 16
"""Manifests that are read at the same time: an object store answers many at once."""
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much the pages hold; each page says what it leaves out."""

    artifacts: int = 2000
    """Artifacts with a page of their own: those that tags stand for, then the newest."""
    listed: int = 200
    """Artifacts on one page of a list."""
    reports: int = 50
    """Reports that are copied, the newest first."""
    runs: int = 20
    """Runs whose steps can be looked into, the newest first."""
    steps: int = 8
    """Steps of each of those runs."""
    documents: int = 60
    """Documents of each of those steps."""
    compared: int = 11
    """Evaluations beside each other."""
    graph: int = 300
    """Artifacts of a lineage; of a larger one, what an artifact was made from and what was made from it directly."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One finished artifact, without its shards."""

    ref: ArtifactRef
    stage: str
    version: int
    recipe: Mapping[str, Any]
    inputs: Mapping[str, ArtifactRef]
    ledger: Ledger
    counts: Mapping[str, Any]
    environment: Mapping[str, Any]
    started: str
    ended: str
    cpu_seconds: float
    peak_memory_bytes: int
    shards: int
    objects: int
    bytes: int
    """Of all its objects, those that it shares with others included."""
    first_objects: tuple[StoredObject, ...]
    tags: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """`kind/name`, and its first tag where it has one."""
        return f"{self.ref.kind}/{self.ref.name}" + (f"@{self.tags[0]}" if self.tags else "")


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalog:
    """A store as it was when it was read. What is derived from it is kept (`lru_cache`), so it is one with itself only."""

    store: ArtifactStore
    entries: Mapping[ArtifactRef, Entry]
    """Newest first."""
    below: Mapping[ArtifactRef, Sequence[ArtifactRef]]
    """What was made from each, directly."""
    under_way: Sequence[ArtifactRef]
    """Runs that have begun and not ended."""
    unreadable: Sequence[tuple[str, str]]
    """Address of each manifest that cannot be read, and why."""
    bytes: int
    """Of all objects that finished artifacts list, each once."""
    limits: Limits
    paged: frozenset[ArtifactRef]
    """Artifacts with a page."""

    @cached_property
    def _by_kind(self) -> Mapping[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        for one in self.entries.values():
            found.setdefault(str(one.ref.kind), []).append(one)
        return found

    def kind(self, kind: str) -> list[Entry]:
        """Return the artifacts of a kind, newest first."""
        return self._by_kind.get(str(kind), [])

    def page(self, ref: ArtifactRef) -> str:
        """Return where an artifact's page is, from the site's root; nothing where it has none."""
        return f"{ref.address}.html" if ref in self.paged else ""


def read_catalog(
    store: ArtifactStore, limits: Limits | None = None, progress: Callable[[str], None] | None = None
) -> Catalog:
    """Read all manifests and tags of a store. What cannot be read is told on the pages, and hides nothing else."""
    limits = limits or Limits()
    tags = _tags(store)
    found: list[Entry] = []
    unreadable: list[tuple[str, str]] = []
    under_way: list[ArtifactRef] = []
    sizes: dict[int, int] = {}
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for number, (address, manifest, problem) in enumerate(threads.map(lambda a: _read(store, a), addresses(store))):
            if progress is not None and number % 100 == 99:
                progress(f"{number + 1} artifacts read")
            if problem:
                unreadable.append((address, problem))
            elif manifest is not None:
                sizes.update((hash(one.path), one.size) for one in manifest.objects)
                found.append(_entry(manifest, tags.get(manifest.ref.address, ())))
            elif (run := _run_under_way(store, address)) is not None:
                under_way.append(run)
    found.sort(key=lambda one: (one.ended, one.ref.address), reverse=True)
    entries = {one.ref: one for one in found}
    ranked = sorted((one for one in found if _has_safe_name(one.ref)), key=lambda one: not one.tags)
    return Catalog(
        store=store,
        entries=entries,
        below=graph.children(entries),
        under_way=under_way,
        unreadable=unreadable,
        bytes=sum(sizes.values()),
        limits=limits,
        paged=frozenset(one.ref for one in ranked[: limits.artifacts]),
    )


def _read(store: ArtifactStore, address: str) -> tuple[str, Manifest | None, str]:
    path = f"{address}/manifest.json"
    if not store.storage.exists(path):
        return address, None, ""
    try:
        manifest = Manifest.from_bytes(store.storage.read(path), path)
    except IntegrityError as error:
        return address, None, str(error)
    if manifest.ref.address != address:
        return address, None, f"its manifest is that of {manifest.ref}"
    return address, manifest, ""


def _entry(manifest: Manifest, tags: Sequence[str]) -> Entry:
    objects = manifest.objects
    same = ("ref", "stage", "version", "recipe", "inputs", "ledger", "counts", "environment", "started", "ended")
    return Entry(
        **{name: getattr(manifest, name) for name in same},
        cpu_seconds=manifest.cpu_seconds,
        peak_memory_bytes=manifest.peak_memory_bytes,
        shards=len(manifest.shards),
        objects=len(objects),
        bytes=sum(one.size for one in objects),
        first_objects=tuple(objects[:OBJECTS]),
        tags=tuple(tags),
    )


def _tags(store: ArtifactStore) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    try:
        every = store.all_tags()
    except IntegrityError:  # one broken tag file must not hide the store: `olmo artifacts ls` names it
        return found
    for path, ref in sorted(every.items()):
        found.setdefault(ref.address, []).append(path.rsplit("/", 1)[1].removesuffix(".json"))
    return found


def _run_under_way(store: ArtifactStore, address: str) -> ArtifactRef | None:
    kind, name, short = address.split("/")
    if kind != Kind.RUN or not store.storage.exists(f"{address}/run.json"):
        return None
    return ArtifactRef(kind=Kind.RUN, name=name, fingerprint=short)


def _has_safe_name(ref: ArtifactRef) -> bool:
    """Whether the artifact's address can be the name of a file anywhere; what `check_name` lets through can."""
    return bool(_PART.match(ref.name) and _PART.match(ref.fingerprint))
