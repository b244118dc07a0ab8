"""`olmo artifacts lineage`: back to the source files, forward to what was made, as text, JSON and graph."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from flows.command import choices, holders, tables
from flows.command.usage import UsageError
from olmo_core.artifacts import graph, lineage
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.documents.shards import read_shard
from olmo_core.report.lineage import as_text, svg

FORMATS = ("text", "json", "dot", "svg")
_ENDINGS = {".txt": "text", ".json": "json", ".dot": "dot", ".gv": "dot", ".svg": "svg"}
DESCRIPTION = """\
Say what an artifact was made from, back to the files that came from outside (--files names them), what was made from it
(--forward), or both (--both). With --document: every artifact that has a document, and the steps of every checkpoint that
saw it. As a graph: --format dot or svg, or --to FILE.svg; JSON so has nodes and edges.

    olmo artifacts lineage evaluation/tiny-quick --files
    olmo artifacts lineage checkpoint/tiny --both --to tiny.svg
    olmo artifacts lineage --document web/d3-7 --to d3-7.dot
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("artifact", nargs="?", type=choices.address)
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--forward", action="store_true", help="what was made from it")
    way.add_argument("--both", action="store_true", help="what it was made from and what was made from it, as a graph")
    parser.add_argument("--files", action="store_true", help="also the names of the source files of every inventory")
    parser.add_argument("--format", choices=FORMATS, help="default: text, or what the ending of --to's file says")
    parser.add_argument("--to", metavar="FILE", help="write it there: FILE.txt, .json, .dot or .svg")
    holders.add_arguments(parser)


def run(store: ArtifactStore, arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    kind = _format(arguments)
    if arguments.document or arguments.takedown:
        return holders.run(store, arguments, lambda made: _give(made, kind, {}, arguments) if kind else None)
    if arguments.artifact is None:
        raise UsageError("lineage: name an artifact, or a document with --document, or a list with --takedown")
    ref = store.resolve(arguments.artifact)
    if kind is None and not arguments.both and not arguments.files:
        return _list(store, ref, arguments)
    made = graph.trace(
        graph.known(store), [ref], backward=not arguments.forward, forward=arguments.forward or arguments.both
    )
    files = source_files(store, [n.ref for n in made.nodes if not n.gone]) if arguments.files else {}
    _give(made, kind or ("json" if arguments.json else "text"), files, arguments)
    return 0


def _format(arguments: argparse.Namespace) -> str | None:
    if arguments.format:
        return str(arguments.format)
    if arguments.to is None:
        return None
    ending = Path(arguments.to).suffix.lower()
    if ending not in _ENDINGS:
        raise UsageError(f"--to {arguments.to}: give a file that ends with {', '.join(_ENDINGS)}, or --format")
    return _ENDINGS[ending]


def _give(made: graph.Graph, kind: str, files: Mapping[ArtifactRef, list[str]], arguments: argparse.Namespace) -> None:
    if kind == "json":
        told = {str(ref): names for ref, names in files.items()}
        made_text = json.dumps({**made.to_json(), "files": told}, indent=1, ensure_ascii=False) + "\n"
    elif kind == "text":
        made_text = as_text(made, files)
    else:
        made_text = made.to_dot() if kind == "dot" else svg(made, alone=True) + "\n"
    if arguments.to is None:
        print(made_text, end="")
        return
    Path(arguments.to).write_text(made_text, encoding="utf-8")
    print(f"{arguments.to}: {len(made.nodes)} artifacts, {len(made.edges)} edges")


def _list(store: ArtifactStore, ref: ArtifactRef, arguments: argparse.Namespace) -> int:
    found = lineage.forward(store, ref) if arguments.forward else lineage.backward(store, ref)
    nodes = list(found)
    if arguments.json:
        tables.show_json(
            [
                {
                    "artifact": str(n.manifest.ref),
                    "depth": n.depth,
                    "role": n.role,
                    "inputs": {k: str(v) for k, v in n.manifest.inputs.items()},
                }
                for n in nodes
            ]
        )
        return 0
    for node in nodes:
        role = f"{node.role}: " if node.role else ""
        print(f"{'  ' * node.depth}{role}{node.manifest.ref}  ({node.manifest.stage}, {node.manifest.ended})")
    if not nodes:
        print(f"nothing was made from {ref}")
    return 0


def source_files(store: ArtifactStore, refs: Iterable[ArtifactRef]) -> dict[ArtifactRef, list[str]]:
    """Return the names of the files that inventories list, with the beginnings of their sha256."""
    found: dict[ArtifactRef, list[str]] = {}
    for ref in refs:
        if ref.kind == Kind.INVENTORY:
            rows = read_shard(store.storage, store.manifest(ref).object("files").path, ["name", "size", "sha256"])
            found[ref] = [f"{r['name']}  {r['size']:,} bytes, sha256 {r['sha256'][:16]}" for r in rows.to_pylist()]
    return found
