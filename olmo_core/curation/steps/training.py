"""Training a sentence classifier from labelled texts, as steps: inventory of the data, then a `model` artifact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind, check_name
from olmo_core.artifacts.step import Job, Shard, Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation import classifier
from olmo_core.curation.classifier import ClassifierRecipe
from olmo_core.curation.labelled import LabelRecipe, read_labelled
from olmo_core.curation.layout import document_objects
from olmo_core.curation.steps.inputs import Inventory, inventory_of
from olmo_core.documents.listing import list_files
from olmo_core.documents.shards import column, read_shard
from olmo_core.errors import InputError
from olmo_core.recipe import canonical

METRICS = "metrics.json"


@dataclass(frozen=True, kw_only=True)
class TrainClassifierRecipe:
    """Everything that decides a classifier."""

    name: str
    """Name of the model artifact; a corpus recipe refers to it as `model/{name}@latest`."""
    data: str
    """File of labelled texts, .csv or .jsonl, compressed or not, local or s3://. Its content is identity, not its place."""
    labels: LabelRecipe = field(default_factory=LabelRecipe)
    training: ClassifierRecipe = field(default_factory=ClassifierRecipe)
    background: str | None = None
    """Name of a documents artifact (`documents/prose`, its tag latest) whose sentences are further negatives."""

    def __post_init__(self) -> None:
        """Raise RecipeError for a name that cannot be one."""
        check_name(self.name, "classifier name")


@dataclass(frozen=True, kw_only=True)
class _Identity:
    labels: LabelRecipe
    training: ClassifierRecipe


def labelled_inventory(store: ArtifactStore, recipe: TrainClassifierRecipe, *, rehash: bool = False) -> Inventory:
    """Return the inventory of the labelled file. Raises InputError when it is not there."""
    files = list_files(recipe.name, (recipe.data,), None)
    if len(files) != 1:
        raise InputError(
            f"classifier {recipe.name}: {recipe.data} matches {len(files)} files; name one file of labelled texts"
        )
    return inventory_of(store, f"{recipe.name}-labelled", canonical(recipe.labels), files, rehash=rehash)


def training_step(recipe: TrainClassifierRecipe, inventory: Inventory, background: ArtifactRef | None) -> Step:
    """Return the step that trains, measures on held-out texts and publishes the model."""
    (file,) = inventory.files

    def whole(inputs: Mapping[str, Any]) -> list[Shard]:
        documents = document_objects(inputs["background"]) if background else []
        return [
            Shard(
                key="model",
                identity={"labelled": inventory.sha256[file.name], "background": [o.digest for o in documents]},
                inputs={
                    "url": file.url,
                    "sha256": inventory.sha256[file.name],
                    "background": [o.path for o in documents],
                },
                size=file.size,
            )
        ]

    return Step(
        stage="training",
        source=recipe.name,
        version=classifier.VERSION,
        kind=Kind.MODEL,
        name=recipe.name,
        recipe=_Identity(labels=recipe.labels, training=recipe.training),
        inputs={"labelled": inventory.step.ref, **({"background": background} if background else {})},
        shards=whole,
        work=_train,
    )


def _train(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    recipe: _Identity = job.recipe[0]
    labelled = read_labelled(job.shard.inputs["url"], recipe.labels)
    if labelled.sha256 != job.shard.inputs["sha256"]:
        raise InputError(f"{job.shard.inputs['url']} changed while it was being read; run again when it is complete")
    texts = [column(read_shard(output.storage, path, ["text"]), "text") for path in job.shard.inputs["background"]]
    background = pa.concat_arrays(texts) if texts else None
    trained = classifier.train(labelled.texts, labelled.positive, recipe.training, background=background)
    meta = {"label": trained.label, "reads": recipe.training.reads}
    with output.raw("model", trained.suffix, rows=1, meta=meta) as handle:
        handle.write(trained.model)
    metrics = json.dumps(trained.metrics, indent=1, sort_keys=True)
    with output.raw("metrics", ".json", rows=1) as handle:
        handle.write(metrics.encode())
    size = int(pa.compute.sum(pa.compute.binary_length(labelled.texts)).as_py() or 0)
    ledger = Ledger()
    ledger.read.add(len(labelled.texts), size)
    ledger.kept.add(len(labelled.texts), size)
    return ledger, {"held_out": trained.metrics["held_out"]}
