"""The pages that lead to the others: overview, corpora, runs, evaluations, and lists of artifacts by kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from olmo_core.artifacts.ref import Kind
from olmo_core.report.browse import corpora, evaluations, training
from olmo_core.report.browse.catalog import Catalog, Entry
from olmo_core.report.browse.shell import Page, tags, tiles, when
from olmo_core.report.page.elements import count, name, size, table, text

_LATEST = 12


def overview(catalog: Catalog) -> Page:
    """Return the first page."""
    page = Page(catalog=catalog, path="index.html", title="Artifact store", small="OLMo Flows")
    entries = catalog.entries
    corpora_, runs = corpora.reports(catalog), catalog.kind(Kind.RUN)
    started = len(runs) + len(catalog.under_way)
    numbers = [
        (f"{len(entries):,}", "artifacts"),
        (size(catalog.bytes), "stored, each object once"),
        (f"{len(corpora_):,}", "corpus" if len(corpora_) == 1 else "corpora"),
        (f"{started:,}", "training run" if started == 1 else "training runs"),
        (f"{len(catalog.kind(Kind.CHECKPOINT)):,}", "checkpoints"),
        (f"{len(catalog.kind(Kind.EVALUATION)):,}", "evaluations"),
    ]
    page.lead = f'<p class="dim"><code>{text(catalog.store.uri)}</code></p>\n{tiles(numbers)}{_notes(catalog)}'
    page.add(
        "corpora",
        "Corpora",
        corpora.cards(
            page,
            corpora_[:6],
        )
        + _more(page, len(corpora_), 6, "corpora.html"),
    )
    page.add("runs", "Training runs", training.cards(page, 4) + _more(page, len(runs), 4, "runs.html"))
    found = catalog.kind(Kind.EVALUATION)
    page.add("evaluations", "Evaluations", evaluations.latest(page, 6) + _more(page, len(found), 6, "evaluations.html"))
    page.add("kinds", "Artifacts by kind", _kinds(page))
    page.add("latest", "Finished last", entry_table(page, list(entries.values())[:_LATEST]))
    if not entries:
        page.add(
            "empty",
            "Nothing yet",
            "<p>No artifact is finished in this store. <code>olmo run build-dolma</code> makes the first.</p>\n",
        )
    return page


def _more(page: Page, there: int, shown: int, path: str) -> str:
    return f"<p>{page.a(path, f'All {there:,}')}</p>\n" if there > shown else ""


def _notes(catalog: Catalog) -> str:
    notes = []
    if catalog.unreadable:
        bad = "".join(f"<li><code>{name(address)}</code>: {text(why)}</li>" for address, why in catalog.unreadable[:20])
        notes.append(
            f"<b>{len(catalog.unreadable):,} manifests cannot be read</b>; <code>olmo artifacts verify</code> looks into it.<ul>{bad}</ul>"
        )
    if len(catalog.paged) < len(catalog.entries):
        notes.append(
            f"{len(catalog.paged):,} of {len(catalog.entries):,} artifacts have a page here: those with tags, then the newest "
            f"(<code>olmo browse --artifacts</code> gives more); the others are listed without one."
        )
    return "".join(f'<div class="note">{one}</div>\n' for one in notes)


def _kinds(page: Page) -> str:
    rows = []
    for kind in Kind:
        own = page.catalog.kind(kind)
        if own:
            names = len({one.ref.name for one in own})
            rows.append(
                (page.a(f"{kind}.html", text(kind)), f"{names:,}", f"{len(own):,}", size(sum(e.bytes for e in own)))
            )
    return table(("kind", "names", "versions", "stored"), rows) if rows else ""


def entry_table(page: Page, some: Sequence[Entry], *, with_kind: bool = True) -> str:
    """Return artifacts as a table."""
    rows = [
        (
            page.artifact(one.ref, None if with_kind else f"{one.ref.name}/{one.ref.fingerprint[:12]}"),
            text(one.stage),
            f"{one.ledger.kept.documents:,}" if one.ledger.kept.documents else "",
            size(one.bytes),
            when(one.ended),
            tags(one.tags, 2),
        )
        for one in some
    ]
    return table(("artifact", "stage", "documents", "stored", "ended (UTC)", "tags"), rows, left=2) if rows else ""


def artifacts(catalog: Catalog) -> Page:
    """Return the page that leads to the kinds."""
    page = Page(catalog=catalog, path="artifacts.html", title="Artifacts", small="All kinds")
    page.add("kinds", "By kind", _kinds(page) or "<p>None.</p>\n")
    page.add("latest", "Finished last", entry_table(page, list(catalog.entries.values())[:50]))
    return page


def kind_pages(catalog: Catalog, kind: Kind) -> Iterator[Page]:
    """Yield the list of a kind, by name and newest version first, some artifacts a page."""
    own = sorted(catalog.kind(kind), key=lambda one: one.ref.name)
    size_ = catalog.limits.listed
    starts = range(0, len(own), size_)
    for number, first in enumerate(starts):
        some = own[first : first + size_]
        page = Page(
            catalog=catalog,
            path=_part(kind, number),
            title=str(kind),
            small="Artifacts of one kind",
            place="artifacts.html",
        )
        page.crumbs = (("Artifacts", "artifacts.html"),)
        others = " · ".join(
            f"<b>{n + 1}</b>" if n == number else page.a(_part(kind, n), str(n + 1)) for n in range(len(starts))
        )
        turn = f"<p>Page {others}: {count(len(own))} versions, by name.</p>\n" if len(starts) > 1 else ""
        page.add("list", "Versions by name, newest first", turn + entry_table(page, some, with_kind=False) + turn)
        yield page


def _part(kind: Kind, number: int) -> str:
    return f"{kind}.html" if number == 0 else f"{kind}.{number + 1}.html"
