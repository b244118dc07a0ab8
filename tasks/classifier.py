"""The Prefect tasks of train-classifier: train and publish."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from olmo_core.artifacts.build import build
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.corpus_recipe import RECIPES
from olmo_core.curation.steps.inputs import remember
from olmo_core.curation.steps.training import METRICS, TrainClassifierRecipe, labelled_inventory, training_step
from olmo_core.recipe import from_mapping, read_yaml, recipe_file
from olmo_core.report.classifier import page
from olmo_core.workers import Workers
from tasks.credentials import credentials
from tasks.dashboard import key
from tasks.expected_errors import without_credentials
from tasks.session import Resources, store_uri
from tasks.stages import STORAGE_RETRIES


def load_classifier_recipe(
    name_or_path: str, data: str | None = None, folder: Path = RECIPES / "classifiers"
) -> TrainClassifierRecipe:
    """Return the recipe of a name or of a YAML file's path, with another file of labelled texts if one is given."""
    path = recipe_file(name_or_path, folder, "classifier recipe")
    recipe = from_mapping(TrainClassifierRecipe, read_yaml(path), path.name)
    return replace(recipe, data=data) if data else recipe


@task(
    name="training", task_run_name="training/{recipe}", cache_policy=NO_CACHE, persist_result=False, **STORAGE_RETRIES
)
def train(recipe: str, data: str | None, resources: Resources) -> ArtifactRef | State[ArtifactRef]:
    """Take the labelled file into an inventory, train on it, and make the model artifact, or find that it is made."""
    loaded = load_classifier_recipe(recipe, data)
    store = ArtifactStore(store_uri(resources.store))
    with without_credentials(), credentials(resources.credentials_block), Workers(1) as workers:
        background = store.resolve(loaded.background) if loaded.background else None
        inventory = labelled_inventory(store, loaded, rehash=resources.rehash)
        build(store, inventory.step, workers)
        remember(store, inventory)
        built = build(store, training_step(loaded, inventory, background), workers)
    if built.reused:
        return Completed(name="Reused", message=f"{built.ref} was there already", data=built.ref)
    get_run_logger().info("training/%s: built %s in %.1f s", loaded.name, built.ref, built.seconds)
    return built.ref


@task(
    name="publish", task_run_name="publish/{model.name}", cache_policy=NO_CACHE, persist_result=False, **STORAGE_RETRIES
)
def publish_classifier(model: ArtifactRef, resources: Resources) -> dict[str, str]:
    """Tag the model as latest and show its held-out figures. Returns its address."""
    store = ArtifactStore(store_uri(resources.store))
    with without_credentials(), credentials(resources.credentials_block):
        store.tag(model, "latest")
        metrics: dict[str, Any] = json.loads(store.storage.read(store.manifest(model).object(METRICS).path))
    create_markdown_artifact(
        page(model.name, metrics), key=key("classifier", model.name), description=f"Held-out figures of {model.name}"
    )
    held = metrics["held_out"]
    figures = [held[name]["value"] for name in ("precision", "recall", "f1")]
    get_run_logger().info("%s: held-out precision %.3f, recall %.3f, F1 %.3f", model, *figures)
    return {"model": str(model)}
