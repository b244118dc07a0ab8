"""What the report of an ablation tells, out of the manifests of what was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from olmo_core.ablation.compare import Effect, effects
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError
from olmo_core.evaluation.compare import read_evaluation
from olmo_core.summary import costs
from olmo_core.summary.facts import metrics
from olmo_core.summary.recipe import Prices


@dataclass(frozen=True, kw_only=True)
class VariantFacts:
    """One variant: its corpus, its models and what they took."""

    name: str
    changes: Mapping[str, Any]
    documents: int
    """In its corpus."""
    text_bytes: int
    tokens: int
    """Different ones, in its corpus."""
    trained: int
    """Tokens that each model has seen."""
    stages: int
    """Of its corpus."""
    own: int
    """Stages that no other variant has."""
    costs: Sequence[costs.Cost]
    """Of the stages that are its own, of all its models, of their evaluations."""

    @property
    def epochs(self) -> float:
        """How often a model has seen each token, on average."""
        return self.trained / self.tokens if self.tokens else float("nan")

    def to_json(self, prices: Prices) -> dict[str, Any]:
        """Return the facts as JSON values."""
        spent = costs.total(self.costs)
        values = {**self.__dict__, "changes": dict(self.changes), "epochs": self.epochs}
        values["costs"] = [dict(one.__dict__) for one in self.costs]
        return {**values, "money": spent.money(prices)}


@dataclass(frozen=True, kw_only=True)
class AblationFacts:
    """Everything that the report shows."""

    name: str
    seeds: Sequence[int]
    variants: Sequence[VariantFacts]
    """The first one is what the others are compared with."""
    effects: Sequence[Effect]
    stages: int
    """Different stages of all corpora."""
    shared: int
    """Of these, stages that more than one variant uses: built once."""
    common: costs.Cost
    """What the shared stages took."""
    prices: Prices


Part = tuple[Manifest, Sequence[Manifest], Sequence[Manifest]]
"""Report of the corpus, run and evaluation of each seed."""


def facts_from(
    store: ArtifactStore,
    name: str,
    parts: Mapping[str, Part],
    seeds: Sequence[int],
    changes: Mapping[str, Any],
    prices: Prices,
) -> AblationFacts:
    """Return the facts of variants, the first one first. Raises InputError where models were trained on different numbers of tokens."""
    trained = {variant: {int(run.counts["tokens"]) for run in runs} for variant, (_, runs, _) in parts.items()}
    if len(set().union(*trained.values())) > 1:
        said = ", ".join(f"{variant}: {sorted(found)}" for variant, found in trained.items())
        raise InputError(
            f"{name}: the models were trained on different numbers of tokens ({said}); give all one budget"
        )
    users = Counter(ref for report, _, _ in parts.values() for ref in report.inputs.values())
    shared = [ref for ref, n in users.items() if n > 1]
    evaluated = {
        variant: [
            read_evaluation(store, one, f"{variant}, seed {seed}") for one, seed in zip(found, seeds, strict=True)
        ]
        for variant, (_, _, found) in parts.items()
    }
    made = []
    for variant, (report, runs, found) in parts.items():
        stages = {label: store.manifest(ref) for label, ref in report.inputs.items()}
        own = [one for one in stages.values() if users[one.ref] == 1]
        packed = stages["packing/all"]
        spent = [costs.trained(run, metrics(store, run)) for run in runs]
        made.append(
            VariantFacts(
                name=variant,
                changes=changes[variant],
                documents=packed.ledger.kept.documents,
                text_bytes=packed.ledger.kept.bytes,
                tokens=int(packed.counts.get("tokens", 0)),
                trained=next(iter(trained[variant])),
                stages=len(stages),
                own=len(own),
                costs=[
                    costs.counted("corpus", [*own, report]),
                    costs.total(spent, part=f"{len(runs)} models"),
                    costs.counted("evaluation", found),
                ],
            )
        )
    return AblationFacts(
        name=name,
        seeds=tuple(seeds),
        variants=made,
        effects=effects(evaluated),
        stages=len(users),
        shared=len(shared),
        common=costs.counted("stages of several variants", [store.manifest(ref) for ref in shared]),
        prices=prices,
    )
