"""Evaluations made again, without the cache of scores, and the rule by which their numbers are the same.

The same weights on such hardware give the same bytes. Otherwise every number that comes first (the primary metric of a
benchmark, the bits per byte of texts) must lie within the 95% interval it had.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from typing import Any

from olmo_core.artifacts.build import build
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.errors import RecipeError
from olmo_core.evaluation import reporting
from olmo_core.evaluation.recipe import EvaluationRecipe
from olmo_core.evaluation.resources import ScoringResources
from olmo_core.evaluation.run import evaluate
from olmo_core.evaluation.stage import read_results
from olmo_core.evaluation.targets import find_targets
from olmo_core.recipe import from_mapping
from olmo_core.report.evaluation.rows import stored
from olmo_core.reproduction.comparison import Verdict, compare
from olmo_core.reproduction.rebuild import Reproduction
from olmo_core.workers import Here


def again(work: Reproduction, manifest: Manifest) -> tuple[Verdict, str]:
    """Evaluate again, or write the report of evaluations again, and compare."""
    if manifest.stage == "evaluation-report":
        return _report(work, manifest)
    checkpoint = manifest.inputs.get("checkpoint")
    if checkpoint is None:
        raise RecipeError(
            f"{manifest.ref} is of a model that is no artifact (a Hugging Face folder), which nothing tells where to find"
        )
    recipe = from_mapping(EvaluationRecipe, manifest.recipe["recipe"], str(manifest.ref))
    recipe = dataclasses.replace(recipe, domains=tuple(_exact(one, manifest) for one in recipe.domains))
    ref = _evaluated(work, recipe, checkpoint)
    made = work.again.manifest(ref)
    verdict, detail = compare(manifest, made)
    if verdict in (Verdict.SAME, Verdict.ROWS):
        return verdict, detail
    return _numbers(read_results(work.made, manifest), read_results(work.again, made))


def _exact(domain: Any, manifest: Manifest) -> Any:
    """A source of texts with its corpus named by fingerprint, as the other store has other tags."""
    if domain.corpus is None:
        return domain
    ref = manifest.inputs[f"corpus {domain.name}"]
    return dataclasses.replace(domain, corpus=f"{ref.kind}/{ref.name}/{ref.fingerprint}")


def _evaluated(work: Reproduction, recipe: EvaluationRecipe, checkpoint: ArtifactRef) -> ArtifactRef:
    target = find_targets(work.again, [f"{checkpoint.kind}/{checkpoint.name}/{checkpoint.fingerprint}"])[0]
    with tempfile.TemporaryDirectory(prefix="olmo-reproduce-") as scores:

        def tell(shard: str, done: int, total: int) -> None:
            work.tell(f"evaluating {checkpoint.address}: {shard}, {done:,} of {total:,}")

        return evaluate(work.again, recipe, target, ScoringResources(scores=scores), progress=tell).ref


def _numbers(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Verdict, str]:
    told, outside = [], 0
    for key, one in before.items():
        other = after.get(key)
        if other is None:
            return Verdict.DIFFERENT, f"{key} was not scored"
        if one["kind"] == "domains":
            a, b = one["bits_per_byte"], other["bits_per_byte"]
            inside = a is not None and b is not None and abs(a - b) <= 0.01 * abs(a)
        else:
            interval = stored(one, one["primary"])
            a, b = interval.value, stored(other, other["primary"]).value
            inside = a == b or interval.low <= b <= interval.high
        outside += not inside
        if a != b:
            told.append(f"{key} {a:.4g} -> {b:.4g}" if a is not None and b is not None else f"{key}: no number")
    if outside:
        return (
            Verdict.DIFFERENT,
            f"{outside} of {len(before)} numbers are outside the interval they had: {', '.join(told[:4])}",
        )
    return Verdict.NEAR, f"all numbers within the interval they had; {len(told)} of {len(before)} differ" + (
        f": {', '.join(told[:4])}" if told else " in their last digits only"
    )


def _report(work: Reproduction, manifest: Manifest) -> tuple[Verdict, str]:
    refs = [ref for role, ref in sorted(manifest.inputs.items()) if role.startswith("evaluation ")]
    gone = [ref for ref in refs if work.again.find(ref) is None]
    if gone:
        raise RecipeError(f"{gone[0]} has another address in the other store, as its weights came out different")
    step = reporting.report_step(
        manifest.recipe["title"], refs, manifest.recipe["labels"], manifest.inputs.get("contaminated")
    )
    build(work.again, step, Here())
    return compare(manifest, work.again.manifest(step.ref))
