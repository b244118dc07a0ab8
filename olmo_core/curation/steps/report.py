"""The report of a corpus: waterfall, distributions, samples and recipe, as HTML, JSON and Markdown in the store.

It holds nothing of how the run went (seconds, memory), so that the same corpus has the same report, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.step import Job, Step, whole
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation import content, quality
from olmo_core.curation.corpus_recipe import CorpusRecipe, SourceRecipe
from olmo_core.curation.layout import CORPUS_REPORT
from olmo_core.curation.spans import merge
from olmo_core.curation.steps.evaluation_index import without_set_places
from olmo_core.curation.steps.mixing import MixRecipe, edits_of
from olmo_core.documents.environment import EnvironmentSource
from olmo_core.recipe import canonical, from_mapping
from olmo_core.report import decontamination, examples, takedown
from olmo_core.report.corpus import page
from olmo_core.report.page import document
from olmo_core.report.page.facts import Facts
from olmo_core.report.waterfall import waterfall
from olmo_core.storage import Storage

VERSION = 7
HTML, JSON, MARKDOWN, RECIPE = "report.html", "report.json", "report.md", "recipe.json"
SHOWN_RULES = 60
"""With more rules than this in all sources, one document of each is shown instead of two, and shorter."""


@dataclass(frozen=True, kw_only=True)
class ReportRecipe:
    """The whole resolved recipe, so that it is saved with the artifacts; without the places where files lay."""

    corpus: CorpusRecipe


def report_step(recipe: CorpusRecipe, refs: Mapping[str, ArtifactRef]) -> Step:
    """Return the step that writes the report; `refs` by `stage/source`."""
    return Step(
        stage=CORPUS_REPORT,
        source="all",
        version=VERSION,
        kind=Kind.REPORT,
        name=recipe.name,
        recipe=ReportRecipe(corpus=without_places(recipe)),
        inputs=dict(refs),
        shards=partial(whole, "report"),
        work=_write,
        outputs=lambda shard: [HTML, JSON, MARKDOWN, RECIPE],
    )


def without_places(recipe: CorpusRecipe) -> CorpusRecipe:
    """Return the recipe without the paths of its sources, which decide nothing: the inventories say which files were read."""

    def placeless(source: SourceRecipe) -> SourceRecipe:
        if isinstance(source.read, EnvironmentSource):
            return source
        return replace(source, read=replace(source.read, paths=(), root=None))

    sets = without_set_places(recipe.decontamination) if recipe.decontamination else None
    listed = replace(recipe.takedown, paths=()) if recipe.takedown is not None else None
    sources = tuple(placeless(source) for source in recipe.sources)
    return replace(recipe, sources=sources, decontamination=sets, takedown=listed)


def _write(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    recipe: CorpusRecipe = job.recipe[0].corpus
    store = ArtifactStore(job.store)
    manifests = {label: store.manifest(ref) for label, ref in job.shard.inputs["refs"].items()}
    facts = facts_of(recipe, manifests, output.storage)
    shown = {"dropped": facts.dropped, "duplicates": [p.dropped for p in facts.duplicates], "kept": facts.kept}
    shown["contaminated"] = facts.contaminated
    output.text("report", ".html", document.page(facts))
    output.text("report", ".json", json.dumps(facts.report, indent=1, ensure_ascii=False, sort_keys=True))
    output.text("report", ".md", page(recipe, facts.report, facts.lines, shown))
    output.text("recipe", ".json", json.dumps(facts.recipe, indent=1, ensure_ascii=False))
    return Ledger(), {}


def facts_of(recipe: CorpusRecipe, manifests: Mapping[str, Manifest], storage: Storage) -> Facts:
    """Return what the report shows of a corpus, from the manifests of its stages and a few of its documents."""
    lines = waterfall(manifests)
    rules = sum(len(source.rules) for source in recipe.sources)
    each, most = (2, 1600) if rules <= SHOWN_RULES else (1, 700)
    pairs = examples.duplicates(storage, manifests)
    shown = {
        "dropped": [
            e for s in recipe.sources for e in examples.dropped_by_rules(storage, s.name, manifests, each, most)
        ],
        "duplicates": [pair.dropped for pair in pairs],
        "kept": examples.kept(storage, manifests, 3, _rewriting(manifests["mixing/all"]), most),
    }
    report: dict[str, Any] = {
        "corpus": recipe.name,
        "waterfall": [line.to_json() for line in lines],
        "rules_without_effect": idle_rules(recipe, manifests),
        "examples": {kind: [e.to_json() for e in some] for kind, some in shown.items()},
        "stages": {label: {"artifact": str(m.ref), "shards": len(m.shards)} for label, m in manifests.items()},
        "mixture": manifests["mixture/all"].counts["sources"],
        "tokens_by_source": manifests["tokenization/all"].counts.get("tokens_by_source", {}),
        "content": canonical(recipe.content),
        "masked": manifests["mixing/all"].counts.get("masked", {}),
        "distributions": {
            source.name: manifests[f"selection/{source.name}"].counts.get("distributions", {})
            for source in recipe.sources
        },
    }
    if recipe.decontamination:
        shown["contaminated"] = decontamination.examples(storage, manifests, count=6)
        report["decontamination"] = decontamination.summary(manifests)
        report["examples"]["contaminated"] = [e.to_json() for e in shown["contaminated"]]
    if recipe.held_out:
        report["held_out"] = _held_out(recipe, manifests)
    if recipe.takedown is not None:
        report["takedown"] = takedown.summary(storage, manifests)
    return Facts(
        name=recipe.name,
        recipe=canonical(recipe),
        report=report,
        manifests=manifests,
        lines=lines,
        dropped=shown["dropped"],
        duplicates=pairs,
        kept=shown["kept"],
        contaminated=shown.get("contaminated", []),
        quarantined=examples.quarantined(storage, manifests, each=3),
        meanings={**quality.COLUMNS, **content.columns(recipe.content)},
    )


def _rewriting(mixing: Manifest) -> examples.Rewriting:
    """Return what mixing replaced in documents, from their tags."""
    recipe = from_mapping(MixRecipe, mixing.recipe)

    def replaced(tags: Mapping[str, pa.Array]) -> pa.ListArray | None:
        edits = edits_of(recipe, tags)
        return merge(*edits) if edits else None

    return replaced


def _held_out(recipe: CorpusRecipe, manifests: Mapping[str, Manifest]) -> dict[str, Any]:
    """Return for each held-out split what was asked for and what came of it."""
    counts = manifests["splits/all"].counts["splits"]
    survivors = sum(one["documents"] for one in counts.values()) or 1
    return {
        split.name: {
            "fraction": split.fraction,
            **counts[split.name],
            "share": counts[split.name]["documents"] / survivors,
            "tokens": int(manifests[f"packing/{split.name}"].counts.get("tokens", 0)),
            "artifact": str(manifests[f"packing/{split.name}"].ref),
        }
        for split in recipe.held_out
    }


def idle_rules(recipe: CorpusRecipe, manifests: Mapping[str, Manifest]) -> list[str]:
    """Return, as `source: rule`, the rules that no document failed: often a misspelt threshold."""
    return [
        f"{source.name}: {rule.name}"
        for source in recipe.sources
        for rule in source.rules
        if not manifests[f"selection/{source.name}"].counts.get("failed_alone", {}).get(rule.name)
    ]
