"""`olmo explain`: why one document was kept or dropped, and where its tokens are."""

from __future__ import annotations

import argparse
from typing import Any

from flows.command import choices, tables
from olmo_core.report.explain import explain

DESCRIPTION = """\
Print everything that is known of a document: every value, every rule with the value it saw, spans, its duplicate
partner, and where its tokens are. Ids are shown in the report's examples (`source/id` or `id`).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("document", metavar="DOCUMENT_ID", help="id, or source/id")
    parser.add_argument(
        "--corpus", default="quickstart", help="name of the corpus whose newest run is asked (default: %(default)s)"
    )
    choices.add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    store = choices.existing_store(arguments)
    records = explain(store, arguments.corpus, arguments.document)
    if arguments.json:
        tables.show_json(records)
        return 0
    for record in records:
        _print(record)
    return 0


def _print(record: dict[str, Any]) -> None:
    print(f"{record['source']}/{record['id']}: {verdict(record)}")
    print(f"in {record['shard']}, row {record['row']}, {record['bytes']:,} bytes; metadata {record['metadata']}\n")
    print("\n".join(f"    {line}" for line in record["text"].splitlines()[:8]) + "\n")
    rows = [
        (
            r["name"],
            "fails" if r["failed"] else "not measured" if r["unmeasured"] else "passes",
            f"{r['column']}: {r['unmeasured']}" if r["unmeasured"] else f"{r['column']} = {_value(r['seen'])}",
            f"dropped if {r['drop_if']} {r['value']}",
        )
        for r in record["rules"]
    ]
    tables.show(rows, ("rule", "verdict", "value", "threshold"), left=4)
    print("\nvalues")
    tables.show([(name, _value(value)) for name, value in record["values"].items()], ("column", "value"), left=2)
    for name, spans in record["spans"].items():
        if name.startswith("c4_"):
            print(f"span {name}: {len(spans)} lines or more" if spans else f"span {name}: none")
            continue
        for span in spans:
            kind = span.get("kind") or span.get("score")
            print(
                f"span {name} {span['start']}-{span['end']}{f' ({kind})' if kind is not None else ''}: {span['text']!r}"
            )
    if record["contaminated"]:
        c = record["contaminated"]
        print(
            f"shared with evaluation item {c['item']} (rule {c['rule']}, bytes {c['start']}-{c['end']}): {c['text']!r}"
        )
    for other in record["duplicates_of_it"]:
        print(f"{other['id']} was dropped as its {other['kind']} duplicate (Jaccard {other['jaccard']:.3f})")
    for place in record["tokens"]:
        print(
            f"tokens: {place['length']:,} in {place['shard']} from position {place['start']:,} (copy {place['copy']})"
        )


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def verdict(record: dict[str, Any]) -> str:
    """Return in words what became of the document."""
    taken = record["takedown"]
    if taken and taken["reason"]:
        listed = f"listed as {', '.join(taken['entries'])}" if taken["entries"] else f"an exact copy of {taken['of']}"
        return f"taken down: {listed}"
    if not record["selected"]:
        return f"dropped by rule {record['dropped_by']}"
    if record["contaminated"] and not record["contaminated"]["keep"]:
        c = record["contaminated"]
        others = f", and {c['matches'] - 1} more" if c["matches"] > 1 else ""
        return f"dropped as contaminated: holds {c['set']} item {c['item']} by rule {c['rule']}{others}"
    if record["duplicate"]:
        d = record["duplicate"]
        return f"dropped as {d['kind']} duplicate of {d['duplicate_of']} (Jaccard {d['jaccard']:.3f})"
    if record["split"] not in (None, "train"):
        because = f", as {record['split_because_of']} is, which was dropped in its favour"
        return f"held out: {record['split']}{because if record['split_because_of'] else ''}; in nothing that trains"
    return "kept" if record["tokens"] else "dropped in mixing (not sampled, or too short)"
