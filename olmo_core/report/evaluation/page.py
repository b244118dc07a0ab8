"""The report of evaluations as one HTML file: no scripts, no outside requests; the same evaluations give the same bytes."""

from __future__ import annotations

from collections.abc import Callable

from olmo_core.report.evaluation import sections
from olmo_core.report.evaluation.curves import STYLE
from olmo_core.report.evaluation.facts import Facts
from olmo_core.report.page.document import POLICY
from olmo_core.report.page.elements import text
from olmo_core.report.page.style import CSS

SECTIONS: tuple[tuple[str, str, Callable[[Facts], str]], ...] = (
    ("scores", "Scores", sections.scores),
    ("curves", "Curves", sections.curve_plots),
    ("domains", "Bits per byte", sections.domains),
    ("changes", "Changes", sections.changed),
    ("contamination", "Contamination", sections.contaminated),
    ("published", "Published numbers", sections.published),
    ("normalisations", "Normalisations", sections.normalisations),
    ("counted", "Counted, not scored", sections.counted),
    ("origin", "Origin", sections.origin),
)
"""Anchor, title and body, in the order of the page; a section whose body is empty is left out."""


def page(facts: Facts) -> str:
    """Return the whole page."""
    shown = [(anchor, title, made) for anchor, title, body in SECTIONS if (made := body(facts))]
    contents = "".join(f'<li><a href="#{anchor}">{text(title)}</a></li>' for anchor, title, _ in shown)
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n',
        f"<title>{text(facts.name)}: evaluation report</title>\n<style>{CSS}{STYLE}</style>\n</head>\n<body>\n",
        f'<div class="frame">\n<header>{sections.head(facts)}</header>\n',
        f'<nav aria-label="Contents"><ol>{contents}</ol></nav>\n<main>\n',
        *(f'<section id="{anchor}">\n<h2>{text(title)}</h2>\n{body}</section>\n' for anchor, title, body in shown),
        "</main>\n<footer>Written by OLMo Flows. The same evaluations have the same report, byte for byte. "
        "docs/evaluation.md says how to read it.</footer>\n</div>\n</body>\n</html>\n",
    ]
    return "".join(parts)
