"""Examples for people: documents that each rule dropped, duplicates beside what they repeat, and some that were kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.artifacts.manifest import Manifest
from olmo_core.curation.layout import document_objects
from olmo_core.documents.shards import column, read_shard
from olmo_core.storage import Storage

_SHOWN = 400


@dataclass(frozen=True, kw_only=True)
class Example:
    """One document as an example."""

    reason: str
    source: str
    id: str
    text: str
    """The beginning of it."""
    facts: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the example as JSON values."""
        return {**self.__dict__, "facts": dict(self.facts)}


def dropped_by_rules(storage: Storage, source: str, manifests: Mapping[str, Manifest], each: int) -> list[Example]:
    """Return up to `each` documents for every rule of a source that was the first to drop them, with the value seen."""
    selection = manifests[f"selection/{source}"]
    rules = {r["name"]: r for r in selection.recipe["rules"]}
    wanted = dict.fromkeys(rules, each)
    documents = {o.key: o for o in document_objects(manifests[f"documents/{source}"])}
    tags = [manifests[f"{stage}/{source}"] for stage in ("language", "quality", "content", "pii")]
    found: list[Example] = []
    for one in selection.objects:
        reasons = column(read_shard(storage, one.path, ["reason"]), "reason")
        rows: list[tuple[int, str]] = []
        for name in [n for n, left in wanted.items() if left]:
            hits = pc.indices_nonzero(pc.fill_null(pc.equal(reasons, name), False)).to_pylist()[: wanted[name]]
            wanted[name] -= len(hits)
            rows += [(row, name) for row in hits]
        if not rows:
            continue
        values = _values(storage, one.key, tags, {rules[name]["column"] for _, name in rows})
        table = read_shard(storage, documents[one.key].path, ["id", "text"]).take(pa.array([row for row, _ in rows]))
        for (row, name), record in zip(rows, table.to_pylist(), strict=True):
            facts = {rules[name]["column"]: values[rules[name]["column"]][row].as_py()}
            found.append(
                Example(reason=name, source=source, id=record["id"], text=record["text"][:_SHOWN], facts=facts)
            )
    order = list(rules)
    return sorted(found, key=lambda e: (order.index(e.reason), e.id))


def _values(storage: Storage, key: str, tags: Sequence[Manifest], columns: set[str]) -> dict[str, pa.Array]:
    found = {}
    for manifest in tags:
        table = read_shard(storage, manifest.object(key).path)
        found.update({name: column(table, name) for name in columns & set(table.column_names)})
    return found


def duplicates(storage: Storage, manifests: Mapping[str, Manifest], count: int) -> list[Example]:
    """Return some documents dropped as near or exact duplicates, the least similar first, with the kept one of each."""
    chosen: list[tuple[float, str, int, dict[str, Any]]] = []
    for one in manifests["near-duplicates/all"].objects:
        table = read_shard(storage, one.path, ["duplicate_of", "jaccard", "kind"])
        rows = pc.indices_nonzero(table.column("duplicate_of").is_valid())[:count]
        for row, verdict in zip(rows.to_pylist(), table.take(rows).to_pylist(), strict=True):
            chosen.append((verdict["jaccard"], one.key, row, verdict))
    found: list[Example] = []
    for jaccard, place, row, verdict in sorted(chosen, key=lambda c: c[:3])[:count]:
        source, key = place.split("/", 1)
        documents = manifests[f"documents/{source}"].object(key)
        record = read_shard(storage, documents.path, ["id", "text"]).slice(row, 1).to_pylist()[0]
        facts = {"of": verdict["duplicate_of"], "jaccard": jaccard}
        found.append(
            Example(
                reason=f"{verdict['kind']}_duplicate",
                source=source,
                id=record["id"],
                text=record["text"][:_SHOWN],
                facts=facts,
            )
        )
    return found


def kept(storage: Storage, manifests: Mapping[str, Manifest], each: int) -> list[Example]:
    """Return some documents of the corpus of every source, as they went in."""
    found: list[Example] = []
    left: dict[str, int] = {}
    for one in manifests["mixing/all"].objects:
        source = one.key.split("/")[0]
        if left.setdefault(source, each) and one.rows:
            record = read_shard(storage, one.path, ["id", "text"]).slice(0, 1).to_pylist()[0]
            left[source] -= 1
            facts = {"characters": len(record["text"])}
            found.append(
                Example(reason="kept", source=source, id=record["id"], text=record["text"][:_SHOWN], facts=facts)
            )
    return found
