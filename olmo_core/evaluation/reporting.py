"""The report of evaluations as a stage: evaluation artifacts in, one `report` artifact with a page, Markdown and numbers out."""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from olmo_core.artifacts.build import Built, build
from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind, check_name
from olmo_core.artifacts.step import Job, Step, whole
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError
from olmo_core.evaluation.compare import Curve, read_evaluation
from olmo_core.evaluation.results import plain
from olmo_core.evaluation.statistics import Noise
from olmo_core.evaluation.targets import runs_of
from olmo_core.report.evaluation.card import card
from olmo_core.report.evaluation.facts import ITEMS_STAGE, Facts, facts_of, searched_items
from olmo_core.report.evaluation.page import page
from olmo_core.report.evaluation.rows import number, stored_interval
from olmo_core.workers import Here

VERSION = 4
HTML, JSON, MARKDOWN = "report.html", "report.json", "report.md"
_CONTAMINATED = "contaminated"


@dataclass(frozen=True, kw_only=True)
class EvaluationReportRecipe:
    """What decides a report beside the evaluations."""

    title: str
    labels: tuple[str, ...]
    """What each evaluation is called, in order."""


def report_name(title: str) -> str:
    """Return the name of the report artifact: apart from the corpus reports, which are named as corpora."""
    return check_name(f"evaluation-{title}", "report name")


def report_step(
    title: str, evaluations: Sequence[ArtifactRef], labels: Sequence[str], contaminated: ArtifactRef | None = None
) -> Step:
    """Return the step that writes a report of evaluations in their order; `contaminated`: a corpus's `contaminated-items` artifact."""
    roles = {f"evaluation {i:04d}": ref for i, ref in enumerate(evaluations)}
    return Step(
        stage="evaluation-report",
        source=title,
        version=VERSION,
        kind=Kind.REPORT,
        name=report_name(title),
        recipe=EvaluationReportRecipe(title=title, labels=tuple(labels)),
        inputs={**roles, **({_CONTAMINATED: contaminated} if contaminated else {})},
        shards=partial(whole, "report"),
        work=_write,
        outputs=lambda shard: [HTML, JSON, MARKDOWN],
    )


def build_report(
    store: ArtifactStore,
    evaluations: Sequence[ArtifactRef],
    labels: Sequence[str],
    *,
    title: str | None = None,
    contaminated: ArtifactRef | None = None,
) -> Built:
    """Make a report, or find that it is made, and tag it `latest`. Title: by default the evaluations' name where they have one."""
    names = list(dict.fromkeys(one.name for one in evaluations))
    title = title or ("-and-".join(names[:2]) + (f"-and-{len(names) - 2}-more" if len(names) > 2 else ""))
    built = build(store, report_step(title, evaluations, labels, contaminated), Here())
    store.tag(built.ref, "latest")
    return built


def _write(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    recipe: EvaluationReportRecipe = job.recipe[0]
    store = ArtifactStore(job.store)
    refs: dict[str, ArtifactRef] = dict(job.shard.inputs["refs"])
    contaminated = refs.pop(_CONTAMINATED, None)
    facts = facts_from(store, recipe.title, [refs[role] for role in sorted(refs)], recipe.labels, contaminated)
    output.text("report", ".html", page(facts))
    output.text("report", ".md", card(facts))
    output.text("report", ".json", json.dumps(numbers(facts), indent=1, ensure_ascii=False, sort_keys=True))
    return Ledger(), {}


def facts_from(
    store: ArtifactStore,
    title: str,
    evaluations: Sequence[ArtifactRef],
    labels: Sequence[str],
    contaminated: ArtifactRef | None = None,
) -> Facts:
    """Return what a report of these artifacts shows."""
    found = [read_evaluation(store, store.manifest(ref), label) for ref, label in zip(evaluations, labels, strict=True)]
    searched = (str(contaminated), searched_items(store, store.manifest(contaminated))) if contaminated else None
    return facts_of(title, found, searched)


def numbers(facts: Facts) -> dict[str, Any]:
    """Return the report's numbers as JSON values."""
    changes = [
        {
            **{name: getattr(one, name) for name in ("benchmark", "metric", "first", "second", "p", "verdict")},
            "difference": one.difference.interval.to_json(),
            "detectable": one.difference.detectable,
        }
        for one in facts.changes
    ]
    curves = [
        {
            **{name: getattr(one, name) for name in ("benchmark", "metric", "labels", "steps", "tokens", "chance")},
            "points": [point.to_json() for point in one.points],
            "noise_band": one.noise.band,
            "signal_to_noise": one.noise.signal_to_noise,
        }
        for one in facts.curves
    ]
    scores = facts.contaminated.scores if facts.contaminated else ()
    dirty = [
        {
            "evaluation": label,
            "benchmark": one.benchmark,
            "metric": one.metric,
            **{name: getattr(one, name).to_json() for name in ("dirty", "clean", "difference")},
            "unknown": one.unknown,
        }
        for label, one in scores
    ]
    evaluations = [
        {
            "label": one.label,
            "evaluation": str(one.manifest.ref),
            "step": one.step,
            "tokens": one.tokens,
            "results": one.results,
        }
        for one in facts.evaluations
    ]
    made: dict[str, Any] = plain(
        {"evaluations": evaluations, "changes": changes, "curves": curves, "contamination": dirty}
    )
    return made


def series(store: ArtifactStore, name: str, tags: str = "step*", like: ArtifactRef | None = None) -> list[Manifest]:
    """Return the evaluations of a name that tags point at, by step: those that were asked what `like`, or the newest, was.

    Raises InputError where there is none. Those of a changed recipe of the same name, and of another run of it, are left out.
    """
    tagged = store.tags(str(Kind.EVALUATION), name)
    refs = {ref for tag, ref in tagged.items() if fnmatch.fnmatchcase(tag, tags)} or set(tagged.values())
    if not refs:
        there = ", ".join(store.storage.folders(str(Kind.EVALUATION))) or "none"
        raise InputError(f"there are no evaluations evaluation/{name}; there are: {there}. `olmo evaluate` makes them")
    manifests = [store.manifest(ref) for ref in refs]
    wanted = store.manifest(like) if like is not None else max(manifests, key=lambda m: m.ended)
    asked = [m for m in manifests if _asked(m) == _asked(wanted) and _is_of_one_run(store, m, wanted)]
    return sorted(asked, key=lambda m: (_step(store, m), m.ended))


def read_curves(store: ArtifactStore, manifest: Manifest) -> tuple[list[Curve], dict[str, Any]]:
    """Return the curves of a report that was written, and the last results of each benchmark, without computing anything again."""
    numbers = json.loads(store.storage.read(manifest.object(JSON).path))
    results = {key: one for evaluation in numbers["evaluations"] for key, one in evaluation["results"].items()}
    found = [
        Curve(
            benchmark=one["benchmark"],
            metric=one["metric"],
            labels=tuple(one["labels"]),
            steps=tuple(one["steps"]),
            tokens=tuple(one["tokens"]),
            points=tuple(stored_interval(point) for point in one["points"]),
            noise=Noise(band=number(one["noise_band"]), signal=math.nan),
            chance=one["chance"],
        )
        for one in numbers["curves"]
    ]
    return found, results


def _asked(manifest: Manifest) -> Any:
    return {key: value for key, value in manifest.recipe.items() if key != "model"}


def _is_of_one_run(store: ArtifactStore, one: Manifest, wanted: Manifest) -> bool:
    """Whether two evaluated checkpoints lie on one curve; true where one is not in the store any more, or is no checkpoint."""
    pair = [store.find(ref) if (ref := m.inputs.get("checkpoint")) is not None else None for m in (one, wanted)]
    if pair[0] is None or pair[1] is None:
        return True
    return str(pair[0].recipe.get("run")) in runs_of(store, pair[1])


def _step(store: ArtifactStore, manifest: Manifest) -> int:
    checkpoint = manifest.inputs.get("checkpoint")
    found = store.find(checkpoint) if checkpoint is not None else None
    return int(found.recipe["step"]) if found is not None else 0


def contaminated_items(store: ArtifactStore, evaluations: Sequence[ArtifactRef]) -> ArtifactRef | None:
    """Return the list of contaminated items of the corpus that the evaluated checkpoints were trained on; None where there is none,
    or where they were trained on corpora that went through different decontaminations: what is dirty for one is clean for another.

    From a checkpoint's tokens back to the decontamination they went through, and from its index forward to the list. The newest where there are several.
    """
    verdicts: list[set[ArtifactRef]] = []
    for ref in evaluations:
        checkpoint = store.manifest(ref).inputs.get("checkpoint")
        found = store.find(checkpoint) if checkpoint is not None else None
        if found is not None and (tokens := found.inputs.get("tokens")) is not None:
            verdicts.append(_verdicts(store, tokens))
    wanted = verdicts[0] if verdicts else set()
    if not wanted or any(one != wanted for one in verdicts):
        return None
    lists = [
        m for m in store.finished(str(Kind.ATTRIBUTES)) if m.stage == ITEMS_STAGE and wanted & set(m.inputs.values())
    ]
    return max(lists, key=lambda m: m.ended).ref if lists else None


def _verdicts(store: ArtifactStore, ref: ArtifactRef) -> set[ArtifactRef]:
    """The decontamination verdicts that an artifact is made with."""
    found: set[ArtifactRef] = set()
    seen: set[ArtifactRef] = set()
    waiting = [ref]
    while waiting:
        one = waiting.pop()
        manifest = store.find(one) if one not in seen else None
        seen.add(one)
        if manifest is None:
            continue  # collected since: what is left still tells
        if manifest.stage == "decontamination":
            found.add(one)
        else:
            waiting += manifest.inputs.values()
    return found


def labels_of(store: ArtifactStore, manifests: Sequence[Manifest]) -> list[str]:
    """Return what evaluations are called in a report: `step 1,000` for checkpoints, else the model's name; with more where that is not enough."""
    names = {one.ref.name for one in manifests}
    labels = []
    for one in manifests:
        step = f"step {_step(store, one):,}" if "checkpoint" in one.inputs else ""
        model = one.ref.name.removesuffix(f"-{one.recipe['recipe']['name']}")
        labels.append(step if step and len(names) == 1 else f"{model} {step}".strip())
    return [
        f"{label} ({one.ref.fingerprint[:6]})" if labels.count(label) > 1 else label
        for one, label in zip(manifests, labels, strict=True)
    ]
