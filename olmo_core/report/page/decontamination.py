"""Decontamination: what held evaluation data and was removed, by evaluation set, with what was shared marked."""

from __future__ import annotations

from olmo_core.report.page.elements import fold, name, share, size, table, text
from olmo_core.report.page.facts import Facts
from olmo_core.report.page.samples import article


def body(facts: Facts) -> str:
    """Return the section, nothing for a corpus without evaluation sets."""
    found = facts.report.get("decontamination")
    if found is None:
        return ""
    read, removed = found["read"], found["removed"]
    parts = [
        f"<p><b>{removed['documents']:,}</b> documents ({size(removed['bytes'])}) held evaluation data and were removed: "
        f"{share(removed['documents'], read['documents'])} of the documents that selection kept, "
        f"{share(removed['bytes'], read['bytes'])} of their text.</p>\n",
    ]
    if found["above_target"]:
        parts.append(
            f"<p><b>More than {found['target']:.1%} of the documents were removed</b>, Paloma&#x27;s target: is a source made of "
            "evaluation data, or a set of common text?</p>\n"
        )
    rows = [
        (
            name(one),
            f"{counts['items']:,}",
            f"{counts['searchable']:,}",
            f"{counts['contaminated']:,}",
            share(counts["contaminated"], counts["items"]),
            f"{counts['removed']['documents']:,}",
        )
        for one, counts in found["sets"].items()
    ]
    parts.append(
        table(("evaluation set", "items", "searchable", "contaminated", "of items", "documents removed"), rows)
    )
    control = found["control"]
    parts.append(
        f"<p>Positive control: {control['found']:,} of {control['planted']:,} planted items found. "
        if control
        else "<p><b>No positive control was run.</b> "
    )
    parts.append(f"All items with the documents that held them: {text(found['items'])}.</p>\n")
    for source, sets in found["kept_as_exempt"].items():
        held = ", ".join(f"{n:,} of {text(one)}" for one, n in sets.items() if n) or "there are none"
        parts.append(f"<p>{name(source)} is exempt: documents that hold evaluation data stay ({held}).</p>\n")
    if facts.contaminated:
        parts.append(
            fold("<b>Examples</b>, what is shared marked", "".join(map(article, facts.contaminated)), opened=True)
        )
    return "".join(parts)
