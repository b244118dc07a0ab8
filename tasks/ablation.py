"""The tasks of ablate-data: what its stages are started with, and the report at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from olmo_core import provenance
from olmo_core.ablation.recipe import AblationRecipe, load_ablation
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError, RecipeError
from olmo_core.report.markdown import count
from olmo_core.train.overrides import recipe_with
from tasks.credentials import credentials
from tasks.dashboard import clipped, key
from tasks.data_to_model import VALIDATION, ChainResources, links, of_part, runs_of_stages
from tasks.expected_errors import shorten, without_credentials
from tasks.made import tell
from tasks.session import checked, store_uri
from tasks.stages import STORAGE_RETRIES
from tasks.training_view import put_card

Made = Mapping[str, Mapping[str, str]]


class Ablation:
    """The parameters of each stage. Not a dataclass: Prefect looks inside those when it passes parameters."""

    def __init__(self, recipe: AblationRecipe, resources: ChainResources) -> None:
        self.recipe, self.resources = recipe, resources

    def corpus(self, variant: str) -> dict[str, Any]:
        """Parameters of build-dolma for a variant."""
        return {"recipe": self.recipe.corpus(variant), "overrides": None, "resources": self.resources.of_corpus()}

    @property
    def models(self) -> list[tuple[str, int]]:
        """Variant and seed of each model; a seed of all variants before the next, so that a run that breaks off has compared something."""
        return [(variant, seed) for seed in self.recipe.seeds for variant in self.recipe.names]

    def training(self, variant: str, seed: int, corpora: Made) -> dict[str, Any]:
        """Parameters of train-olmo; the held-out loss is that of the variant's own split."""
        return {
            "recipe": self.recipe.training.recipe,
            "tokens": corpora[variant]["tokens"],
            "held_out": corpora[variant].get(f"tokens-{VALIDATION}"),
            "overrides": self.recipe.overrides(variant, seed),
            "resources": self.resources.of_training(),
        }

    def evaluation(self, runs: Made, corpora: Made) -> dict[str, Any]:
        """Parameters of evaluate-olmo for all models at once, on the first variant's held-out split."""
        return {
            "models": [run["checkpoint"] for run in runs.values()],
            "recipe": self.recipe.evaluation,
            "contaminated": None,
            "held_out": corpora[self.recipe.names[0]].get(f"corpus-{VALIDATION}"),
            "resources": self.resources.of_evaluation(),
        }


def open_ablation(recipe: str, resources: ChainResources | None) -> Ablation:
    """Return the ablation of a recipe. Raises RecipeError, naming the part, for what is wrong with it, before anything starts."""
    from olmo_core.evaluation.recipe import load_evaluation_recipe

    shorten()
    provenance.refuse_foreign_package()
    loaded, resources = load_ablation(recipe), resources or ChainResources()
    for variant in loaded.names:
        corpus, _ = checked(loaded.corpus(variant), None, resources.of_corpus())
        if variant == loaded.names[0] and VALIDATION not in [split.name for split in corpus.held_out]:
            raise RecipeError(
                f"{loaded.name}, variant {variant}: no held_out split {VALIDATION!r}; models are compared on it"
            )
    of_part("training", lambda: recipe_with(loaded.training.recipe, loaded.training.overrides))
    of_part("evaluation", lambda: load_evaluation_recipe(loaded.evaluation))
    return Ablation(loaded, resources)


@task(
    name="compare-corpora",
    task_run_name="compare-corpora",
    cache_policy=NO_CACHE,
    persist_result=False,
    **STORAGE_RETRIES,
)
def compare_corpora(ablation: Ablation, corpora: Made) -> dict[str, int]:
    """Say how many tokens each variant has. Raises InputError when a variant has none."""
    recipe, logger = ablation.recipe, get_run_logger()
    budget = recipe_with(recipe.training.recipe, recipe.training.overrides).tokens
    found = {}
    with without_credentials(), credentials(ablation.resources.credentials_block):
        store = ArtifactStore(store_uri(ablation.resources.store))
        for variant, made in corpora.items():
            found[variant] = int(store.manifest(store.resolve(made["tokens"])).counts.get("tokens", 0))
    for variant, tokens in found.items():
        if not tokens:
            raise InputError(f"{recipe.name}, variant {variant}: its corpus has no tokens; are its rules too strict?")
        logger.info("%s: %s tokens, %.2f epochs of training", variant, count(tokens), budget / tokens)
    return found


@task(name="report", task_run_name="report", cache_policy=NO_CACHE, persist_result=False, **STORAGE_RETRIES)
def publish_ablation(
    ablation: Ablation, corpora: Made, runs: Mapping[tuple[str, int], Mapping[str, str]], evaluation: Mapping[str, str]
) -> dict[str, str]:
    """Compare the variants, write the report into the store and show it. Returns the address of the `report`."""
    from olmo_core.ablation import stage

    recipe = ablation.recipe
    with without_credentials(), credentials(ablation.resources.credentials_block):
        store = ArtifactStore(store_uri(ablation.resources.store))
        refs = {stage.role("corpus", variant): store.resolve(made["report"]) for variant, made in corpora.items()}
        scored = _by_checkpoint(store, evaluation)
        for (variant, seed), made in runs.items():
            refs[stage.role("run", variant, seed)] = store.resolve(made["run"])
            refs[stage.role("evaluation", variant, seed)] = scored[made["checkpoint"]]
        built = stage.build_report(store, recipe, refs)
        text = store.storage.read(built.manifest.object(stage.MARKDOWN).path).decode()
    body = clipped(f"{text}\n## Runs of the stages\n\n{links(runs_of_stages())}")
    put_card(key("ablation", recipe.name), body, f"Ablation {recipe.name}: what each variant changes")
    return tell({"report": str(built.ref)})


def _by_checkpoint(store: ArtifactStore, made: Mapping[str, str]) -> dict[str, ArtifactRef]:
    """Return the evaluations that a run of evaluate-olmo names, by their checkpoint's address."""
    refs = [
        store.resolve(address) for address in dict.fromkeys(made.values()) if address.startswith(f"{Kind.EVALUATION}/")
    ]
    return {str(store.manifest(ref).inputs["checkpoint"]): ref for ref in refs}


def ablation_title(parameters: Mapping[str, Any]) -> str:
    """Return the name of the ablation that these parameters mean; that of the recipe's file where it cannot be read."""
    recipe = str(parameters.get("recipe", ""))
    try:
        return load_ablation(recipe).name
    except RecipeError:
        return Path(recipe).stem
