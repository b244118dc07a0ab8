"""The tasks of evaluate-olmo: which models are meant, one model scored, the report over all of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.states import Completed
from pydantic import Field

from olmo_core import provenance
from olmo_core.artifacts.build import Progress
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import RecipeError
from olmo_core.evaluation.resources import ScoringResources
from olmo_core.storage import Storage
from tasks.credentials import credentials
from tasks.dashboard import ProgressArtifact
from tasks.expected_errors import shorten, without_credentials
from tasks.session import NO_USER, store_uri
from tasks.stages import STORAGE_RETRIES

if TYPE_CHECKING:  # these import torch: the flow run does, and who only deploys it does not
    from olmo_core.evaluation.recipe import EvaluationRecipe
    from olmo_core.evaluation.targets import Target

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class EvaluationResources:
    """Where and how a run works; none of this changes a number but by rounding."""

    store: Annotated[str | None, Field(json_schema_extra={"pattern": NO_USER})] = None
    """Folder or s3://bucket/prefix of the artifact store; by default OLMO_STORE, else `.olmo/store` in the project."""
    credentials_block: str | None = None
    """Prefect block of type Secret with the store's credentials, a JSON object of AWS_... variables."""
    scoring: ScoringResources = field(default_factory=ScoringResources)
    """Of the scoring itself: device, batches, cache."""
    processes: Annotated[int, Field(ge=1)] = 1
    """Processes on this machine that score together, one for each GPU; with `scoring.shard` each holds a part of the model."""

    __pydantic_config__ = {"use_attribute_docstrings": True, "extra": "forbid"}

    def __post_init__(self) -> None:
        """Raise StorageError for a store's address that cannot be, before a server has seen it."""
        if self.store is not None:
            Storage(self.store)
        if self.processes < 1:
            raise RecipeError(f"processes: {self.processes}; at least 1 is needed")
        if self.scoring.shard and self.processes == 1:
            raise RecipeError("scoring.shard: there is one process only; give more (processes)")

    @property
    def apart(self) -> bool:
        """Whether models are scored in processes of their own: where a GPU, or more than one, is asked for."""
        return self.processes > 1 or self.scoring.device == "cuda"


class Evaluation:
    """What the tasks of one run share. Not a dataclass: Prefect looks inside those when it passes parameters."""

    def __init__(
        self,
        store: ArtifactStore,
        recipe: EvaluationRecipe,
        targets: Sequence[Target],
        resources: EvaluationResources,
    ) -> None:
        self.store, self.recipe, self.targets, self.resources = store, recipe, targets, resources
        self._started: list[PrefectFuture[ArtifactRef]] = []

    def evaluate(self, target: Target) -> None:
        """Evaluate one model as a task of its own; the next one waits for it, as it wants the same memory."""
        name = f"evaluation/{target.label}"
        task_: Task[Any, Any] = evaluate_model.with_options(name=name, task_run_name=name)
        future: PrefectFuture[ArtifactRef] = task_.submit(self, target)
        self._started.append(future)
        wait([future])

    @property
    def done(self) -> dict[str, ArtifactRef]:
        """The evaluations that came to an end, by label."""
        pairs = zip(self.targets, self._started, strict=False)
        return {target.label: future.result() for target, future in pairs if future.state.is_completed()}

    def finish(self) -> None:
        """Raise what stopped the first model that could not be evaluated."""
        for future in self._started:
            if not future.state.is_completed():
                future.result()


@contextlib.contextmanager
def open_evaluation(
    models: Sequence[str],
    recipe: str,
    limit: int | None,
    resources: EvaluationResources | None,
    held_out: str | None = None,
) -> Iterator[Evaluation]:
    """Read the recipe and find the models; `held_out` takes the place of the held-out corpora that the recipe names.

    Raises RecipeError, naming the parameter's value, before anything is scored.
    """
    from olmo_core.evaluation.recipe import limited, load_evaluation_recipe
    from olmo_core.evaluation.targets import find_targets

    shorten()
    provenance.refuse_foreign_package()
    resources = resources or EvaluationResources()
    if limit is not None and limit < 1:
        raise RecipeError(f"limit: {limit}; at least 1 is needed, or none for all items")
    loaded = load_evaluation_recipe(recipe)
    loaded = limited(loaded, limit) if limit is not None else loaded
    if held_out is not None:
        texts = tuple(replace(one, corpus=held_out) if one.corpus else one for one in loaded.domains)
        loaded = replace(loaded, domains=texts)
    with without_credentials(), credentials(resources.credentials_block):
        store = ArtifactStore(store_uri(resources.store))
        targets = find_targets(store, models)
        get_run_logger().info("%s of %s", loaded.name, ", ".join(one.label for one in targets))
        yield Evaluation(store, loaded, targets, resources)


@task(name="evaluation", cache_policy=NO_CACHE, persist_result=False, **STORAGE_RETRIES)
def evaluate_model(evaluation: Evaluation, target: Target) -> ArtifactRef | State[ArtifactRef]:
    """Score one model, or find that it is scored (then the state is called Reused)."""
    from olmo_core.evaluation.compare import read_evaluation
    from olmo_core.evaluation.run import evaluate
    from tasks.evaluation_job import evaluate_apart

    logger = get_run_logger()
    began = time.monotonic()
    resources = evaluation.resources
    progress = _Requests(evaluation.recipe.name, target.label)
    what = (evaluation.store, evaluation.recipe, target, resources.scoring)
    with without_credentials():
        if resources.apart:
            built = evaluate_apart(*what, resources.processes, say=logger.info, progress=progress)
        else:
            built = evaluate(*what, progress=progress)
        found = read_evaluation(evaluation.store, built.manifest, target.label)
    seconds = time.monotonic() - began
    logger.info("%s: %s%s", target.label, summary(found.results), "" if built.reused else f"; {seconds:.0f} s")
    if failed := sum(int(one["failed"]) for one in found.results.values()):
        logger.warning("%s: %d items or documents could not be scored; they are in no number", target.label, failed)
    if built.reused:
        return Completed(name="Reused", message=f"{built.ref} was there already", data=built.ref)
    return built.ref


class _Requests:
    """Hands the scorer's progress to an artifact of the dashboard, a new one for each benchmark that takes long."""

    def __init__(self, recipe: str, label: str) -> None:
        self._recipe, self._label = recipe, label
        self._shard, self._began = "", 0.0
        self._artifact: ProgressArtifact | None = None

    def __call__(self, shard: str, done: int, total: int) -> None:
        """Show requests done."""
        if shard != self._shard or self._artifact is None:
            self._shard, self._began = shard, time.monotonic()
            self._artifact = ProgressArtifact(self._recipe, f"{self._label} {shard}")
        self._artifact(
            Progress(
                label=shard,
                shards_done=done,
                shards_total=total,
                shards_reused=0,
                bytes_done=done,
                bytes_total=total,
                seconds=time.monotonic() - self._began,
                unit="requests",
            )
        )


def summary(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the primary numbers of an evaluation in one line, with half their intervals."""
    from olmo_core.report.evaluation.rows import stored, title, with_bar

    parts = []
    for one in results.values():
        if one["kind"] == "domains":
            bits = one["bits_per_byte"]
            parts.append(f"{one['name']} {bits:.3f} bits per byte" if bits is not None else f"{one['name']} not scored")
        else:
            parts.append(f"{title(one)} {with_bar(stored(one, one['primary']))}")
    return ", ".join(parts)


def evaluation_title(parameters: Mapping[str, Any]) -> str:
    """Return what a run with these parameters evaluates: its first model, shortened."""
    models = parameters.get("models") or ("nothing",)
    first = str(models[0] if not isinstance(models, str) else models).removeprefix(f"{Kind.CHECKPOINT}/")
    return first.rsplit("/", 1)[-1] if "@" in first else first.replace("/", "-")[:24]
