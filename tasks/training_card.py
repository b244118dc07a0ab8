"""The end of train-olmo: tags for the run, and its card in the dashboard."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.report.markdown import count
from olmo_core.report.training import CardFacts, card
from olmo_core.train.baselines import bigram_loss
from olmo_core.train.dataset import held_out_batches, open_tokens
from olmo_core.train.forecast import token_counts
from olmo_core.train.recipe import TrainRecipe
from olmo_core.train.run_file import RunFile
from olmo_core.train.run_record import RunRecord, baseline_of, put_baseline, run_file, saved_in
from tasks.credentials import credentials
from tasks.dashboard import clipped, key
from tasks.expected_errors import without_credentials
from tasks.made import tell
from tasks.session import store_uri
from tasks.stages import STORAGE_RETRIES
from tasks.training import TrainingResources
from tasks.training_view import complete, draw, put_card, summary

BIGRAM_LIMIT = 30_000_000
"""Tokens of which a bigram model is made for comparison at most: about half a minute and 1 GB."""


@task(
    name="publish", task_run_name="publish/{run.name}", cache_policy=NO_CACHE, persist_result=False, **STORAGE_RETRIES
)
def publish_run(run: ArtifactRef, resources: TrainingResources, reused: bool = False) -> dict[str, str]:
    """Tag the run as `latest` and show its card, with the whole curve. Returns the addresses `run` and `checkpoint`.

    `reused`: it was there already, which the log then says.
    """
    logger = get_run_logger()
    with without_credentials(), credentials(resources.credentials_block):
        store = ArtifactStore(store_uri(resources.store))
        manifest = store.manifest(run)
        store.tag(run, "latest")
        wanted = run_file(store, run)
        record = RunRecord(store=store, run=run)
        record.refresh()
        saved = saved_in(manifest)
        loss, note = baseline(store, wanted)
        text = card(facts(store, manifest, wanted, record, saved, loss, note))
        picture = draw(record, wanted, loss)
    if record.steps:
        logger.info("%s: %s", run, summary(record.steps, wanted.recipe.steps))
    body = clipped(f"{text}\n## Curve\n\n{picture}")
    complete(record, wanted, picture)
    put_card(key("run", run.name), body, f"Card of {run}: loss, speed, checkpoints, how to go on")
    if reused:
        logger.info("publish/%s: reused %s; nothing was trained, the run was there already", run.name, run)
    made = {"run": str(run)}
    return tell({**made, "checkpoint": str(saved[-1][1])} if saved else made)


def baseline(store: ArtifactStore, run: RunFile) -> tuple[float | None, str]:
    """Return the held-out loss of a bigram model of the run's tokens and how it was smoothed; or None and why there is none.

    Measured once, and kept beside the run's metrics for `olmo artifacts show`.
    """
    if run.held_out is None:
        return None, "(no held-out tokens)"
    tokens = sum(token_counts(store.manifest(run.tokens)))
    if run.files or tokens > BIGRAM_LIMIT:
        return None, f"(not measured: only for a tokens artifact of at most {count(BIGRAM_LIMIT)} tokens)"
    seen = run.recipe.batch * run.resources.evaluate_batches
    known = baseline_of(store, run.ref)
    if known is not None and known["held_out_chunks"] == seen:
        return float(known["loss"]), str(known["note"])
    train, held_out = open_tokens(store, run, verify=False), held_out_batches(store, run, verify=False)
    found = bigram_loss(train, held_out, held_out_chunks=seen)
    note = f"({found.smoothing} smoothing, counted on all {count(tokens)} tokens)"
    put_baseline(store, run.ref, found.loss, note, seen)
    return found.loss, note


def facts(
    store: ArtifactStore,
    manifest: Manifest,
    wanted: RunFile,
    record: RunRecord,
    saved: Sequence[tuple[int, ArtifactRef]],
    bigram: float | None,
    note: str,
) -> CardFacts:
    """Return what the card tells of a run."""
    tags: dict[str, list[str]] = {}
    for tag, ref in store.tags("checkpoint", manifest.ref.name).items():
        tags.setdefault(ref.fingerprint, []).append(tag)
    return CardFacts(
        name=manifest.ref.name,
        run=str(manifest.ref),
        tokens=str(wanted.tokens),
        held_out=str(wanted.held_out) if wanted.held_out else None,
        store=store.uri,
        parameters=wanted.recipe.model.parameters,
        model=described(wanted.recipe),
        counts=manifest.counts,
        steps=record.steps,
        events=list(record.events.values()),
        baseline=bigram,
        baseline_note=note,
        checkpoints=[(step, str(ref), ", ".join(tags.get(ref.fingerprint, []))) for step, ref in saved],
    )


def described(recipe: TrainRecipe) -> str:
    """Return a model in a few words."""
    model = recipe.model
    return f"{model.layers} layers of width {model.width}, {model.heads} heads, sequences of {recipe.data.sequence_length:,}"
