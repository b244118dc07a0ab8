"""Lineage: from an artifact back to everything it was made from, and forward to everything made from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef
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


def forward(store: ArtifactStore, ref: ArtifactRef) -> Iterator[Ancestor]:
    """Yield the finished artifacts made from `ref`, directly or through others, nearest first."""
    every = list(store.finished())
    reached, frontier, depth = {ref}, {ref}, 0
    while frontier:
        depth += 1
        found: set[ArtifactRef] = set()
        for manifest in every:
            roles = [role for role, parent in manifest.inputs.items() if parent in frontier]
            if roles and manifest.ref not in reached:
                found.add(manifest.ref)
                yield Ancestor(manifest=manifest, depth=depth, role=roles[0])
        reached |= found
        frontier = found
