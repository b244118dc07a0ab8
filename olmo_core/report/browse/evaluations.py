"""Evaluations: what one measured, with intervals, and those that asked the same beside each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.errors import OlmoError
from olmo_core.recipe import fingerprint
from olmo_core.report.browse.catalog import Catalog, Entry
from olmo_core.report.browse.shell import Page, tags, when
from olmo_core.report.page.elements import name, slug, table, text

if TYPE_CHECKING:
    from olmo_core.report.evaluation.facts import Facts


def steps_of(catalog: Catalog, entry: Entry) -> int:
    """Return the step of the evaluated checkpoint; 0 where it is none, or gone."""
    checkpoint = catalog.entries.get(entry.inputs["checkpoint"]) if "checkpoint" in entry.inputs else None
    return int(checkpoint.recipe.get("step", 0)) if checkpoint else 0


def label_of(catalog: Catalog, entry: Entry, *, with_name: bool) -> str:
    """Return what an evaluation is called beside others."""
    model = entry.ref.name.removesuffix(f"-{recipe_name(entry)}")
    known = catalog.entries.get(entry.inputs["checkpoint"]) if "checkpoint" in entry.inputs else None
    step = [f"step {int(known.recipe.get('step', 0)):,}"] if known else []
    words = ([model] if with_name or not step else []) + step
    return " ".join(words)


def recipe_name(entry: Entry) -> str:
    """Return the name of what was asked."""
    return str(entry.recipe.get("recipe", {}).get("name", ""))


@lru_cache(maxsize=2)
def groups(catalog: Catalog) -> list[list[Entry]]:
    """Return the evaluations that asked the same, newest group first; in each by model and step, the newest where there are many."""
    found: dict[str, list[Entry]] = {}
    for one in catalog.kind(Kind.EVALUATION):
        found.setdefault(_asked(one), []).append(one)
    most = catalog.limits.compared
    return [
        sorted(some[:most], key=lambda one: (one.ref.name, steps_of(catalog, one), one.ended))
        for some in found.values()
    ]


def _asked(entry: Entry) -> str:
    return fingerprint({key: value for key, value in entry.recipe.items() if key != "model"})


def path_of(group: Sequence[Entry]) -> str:
    """Return where a comparison is."""
    return f"evaluation/compared-{slug(recipe_name(group[0]))[:40]}-{_asked(group[0])[:8]}.html"


def group_of(catalog: Catalog, entry: Entry) -> list[Entry]:
    """Return the evaluations that asked the same as this one, where it is among those compared."""
    return next((some for some in groups(catalog) if entry in some), [])


def facts(catalog: Catalog, group: Sequence[Entry], title: str) -> Facts:
    """Return the facts of some evaluations, without tests of what changed: those are in the report, and take seconds."""
    from olmo_core.evaluation.compare import curves, read_evaluation
    from olmo_core.report.evaluation.facts import Facts

    names = {one.ref.name for one in group}
    labels = [label_of(catalog, one, with_name=len(names) > 1) for one in group]
    labels = [
        f"{label} ({one.ref.fingerprint[:6]})" if labels.count(label) > 1 else label
        for one, label in zip(group, labels, strict=True)
    ]
    read = [
        read_evaluation(catalog.store, catalog.store.manifest(one.ref), label)
        for one, label in zip(group, labels, strict=True)
    ]
    return Facts(
        name=title,
        evaluations=read,
        changes=(),
        curves=curves(read) if len(names) == 1 and len(read) > 1 else (),
        recipe=group[-1].recipe.get("recipe", {}),
    )


def scores(page: Page, entry: Entry) -> None:
    """Add the sections of one evaluation."""
    from olmo_core.report.evaluation import sections

    group = group_of(page.catalog, entry)
    if len(group) > 1:
        found = f"<p>{page.a(path_of(group), f'Beside {len(group) - 1} that asked the same')}</p>\n"
        page.add("beside", "Compared", found)
    try:
        one = facts(page.catalog, [entry], entry.ref.name)
        page.add("scores", "Scores", sections.scores(one))
        page.add("domains", "Bits per byte", sections.domains(one))
        page.add("normalisations", "Normalisations", sections.normalisations(one))
        page.add("counted", "Counted, not scored", sections.counted(one))
    except (OlmoError, ValueError, KeyError, TypeError) as error:
        page.add("scores", "Scores", f'<p class="note">They cannot be read: {text(error)}</p>\n')


def compared(catalog: Catalog, group: Sequence[Entry]) -> Page:
    """Return the page with the evaluations of a group beside each other."""
    from olmo_core.report.evaluation import sections

    title = recipe_name(group[0]) or group[0].ref.name
    page = Page(
        catalog=catalog,
        path=path_of(group),
        title=title,
        small="Evaluations beside each other",
        place="evaluations.html",
    )
    page.crumbs = (("Evaluations", "evaluations.html"),)
    page.lead = (
        f"<p>{len(group)} evaluations that asked the same items. Intervals are 95%; two whose intervals overlap may still differ, as the items are the "
        f"same: <code>olmo report evaluation {name(group[-1].ref.name)}</code> tests each change item by item.</p>\n"
    )
    try:
        found = facts(catalog, group, title)
        page.add("scores", "Scores", sections.scores(found))
        page.add("curves", "Curves", sections.curve_plots(found))
        page.add("domains", "Bits per byte", sections.domains(found))
        page.add("counted", "Counted, not scored", sections.counted(found))
    except (OlmoError, ValueError, KeyError, TypeError) as error:
        page.add("scores", "Scores", f'<p class="note">They cannot be read: {text(error)}</p>\n')
    rows = [(page.artifact(one.ref), tags(one.tags), when(one.ended)) for one in group]
    page.add("artifacts", "Artifacts", table(("evaluation", "tags", "ended (UTC)"), rows, left=3))
    return page


def latest(page: Page, most: int) -> str:
    """Return the newest evaluations as a table."""
    catalog = page.catalog
    beside: dict[ArtifactRef, list[Entry]] = {
        one.ref: group for group in groups(catalog) for one in group if len(group) > 1
    }
    rows = []
    for one in catalog.kind(Kind.EVALUATION)[:most]:
        group = beside.get(one.ref)
        rows.append(
            (
                page.artifact(one.ref, f"{one.ref.name}/{one.ref.fingerprint[:12]}"),
                f"{steps_of(catalog, one):,}" if "checkpoint" in one.inputs else "",
                _main(catalog, one),
                text(recipe_name(one)),
                when(one.ended),
                tags(one.tags, 2),
                page.a(path_of(group), f"beside {len(group) - 1} more") if group else "",
            )
        )
    header = ("evaluation", "step", "bits per byte, accuracy", "asked", "ended (UTC)", "tags", "")
    return table(header, rows, left=1) if rows else ""


def _main(catalog: Catalog, entry: Entry) -> str:
    """The numbers of an evaluation that come first: bits per byte, and the mean of the primary accuracies."""
    from olmo_core.report.evaluation.rows import stored

    bits, scores_ = [], []
    for one in entry.first_objects:
        if not one.key.endswith(".results.json"):
            continue
        try:
            found = json.loads(catalog.store.storage.read(one.path))
            if found["kind"] == "domains":
                bits += [found["bits_per_byte"]] if found["bits_per_byte"] is not None else []
            else:
                scores_.append(100 * stored(found, found["primary"]).value)
        except (OlmoError, ValueError, KeyError, TypeError):
            return "cannot be read"
    shown = [f"{sum(bits) / len(bits):.3f}"] if bits else []
    if scores_:
        shown.append(f"{sum(scores_) / len(scores_):.1f}%" + (f" (mean of {len(scores_)})" if len(scores_) > 1 else ""))
    return text(", ".join(shown))


def page_of(catalog: Catalog) -> Page:
    """Return the page with all evaluations."""
    page = Page(catalog=catalog, path="evaluations.html", title="Evaluations", small="Scores with intervals")
    beside = [some for some in groups(catalog) if len(some) > 1]
    rows = [
        (
            page.a(path_of(some), text(recipe_name(some[0]) or some[0].ref.name)),
            f"{len(some)}",
            name(", ".join(dict.fromkeys(e.ref.name for e in some))),
        )
        for some in beside
    ]
    page.add("compared", "Beside each other", table(("asked", "evaluations", "of"), rows) if rows else "")
    most = catalog.limits.listed
    there = len(catalog.kind(Kind.EVALUATION))
    rest = (
        f"<p>{there - most:,} older ones are in {page.a('evaluation.html', 'the list of evaluations')}.</p>\n"
        if there > most
        else ""
    )
    page.add(
        "latest",
        "Newest first",
        (latest(page, most) + rest)
        or "<p>Nothing was evaluated yet: <code>olmo evaluate checkpoint/tiny --recipe tiny</code>.</p>\n",
    )
    return page
