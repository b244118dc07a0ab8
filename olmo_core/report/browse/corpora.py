"""Corpora: the report of each, copied beside the pages, as it holds waterfall, plots, thresholds and samples of documents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.curation.layout import CORPUS_REPORT
from olmo_core.report.browse.catalog import Catalog, Entry
from olmo_core.report.browse.shell import Page, tags, when
from olmo_core.report.page.document import POLICY
from olmo_core.report.page.elements import count, name, share, text

PAGE = "report.html"
_HEAD = f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
"""How a report of ours begins: a browser that has read this runs no script of whatever follows."""
_PARTS = (
    ("waterfall", "waterfall"),
    ("distributions", "thresholds and distributions"),
    ("samples", "samples, kept and dropped"),
    ("mixture", "mixture"),
    ("quarantine", "quarantine"),
)


def reports(catalog: Catalog) -> list[Entry]:
    """Return the reports of corpora, newest first."""
    return [one for one in catalog.kind(Kind.REPORT) if one.stage == CORPUS_REPORT]


@lru_cache(maxsize=2)
def copied(catalog: Catalog) -> dict[ArtifactRef, str]:
    """Return which reports (of corpora and of evaluations) are copied, and to which path."""
    some = [one for one in catalog.kind(Kind.REPORT) if one.ref in catalog.paged and _object(one)]
    return {one.ref: f"{one.ref.address}.report.html" for one in some[: catalog.limits.reports]}


def _object(entry: Entry) -> str:
    return next((o.path for o in entry.first_objects if o.key == PAGE), "")


def copy(catalog: Catalog, ref: ArtifactRef, path: str) -> bytes | None:
    """Return a report with a way back to the pages; None where it does not begin as a report of ours does, and is not copied."""
    raw = catalog.store.storage.read(_object(catalog.entries[ref]))
    page = Page(catalog=catalog, path=path, title=ref.name)
    back = f'<p class="dim">{page.a("index.html", "Store")} › {page.artifact(ref)}</p>'
    shown = raw.decode("utf-8", "replace")
    return shown.replace("<header>", f"<header>{back}", 1).encode() if shown.startswith(_HEAD) else None


def links(page: Page, ref: ArtifactRef) -> str:
    """Return links to the parts of a copied report; nothing where it is not copied."""
    path = copied(page.catalog).get(ref)
    if path is None:
        return ""
    if page.catalog.entries[ref].stage != CORPUS_REPORT:
        return page.a(path, "The whole report: scores, curves, what changed")
    return " · ".join(page.a(path, text(what), anchor) for anchor, what in _PARTS)


def cards(page: Page, some: Sequence[Entry]) -> str:
    """Return corpora as boxes: how much there is, where it came from, the parts of the report."""
    if not some:
        return ""
    return f'<div class="cards">{"".join(_card(page, one) for one in some)}</div>\n'


def _card(page: Page, one: Entry) -> str:
    packed = one.inputs.get("packing/all")
    tokens = page.catalog.entries.get(packed) if packed else None
    came = [
        page.catalog.entries[r].ledger.read
        for label, r in one.inputs.items()
        if label.startswith("documents/") and r in page.catalog.entries
    ]
    lines = [f"<b>{page.artifact(one.ref, one.ref.name)}</b> {tags(one.tags, 3)}"]
    if tokens is not None:
        documents, read = tokens.ledger.kept.documents, sum(t.documents for t in came)
        lines.append(
            f"{count(int(tokens.counts.get('tokens', 0)))} tokens, {documents:,} documents, {share(documents, read)} of {read:,} records"
        )
        lines.append(f"{page.artifact(tokens.ref)}")
    lines.append(
        links(page, one.ref)
        or f'<span class="dim">The report is not copied here; <code>olmo report {name(one.ref.name)}</code></span>'
    )
    lines.append(f'<span class="dim">{when(one.ended)} UTC</span>')
    return f'<div class="card">{"".join(f"<p>{line}</p>" for line in lines if line)}</div>'


def page_of(catalog: Catalog) -> Page:
    """Return the page with all corpora."""
    found = reports(catalog)
    page = Page(catalog=catalog, path="corpora.html", title="Corpora", small="Curated text")
    shown = found[: catalog.limits.listed]
    rest = (
        f"<p>{len(found) - len(shown):,} older ones are in {page.a('report.html', 'the list of reports')}.</p>\n"
        if len(found) > len(shown)
        else ""
    )
    page.add(
        "corpora",
        "Newest first",
        (cards(page, shown) + rest) or "<p>No corpus has a report yet: <code>olmo run build-dolma</code>.</p>\n",
    )
    return page


def samples(page: Page, entry: Entry) -> str:
    """Return where the samples of an artifact of a corpus are: in the reports that were made from it."""
    found = [ref for ref in copied(page.catalog) if entry.ref in page.catalog.entries[ref].inputs.values()]
    some = [one for one in found if page.catalog.entries[one].stage == CORPUS_REPORT][:3]
    lines = [f"<p>{name(ref.name)}: {links(page, ref)}</p>" for ref in some]
    return "".join(lines)
