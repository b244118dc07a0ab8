"""Held-out splits: what nothing is trained on, and how much of the survivors that is."""

from __future__ import annotations

from olmo_core.report.page.elements import count, name, share, table
from olmo_core.report.page.facts import Facts


def body(facts: Facts) -> str:
    """Return the section, nothing for a corpus without held-out splits."""
    splits = facts.report.get("held_out")
    if not splits:
        return ""
    rows = [
        (
            name(split),
            name(one["artifact"]),
            share(one["fraction"], 1),
            share(one["share"], 1),
            f"{int(one['documents']):,}",
            f"{int(one['because_of_copies']):,}",
            count(one["tokens"]),
        )
        for split, one in splits.items()
    ]
    header = ("split", "tokens artifact", "asked for", "of the survivors", "documents", "because of a copy", "tokens")
    return (
        "<p>Chosen by hash of source and id, for good: these documents are in no training artifact. A document is held out "
        f"too when it stayed in place of a copy that is.</p>\n{table(header, rows, left=2)}"
    )
