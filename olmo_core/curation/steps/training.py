"""Training a sentence classifier from labelled texts, as steps: inventory of the data, then a `model` artifact."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import StoredObject
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind, check_name
from olmo_core.artifacts.step import Job, Shard, Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation import classifier
from olmo_core.curation.classifier import ClassifierRecipe
from olmo_core.curation.labelled import LabelRecipe, read_labelled
from olmo_core.curation.layout import document_objects
from olmo_core.curation.signatures import HASH_BYTES, text_hashes
from olmo_core.curation.splits import RESERVED, numbers, refuse_held_out
from olmo_core.curation.steps.inputs import Inventory, inventory_of
from olmo_core.documents.listing import list_files
from olmo_core.documents.shards import column, read_shard
from olmo_core.errors import InputError, RecipeError
from olmo_core.recipe import LATER, canonical
from olmo_core.storage import Storage

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
    """A corpus artifact (`corpus/prose`, its tag latest), or a documents artifact, whose sentences are further negatives.

    Never a held-out split, and never a document that some recipe may hold out (the tenth with the lowest numbers,
    see docs/held-out.md), nor a copy of one within the artifact. What a corpus recipe holds out because of a near copy,
    or a copy in another source, only a corpus built with its splits is free of: name that one where you can.
    """

    def __post_init__(self) -> None:
        """Raise RecipeError for a name that cannot be one."""
        check_name(self.name, "classifier name")


@dataclass(frozen=True, kw_only=True)
class _Identity:
    labels: LabelRecipe
    training: ClassifierRecipe
    reserved: float | None = field(default=None, metadata=LATER)
    """Documents of the background with a lower number are left out, and copies of them; None without background."""


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
    if background and background.kind not in (Kind.CORPUS, Kind.DOCUMENTS):
        raise RecipeError(f"classifier {recipe.name}: background {background} is neither a corpus nor documents")

    def whole(inputs: Mapping[str, Any]) -> list[Shard]:
        documents = document_objects(inputs["background"]) if background else []
        if background:
            refuse_held_out(inputs["background"])
        return [
            Shard(
                key="model",
                identity={"labelled": inventory.sha256[file.name], "background": [o.digest for o in documents]},
                inputs={
                    "url": file.url,
                    "sha256": inventory.sha256[file.name],
                    "background": [(_source(background, o), o.path) for o in documents if background],
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
        recipe=_Identity(labels=recipe.labels, training=recipe.training, reserved=RESERVED if background else None),
        inputs={"labelled": inventory.step.ref, **({"background": background} if background else {})},
        shards=whole,
        work=_train,
    )


def _source(background: ArtifactRef, one: StoredObject) -> str:
    return one.key.split("/")[0] if background.kind == Kind.CORPUS else background.name


def background_texts(
    storage: Storage, shards: Sequence[tuple[str, str]], reserved: float
) -> pa.LargeStringArray | None:
    """Return the texts of all shards (source, path) without documents that may be held out, and without copies of those."""
    kept: list[pa.LargeStringArray] = []
    apart: set[bytes] = set()
    for source, path in shards:
        table = read_shard(storage, path, ["id", "text"])
        low = pa.array(numbers(source, column(table, "id").to_pylist()) < reserved)
        apart.update(text_hashes(column(table, "text").filter(low)).to_pylist())
        kept.append(column(table, "text").filter(pa.compute.invert(low)))
    if not kept:
        return None
    copies = pa.array(sorted(apart), pa.binary(HASH_BYTES))
    return pa.concat_arrays([t.filter(pa.compute.invert(pa.compute.is_in(text_hashes(t), copies))) for t in kept])


def _train(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    recipe: _Identity = job.recipe[0]
    labelled = read_labelled(job.shard.inputs["url"], recipe.labels)
    if labelled.sha256 != job.shard.inputs["sha256"]:
        raise InputError(f"{job.shard.inputs['url']} changed while it was being read; run again when it is complete")
    background = background_texts(output.storage, job.shard.inputs["background"], recipe.reserved or 0.0)
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
