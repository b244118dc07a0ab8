"""What the summary of a chain tells, out of the manifests of what it made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from olmo_core.artifacts.lineage import backward
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.report.evaluation.facts import Facts, facts_of
from olmo_core.report.waterfall import WaterfallLine, waterfall
from olmo_core.summary import costs, sample
from olmo_core.summary.recipe import Prices, SamplePart

CORPUS, RUN, CHECKPOINT, EVALUATION = "corpus report", "run", "checkpoint", "evaluation"
"""Roles of a summary's inputs."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """One artifact of the lineage, from the evaluation back to the files."""

    depth: int
    role: str
    """What it was to the one before."""
    artifact: str
    about: str
    """What it holds, in a few words."""


@dataclass(frozen=True, kw_only=True)
class SummaryFacts:
    """Everything that the summary shows."""

    name: str
    corpus: str
    """Name of the corpus."""
    run: Manifest
    checkpoint: Manifest
    lines: Sequence[WaterfallLine]
    steps: Sequence[Mapping[str, Any]]
    """Lines of the run's metrics."""
    evaluation: Facts
    sample: str
    part: SamplePart
    costs: Sequence[costs.Cost]
    prices: Prices
    lineage: Sequence[Link]
    notes: Sequence[str]
    """What did not go as the recipe asked for."""


def facts_from(
    store: ArtifactStore,
    name: str,
    refs: Mapping[str, ArtifactRef],
    part: SamplePart,
    prices: Prices,
    notes: Sequence[str],
) -> SummaryFacts:
    """Return the facts of what `refs` (by role) name. Raises StorageError, IntegrityError for what is gone or damaged."""
    from olmo_core.evaluation.compare import read_evaluation

    report, run, checkpoint = (store.manifest(refs[role]) for role in (CORPUS, RUN, CHECKPOINT))
    evaluation = store.manifest(refs[EVALUATION])
    stages = {label: store.manifest(ref) for label, ref in report.inputs.items()}
    steps = metrics(store, run)
    taken = [
        costs.counted("corpus", [*stages.values(), report]),
        costs.trained(run, steps),
        costs.counted("evaluation", [evaluation]),
    ]
    return SummaryFacts(
        name=name,
        corpus=report.ref.name,
        run=run,
        checkpoint=checkpoint,
        lines=waterfall(stages),
        steps=steps,
        evaluation=facts_of(evaluation.ref.name, [read_evaluation(store, evaluation)]),
        sample=sample.write(store, checkpoint, part),
        part=part,
        costs=taken,
        prices=prices,
        lineage=lineage(store, evaluation.ref),
        notes=tuple(notes),
    )


def metrics(store: ArtifactStore, run: Manifest) -> list[dict[str, Any]]:
    """Return the lines of a finished run's metrics, by step."""
    return [json.loads(line) for line in store.storage.read(run.object("metrics.jsonl").path).splitlines()]


_SHOWN = (Kind.EVALUATION, Kind.CHECKPOINT, Kind.RUN, Kind.TOKENS, Kind.CORPUS, Kind.DOCUMENTS, Kind.INVENTORY)


def lineage(store: ArtifactStore, ref: ArtifactRef) -> list[Link]:
    """Return the lineage in short: one line for each artifact of the main kinds, from the evaluation back to the files.

    Attributes (columns about documents) are left out; `olmo artifacts lineage REF` lists them too.
    """
    found = [
        Link(depth=one.depth, role=one.role, artifact=str(one.manifest.ref), about=about(one.manifest))
        for one in backward(store, ref)
        if one.manifest.ref.kind in _SHOWN
    ]
    order = {str(kind): i for i, kind in enumerate(_SHOWN)}
    return sorted(found, key=lambda link: (order[link.artifact.split("/")[0]], link.artifact))


def about(manifest: Manifest) -> str:
    """Return what an artifact holds, in a few words."""
    counts, kept = manifest.counts, manifest.ledger.kept
    if manifest.ref.kind == Kind.INVENTORY:
        return (
            f"{len(manifest.objects) and int(counts.get('files', 0)):,} files" if "files" in counts else manifest.stage
        )
    if manifest.ref.kind in (Kind.RUN, Kind.CHECKPOINT):
        return f"step {int(counts.get('steps', counts.get('step', 0))):,}, {int(counts.get('tokens', 0)):,} tokens seen"
    if manifest.ref.kind == Kind.TOKENS and "tokens" in counts:
        return f"{manifest.stage}, {int(counts['tokens']):,} tokens"
    return f"{kept.documents:,} document{'s' if kept.documents > 1 else ''}" if kept.documents else manifest.stage
