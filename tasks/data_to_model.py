"""The tasks of data-to-model: what its stages are started with, and the summary at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from pydantic import Field

from olmo_core import provenance
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.corpus_recipe import load_recipe
from olmo_core.errors import AssetError, RecipeError
from olmo_core.evaluation.resources import ScoringResources
from olmo_core.storage import Storage
from olmo_core.summary.recipe import DataToModelRecipe, EvaluationPart, load_data_to_model
from olmo_core.train.overrides import recipe_with
from olmo_core.train.run_record import saved_in
from tasks.credentials import credentials
from tasks.dashboard import clipped, key
from tasks.evaluation import EvaluationResources
from tasks.expected_errors import shorten, without_credentials
from tasks.made import tell
from tasks.session import NO_USER, Resources, checked, store_uri
from tasks.stages import STORAGE_RETRIES
from tasks.training import TrainingResources
from tasks.training_view import put_card

VALIDATION = "validation"
"""The held-out split on which loss and bits per byte are measured."""


@dataclass(frozen=True, kw_only=True)
class ChainResources:
    """Where and how a chain works; none of this changes what comes out."""

    store: Annotated[str | None, Field(json_schema_extra={"pattern": NO_USER})] = None
    """Folder or s3://bucket/prefix of the artifact store, for all stages; by default OLMO_STORE, else `.olmo/store` in the project."""
    credentials_block: str | None = None
    """Prefect block of type Secret with the store's credentials, for all stages."""
    workers: int | None = None
    """Worker processes of build-dolma; by default one per core."""
    training: TrainingResources = field(default_factory=TrainingResources)
    """Of train-olmo; store and credentials are those above."""
    scoring: ScoringResources = field(default_factory=ScoringResources)
    """Of evaluate-olmo: device, batches, cache."""
    evaluate_on: Literal["cpu", "gpu"] = "cpu"
    """Pool of the evaluation."""

    __pydantic_config__ = {"use_attribute_docstrings": True, "extra": "forbid"}

    def __post_init__(self) -> None:
        """Raise StorageError for a store's address that cannot be, before a server has seen it."""
        if self.store is not None:
            Storage(self.store)

    def of_corpus(self) -> Resources:
        """Return what build-dolma gets."""
        return Resources(store=self.store, workers=self.workers, credentials_block=self.credentials_block)

    def of_training(self) -> TrainingResources:
        """Return what train-olmo gets."""
        return replace(self.training, store=self.store, credentials_block=self.credentials_block)

    def of_evaluation(self) -> EvaluationResources:
        """Return what evaluate-olmo gets."""
        return EvaluationResources(store=self.store, credentials_block=self.credentials_block, scoring=self.scoring)


class Chain:
    """The parameters of each stage. Not a dataclass: Prefect looks inside those when it passes parameters."""

    def __init__(self, recipe: DataToModelRecipe, resources: ChainResources) -> None:
        self.recipe, self.resources = recipe, resources
        self.notes: list[str] = []

    @property
    def corpus(self) -> dict[str, Any]:
        """Parameters of build-dolma."""
        part = self.recipe.corpus
        return {"recipe": part.recipe, "overrides": part.overrides, "resources": self.resources.of_corpus()}

    def training(self, corpus: Mapping[str, str]) -> dict[str, Any]:
        """Parameters of train-olmo on the tokens that were made."""
        part = self.recipe.training
        return {
            "recipe": part.recipe,
            "tokens": corpus["tokens"],
            "held_out": corpus.get(f"tokens-{VALIDATION}"),
            "overrides": part.overrides,
            "resources": self.resources.of_training(),
        }

    def evaluation(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters of evaluate-olmo, out of what `ask` returned."""
        self.notes = list(asked["notes"])
        part = self.recipe.evaluation
        return {
            "models": asked["models"],
            "recipe": asked["recipe"],
            "limit": part.limit,
            "held_out": asked["held_out"],
            "resources": self.resources.of_evaluation(),
        }


def open_chain(recipe: str, resources: ChainResources | None) -> Chain:
    """Return the chain of a recipe. Raises RecipeError, naming the part, for what is wrong with any of its recipes, before anything starts."""
    from olmo_core.evaluation.recipe import load_evaluation_recipe

    shorten()
    provenance.refuse_foreign_package()
    loaded, resources = load_data_to_model(recipe), resources or ChainResources()
    of_part("corpus", lambda: checked(loaded.corpus.recipe, loaded.corpus.overrides, resources.of_corpus()))
    of_part("training", lambda: recipe_with(loaded.training.recipe, loaded.training.overrides))
    of_part("evaluation", lambda: load_evaluation_recipe(loaded.evaluation.recipe))
    if (otherwise := loaded.evaluation.otherwise) is not None:
        of_part("evaluation.otherwise", lambda: load_evaluation_recipe(otherwise))
    return Chain(loaded, resources)


def of_part(part: str, load: Callable[[], object]) -> None:
    """Read a part of a recipe. Raises RecipeError, naming the part, for what is wrong with it."""
    try:
        load()
    except RecipeError as error:
        raise RecipeError(f"{part}: {error}") from error


@task(name="ask", task_run_name="ask", cache_policy=NO_CACHE, persist_result=False, **STORAGE_RETRIES)
def ask(
    part: EvaluationPart, corpus: Mapping[str, str], run: Mapping[str, str], resources: ChainResources
) -> dict[str, Any]:
    """Decide what is evaluated: checkpoints by address, the recipe whose benchmark files can be had, this corpus's held-out split.

    Returns `models`, `recipe`, `held_out` and `notes`, what did not go as asked. Raises AssetError where a file cannot be
    had and the recipe names nothing to do otherwise.
    """
    with without_credentials(), credentials(resources.credentials_block):
        store = ArtifactStore(store_uri(resources.store))
        models = chosen(store, part, run)
        recipe, notes = available(part)
    held_out = corpus.get(f"corpus-{VALIDATION}") if part.held_out else None
    if part.held_out and held_out is None:
        notes.append(
            f"the corpus has no held-out split {VALIDATION!r}: texts are those that the evaluation recipe names"
        )
    for note in notes:
        get_run_logger().warning(note)
    return {"models": models, "recipe": recipe, "held_out": held_out, "notes": notes}


def chosen(store: ArtifactStore, part: EvaluationPart, run: Mapping[str, str]) -> list[str]:
    """Return the addresses of the checkpoints that are evaluated, by step; see `EvaluationPart.checkpoints`."""
    if part.checkpoints == "last":
        return [run["checkpoint"]]
    return [str(ref) for _, ref in saved_in(store.manifest(store.resolve(run["run"])), planned=True)]


def available(part: EvaluationPart) -> tuple[str, list[str]]:
    """Return the recipe whose benchmark files are here or can be downloaded, and what is to be said about it."""
    from olmo_core.evaluation.benchmarks.definitions import definition
    from olmo_core.evaluation.benchmarks.loading import load
    from olmo_core.evaluation.recipe import load_evaluation_recipe

    if part.otherwise is None:
        return part.recipe, []
    recipe = load_evaluation_recipe(part.recipe)
    try:
        for one in recipe.all_benchmarks():
            load(definition(one.name, one.format).benchmark, one.selection(), stand_in=recipe.stand_in)
    except AssetError as error:
        names = ", ".join(one.name for one in recipe.all_benchmarks())
        return part.otherwise, [
            f"{names} not asked, evaluated by the recipe {Path(part.otherwise).stem} instead: {error}"
        ]
    return part.recipe, []


@task(name="summary", task_run_name="summary", cache_policy=NO_CACHE, persist_result=False, **STORAGE_RETRIES)
def publish_chain(
    chain: Chain, corpus: Mapping[str, str], run: Mapping[str, str], evaluation: Mapping[str, str]
) -> dict[str, str]:
    """Write the summary into the store and show it, with links to the stages' runs. Returns the addresses of all that was made."""
    from olmo_core.summary import facts, stage

    resources = chain.resources
    with without_credentials(), credentials(resources.credentials_block):
        store = ArtifactStore(store_uri(resources.store))
        named = {
            facts.CORPUS: corpus["report"],
            facts.RUN: run["run"],
            facts.CHECKPOINT: run["checkpoint"],
            facts.EVALUATION: evaluation["evaluation"],
        }
        built = stage.build_summary(
            store, chain.recipe, {role: store.resolve(one) for role, one in named.items()}, chain.notes
        )
        text = store.storage.read(built.manifest.object(stage.MARKDOWN).path).decode()
    title = chain.recipe.name
    body = f"{text}\n## Runs of the stages\n\n{links(runs_of_stages())}"
    put_card(key("data-to-model", title), clipped(body), f"From data to model: {title}")
    made = {"tokens": corpus["tokens"], "run": run["run"], "checkpoint": run["checkpoint"]}
    return tell({**made, "evaluation": evaluation["evaluation"], "summary": str(built.ref)})


def runs_of_stages() -> list[tuple[str, str, str]]:
    """Return name, state and address in the dashboard of the flow runs that this one has started."""
    api = PREFECT_API_URL.value()
    if not api or not flow_run.id:
        return []
    of_parent = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[UUID(str(flow_run.id))]))
    with get_client(sync_client=True) as client:
        runs = sorted(client.read_flow_runs(flow_run_filter=of_parent), key=lambda one: str(one.created))
    base = f"{api.removesuffix('/api')}/v2/runs/flow-run"
    return [(one.name, one.state.name or "" if one.state else "", f"{base}/{one.id}") for one in runs]


def links(runs: Sequence[tuple[str, str, str]]) -> str:
    """Return runs as a Markdown list of links."""
    return (
        "".join(f"- [{name}]({address}): {state}\n" for name, state, address in runs)
        or "None: nothing had to be run.\n"
    )


def chain_title(parameters: Mapping[str, Any]) -> str:
    """Return the name of the chain that these parameters mean; that of the recipe's file where it cannot be read."""
    recipe = str(parameters.get("recipe", "quickstart"))
    try:
        return load_data_to_model(recipe).name
    except RecipeError:
        return Path(recipe).stem


def corpus_of(recipe: DataToModelRecipe) -> str:
    """Return the name of the corpus that a chain makes."""
    return load_recipe(recipe.corpus.recipe, recipe.corpus.overrides).name
