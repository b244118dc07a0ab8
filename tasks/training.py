"""What train-olmo decides before anything is trained: recipe, tokens, and RUN.json in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import task_run
from prefect.states import Completed
from pydantic import Field

from olmo_core import provenance
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore, parse_address
from olmo_core.curation.splits import refuse_held_out
from olmo_core.errors import InputError, OlmoError, RecipeError
from olmo_core.report.markdown import count
from olmo_core.storage import Storage
from olmo_core.train.advice import taken_over, unwise
from olmo_core.train.checks import check_fields, check_start
from olmo_core.train.forecast import Forecast, forecast, token_counts
from olmo_core.train.inspection import resolve_checkpoint
from olmo_core.train.machine import gpus
from olmo_core.train.overrides import TrainOverrides, recipe_with
from olmo_core.train.run_file import RunFile, TrainResources
from olmo_core.train.run_record import put_run_file
from tasks.credentials import credentials
from tasks.expected_errors import without_credentials
from tasks.launch.job import Launcher
from tasks.launch.kubernetes import Kubernetes, KubernetesOptions
from tasks.launch.slurm import Slurm, SlurmOptions
from tasks.launch.torchrun import Torchrun
from tasks.session import NO_USER, store_uri
from tasks.stages import STORAGE_RETRIES

TOKENS = "tokens/quickstart@latest"
AUTO = "auto"
"""Held-out tokens: those of the split `validation`, where there is one."""


@dataclass(frozen=True, kw_only=True)
class TrainingResources:
    """Where and how a run works; none of this changes what it converges to."""

    store: Annotated[str | None, Field(json_schema_extra={"pattern": NO_USER})] = None
    """Folder or s3://bucket/prefix of the artifact store; by default OLMO_STORE, else `.olmo/store` in the project."""
    launcher: Literal["torchrun", "slurm", "kubernetes"] = "torchrun"
    """`torchrun`: on the machine of the gpu pool's worker; the others submit a job."""
    processes: int | None = None
    """Ranks on each machine; by default one for each GPU of this one, else one."""
    nodes: int = 1
    """Machines; more than one needs slurm or kubernetes."""
    threads: int | None = None
    """OMP threads of each rank; by default the cores over the ranks."""
    restarts: int = 10
    """How often a job that was preempted is started again before the run ends as Preempted; a retry goes on from there."""
    credentials_block: str | None = None
    """Prefect block of type Secret with the store's credentials, a JSON object of AWS_... variables."""
    evaluate: str | None = None
    """Evaluation recipe (a name, or a file's path) by which each new checkpoint is evaluated while the run goes on, by an automation of
    the server; None: not at all."""
    evaluate_on: Literal["cpu", "gpu"] = "cpu"
    """Pool of these evaluations. With one GPU worker those on `gpu` wait for the training to end."""
    trainer: TrainResources = field(default_factory=TrainResources)
    """Of the trainer itself: device, memory, checkpoints."""
    slurm: SlurmOptions = field(default_factory=SlurmOptions)
    """For `launcher: slurm`."""
    kubernetes: KubernetesOptions = field(default_factory=KubernetesOptions)
    """For `launcher: kubernetes`."""

    __pydantic_config__ = {"use_attribute_docstrings": True, "extra": "forbid"}

    def __post_init__(self) -> None:
        """Raise for a store's address that cannot be, and for numbers below 1, before a server has seen them."""
        if self.store is not None:
            Storage(self.store)
        for name in ("processes", "nodes", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RecipeError(f"resources.{name}: {value}; at least 1 is needed")

    @property
    def ranks_here(self) -> int:
        """Ranks on each machine, resolved for the machine that this runs on."""
        return self.processes or (1 if self.trainer.device == "cpu" else max(1, gpus()))

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL: what the trainer takes at most, and a margin."""
        return self.trainer.save_seconds + 5.0


def launcher(resources: TrainingResources, name: str | None = None) -> Launcher:
    """Return the launcher that the resources ask for, or the one of a name, for a job that was started otherwise."""
    kind = name or resources.launcher
    if kind == "slurm":
        return Slurm(resources.slurm)
    return Kubernetes(resources.kubernetes) if kind == "kubernetes" else Torchrun()


def resolve(
    store: ArtifactStore,
    recipe: str,
    tokens: str,
    held_out: str | None,
    start: str | None,
    overrides: TrainOverrides | None,
    resources: TrainingResources,
) -> tuple[RunFile, Forecast]:
    """Return the run that these parameters mean, with names resolved, and what it will be.

    Raises RecipeError, InputError, naming the parameter, for what cannot be trained; nothing is started or written.
    """
    loaded = recipe_with(recipe, overrides)
    tokens_ref = _named(store, "tokens", tokens, {Kind.TOKENS, Kind.INVENTORY})
    manifest = store.manifest(tokens_ref)
    refuse_held_out(manifest)
    run = RunFile(
        store=store.uri,
        recipe=loaded,
        tokens=tokens_ref,
        held_out=_held_out(store, held_out, tokens, tokens_ref),
        start=_start(store, start) if start else None,
        resources=resources.trainer,
    )
    check_fields(run)
    check_start(store, run)
    _check_held_out(store, run)
    _check_evaluation(resources)
    ranks = resources.ranks_here * resources.nodes
    expected = forecast(loaded, manifest, ranks=ranks, resources=resources.trainer)
    return run, replace(expected, unwise=(*unwise(run, expected.epochs), *taken_over(store, run)))


def _named(store: ArtifactStore, parameter: str, text: str, kinds: set[Kind]) -> ArtifactRef:
    try:
        ref = store.resolve(text)
    except RecipeError as error:
        raise RecipeError(f"{parameter}: {error}") from error
    if ref.kind not in kinds:
        raise RecipeError(
            f"{parameter}: {text!r} is of kind {ref.kind}; an artifact of {' or '.join(sorted(kinds))} is needed"
        )
    return ref


def _start(store: ArtifactStore, text: str) -> ArtifactRef:
    try:
        return resolve_checkpoint(store, text).ref
    except RecipeError as error:
        raise RecipeError(f"start: {error}") from error


def _check_held_out(store: ArtifactStore, run: RunFile) -> None:
    """Raise InputError, as the trainer would once it has started, for held-out tokens that make no instance."""
    if run.held_out is None:
        return
    counts, length = token_counts(store.manifest(run.held_out)), run.recipe.data.sequence_length
    if not any(one >= length for one in counts):
        raise InputError(
            f"held_out: {run.held_out} has {sum(counts):,} tokens and no file with one instance of data.sequence_length {length}; give "
            f"others, or none, or a shorter sequence_length"
        )


def _check_evaluation(resources: TrainingResources) -> None:
    """Raise RecipeError, naming the field, for evaluations beside the training that there are not."""
    recipe, names = resources.evaluate, resources.trainer.evaluate_benchmarks
    if recipe is None and not names:
        return
    from olmo_core.evaluation.benchmarks.definitions import suite  # here: it imports torch, which takes seconds
    from olmo_core.evaluation.recipe import load_evaluation_recipe

    field = "evaluate"
    try:
        if recipe is not None:
            load_evaluation_recipe(recipe)
        field = "trainer.evaluate_benchmarks"
        for name in names:
            suite(name, "in_loop")
    except RecipeError as error:
        raise RecipeError(f"resources.{field}: {error}") from error


def _held_out(store: ArtifactStore, asked: str | None, tokens: str, resolved: ArtifactRef) -> ArtifactRef | None:
    if asked is None:
        return None
    if asked != AUTO:
        return _named(store, "held_out", asked, {Kind.TOKENS})
    tags = store.tags(str(Kind.TOKENS), f"{resolved.name}-validation")
    return tags.get(parse_address(tokens)[1] or "latest") or tags.get("latest")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that is ready to be trained, or was."""

    run: ArtifactRef
    finished: bool
    """Its manifest was there already."""

    @property
    def address(self) -> str:
        """What names it as a parameter."""
        return f"{self.run.kind}/{self.run.name}/{self.run.fingerprint}"


def _prepare_name() -> str:
    return f"prepare/{run_title(task_run.parameters)}"


@task(name="prepare", task_run_name=_prepare_name, cache_policy=NO_CACHE, persist_result=False, **STORAGE_RETRIES)
def prepare(
    recipe: str,
    tokens: str,
    held_out: str | None,
    start: str | None,
    overrides: TrainOverrides | None,
    resources: TrainingResources,
) -> Prepared | State[Prepared]:
    """Resolve every name and put RUN.json into the store; find out whether the run is finished (then `Reused`)."""
    provenance.refuse_foreign_package()
    with without_credentials(), credentials(resources.credentials_block):
        store = ArtifactStore(store_uri(resources.store))
        run, expected = resolve(store, recipe, tokens, held_out, start, overrides, resources)
        finished = store.find(run.ref) is not None
        if not finished:
            put_run_file(store, run)
    get_run_logger().info(
        "%s: %s parameters, %s steps of %s tokens, %.2f epochs of %s, held out: %s",
        run.ref,
        count(expected.parameters),
        f"{expected.steps:,}",
        f"{expected.tokens_per_step:,}",
        expected.epochs,
        run.tokens,
        run.held_out or "none",
    )
    for warning in () if finished else expected.unwise:
        get_run_logger().warning("%s", warning)
    prepared = Prepared(run=run.ref, finished=finished)
    if finished:
        return Completed(name="Reused", message=f"{run.ref} was there already", data=prepared)
    return prepared


def run_title(parameters: Mapping[str, Any]) -> str:
    """Return the name of the run that these parameters make; that of the recipe's file where it cannot be read."""
    recipe, given = str(parameters.get("recipe", "tiny")), parameters.get("overrides")
    try:
        overrides = TrainOverrides(**given) if isinstance(given, Mapping) else given
        return recipe_with(recipe, overrides).name
    except (OlmoError, TypeError):
        return Path(recipe).stem
