"""`olmo artifacts lineage --document` and `--takedown`: who has a document, which versions no longer, what was trained on it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from flows.command import tables
from flows.command.usage import UsageError
from olmo_core.artifacts.graph import Graph, among
from olmo_core.artifacts.ref import Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.takedown import NAME, Requests, as_list, read_list
from olmo_core.documents.files import hash_file
from olmo_core.documents.listing import list_files
from olmo_core.report.holders import Holder, Place, holders
from olmo_core.train.inspection import seen_by


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--document",
        action="append",
        default=[],
        metavar="ID_OR_URL",
        help="every artifact that has this document, and what was trained on those; repeatable",
    )
    parser.add_argument("--takedown", action="append", default=[], metavar="FILE", help="the same for a takedown list")


def run(store: ArtifactStore, arguments: argparse.Namespace, as_graph: Callable[[Graph], object]) -> int:
    """Carry out the command; returns its exit code. `as_graph` may take the graph of what has the documents, for --format and --to."""
    if arguments.artifact or arguments.forward or arguments.both or arguments.files:
        raise UsageError("lineage: give an artifact, or --document and --takedown, not both")
    files = list_files(NAME, arguments.takedown, None) if arguments.takedown else []
    listed = read_list([(f.name, f.url, hash_file(f)) for f in files])
    asked = pa.concat_tables([as_list(arguments.document), listed])
    found = holders(store, Requests(asked))
    if arguments.format or arguments.to:
        as_graph(_graph(found))
        return 0
    tags = _tags(store, found)
    checkpoints = [
        one.manifest for one in found if one.has == "made from it" and one.manifest.ref.kind == Kind.CHECKPOINT
    ]
    names = {name for one in found for name in one.documents}
    saw = seen_by(store, checkpoints, names)
    if arguments.json:
        shown = [
            {
                **one.to_json(),
                "tags": tags.get(str(one.manifest.ref), []),
                **({"seen_at_steps": saw[one.manifest.ref]} if one.manifest.ref in saw else {}),
            }
            for one in found
        ]
        tables.show_json({"store": store.uri, "asked": asked.column("entry").to_pylist(), "artifacts": shown})
        return 0
    if not found:
        print(f"nothing in {store.uri} has any of the {asked.num_rows} documents asked for")
        return 0
    rows = [
        (
            str(one.manifest.ref),
            one.has,
            len(one.documents) or None,
            _seen(saw[one.manifest.ref]) if one.manifest.ref in saw else _where(one),
            one.manifest.ended,
            " ".join(tags.get(str(one.manifest.ref), [])),
        )
        for one in found
    ]
    tables.show(rows, ("artifact", "has it", "documents", "where", "ended", "tags"), left=2)
    still = sum(one.has == "yes" for one in found)
    made = sum(one.has == "made from it" for one in found)
    documents = "document" if len(names) == 1 else "documents"
    entries = "entry" if asked.num_rows == 1 else "entries"
    print(
        f"\n{len(names)} {documents} found for {asked.num_rows} {entries}; {still} artifacts have some of them, "
        f"{sum(one.has == 'no' for one in found)} other versions have none, {made} were made from those that have."
    )
    return 0


def _graph(found: Sequence[Holder]) -> Graph:
    """The artifacts that have the documents and what was trained on them; the documents artifacts are what was asked for."""
    held = {one.manifest.ref: one.manifest for one in found if one.has != "no"}
    return among(held, held, [ref for ref in held if ref.kind == Kind.DOCUMENTS])


def _seen(by_document: Mapping[str, Sequence[int]]) -> str:
    """Which steps of a checkpoint's training saw the documents."""
    steps = sorted({step for some in by_document.values() for step in some})
    if not steps:
        return "not seen up to this step"
    more = f" and {len(steps) - 3:,} more" if len(steps) > 3 else ""
    return f"seen at step {', '.join(f'{step:,}' for step in steps[:3])}{more}"


def _where(one: Holder) -> str:
    if not one.places:
        return one.role
    first: Place = one.places[0]
    at = f", row {first.row}" if first.row is not None else ""
    at = f", tokens {first.start:,} to {first.start + (first.length or 0):,}" if first.start is not None else at
    more = f" and {len(one.places) - 1:,} more" if len(one.places) > 1 else ""
    return f"{first.shard.rsplit('/', 1)[-1]}{at}{more}"


def _tags(store: ArtifactStore, found: Sequence[Holder]) -> dict[str, list[str]]:
    names = {(str(one.manifest.ref.kind), one.manifest.ref.name) for one in found}
    tags: dict[str, list[str]] = {}
    for kind, name in sorted(names):
        for tag, ref in store.tags(kind, name).items():
            tags.setdefault(str(ref), []).append(tag)
    return tags
