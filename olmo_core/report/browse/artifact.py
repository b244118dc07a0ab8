"""The page of one artifact: its ledger, what its kind has to show, inputs, what was made from it, lineage, recipe, environment, objects."""

from __future__ import annotations

import json
from typing import Any

from olmo_core.artifacts import graph
from olmo_core.artifacts.ledger import Tally
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.report import lineage
from olmo_core.report.browse import corpora, evaluations, steps, training
from olmo_core.report.browse.catalog import OBJECTS, Catalog, Entry
from olmo_core.report.browse.shell import Page, tags, tiles, when
from olmo_core.report.page.elements import bar, fold, name, share, size, table, text

_ROWS = 100
"""Inputs, and things made from it, that a page lists."""
_JSON = 40_000
"""Characters of a recipe or of counts."""
_PLACES = {
    Kind.RUN: "runs.html",
    Kind.CHECKPOINT: "runs.html",
    Kind.EVALUATION: "evaluations.html",
    Kind.REPORT: "corpora.html",
}


def page_of(catalog: Catalog, entry: Entry) -> Page:
    """Return the page of an artifact."""
    ref = entry.ref
    page = Page(
        catalog=catalog,
        path=catalog.page(ref),
        title=f"{ref.kind}/{ref.name}",
        small=f"{entry.stage}, version {entry.version}",
        place=_PLACES.get(ref.kind, "artifacts.html"),
    )
    page.crumbs = (("Artifacts", "artifacts.html"), (str(ref.kind), f"{ref.kind}.html"))
    page.lead = (
        f'<p class="dim"><code>{text(ref)}</code> {tags(entry.tags, 12)}</p>\n'
        f"{tiles(_numbers(entry))}<p class=dim>{when(entry.started)} to {when(entry.ended)} UTC. <code>olmo artifacts show {name(ref.address)}</code></p>\n"
    )
    _own(page, entry)
    page.add("ledger", "What became of the documents", _ledger(entry))
    page.add("inputs", "Made from", _inputs(page, entry))
    page.add("made", "Made from it", _made(page, entry))
    page.add("lineage", "Lineage", _lineage(page, ref))
    page.add("recipe", "Recipe", _json("What decides it", entry.recipe))
    page.add("counts", "Counts", _json("What was counted", entry.counts) if entry.counts else "")
    page.add("environment", "Environment", _environment(entry))
    page.add("objects", "Objects", _objects(entry))
    return page


def _numbers(entry: Entry) -> list[tuple[str, str]]:
    found = [(size(entry.bytes), "stored"), (f"{entry.objects:,}", "objects"), (f"{entry.shards:,}", "shards")]
    if entry.ledger.kept.documents:
        found.insert(0, (f"{entry.ledger.kept.documents:,}", "documents kept"))
    if entry.cpu_seconds:
        found.append((f"{entry.cpu_seconds:,.1f} s", "CPU"))
    if entry.peak_memory_bytes:
        found.append((size(entry.peak_memory_bytes), "peak memory"))
    return found


def _own(page: Page, entry: Entry) -> None:
    """Add what an artifact's kind has to show."""
    kind = entry.ref.kind
    if kind == Kind.RUN:
        training.body(page, entry.ref)
    elif kind == Kind.CHECKPOINT:
        page.add("steps", "Steps", _steps(page, entry))
    elif kind == Kind.EVALUATION:
        evaluations.scores(page, entry)
    elif kind == Kind.REPORT:
        links = corpora.links(page, entry.ref)
        page.add(
            "report",
            "Report",
            f"<p>{links}</p>\n" if links else "<p>It is not copied here: <code>olmo report</code> fetches it.</p>\n",
        )
    else:
        page.add("samples", "Waterfall, plots, samples", corpora.samples(page, entry))


def _steps(page: Page, entry: Entry) -> str:
    catalog = page.catalog
    known = [*(one.ref for one in catalog.kind(Kind.RUN)), *catalog.under_way]
    short = str(entry.recipe.get("run", ""))[:12]
    run = next((one for one in known if one.name == entry.ref.name and one.fingerprint[:12] == short), None)
    whole = next((one for one in steps.inspected(catalog) if one.recipe.get("run") == entry.recipe.get("run")), None)
    lines = [f"Of run {page.a(training.path_of(catalog, run), name(run.address))}." if run else "Its run is gone."]
    if whole is not None:
        lines.append(page.a(steps.path_of(whole.ref), "The documents of some of its steps"))
    lines.append(f"<code>olmo inspect step {name(entry.ref.address)} N</code> shows any step.")
    return f"<p>{' '.join(lines)}</p>\n"


def _ledger(entry: Entry) -> str:
    ledger = entry.ledger
    most = max((ledger.read + ledger.repeated).documents, 1)
    if not ledger.read.documents and not ledger.kept.documents:
        return ""
    lost = sorted(
        {**ledger.dropped, **{f"quarantined: {k}": v for k, v in ledger.quarantined.items()}}.items(),
        key=lambda kv: -kv[1].documents,
    )
    rows: list[tuple[str, str, Tally]] = [("in", "k", ledger.read)]
    rows += [("repeated", "g", ledger.repeated)] if ledger.repeated.documents else []
    rows += [(reason.replace("_", " "), "l", tally) for reason, tally in lost]
    rows.append(("kept", "k", ledger.kept))
    cells = [
        (
            text(what),
            bar(tally.documents, most, kind),
            f"{tally.documents:,}",
            size(tally.bytes),
            share(tally.documents, most),
        )
        for what, kind, tally in rows
    ]
    return table(("", "", "documents", "text", "share"), cells, left=2, kind="ledger")


def _inputs(page: Page, entry: Entry) -> str:
    by_ref: dict[ArtifactRef, list[str]] = {}
    for role, ref in sorted(entry.inputs.items()):
        by_ref.setdefault(ref, []).append(role)
    rows = [(text(", ".join(roles)), _linked(page, ref)) for ref, roles in list(by_ref.items())[:_ROWS]]
    more = f"<p>{len(by_ref) - _ROWS:,} more.</p>\n" if len(by_ref) > _ROWS else ""
    return table(("role", "artifact"), rows, left=2) + more if rows else ""


def _linked(page: Page, ref: ArtifactRef) -> str:
    here = page.catalog.entries.get(ref)
    return page.artifact(ref) + (f" {tags(here.tags, 3)}" if here else " <small>not in the store any more</small>")


def _made(page: Page, entry: Entry) -> str:
    every = sorted(page.catalog.below.get(entry.ref, ()), key=lambda ref: page.catalog.entries[ref].ended, reverse=True)
    rows = [
        (_linked(page, ref), text(page.catalog.entries[ref].stage), when(page.catalog.entries[ref].ended))
        for ref in every[:_ROWS]
    ]
    more = f"<p>The newest {_ROWS} of {len(every):,}.</p>\n" if len(every) > _ROWS else ""
    return more + table(("artifact", "stage", "ended (UTC)"), rows, left=3) if rows else ""


def _lineage(page: Page, ref: ArtifactRef) -> str:
    catalog = page.catalog
    note = ""
    if graph.is_larger(catalog.entries, ref, catalog.below, catalog.limits.graph):
        near = {ref, *catalog.entries[ref].inputs.values(), *catalog.below.get(ref, ())}
        note = f"<p>It has more than {catalog.limits.graph:,} artifacts; only the nearest are drawn. <code>olmo artifacts lineage {name(ref.address)} --both</code> has all.</p>\n"
        found = graph.among(catalog.entries, near, [ref])
    else:
        found = graph.trace(catalog.entries, [ref], forward=True, below=catalog.below)
    grouped = len(found.nodes) > lineage.APART
    picture = lineage.svg(
        found, lambda one: page.link(catalog.page(one)) if catalog.page(one) else "", title=f"lineage of {ref.address}"
    )
    rows = [
        (text(node.stage or "gone"), page.artifact(node.ref), when(node.ended))
        for node in found.nodes[: catalog.limits.graph]
    ]
    said = (
        "A box with a number stands for artifacts of one stage side by side, and leads to the first of them; all are in the table. "
        if grouped
        else ""
    )
    return (
        f"{note}<p class=dim>Above: what it was made from. Below: what was made from it. {said}Ways that a longer one says already are not drawn.</p>\n"
        f'<div class="scroll" tabindex="0" role="region" aria-label="lineage">{picture}</div>\n'
        + fold(f"All {len(found.nodes):,} artifacts of it", table(("stage", "artifact", "ended (UTC)"), rows, left=3))
    )


def _json(summary: str, value: Any) -> str:
    shown = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    cut = "" if len(shown) <= _JSON else f"<p>The first {_JSON:,} of {len(shown):,} characters.</p>\n"
    return fold(text(summary), f"{cut}<pre>{text(shown[:_JSON])}</pre>\n") if value else ""


def _environment(entry: Entry) -> str:
    known = dict(entry.environment)
    packages = known.pop("packages", {})
    known.pop("code", None)
    rows = [(text(key), _value(key, value)) for key, value in known.items() if value not in ("", [], None)]
    if not rows:
        return ""
    listed = ", ".join(f"{k} {v}" for k, v in packages.items()) if isinstance(packages, dict) else ""
    return table(("", ""), rows, left=2) + fold(f"{len(packages):,} packages", f"<p>{text(listed)}</p>\n")


def _value(key: str, value: Any) -> str:
    if key == "memory_bytes" and isinstance(value, int):
        return size(value)
    return text(", ".join(map(str, value)) if isinstance(value, list) else value)


def _objects(entry: Entry) -> str:
    rows = [
        (
            name(o.key),
            f"{o.rows:,}",
            size(o.size),
            f"<code>{text(o.sha256[:16])}</code>",
            f"<code>{name(o.path)}</code>",
        )
        for o in entry.first_objects
    ]
    if not rows:
        return ""
    title = (
        f"{entry.objects:,} objects"
        if entry.objects <= OBJECTS
        else f"The first {OBJECTS} of {entry.objects:,} objects"
    )
    return fold(title, table(("key", "rows", "size", "sha256", "path"), rows))
