"""Records that became no documents: how many for which reason, and some of them."""

from __future__ import annotations

from olmo_core.report.page.elements import fold, name, share, size, table, text
from olmo_core.report.page.facts import Facts

SHOWN_BYTES = 240


def body(facts: Facts) -> str:
    """Return the section; it says so when nothing was quarantined."""
    rows = []
    for source in facts.sources:
        ledger = facts.manifests[f"documents/{source}"].ledger
        for reason, tally in sorted(ledger.quarantined.items()):
            rows.append(
                (
                    name(source),
                    text(reason.replace("_", " ")),
                    f"{tally.documents:,}",
                    share(tally.documents, ledger.read.documents),
                    size(tally.bytes),
                )
            )
    if not rows:
        return "<p>No record was malformed.</p>\n"
    parts = [table(("source", "reason", "records", "of all", "size"), rows, left=2)]
    for one in facts.quarantined:
        where = f"line or row {one.position:,}" if one.position else "the file as a whole"
        raw = one.raw[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
        more = "" if len(one.raw) <= SHOWN_BYTES and one.size <= len(one.raw) else ' <span class="dim">…</span>'
        parts.append(
            fold(
                f"<b>{text(one.reason.replace('_', ' '))}</b> {name(one.source)}: {name(one.file)}, {where}",
                f'<div class="facts">{text(one.detail)}; {size(one.size)}</div>\n<div class="text" dir="auto">{text(raw)}{more}</div>\n',
            )
        )
    return "".join(parts)
