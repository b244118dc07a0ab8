"""The mixture: how much of every source was planned and how much went in, in tokens."""

from __future__ import annotations

from olmo_core.report.page.elements import bar, count, name, share, table
from olmo_core.report.page.facts import Facts


def body(facts: Facts) -> str:
    """Return the section."""
    planned, realised = facts.report["mixture"], facts.report["tokens_by_source"]
    all_planned = sum(s["planned_tokens"] for s in planned.values())
    all_realised = sum(realised.values())
    most = max([*(s["planned_tokens"] for s in planned.values()), *realised.values(), 1])
    rows = []
    for source in sorted(planned, key=lambda s: (-realised.get(s, 0), s)):
        one, tokens = planned[source], int(realised.get(source, 0))
        rows.append(
            (
                name(source),
                bar(one["planned_tokens"], most, "p") + bar(tokens, most),
                f"{int(one['documents']):,}",
                f"{one['rate']:.3f}",
                count(one["planned_tokens"]),
                share(one["planned_tokens"], all_planned),
                count(tokens),
                share(tokens, all_realised),
            )
        )
    header = ("source", "tokens", "survivors", "copies each", "planned", "share", "realised", "share")
    return (
        '<p class="key"><span><i class="box" style="background:var(--soft)"></i>planned, from a sample\'s tokens per byte</span>'
        '<span><i class="box" style="background:var(--kept)"></i>realised, counted</span></p>\n'
        f'<div class="mixture">{table(header, rows, left=2)}</div>{_masked(facts)}'
    )


def _masked(facts: Facts) -> str:
    masked = {kind: number for kind, number in sorted(facts.report["masked"].items()) if number}
    if not masked:
        return ""
    what = {"email": "e-mail addresses", "phone": "phone numbers", "ip": "IP addresses"}
    shown = ", ".join(f"{number:,} {what.get(kind, kind)}" for kind, number in masked.items())
    return f"<p>Personal data masked in the documents that stayed: {shown}.</p>\n"
