"""Everything that a report of evaluations shows, put together from evaluation artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.documents.shards import read_shard
from olmo_core.errors import InputError
from olmo_core.evaluation.compare import (
    Change,
    Contamination,
    Curve,
    Evaluated,
    Searched,
    changes,
    contamination,
    curves,
)

ITEMS_STAGE = "contaminated-items"
COMPARED = 11
"""Evaluations at the end of a series whose changes are tested, each with the one before: 0.3 s for each benchmark."""


@dataclass(frozen=True, kw_only=True)
class Contaminated:
    """What a corpus holds of the items that were asked."""

    artifact: str
    """The list of all items of its decontamination sets."""
    searched: Mapping[str, Searched]
    """By benchmark: the items that documents hold which stayed in the corpus, and those too short to be looked for."""
    scores: Sequence[tuple[str, Contamination]]
    """(label of the evaluation, the benchmark's score on dirty and clean items)."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Several evaluations beside each other, in order."""

    name: str
    evaluations: Sequence[Evaluated]
    changes: Sequence[Change]
    curves: Sequence[Curve]
    contaminated: Contaminated | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """That of the last evaluation, without the model."""

    @property
    def last(self) -> Evaluated:
        """The evaluation that tables of one model are of."""
        return self.evaluations[-1]

    def keys(self, kind: str) -> list[str]:
        """The benchmarks, or sources of texts (`domains`), of all evaluations, in the order in which they first appear."""
        found = {
            key: None for one in self.evaluations for key, results in one.results.items() if results["kind"] == kind
        }
        return sorted(found, key=_order)

    def result(self, key: str) -> Mapping[str, Any]:
        """The numbers of a benchmark or source in the last evaluation that has it."""
        return next(one.results[key] for one in reversed(self.evaluations) if key in one.results)


def _order(key: str) -> tuple[int, str]:
    """Benchmarks as the paper lists them: the nine core ones by name, then the others."""
    late = ("mmlu", "truthfulqa", "gsm8k")
    return next((i for i, name in enumerate(late, 1) if key.startswith(name)), 0), key


def facts_of(
    name: str, evaluations: Sequence[Evaluated], contaminated: tuple[str, Mapping[str, Searched]] | None = None
) -> Facts:
    """Return the facts of evaluations in their order (of training, where they are checkpoints).

    `contaminated`: the artifact's name and what it says of each benchmark's items. Raises InputError where evaluations asked different items.
    """
    if not evaluations:
        raise InputError("a report of no evaluations; evaluate something first (`olmo evaluate`)")
    return Facts(
        name=name,
        evaluations=evaluations,
        changes=changes(evaluations[-COMPARED:]),
        curves=curves(evaluations) if len(evaluations) > 1 else [],
        contaminated=_contaminated(evaluations, *contaminated) if contaminated else None,
        recipe=evaluations[-1].manifest.recipe.get("recipe", {}),
    )


def _contaminated(evaluations: Sequence[Evaluated], artifact: str, searched: Mapping[str, Searched]) -> Contaminated:
    scores = []
    for one in evaluations:
        for key, results in one.results.items():
            if results["kind"] == "benchmark" and results["name"] in searched:
                found = contamination(one, key, searched[results["name"]])
                scores.append((one.label, found))
    return Contaminated(
        artifact=artifact, searched=searched, scores=sorted(scores, key=lambda pair: _order(pair[1].benchmark))
    )


def searched_items(store: ArtifactStore, manifest: Manifest) -> dict[str, Searched]:
    """Return what a corpus was found to hold of each set's items, by the ids the evaluation knows them by.

    `manifest` is of a `contaminated-items` artifact, whose sets are named as benchmarks (`olmo export benchmarks`). Dirty: documents
    hold them which stayed in the corpus; those that decontamination removed were not trained on, and items of theirs alone are clean.
    """
    if manifest.stage != ITEMS_STAGE:
        raise InputError(
            f"{manifest.ref} is of stage {manifest.stage}; what names contaminated items is attributes/CORPUS-contaminated-items"
        )
    columns = ["set", "own_id", "documents_kept", "searchable"]
    table = read_shard(store.storage, manifest.object("items").path, columns)
    dirty: dict[str, list[str]] = {name: [] for name in manifest.counts.get("sets", {})}
    unknown: dict[str, list[str]] = {}
    for name, own, kept, searchable in zip(*(table.column(one).to_pylist() for one in columns), strict=True):
        of = dirty if kept else unknown if not searchable else None
        if own is not None and of is not None:
            of.setdefault(name, []).append(own)
    return {
        name: Searched(dirty=dirty.get(name, []), unknown=unknown.get(name, []))
        for name in dict.fromkeys([*dirty, *unknown])
    }
