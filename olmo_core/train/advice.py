"""What is allowed and unwise in a run, seen before it starts: each a sentence with the number and the remedy. Nothing is refused for it."""

from __future__ import annotations

from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.train.run_file import RunFile, save_interval
from olmo_core.train.run_record import run_of

EPOCHS = 4.0
"""Repeating tokens up to so often is nearly as good as new ones; beyond, their value decays (Muennighoff et al. 2023,
arXiv 2305.16264, section 6)."""
FAR = 10.0
"""A learning rate so many times above or below the usual one is far from it. Published ones are within 4 times."""


def unwise(run: RunFile, epochs: float | None) -> tuple[str, ...]:
    """Return what a person should know before a run starts; `epochs` None where the tokens are not made yet."""
    recipe, schedule = run.recipe, run.recipe.schedule
    found = []
    length = recipe.steps if schedule.unit == "steps" else recipe.steps * recipe.tokens_per_step
    if schedule.warmup >= length:
        found.append(
            f"schedule.warmup: {schedule.warmup:,} {schedule.unit}, and the run has {length:,}: it ends before the learning rate reaches "
            f"its peak; a warmup of {max(1, length // 20):,} would be a twentieth of it"
        )
    if epochs is not None and epochs > EPOCHS:
        found.append(
            f"tokens: {epochs:.1f} epochs over the same tokens; beyond {EPOCHS:g} repeating teaches less and less (arXiv 2305.16264): "
            f"take more tokens, or lower tokens (an override: budget)"
        )
    if recipe.steps > 1 and save_interval(run) >= recipe.steps:
        found.append(
            f"resources.save_every: {save_interval(run):,} of {recipe.steps:,} steps: the only checkpoint after the first is the last, and "
            f"whatever interrupts the run throws it back to its start; leave save_every out, or lower it"
        )
    usual = usual_learning_rate(recipe.model.parameters, recipe.steps * recipe.tokens_per_step)
    rate = recipe.optimizer.learning_rate
    if not usual / FAR <= rate <= usual * FAR:
        found.append(
            f"optimizer.learning_rate: {rate:.2g} is {_times(rate, usual)} the usual, about {usual:.1g} for "
            f"{recipe.model.parameters:,} parameters and so many tokens; "
            + ("the loss may not fall, or diverge" if rate > usual else "the run may learn next to nothing")
        )
    return tuple(found)


def taken_over(store: ArtifactStore, run: RunFile) -> tuple[str, ...]:
    """Return what a person should know of a run whose name another run has, of other tokens or another recipe: `latest` moves to this one.

    Nothing where the name is free, or where `latest` is this run already, is what it goes on from, or stays: the run is finished.
    """
    standing = _latest_run(store, run.recipe.name)
    if standing is None or standing == run.ref or store.find(run.ref) is not None:
        return ()
    if run.start is not None and store.manifest(run.start).recipe.get("run") == standing.fingerprint:
        return ()
    name = run.recipe.name
    return (
        f"name: {name!r} is also the name of {standing}, another run, by another recipe or on other tokens; run/{name}@latest and "
        f"checkpoint/{name}@latest will be this one's ({run.ref}), and that one is named by its fingerprint only. Give this run another "
        f"name to keep both apart: `name` in its recipe, or as an override (of data-to-model: training.overrides.name)",
    )


def _latest_run(store: ArtifactStore, name: str) -> ArtifactRef | None:
    """The run whose checkpoint, or which itself, is `latest` of a name: a run that is not finished has only the first."""
    checkpoint = store.tagged(Kind.CHECKPOINT, name, "latest")
    manifest = store.find(checkpoint) if checkpoint is not None else None
    if manifest is not None and manifest.recipe.get("run"):
        return run_of(manifest)
    return store.tagged(Kind.RUN, name, "latest")


def usual_learning_rate(parameters: int, tokens: int) -> float:
    """Return 0.3118 C^-0.125, C = 6 parameters tokens: the optimum that DeepSeek LLM fitted (arXiv 2401.02954, equation 1).

    OLMo 1B and 7B, published: 4e-4 and 3e-4; by this 5e-4 and 4e-4.
    """
    return float(0.3118 * (6.0 * parameters * tokens) ** -0.125)


def _times(rate: float, usual: float) -> str:
    return f"{rate / usual:,.0f} times" if rate > usual else f"a {usual / rate:,.0f}th of"
