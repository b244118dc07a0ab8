"""What a takedown list did: documents that it named, copies of them, and entries that named nothing."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc

from olmo_core.artifacts.manifest import Manifest
from olmo_core.curation.layout import count_of
from olmo_core.documents.shards import column, read_shard
from olmo_core.report import markdown
from olmo_core.storage import Storage

_SHOWN = 100
"""Entries and copies that the report names; there may be more, which are counted."""


def summary(storage: Storage, manifests: Mapping[str, Manifest]) -> dict[str, Any]:
    """Return counts by source, and names but never texts: entries without a document, and copies that were left in."""
    (listed,) = manifests["takedown-list/all"].objects
    entries = column(read_shard(storage, listed.path, ["entry"]), "entry").to_pylist()
    found: set[str] = set()
    sources: dict[str, dict[str, int]] = {}
    left: list[dict[str, Any]] = []
    copies = "report"
    for label, manifest in sorted(manifests.items()):
        stage, source = label.split("/")
        if stage == "takedown":
            for one in (o for o in manifest.objects if count_of(o, "named")):
                lists = column(read_shard(storage, one.path, ["entries"]), "entries")
                found.update(pc.unique(lists.flatten()).to_pylist())
        if stage == "takedown-copies":
            copies = manifest.recipe["copies"]
            sources[source] = {way: int(n) for way, n in manifest.counts["found"].items()}
            left += _left(storage, manifests[f"documents/{source}"], manifest, source)
    unmatched = [entry for entry in entries if entry not in found]
    return {
        "entries": len(entries),
        "entries_without_document": len(unmatched),
        "without_document": unmatched[:_SHOWN],
        "copies": copies,
        "sources": sources,
        "left_in": len(left),
        "copies_left_in": sorted(left, key=lambda one: (-one["jaccard"], one["id"]))[:_SHOWN],
    }


def _left(storage: Storage, documents: Manifest, copies: Manifest, source: str) -> list[dict[str, Any]]:
    found = []
    for one in (o for o in copies.objects if count_of(o, "named") > count_of(o, "dropped")):
        table = read_shard(storage, one.path)
        rows = pc.indices_nonzero(pc.and_(table.column("by").is_valid(), table.column("reason").is_null()))
        ids = read_shard(storage, documents.object(one.key).path, ["id"]).column("id").take(rows).to_pylist()
        for identifier, row in zip(ids, table.take(rows).to_pylist(), strict=True):
            found.append(
                {"id": f"{source}/{identifier}", "of": row["of"], "kind": row["by"], "jaccard": row["jaccard"]}
            )
    return found


def section(taken: Mapping[str, Any]) -> str:
    """Return the report's part about the takedown list as Markdown."""
    ways = ("id", "url", "copy", "near_copy")
    rows = [(source, *(counts[way] for way in ways)) for source, counts in taken["sources"].items()]
    copies = "dropped too" if taken["copies"] == "drop" else "left in, as the recipe says"
    parts = [
        f"{taken['entries']:,} entries, {taken['entries_without_document']:,} of them without a document here. "
        f"Exact copies of what they name are {copies}; near copies are left to you.\n",
        markdown.table(("source", "by id", "by URL", "exact copies", "near copies"), rows),
    ]
    if taken["without_document"]:
        parts.append(f"Without a document: {_names(taken['without_document'], taken['entries_without_document'])}\n")
    if taken["copies_left_in"]:
        names = [f"{c['id']} ({c['jaccard']:.2f} of {c['of']})" for c in taken["copies_left_in"]]
        parts.append(f"Copies left in: {_names(names, taken['left_in'])}\n")
    return "\n".join(parts)


def _names(names: list[str], total: int) -> str:
    more = f", and {total - 20:,} more (report.json)" if total > 20 else ""
    return ", ".join(html.escape(name).replace("`", "&#96;") for name in names[:20]) + more
