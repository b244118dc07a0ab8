"""The report of a corpus as one HTML file: the sections in order, without scripts and without outside requests.

The page is the same, byte for byte, for the same corpus. Texts of documents stand in it: they are escaped, and the
page's own policy forbids browsers to run any script or to load anything, should that ever fail.
"""

from __future__ import annotations

from olmo_core.report.page import (
    decontamination,
    distributions,
    head,
    held_out,
    mixture,
    origin,
    quarantine,
    samples,
    takedown,
    waterfall,
)
from olmo_core.report.page.elements import text
from olmo_core.report.page.facts import Facts, Section
from olmo_core.report.page.style import CSS

SECTIONS: tuple[Section, ...] = (
    Section(anchor="waterfall", title="Waterfall", body=waterfall.body),
    Section(anchor="distributions", title="Thresholds", body=distributions.body),
    Section(anchor="decontamination", title="Decontamination", body=decontamination.body),
    Section(anchor="mixture", title="Mixture", body=mixture.body),
    Section(anchor="held-out", title="Held out", body=held_out.body),
    Section(anchor="takedown", title="Takedown", body=takedown.body),
    Section(anchor="samples", title="Samples", body=samples.body),
    Section(anchor="quarantine", title="Quarantine", body=quarantine.body),
    Section(anchor="stages", title="Stages and recipe", body=origin.body),
)
"""In the order of the page; a section whose body is empty is left out."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def page(facts: Facts) -> str:
    """Return the whole page."""
    shown = [(section, body) for section in SECTIONS if (body := section.body(facts))]
    contents = "".join(f'<li><a href="#{section.anchor}">{text(section.title)}</a></li>' for section, _ in shown)
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n',
        f"<title>{text(facts.name)}: corpus report</title>\n<style>{CSS}</style>\n</head>\n<body>\n",
        f'<div class="frame">\n<header>{head.body(facts)}</header>\n',
        f'<nav aria-label="Contents"><ol>{contents}</ol></nav>\n<main>\n',
        *(
            f'<section id="{section.anchor}">\n<h2>{text(section.title)}</h2>\n{body}</section>\n'
            for section, body in shown
        ),
        "</main>\n<footer>Written by the report stage of OLMo Flows. The same corpus has the same report, byte for byte; "
        "how long a run took is in the dashboard and in the manifests.</footer>\n</div>\n</body>\n</html>\n",
    ]
    return "".join(parts)
