"""Tables and pages in Markdown, as they read well in the Prefect dashboard."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from olmo_core.report.waterfall import WaterfallLine

_BAR = 5
"""Blocks of a full bar. With ten, the bars of the waterfall ran into the dashboard's side column at 1,400 pixels."""
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 1) -> str:
    """Return a Markdown table; the first `left` columns and those without a title are aligned left, the others right."""
    marks = [":--" if i < left or not title else "--:" for i, title in enumerate(header)]
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join(marks) + " |"]
    lines += ["| " + " | ".join(_cell(v) for v in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3f}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def size(count: float) -> str:
    """Return a number of bytes as people read it: 12.3 MB (decimal units)."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.0f}\u00a0{unit}" if unit == "B" else f"{count:.1f}\u00a0{unit}"
        count /= 1000
    return ""


def count(number: float) -> str:
    """Return a number of documents or tokens as people read it: 9,876 or 12.3 M."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(number) >= limit:
            return f"{number / limit:.2f}\u00a0{unit}"
    return f"{number:,.0f}"


def waterfall_table(lines: Sequence[WaterfallLine]) -> str:
    """Return the waterfall as a table; dropped lines carry a minus and a bar against the stage's input.

    Tokens before packing are estimates, marked by a tilde.
    """
    rows = []
    came = {(line.stage, line.source): line.documents for line in lines if line.what == "in"}
    for line in lines:
        sign = line.sign.replace("-", "−")
        whole = came.get((line.stage, line.source), 0)
        share = line.documents / whole if whole else 0.0
        about = "" if line.stage == "packing" else "~"
        name = f"**{line.stage}/{line.source}**" if line.what == "in" or not whole else ""
        what = f"**{line.what}**" if line.what in ("in", "kept") else line.what
        rows.append(
            (
                name,
                what,
                f"{sign}{count(line.documents)}",
                f"{sign}{size(line.bytes)}",
                f"{about}{sign}{count(line.tokens)}",
                f"{share:.1%}" if line.what != "in" and whole else "",
                _bar(share) if line.what != "in" else "",
            )
        )
    return table(("stage", "what", "documents", "text", "tokens", "of in", ""), rows, left=2)


def _bar(share: float) -> str:
    full, rest = divmod(round(share * _BAR * 8), 8)
    return "█" * full + _EIGHTHS[rest]


def example(title: str, text: str, facts: Mapping[str, Any]) -> str:
    """Return one document as a block that can be folded open."""
    shown = ", ".join(f"{k} = {v:.3g}" if isinstance(v, float) else f"{k} = {v}" for k, v in facts.items())
    body = html.escape(text).replace("`", "&#96;").replace("\n", "<br>")
    return f"<details><summary>{html.escape(title)} ({html.escape(shown)})</summary>\n\n<blockquote>{body}</blockquote>\n\n</details>\n"
