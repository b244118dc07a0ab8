"""The summary of a chain as a stage: what was made in, one `report` artifact out, as text, Markdown and numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from olmo_core.artifacts.build import Built, build
from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.step import Job, Step, whole
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.evaluation.results import plain
from olmo_core.summary import text
from olmo_core.summary.facts import SummaryFacts, facts_from
from olmo_core.summary.recipe import DataToModelRecipe, Prices, SamplePart
from olmo_core.workers import Here

VERSION = 1
MARKDOWN, TEXT, JSON = "summary.md", "summary.txt", "summary.json"


@dataclass(frozen=True, kw_only=True)
class SummaryRecipe:
    """What decides a summary beside what it is of."""

    name: str
    sample: SamplePart
    prices: Prices
    notes: tuple[str, ...]
    """What did not go as the recipe asked for."""


def summary_step(recipe: DataToModelRecipe, refs: Mapping[str, ArtifactRef], notes: Sequence[str] = ()) -> Step:
    """Return the step that writes the summary of `refs`, by the roles of olmo_core/summary/facts.py."""
    return Step(
        stage="data-to-model",
        source=recipe.name,
        version=VERSION,
        kind=Kind.REPORT,
        name=f"data-to-model-{recipe.name}",
        recipe=SummaryRecipe(name=recipe.name, sample=recipe.sample, prices=recipe.prices, notes=tuple(notes)),
        inputs=dict(refs),
        shards=partial(whole, "summary"),
        work=_write,
        outputs=lambda shard: [JSON, MARKDOWN, TEXT],
    )


def build_summary(
    store: ArtifactStore, recipe: DataToModelRecipe, refs: Mapping[str, ArtifactRef], notes: Sequence[str] = ()
) -> Built:
    """Write the summary, or find that it is written, and tag it `latest`."""
    built = build(store, summary_step(recipe, refs, notes), Here())
    store.tag(built.ref, "latest")
    return built


def _write(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    recipe: SummaryRecipe = job.recipe[0]
    refs: dict[str, ArtifactRef] = dict(job.shard.inputs["refs"])
    facts = facts_from(ArtifactStore(job.store), recipe.name, refs, recipe.sample, recipe.prices, recipe.notes)
    output.text("summary", ".txt", text.terminal(facts))
    output.text("summary", ".md", text.card(facts))
    output.text("summary", ".json", json.dumps(plain(numbers(facts)), indent=1, ensure_ascii=False, sort_keys=True))
    return Ledger(), {}


def numbers(facts: SummaryFacts) -> dict[str, Any]:
    """Return what the summary tells as JSON values."""
    return {
        "name": facts.name,
        "corpus": facts.corpus,
        "run": str(facts.run.ref),
        "checkpoint": str(facts.checkpoint.ref),
        "evaluation": str(facts.evaluation.last.manifest.ref),
        "waterfall": [line.to_json() for line in facts.lines],
        "steps": int(facts.run.counts.get("steps", 0)),
        "tokens": int(facts.run.counts.get("tokens", 0)),
        "results": facts.evaluation.last.results,
        "sample": {"prompt": facts.part.prompt, "text": facts.sample},
        "costs": [{**one.__dict__, "money": one.money(facts.prices)} for one in facts.costs],
        "prices": dict(facts.prices.__dict__),
        "lineage": [dict(link.__dict__) for link in facts.lineage],
        "notes": list(facts.notes),
    }
