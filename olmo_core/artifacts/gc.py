"""Garbage collection: what no tag reaches goes, some time after it was last of use.

Kept are all artifacts that a tag stands for, those used or finished within the grace, those that a build under way
relies on (`artifacts/marks.py`), and whatever these were made from. An object goes only when no kept manifest and no
build lists it, wherever it lies: artifacts share objects by reference.

Order: a manifest goes before its objects, an artifact before its inputs, sidecars and marks before the objects of an
attempt. So a crash at any moment leaves no manifest whose objects or inputs are gone, and the next collection goes on.
Between the two steps the store is looked at again: what has come into use meanwhile is put back.
"""

from __future__ import annotations

import contextlib
import datetime
import graphlib
import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from olmo_core.artifacts import marks
from olmo_core.artifacts.build import SIDECAR
from olmo_core.artifacts.reach import Grace, Hashes, Node, View, contains, look, newest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import RecipeError, StorageError
from olmo_core.storage import Listed
from olmo_core.storage_removal import delete_many, discard, leftovers, remove_empty_folders, remove_folder

RUNNING = "gc-running.json"
_ROUND_BYTES = 256 << 20
"""Manifests held in memory at once, to be put back where needed."""


@dataclass(frozen=True, kw_only=True)
class Waste:
    """What can go of one artifact's folder."""

    address: str
    what: str
    """`artifact`: finished, reached by nothing; `attempts`: what executions left that no manifest lists."""
    objects: int
    bytes: int
    last: float
    """When it was last used or written, in seconds since the epoch."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What a collection found, and did."""

    waste: tuple[Waste, ...]
    leftovers: int
    """Unfinished writes: temporary files, uploads."""
    kept: int
    """Finished artifacts that stay."""
    spared: tuple[str, ...]
    """Addresses that came into use while it ran, and stay."""
    deleted: bool

    @property
    def objects(self) -> int:
        """Objects that go, or went."""
        return sum(one.objects for one in self.waste)

    @property
    def bytes(self) -> int:
        """Their size."""
        return sum(one.bytes for one in self.waste)


def collect(
    store: ArtifactStore,
    *,
    keep: Sequence[ArtifactRef] = (),
    grace: Grace | None = None,
    delete: bool = False,
    now: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> Collection:
    """Find the garbage of a store and, with `delete`, remove it. `now` is in seconds since the epoch.

    Raises IntegrityError when a manifest, tag or mark cannot be read, RecipeError when everything would go: then
    nothing is deleted.
    """
    tell = progress or (lambda _: None)
    tell("reading manifests, tags and marks")
    run = _Run(store, frozenset(ref.address for ref in keep), grace or Grace(), time.time() if now is None else now)
    waste = []
    for address in sorted(run.view.attempts):
        tell(f"looking at {address}")
        waste += run.waste(address)
    old = list(leftovers(store.storage, run.young))
    dead = run.dead()
    if delete:
        if dead and not run.view.tagged and not keep:
            raise RecipeError(
                f"{store.uri}: nothing has a tag, so all {len(dead)} artifacts would go. Tag what shall stay (`olmo artifacts tag`) "
                f"or name it with --keep; to be rid of everything, delete the store itself"
            )
        with _alone(store):
            for some in _rounds(run.view, dead):
                tell(f"deleting {some[0]}")
                run.delete_artifacts(some)
            tell("deleting what is left of old attempts")
            run.delete_attempts([one.address for one in waste])
            for one in old:
                discard(store.storage, one)
    return Collection(
        waste=tuple(waste),
        leftovers=len(old),
        kept=len(run.view.nodes) - (0 if delete else len(dead)),
        spared=tuple(sorted(run.spared)),
        deleted=delete,
    )


def delete_unused(
    store: ArtifactStore,
    refs: Iterable[ArtifactRef],
    *,
    own_tags: Mapping[str, ArtifactRef],
    abandoned: Iterable[ArtifactRef] = (),
    holder: Mapping[str, Any],
) -> set[ArtifactRef]:
    """Delete these finished artifacts, whatever their age, but for those that something refers to; returns which went.

    Anything else that is finished keeps what it was made from, as do tags and builds under way. `own_tags` are tag files
    that do not keep what they stand for, and go with it. Of the `abandoned`, whose deletion was cut off or which were never
    finished, all that is left goes, where no manifest stands; nobody else may list it. `holder` says in the mark of a collection whose it is. Raises
    StorageError when a collection is under way, IntegrityError as `collect` does.
    """
    mine = {ref.address: ref for ref in refs}
    with _alone(store, holder):
        run = _Run(store, frozenset(), Grace(), time.time(), only=frozenset(mine), released=own_tags)
        dead, tags = run.dead(), store.all_tags()
        for path, ref in own_tags.items():
            if ref.address in dead and tags.get(path) == ref:
                store.storage.delete(path)
        for some in _rounds(run.view, dead):
            run.delete_artifacts(some)
        for address in run.spared:
            for path, ref in own_tags.items():
                if ref.address == address:
                    store.tag(ref, path.rsplit("/", 1)[1].removesuffix(".json"))
        for ref in abandoned:
            if not store.storage.exists(ref.manifest_path):
                remove_folder(store.storage, ref.address)
    return {mine[address] for address in dead if address not in run.spared}


class _Run:
    """One collection: the store as last seen, and what follows from it."""

    def __init__(
        self,
        store: ArtifactStore,
        keep: frozenset[str],
        grace: Grace,
        now: float,
        *,
        only: frozenset[str] | None = None,
        released: Mapping[str, ArtifactRef] | None = None,
    ) -> None:
        """With `only`, nothing but these may go, and age spares none of them."""
        self._store, self._storage, self._keep, self._only = store, store.storage, keep, only
        self._released = released or {}
        self._after = now - grace.artifact_seconds
        self.young = now - grace.attempt_seconds
        self.spared: set[str] = set()
        self._see(self._look({}))
        # The attempts that made what goes: they are over, however young they are.
        self._over = {a: node.attempt for a, node in self.view.nodes.items() if a not in self._kept}

    def _look(self, known: Mapping[str, Node]) -> View:
        return look(self._store, self.young, known, self._released)

    def _reached(self, view: View) -> set[str]:
        if self._only is None:
            return view.kept(self._keep, self._after)
        return view.kept(view.nodes.keys() - self._only, math.inf)

    def _see(self, view: View) -> None:
        self.view = view
        self._kept = self._reached(view)
        self._references: Hashes = view.references(self._kept)

    def dead(self) -> list[str]:
        """Return the addresses of finished artifacts that go, each before its inputs."""
        inputs = {a: node.inputs for a, node in self.view.nodes.items() if a not in self._kept}
        ordered = graphlib.TopologicalSorter({a: {one for one in inputs[a] if one in inputs} for a in sorted(inputs)})
        return [*ordered.static_order()][::-1]

    def garbage(self, address: str) -> Iterator[Listed]:
        """Yield the objects in an address's attempts that nothing keeps."""
        if any(
            mark.reuses is None and folder.startswith(f"{_name(address)}/") for folder, mark in self.view.marks.items()
        ):
            return  # a build of that name is choosing what to reuse
        for attempt in self.view.attempts.get(address, ()):
            objects = list(self._storage.walk(f"{address}/{attempt}"))
            if newest(objects) < self.young or attempt == self._over.get(address):
                listed = contains(self._references, [one.path for one in objects])
                yield from (one for one, there in zip(objects, listed, strict=True) if not there)
        yield from self._record(address)

    def _record(self, address: str) -> Iterator[Listed]:
        """Yield what a run has told on its way (metrics, events, epochs, run.json), once nothing needs it any more.

        That is when the run itself goes, or never ended, and no checkpoint of its name stays: those are inspected and made
        again by it. A trainer writes there for as long as it lives.
        """
        kind, name, _ = address.split("/")
        if kind != Kind.RUN or (address in self.view.nodes and address not in self._over):
            return
        if any(one.startswith(f"{Kind.CHECKPOINT}/{name}/") for one in self._kept):
            return
        own = (f"{address}/attempt-", f"{address}/manifest.json", f"{address}/{marks.USED}")
        objects = [one for one in self._storage.walk(address) if not one.path.startswith(own)]
        if newest(objects) < (self.young if address in self._over else self._after):
            yield from objects

    def waste(self, address: str) -> list[Waste]:
        """Say what of an address can go."""
        objects, size, last = 0, 0, 0.0
        for one in self.garbage(address):
            objects, size, last = objects + 1, size + one.size, max(last, one.modified)
        if address in self._over:
            node = self.view.nodes[address]
            objects, size, last = objects + 1, size + node.size, self.view.last(address)
        what = "artifact" if address in self._over else "attempts"
        return [Waste(address=address, what=what, objects=objects, bytes=size, last=last)] if objects else []

    def delete_artifacts(self, some: Sequence[str]) -> None:
        """Delete finished artifacts: manifests, then, unless they came into use, the objects that only they list."""
        gone = {address: self.view.nodes[address] for address in some if address not in self._kept}
        raw: dict[str, bytes] = {}
        try:
            for address, node in gone.items():
                path = node.ref.manifest_path
                raw[address] = self._storage.read(path)
                self._storage.delete(path)
            self._delete_records(gone)
            seen = self._look(self.view.nodes)
            thought = replace(seen, nodes={**gone, **seen.nodes})
            back = self._reached(thought) & (gone.keys() - seen.nodes.keys())
            for address in sorted(back):
                self._storage.put_if_absent(gone[address].ref.manifest_path, raw[address])
        except BaseException as error:
            # Nobody has looked whether one came into use, and all their objects are there.
            if lost := self._put_back(raw):
                error.add_note(f"manifests deleted and not put back; runs make these again: {', '.join(lost)}")
            raise
        for address in back:
            self._over.pop(address)
        self.spared |= back
        self._see(replace(seen, nodes={**{address: gone[address] for address in back}, **seen.nodes}))
        for address in gone.keys() - back:
            self._sweep(address)

    def _put_back(self, raw: dict[str, bytes]) -> list[str]:
        """Put manifests back where none is, inputs first; returns the addresses for which that failed."""
        lost = []
        for address in reversed(list(raw)):
            try:
                self._storage.put_if_absent(f"{address}/manifest.json", raw[address])
            except StorageError:
                lost.append(address)
        return lost

    def delete_attempts(self, addresses: Sequence[str]) -> None:
        """Delete what old attempts have left that no manifest lists: first what a build would find it by."""
        self._delete_records(addresses)
        self._see(self._look(self.view.nodes))
        for address in addresses:
            self._sweep(address)

    def _delete_records(self, addresses: Iterable[str]) -> None:
        paths = (one.path for address in addresses for one in self.garbage(address))
        delete_many(self._storage, (path for path in paths if path.endswith((SIDECAR, f"/{marks.STARTED}"))))

    def _sweep(self, address: str) -> None:
        gone: set[str] = set()

        def paths() -> Iterator[str]:
            for one in self.garbage(address):
                gone.add("/".join(one.path.split("/")[:4]))
                yield one.path

        delete_many(self._storage, paths())
        for attempt in gone:
            remove_empty_folders(self._storage, attempt)
        used = f"{address}/{marks.USED}"
        if address not in self.view.nodes and all(one.path == used for one in self._storage.walk(address)):
            self._storage.delete(used)
            remove_empty_folders(self._storage, address)


@contextlib.contextmanager
def _alone(store: ArtifactStore, holder: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Hold the store's one mark of a collection: two at once could delete objects that one of them puts back."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    who = {"host": socket.gethostname(), "process": os.getpid(), "since": now, **(holder or {})}
    mine = json.dumps(who).encode()
    if not store.storage.put_if_absent(RUNNING, mine):
        other = store.storage.read(RUNNING).decode(errors="replace")
        raise StorageError(
            f"another garbage collection of {store.uri} is under way: {other}. If it is not running any more, delete "
            f"{store.storage.url(RUNNING)}; a collection that was cut off leaves nothing broken"
        )
    try:
        yield
    finally:
        store.storage.delete(RUNNING)


def _rounds(view: View, dead: Sequence[str]) -> Iterator[list[str]]:
    """Yield the addresses in their order, as many at once as have manifests that fit into memory."""
    some: list[str] = []
    size = 0
    for address in dead:
        if some and size + view.nodes[address].size > _ROUND_BYTES:
            yield some
            some, size = [], 0
        some.append(address)
        size += view.nodes[address].size
    if some:
        yield some


def _name(address: str) -> str:
    return "/".join(address.split("/")[:2])
