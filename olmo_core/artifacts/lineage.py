"""Lineage: from an artifact back to everything it was made from, and forward to everything made from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore


@dataclass(frozen=True, kw_only=True)
class Ancestor:
    """One artifact of a lineage."""

    manifest: Manifest
    depth: int
    """Steps away from the artifact asked about."""
    role: str
    """What it was to the artifact one step nearer."""


def backward(store: ArtifactStore, ref: ArtifactRef) -> Iterator[Ancestor]:
    """Yield the artifact and all its inputs, depth first; an artifact reached twice is yielded once."""
    seen: set[ArtifactRef] = set()

    def walk(one: ArtifactRef, depth: int, role: str) -> Iterator[Ancestor]:
        if one in seen:
            return
        seen.add(one)
        manifest = store.manifest(one)
        yield Ancestor(manifest=manifest, depth=depth, role=role)
        for inner, parent in sorted(manifest.inputs.items()):
            yield from walk(parent, depth + 1, inner)

    yield from walk(ref, 0, "")


TRAINED = (Kind.MODEL, Kind.RUN, Kind.CHECKPOINT, Kind.EVALUATION)
"""Kinds that training and evaluation make: what has learned from the data, or was measured on it."""


def downstream(
    store: ArtifactStore,
    refs: Iterable[ArtifactRef],
    kinds: Collection[Kind] | None = None,
    *,
    every: Collection[Manifest] | None = None,
) -> dict[ArtifactRef, Ancestor]:
    """Return the finished artifacts made from any of `refs`, directly or through others, nearest first, each once.

    With `kinds` the way goes through artifacts of those kinds only: `TRAINED` follows data into what was trained on it,
    and not on into what a trained classifier then sorted. `every` are the store's manifests where the caller has them.
    """
    manifests = list(store.finished()) if every is None else every
    taken = [m for m in manifests if kinds is None or m.ref.kind in kinds]
    start = set(refs)
    frontier, found, depth = set(start), {}, 0
    while frontier:
        depth += 1
        nearer, frontier = frontier, set()
        for manifest in taken:
            role = next((role for role, parent in sorted(manifest.inputs.items()) if parent in nearer), None)
            if role is not None and manifest.ref not in found and manifest.ref not in start:
                found[manifest.ref] = Ancestor(manifest=manifest, depth=depth, role=role)
                frontier.add(manifest.ref)
    return found


def forward(store: ArtifactStore, ref: ArtifactRef) -> Iterator[Ancestor]:
    """Yield the finished artifacts made from `ref`, directly or through others, nearest first."""
    yield from downstream(store, [ref]).values()
