"""The report of an ablation as a stage: evaluations and corpora in, one `report` artifact with table, numbers and costs out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from olmo_core.ablation import compare, text
from olmo_core.ablation.facts import AblationFacts, facts_from
from olmo_core.ablation.recipe import AblationRecipe
from olmo_core.artifacts.build import Built, build
from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.step import Job, Step, whole
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.evaluation.results import plain
from olmo_core.summary.recipe import Prices
from olmo_core.workers import Here

VERSION = 1
MARKDOWN, TEXT, JSON = "ablation.md", "ablation.txt", "ablation.json"


@dataclass(frozen=True, kw_only=True)
class AblationReportRecipe:
    """What decides a report beside what it is of."""

    name: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    changes: Mapping[str, Any]
    """What each variant does otherwise, as the recipe says it."""
    prices: Prices


def role(what: str, variant: str, seed: int | None = None) -> str:
    """Return the role of an input: `corpus raw`, `evaluation raw 1`."""
    return f"{what} {variant}" + ("" if seed is None else f" {seed}")


def ablation_step(recipe: AblationRecipe, refs: Mapping[str, ArtifactRef]) -> Step:
    """Return the step that writes the report of `refs`: `corpus V` (its report), `run V S` and `evaluation V S` for each variant and seed."""
    changes = {one.name: {"changes": dict(one.changes), "without": list(one.without)} for one in recipe.variants}
    return Step(
        stage="ablation-report",
        source=recipe.name,
        version=VERSION,
        kind=Kind.REPORT,
        name=f"ablation-{recipe.name}",
        recipe=AblationReportRecipe(
            name=recipe.name,
            variants=tuple(recipe.names),
            seeds=recipe.seeds,
            changes=changes,
            prices=recipe.prices,
        ),
        inputs=dict(refs),
        shards=partial(whole, "ablation"),
        work=_write,
        outputs=lambda shard: [JSON, MARKDOWN, TEXT],
    )


def build_report(store: ArtifactStore, recipe: AblationRecipe, refs: Mapping[str, ArtifactRef]) -> Built:
    """Write the report, or find that it is written, and tag it `latest`."""
    built = build(store, ablation_step(recipe, refs), Here())
    store.tag(built.ref, "latest")
    return built


def _write(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    recipe: AblationReportRecipe = job.recipe[0]
    manifests = {name: ArtifactStore(job.store).manifest(ref) for name, ref in job.shard.inputs["refs"].items()}
    facts = facts_from(
        ArtifactStore(job.store),
        recipe.name,
        {
            variant: (
                manifests[role("corpus", variant)],
                [manifests[role("run", variant, seed)] for seed in recipe.seeds],
                [manifests[role("evaluation", variant, seed)] for seed in recipe.seeds],
            )
            for variant in recipe.variants
        },
        recipe.seeds,
        recipe.changes,
        recipe.prices,
    )
    for suffix, value in (
        (".txt", text.terminal(facts)),
        (".md", text.card(facts)),
        (".json", json.dumps(plain(numbers(facts)), indent=1, ensure_ascii=False, sort_keys=True)),
    ):
        output.text("ablation", suffix, value)
    return Ledger(), {}


def numbers(facts: AblationFacts) -> dict[str, Any]:
    """Return what the report tells as JSON values."""
    return {
        "name": facts.name,
        "seeds": list(facts.seeds),
        "variants": [one.to_json(facts.prices) for one in facts.variants],
        "effects": [_effect(one) for one in facts.effects],
        "stages": {"in all": facts.stages, "made once for several": facts.shared},
    }


def _effect(one: compare.Effect) -> dict[str, Any]:
    return {
        **one.__dict__,
        "seeds": list(one.seeds),
        "texts": one.texts.to_json(),
        "both": one.both.to_json(),
        "verdict": one.verdict,
    }
