"""What can be known to be wrong with a run before anything is started: no torch, no token is read, nothing is written.

The trainer looks at the same and more; this is for whoever waits for a machine, and should not wait in vain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import RecipeError
from olmo_core.recipe import canonical, differences
from olmo_core.train import schedule
from olmo_core.train.chunks import Chunks
from olmo_core.train.dataset import packed_shards
from olmo_core.train.run_file import RunFile

SAME = ("model", "data", "batch")
"""Parts of the recipe that must not change from a checkpoint to the run that goes on from it."""


def check_fields(run: RunFile) -> None:
    """Raise RecipeError, naming the field, for values that no run can be made of."""
    schedule.check(run.recipe)
    resources = run.resources
    for name in ("micro_batch", "save_every", "evaluate_every", "evaluate_batches", "evaluate_limit", "log_every"):
        value = getattr(resources, name)
        if value is not None and value < 1:
            raise RecipeError(f"resources.{name}: {value}; it must be at least 1")
    for name in ("save_seconds", "hang_seconds", "commit_seconds"):
        if getattr(resources, name) <= 0:
            raise RecipeError(f"resources.{name}: {getattr(resources, name)}; it must be more than 0")
    if resources.recompute == "cheap" and not resources.compile:
        raise RecipeError(
            "resources.recompute: cheap is done by the compiler; set resources.compile to true, or recompute to block"
        )


def check_start(store: ArtifactStore, run: RunFile) -> None:
    """Raise RecipeError where the checkpoint that a run is to go on from is of another recipe or other tokens, or as far already."""
    if run.start is None:
        return
    manifest = store.manifest(run.start)
    same_recipe(manifest, run)
    not_beyond(manifest.ref, int(manifest.counts["step"]), run)
    if run.tokens.kind == Kind.TOKENS:
        files = packed_shards(store.manifest(run.tokens))
        chunks = Chunks(files, sequence_length=run.recipe.data.sequence_length)
        same_dataset(manifest.ref, str(manifest.counts["dataset"]), chunks.fingerprint)


def not_beyond(ref: ArtifactRef, step: int, run: RunFile) -> None:
    """Raise RecipeError where a checkpoint is of a later step than the run has, or the one it starts from of its last."""
    last = run.recipe.steps
    if step > last or (ref == run.start and step == last):
        raise RecipeError(
            f"tokens: {run.recipe.tokens:,} are reached at step {last}, but the checkpoint {ref} is of step {step}; raise tokens "
            f"(an override: budget)"
        )


def same_recipe(manifest: Manifest, run: RunFile) -> None:
    """Raise RecipeError where a checkpoint's model, data or batch is not the run's."""
    mine: Mapping[str, Any] = canonical(run.recipe)
    known = {key: manifest.recipe[key] for key in SAME if key in manifest.recipe}
    if found := differences(known, {key: mine[key] for key in known}):
        raise RecipeError(
            f"the checkpoint {manifest.ref} is of another recipe: {'; '.join(found[:5])} (checkpoint -> run). Take these from the "
            f"checkpoint's recipe (`olmo artifacts show {manifest.ref}`), or begin a run without it"
        )


def same_dataset(ref: ArtifactRef, trained_on: str, dataset: str) -> None:
    """Raise RecipeError where a checkpoint was trained on other chunks than the run's (fingerprints of Chunks)."""
    if trained_on != dataset:
        raise RecipeError(
            f"tokens: the checkpoint {ref} was trained on the dataset {trained_on}, the run now has {dataset}; give it the same "
            f"tokens and data.sequence_length, or begin a run of another name"
        )
