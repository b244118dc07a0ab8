"""What decontamination removed, and which evaluation items were found, for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.curation.contamination_verdicts import REASON
from olmo_core.curation.decontamination import PALOMA_TARGET
from olmo_core.documents.shards import read_shard
from olmo_core.report import markdown
from olmo_core.report.examples import Example
from olmo_core.report.excerpt import Span, excerpt
from olmo_core.storage import Storage

_SHOWN = 400


def summary(manifests: Mapping[str, Manifest]) -> dict[str, Any]:
    """Return what report.json says of decontamination, given manifests by `stage/source`."""
    own = {label.split("/")[1]: m for label, m in manifests.items() if label.startswith("decontamination/")}
    total = Ledger.total(m.ledger for m in own.values())
    removed = {"documents": total.read.documents - total.kept.documents, "bytes": total.read.bytes - total.kept.bytes}
    read = total.read.to_json()
    rate = {unit: removed[unit] / read[unit] if read[unit] else 0.0 for unit in removed}
    items = manifests["contaminated-items/all"]
    none = {"documents": 0, "bytes": 0}
    dropped = {name.removeprefix(REASON): tally.to_json() for name, tally in total.dropped.items()}
    return {
        "read": read,
        "removed": removed,
        "removal_rate": rate,
        "target": PALOMA_TARGET,
        "above_target": rate["documents"] > PALOMA_TARGET,
        "removed_by_source": {
            name: m.ledger.read.documents - m.ledger.kept.documents for name, m in sorted(own.items())
        },
        "kept_as_exempt": {
            name: dict(m.counts["kept_as_exempt"]) for name, m in sorted(own.items()) if m.counts["kept_as_exempt"]
        },
        "sets": {name: {**counts, "removed": dropped.get(name, none)} for name, counts in items.counts["sets"].items()},
        "control": manifests["evaluation-index/all"].counts.get("control"),
        "items": str(items.ref),
    }


def section(found: Mapping[str, Any], shown: Sequence[Example]) -> list[str]:
    """Return the report's part on decontamination as Markdown blocks; `found` is what `summary` returned."""
    removed, rate = found["removed"], found["removal_rate"]
    parts = [
        "## Decontamination\n",
        f"{markdown.count(removed['documents'])} documents ({markdown.size(removed['bytes'])}) held evaluation data and were "
        f"removed: {rate['documents']:.3%} of the documents that selection kept, {rate['bytes']:.3%} of their text.\n",
    ]
    if found["above_target"]:
        parts.append(
            f"**Warning: more than {found['target']:.1%} of the documents were removed**, Paloma's target: is a source made of "
            f"evaluation data, or a set of common text? Paloma took a smaller evaluation suite then.\n"
        )
    rows = [
        (
            name,
            int(one["items"]),
            int(one["searchable"]),
            int(one["contaminated"]),
            f"{one['contaminated'] / one['items']:.1%}" if one["items"] else "",
            int(one["removed"]["documents"]),
            ", ".join(one["first"][:3]) + (", ..." if len(one["first"]) > 3 else ""),
        )
        for name, one in found["sets"].items()
    ]
    header = ("evaluation set", "items", "searchable", "contaminated", "of items", "documents removed", "first items")
    parts.append(markdown.table(header, rows))
    parts.append(
        "A document is counted for the first set it holds an item of. Items too short to look for are not searchable. "
        f"All items with the documents that held them: `{found['items']}`.\n"
    )
    for source, sets in found["kept_as_exempt"].items():
        held = ", ".join(f"{n:,} of {name}" for name, n in sets.items() if n)
        parts.append(
            f"Source {source} is exempt: documents that hold evaluation data stay ({held or 'there are none'}).\n"
        )
    control = found["control"]
    parts.append(
        f"Positive control: {control['found']:,} of {control['planted']:,} planted items found.\n"
        if control
        else "**No positive control** was run (`control: false`).\n"
    )
    return parts + [markdown.example(f"{e.reason}: {e.source}/{e.id}", e.text, e.facts) for e in shown]


def examples(storage: Storage, manifests: Mapping[str, Manifest], count: int) -> list[Example]:
    """Return some contaminated documents, each with the text that it shares with an evaluation item."""
    found: list[Example] = []
    for label, manifest in sorted(manifests.items()):
        if not label.startswith("decontamination/"):
            continue
        source = label.split("/")[1]
        for one in manifest.objects:
            if len(found) == count:
                return found
            table = read_shard(storage, one.path, ["set", "item", "rule", "start", "end", "overlap"])
            rows = pc.indices_nonzero(table.column("item").is_valid())[: count - len(found)]
            if not len(rows):
                continue
            path = manifests[f"documents/{source}"].object(one.key).path
            documents = read_shard(storage, path, ["id", "text"]).take(rows).to_pylist()
            for verdict, document in zip(table.take(rows).to_pylist(), documents, strict=True):
                text = document["text"].encode()
                shared = text[verdict["start"] : verdict["end"]].decode("utf-8", "replace")
                span = Span(start=verdict["start"], end=verdict["end"], kind="shared", note=verdict["item"])
                found.append(
                    Example(
                        reason=REASON + verdict["set"],
                        source=source,
                        id=document["id"],
                        text=shared[:_SHOWN],
                        facts={name: verdict[name] for name in ("item", "rule", "overlap")},
                        excerpt=excerpt(text, [span]),
                    )
                )
    return found
