"""Lineage drawn as SVG, without a program for drawing graphs: inputs above, what was made from them below.

Artifacts of one stage that stand side by side (a stage of seven sources) are one box when there are many. An edge that
says nothing new, as a longer way joins the same two, is left out of the picture; JSON and DOT have all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from olmo_core.artifacts.graph import Graph, Node, layers
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.report.page.elements import attribute

APART = 24
"""Artifacts of a graph that still have a box each."""
_WIDE, _HIGH, _ACROSS, _DOWN, _EDGE = 140, 40, 12, 34, 8
_LETTERS = 21
"""Of a line in a box."""
_ROUNDS = 8

Href = Callable[[ArtifactRef], str]
"""Where an artifact's page is; nothing where it has none."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """One box of the picture: an artifact, or several of one stage side by side."""

    nodes: tuple[Node, ...]

    @property
    def title(self) -> str:
        """Its first line."""
        first = self.nodes[0]
        return first.stage or "gone"

    @property
    def subtitle(self) -> str:
        """Its second line."""
        first = self.nodes[0].ref
        return f"{first.kind}/{first.name}" if len(self.nodes) == 1 else f"{len(self.nodes)} × {first.kind}"

    @property
    def names(self) -> str:
        """What the pointer shows."""
        shown = [str(n.ref) for n in self.nodes[:12]]
        return "\n".join(shown) + (f"\nand {len(self.nodes) - 12} more" if len(self.nodes) > 12 else "")


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Boxes with their places, and the edges between them, in pixels."""

    boxes: Sequence[tuple[Box, float, float]]
    """With left and upper end."""
    edges: Sequence[tuple[int, int]]
    """Numbers of boxes, upper and lower."""
    width: float
    height: float


def arrange(graph: Graph) -> Drawing:
    """Return where everything stands."""
    boxes, edges = _grouped(graph)
    edges = _reduced(len(boxes), edges)
    depth = layers(range(len(boxes)), edges)
    first_child: dict[int, int] = {}
    for parent, child in edges:
        first_child[parent] = min(first_child.get(parent, depth[child]), depth[child])
    fed = {child for _, child in edges}
    # What comes from outside stands just above what reads it.
    depth = {n: d if n in fed or n not in first_child else first_child[n] - 1 for n, d in depth.items()}
    rows: list[list[int]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for number in range(len(boxes)):
        rows[depth[number]].append(number)
    place = _places(rows, edges)
    width = max((len(row) for row in rows), default=1) * (_WIDE + _ACROSS) - _ACROSS + 2 * _EDGE
    found = []
    for number, box in enumerate(boxes):
        row = rows[depth[number]]
        room = len(row) * (_WIDE + _ACROSS) - _ACROSS
        left = (width - room) / 2 + place[number] * (_WIDE + _ACROSS)
        found.append((box, left, _EDGE + depth[number] * (_HIGH + _DOWN)))
    return Drawing(boxes=found, edges=edges, width=width, height=len(rows) * (_HIGH + _DOWN) - _DOWN + 2 * _EDGE)


def _grouped(graph: Graph) -> tuple[list[Box], list[tuple[int, int]]]:
    apart = len(graph.nodes) <= APART
    depth = layers([n.ref for n in graph.nodes], [(e.parent, e.child) for e in graph.edges])
    groups: dict[tuple[object, ...], list[Node]] = {}
    for node in graph.nodes:
        alone = apart or node.asked
        groups.setdefault((node.ref,) if alone else (node.stage, node.ref.kind, depth[node.ref]), []).append(node)
    number = {node.ref: i for i, some in enumerate(groups.values()) for node in some}
    edges = sorted({(number[e.parent], number[e.child]) for e in graph.edges})
    return [Box(nodes=tuple(some)) for some in groups.values()], edges


def _reduced(count: int, edges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the edges between two boxes that no other way joins."""
    below: dict[int, list[int]] = {}
    for parent, child in edges:
        below.setdefault(parent, []).append(child)
    depth = layers(range(count), edges)
    reach: dict[int, set[int]] = {}
    for one in sorted(range(count), key=lambda n: -depth[n]):
        reach[one] = {one}.union(*(reach[child] for child in below.get(one, ())))
    return [
        (parent, child)
        for parent, child in edges
        if not any(child in reach[other] for other in below[parent] if other != child)
    ]


def _places(rows: Sequence[Sequence[int]], edges: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Return the place of each box in its row: near the middle of what it is joined to, row after row, down and up."""
    joined: dict[int, list[int]] = {}
    for parent, child in edges:
        joined.setdefault(parent, []).append(child)
        joined.setdefault(child, []).append(parent)
    place = {number: i for row in rows for i, number in enumerate(row)}
    size = {number: len(row) for row in rows for number in row}
    for turn in range(_ROUNDS):
        for row in rows if turn % 2 == 0 else reversed(rows):

            def middle(number: int) -> float:
                near = joined.get(number, [])
                return sum((place[n] + 0.5) / size[n] for n in near) / len(near) if near else 0.5

            for i, number in enumerate(sorted(row, key=lambda n: (middle(n), place[n]))):
                place[number] = i
    return place


def svg(graph: Graph, href: Href | None = None, *, alone: bool = False, title: str = "lineage") -> str:
    """Return the picture. `alone`: as a file of its own, with its own colours; else it takes those of the page."""
    drawing = arrange(graph)
    width, height = f"{drawing.width:.0f}", f"{drawing.height:.0f}"
    space = ' xmlns="http://www.w3.org/2000/svg"' if alone else ""
    parts = [
        f'<svg{space} class="lineage" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="group" aria-label="{attribute(title)}">'
    ]
    if alone:
        parts.append(f"<style>{_ALONE}</style>")
    for parent, child in drawing.edges:
        (_, a, top), (_, b, bottom) = drawing.boxes[parent], drawing.boxes[child]
        x, y, u, v = a + _WIDE / 2, top + _HIGH, b + _WIDE / 2, bottom
        bend = max(14.0, (v - y) / 2)
        parts.append(
            f'<path class="edge" d="M{x:.1f} {y:.1f}C{x:.1f} {y + bend:.1f} {u:.1f} {v - bend:.1f} {u:.1f} {v:.1f}"/>'
        )
    for box, left, top in drawing.boxes:
        parts.append(_drawn(box, left, top, href))
    return "".join([*parts, "</svg>"])


def _drawn(box: Box, left: float, top: float, href: Href | None) -> str:
    kind = "asked" if any(n.asked for n in box.nodes) else "gone" if box.nodes[0].gone else "box"
    inside = (
        f"<title>{attribute(box.names)}</title>"
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{_WIDE}" height="{_HIGH}" rx="6"/>'
        f'<text class="name" x="{left + _WIDE / 2:.1f}" y="{top + 16:.1f}" text-anchor="middle">{attribute(_cut(box.title))}</text>'
        f'<text x="{left + _WIDE / 2:.1f}" y="{top + 31:.1f}" text-anchor="middle">{attribute(_cut(box.subtitle))}</text>'
    )
    where = href(box.nodes[0].ref) if href is not None else ""
    return f'<a href="{attribute(where)}">{inside}</a>' if where else f"<g>{inside}</g>"


def _cut(words: str) -> str:
    return words if len(words) <= _LETTERS else f"{words[: _LETTERS - 8]}…{words[-7:]}"


def as_text(graph: Graph, files: Mapping[ArtifactRef, Sequence[str]] | None = None) -> str:
    """Return the graph as lines, what was asked about first; an artifact that is an input twice is told once, and
    named as `(above)` from then on.

    `files` are the names of source files of the inventories that are to have them.
    """
    inputs: dict[ArtifactRef, list[tuple[str, ArtifactRef]]] = {}
    for edge in graph.edges:
        inputs.setdefault(edge.child, []).append((", ".join(edge.roles), edge.parent))
    by_ref = {node.ref: node for node in graph.nodes}
    lines: list[str] = []
    told: set[ArtifactRef] = set()
    waiting = [(node.ref, 0, "") for node in graph.nodes if node.asked][::-1]
    while waiting:
        ref, depth, role = waiting.pop()
        node, before = by_ref[ref], "  " * depth
        if ref in told:
            lines.append(f"{before}{role + ': ' if role else ''}{ref}  (above)")
            continue
        told.add(ref)
        about = f"({node.stage}, {node.ended})" if not node.gone else "(not in the store any more)"
        lines.append(f"{before}{role + ': ' if role else ''}{ref}  {about}")
        lines += [f"{before}  file {name}" for name in (files or {}).get(ref, ())]
        waiting += [(parent, depth + 1, own) for own, parent in sorted(inputs.get(ref, ()), reverse=True)]
    return "\n".join(lines) + "\n"


_ALONE = """
svg{background:#fff;font:11px system-ui,sans-serif}text{fill:#626a73;font-size:10.5px}text.name{fill:#1d2126;font-weight:600}
rect{fill:#fff;stroke:#a9cfd3;stroke-width:1.2}rect.asked{fill:#e3f1f2;stroke:#2c7a86;stroke-width:2}rect.gone{stroke:#c8553d;stroke-dasharray:4 3}
.edge{fill:none;stroke:#9aa3ab;stroke-width:1.2}
@media (prefers-color-scheme:dark){svg{background:#15181b}text{fill:#9aa3ab}text.name{fill:#e4e6e8}rect{fill:#1c2024;stroke:#2f575d}rect.asked{fill:#1d3438;stroke:#58acb8}}
"""
STYLE = """
svg.lineage{width:auto;max-width:none;margin:0;padding:0;display:inline-block}
svg.lineage rect{fill:var(--card);stroke:var(--soft);stroke-width:1.2}svg.lineage rect.asked{fill:var(--faint);stroke:var(--kept);stroke-width:2}
svg.lineage rect.gone{stroke:var(--lost);stroke-dasharray:4 3}svg.lineage .edge{fill:none;stroke:var(--dim);stroke-width:1.2;opacity:.7}
svg.lineage text.name{fill:var(--ink);font-weight:600;font-size:11px}svg.lineage a:hover rect,svg.lineage a:focus-visible rect{stroke:var(--link);stroke-width:2.4}
svg.lineage a{outline:none}
"""
"""What a page that has such a picture adds to its style."""
