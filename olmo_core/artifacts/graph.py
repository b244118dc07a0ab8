"""Lineage as a graph: artifacts and the edges between them, backward, forward or both, as JSON and DOT.

Works on whatever knows an artifact's ref, stage and inputs: manifests, or what is left of them when a store is large.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError

T = TypeVar("T")


class Linked(Protocol):
    """What the graph needs to know of an artifact; a Manifest has it."""

    @property
    def ref(self) -> ArtifactRef:
        """Its address."""

    @property
    def stage(self) -> str:
        """What made it."""

    @property
    def inputs(self) -> Mapping[str, ArtifactRef]:
        """What it was made from, by role."""

    @property
    def ended(self) -> str:
        """When it was finished."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One artifact of the graph."""

    ref: ArtifactRef
    stage: str
    """Empty where the artifact is not in the store any more."""
    ended: str
    asked: bool
    """Whether the graph is about it."""

    @property
    def gone(self) -> bool:
        """Whether the store has it no more."""
        return not self.stage


@dataclass(frozen=True, kw_only=True)
class Edge:
    """An artifact and one that was made from it."""

    parent: ArtifactRef
    child: ArtifactRef
    roles: tuple[str, ...]
    """What the parent was to the child."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Artifacts, inputs before what was made from them, and their edges."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the graph as JSON values."""
        nodes = [
            {"artifact": str(n.ref), "stage": n.stage, "ended": n.ended, "asked": n.asked, "gone": n.gone}
            for n in self.nodes
        ]
        edges = [{"from": str(e.parent), "to": str(e.child), "roles": list(e.roles)} for e in self.edges]
        return {"nodes": nodes, "edges": edges}

    def to_dot(self) -> str:
        """Return the graph in Graphviz's language."""
        lines = ["digraph lineage {", "  node [shape=box, fontsize=10];"]
        for node in self.nodes:
            label = f"{node.stage or 'gone'}\n{node.ref.kind}/{node.ref.name}\n{node.ref.fingerprint[:12]}"
            style = ", style=bold" if node.asked else ", style=dashed" if node.gone else ""
            lines.append(f"  {_quoted(node.ref.address)} [label={_quoted(label)}{style}];")
        for edge in self.edges:
            roles = f" [label={_quoted(', '.join(edge.roles))}]" if len(edge.roles) < 4 else ""
            lines.append(f"  {_quoted(edge.parent.address)} -> {_quoted(edge.child.address)}{roles};")
        return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def known(store: ArtifactStore) -> dict[ArtifactRef, Linked]:
    """Return all finished artifacts of a store."""
    return {manifest.ref: manifest for manifest in store.finished()}


def children(artifacts: Mapping[ArtifactRef, Linked]) -> dict[ArtifactRef, list[ArtifactRef]]:
    """Return what was made from each artifact, directly."""
    found: dict[ArtifactRef, list[ArtifactRef]] = {}
    for one in artifacts.values():
        for parent in set(one.inputs.values()):
            found.setdefault(parent, []).append(one.ref)
    return found


def trace(
    artifacts: Mapping[ArtifactRef, Linked],
    asked: Iterable[ArtifactRef],
    *,
    backward: bool = True,
    forward: bool = False,
    below: Mapping[ArtifactRef, Sequence[ArtifactRef]] | None = None,
) -> Graph:
    """Return the graph about some artifacts: what they were made from, what was made from them, or both.

    `below` is `children(artifacts)`, where the caller has it. Inputs that the store has no more are nodes that are gone.
    """
    start = list(dict.fromkeys(asked))
    reached: set[ArtifactRef] = set(start)
    if backward:
        waiting = list(start)
        while waiting:
            one = artifacts.get(waiting.pop())
            new = [ref for ref in one.inputs.values() if ref not in reached] if one is not None else []
            reached.update(new)
            waiting += new
    if forward:
        under: Mapping[ArtifactRef, Sequence[ArtifactRef]] = children(artifacts) if below is None else below
        waiting = list(start)
        seen = set(start)
        while waiting:
            new = [ref for ref in under.get(waiting.pop(), ()) if ref not in seen]
            seen.update(new)
            waiting += new
        reached |= seen
    return among(artifacts, reached, start)


def is_larger(
    artifacts: Mapping[ArtifactRef, Linked],
    ref: ArtifactRef,
    below: Mapping[ArtifactRef, Sequence[ArtifactRef]],
    most: int,
) -> bool:
    """Say whether the graph about an artifact, both ways, has more than `most` artifacts, without looking at all of a large one."""
    found = {ref}
    for back in (True, False):
        waiting, seen = [ref], {ref}
        while waiting and len(found) <= most:
            one = waiting.pop()
            if back:
                near = list(artifacts[one].inputs.values()) if one in artifacts else []
            else:
                near = list(below.get(one, ()))
            new = [other for other in near if other not in seen]
            seen.update(new)
            found.update(new)
            waiting += new
    return len(found) > most


def among(artifacts: Mapping[ArtifactRef, Linked], refs: Iterable[ArtifactRef], asked: Iterable[ArtifactRef]) -> Graph:
    """Return the graph of these artifacts only; an edge joins two of which one is an input of the other."""
    reached, start = set(refs), set(asked)
    edges: list[Edge] = []
    for child in reached:
        roles: dict[ArtifactRef, list[str]] = {}
        for role, parent in sorted(artifacts[child].inputs.items()) if child in artifacts else ():
            if parent in reached:
                roles.setdefault(parent, []).append(role)
        edges += [Edge(parent=parent, child=child, roles=tuple(own)) for parent, own in roles.items()]
    nodes = [_node(artifacts.get(ref), ref, ref in start) for ref in _ordered(reached, edges)]
    edges.sort(key=lambda e: (e.child.address, e.parent.address))
    return Graph(nodes=tuple(nodes), edges=tuple(edges))


def _node(one: Linked | None, ref: ArtifactRef, asked: bool) -> Node:
    return Node(ref=ref, stage=one.stage if one else "", ended=one.ended if one else "", asked=asked)


def _ordered(refs: Iterable[ArtifactRef], edges: Iterable[Edge]) -> list[ArtifactRef]:
    depth = layers(refs, [(e.parent, e.child) for e in edges])
    return sorted(depth, key=lambda ref: (depth[ref], ref.address))


def layers(nodes: Iterable[T], edges: Iterable[tuple[T, T]]) -> dict[T, int]:
    """Return the length of the longest way to each node from one without parents. Raises IntegrityError for a circle."""
    parents: dict[T, list[T]] = {node: [] for node in nodes}
    below: dict[T, list[T]] = {node: [] for node in parents}
    for parent, child in edges:
        parents[child].append(parent)
        below[parent].append(child)
    waiting = {node: len(own) for node, own in parents.items()}
    ready = [node for node, left in waiting.items() if not left]
    depth = dict.fromkeys(ready, 0)
    for node in ready:
        for child in below[node]:
            depth[child] = max(depth.get(child, 0), depth[node] + 1)
            waiting[child] -= 1
            if not waiting[child]:
                ready.append(child)
    if len(ready) < len(parents):
        stuck = next(node for node, left in waiting.items() if left)
        raise IntegrityError(
            f"{stuck} is, through others, made from itself: its manifest, or one of those, is not what it was"
        )
    return depth
