"""Takedown: what the list named, copies of it, and entries that named nothing here."""

from __future__ import annotations

from collections.abc import Sequence

from olmo_core.report.page.elements import fold, name, table
from olmo_core.report.page.facts import Facts

_WAYS = ("id", "url", "copy", "near_copy")


def body(facts: Facts) -> str:
    """Return the section, nothing for a corpus without a takedown list."""
    taken = facts.report.get("takedown")
    if taken is None:
        return ""
    rows = [(name(source), *(f"{counts[way]:,}" for way in _WAYS)) for source, counts in taken["sources"].items()]
    copies = "dropped too" if taken["copies"] == "drop" else "left in, as the recipe says"
    parts = [
        f"<p>{taken['entries']:,} entries, {taken['entries_without_document']:,} of them without a document here. Exact copies "
        f"of what they name are {copies}; near copies are named below and left in.</p>\n",
        table(("source", "by id", "by URL", "exact copies", "near copies"), rows),
    ]
    if taken["copies_left_in"]:
        left = [f"{name(c['id'])} ({c['jaccard']:.2f} of {name(c['of'])})" for c in taken["copies_left_in"]]
        parts.append(fold(f"<b>Copies left in</b>: {taken['left_in']:,}", _listed(left), opened=False))
    if taken["without_document"]:
        missing = [name(entry) for entry in taken["without_document"]]
        title = f"<b>Entries without a document</b>: {taken['entries_without_document']:,}"
        parts.append(fold(title, _listed(missing), opened=False))
    return "".join(parts)


def _listed(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>\n"
