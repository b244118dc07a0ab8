"""The recipe of data-to-model: which corpus, which training run, which evaluation, and what is told at the end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from olmo_core.artifacts.ref import check_name
from olmo_core.curation.corpus_recipe import Overrides
from olmo_core.errors import RecipeError
from olmo_core.recipe import beside, from_mapping, read_yaml, recipe_file
from olmo_core.train.overrides import TrainOverrides

RECIPES = Path(__file__).resolve().parents[2] / "deployments" / "recipes" / "data-to-model"


@dataclass(frozen=True, kw_only=True)
class CorpusPart:
    """What build-dolma is asked for."""

    recipe: str
    """Name of a recipe in deployments/recipes, or a file; a relative path is looked for beside this recipe first."""
    overrides: Overrides = field(default_factory=Overrides)
    """The few values worth changing without writing a recipe file."""


@dataclass(frozen=True, kw_only=True)
class TrainingPart:
    """What train-olmo is asked for; it trains on the corpus's tokens and reports the loss on its split `validation`."""

    recipe: str
    """Name of a recipe in deployments/recipes/train, or a file."""
    overrides: TrainOverrides = field(default_factory=TrainOverrides)
    """The few values worth changing without writing a recipe file."""


@dataclass(frozen=True, kw_only=True)
class EvaluationPart:
    """What evaluate-olmo is asked for."""

    recipe: str
    """Name of a recipe in deployments/recipes/evaluation, or a file."""
    otherwise: str | None = None
    """Recipe to take, saying so, where a benchmark's file cannot be downloaded; None: then the stage fails."""
    checkpoints: Literal["last", "all"] = "last"
    """Which checkpoints of the run; `all`: those of its save interval, so that an interruption changes no table."""
    limit: int | None = None
    """Items of each benchmark at most."""
    held_out: bool = True
    """Texts that the recipe takes from a held-out corpus are those of this corpus's own split `validation`."""


@dataclass(frozen=True, kw_only=True)
class SamplePart:
    """A text that the last checkpoint is let write."""

    prompt: str = "The"
    """What it goes on from."""
    tokens: int = 60
    """New tokens at most."""
    temperature: float = 0.8
    """0: always the likeliest token."""
    top_p: float | None = 0.95
    """Draw from the likeliest tokens up to this probability."""
    seed: int = 0
    """Of the draws."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Prices by which the summary tells what was spent; none of them is looked up anywhere."""

    cpu_hour: float | None = None
    """Of one processor core for one hour; None: no money is told."""
    gpu_hour: float | None = None
    """Of one GPU for one hour."""
    currency: str = "USD"
    """What they are in."""


@dataclass(frozen=True, kw_only=True)
class DataToModelRecipe:
    """A whole chain. Each part is one of the recipes that its flow takes alone; whatever exists is reused."""

    name: str
    """Part of the summary's name and of the runs' names."""
    corpus: CorpusPart
    training: TrainingPart
    evaluation: EvaluationPart
    sample: SamplePart = field(default_factory=SamplePart)
    prices: Prices = field(default_factory=Prices)

    def __post_init__(self) -> None:
        """Raise RecipeError for a name that cannot be part of an address, and for numbers that cannot be."""
        check_name(self.name, "data-to-model name")
        if self.evaluation.limit is not None and self.evaluation.limit < 1:
            raise RecipeError(f"evaluation.limit: {self.evaluation.limit}; at least 1 is needed, or none for all items")
        if self.sample.tokens < 1 or self.sample.temperature < 0:
            raise RecipeError(
                f"sample: {self.sample.tokens} tokens at temperature {self.sample.temperature}; give at least 1, and 0 or more"
            )


def load_data_to_model(name_or_path: str, folder: Path = RECIPES) -> DataToModelRecipe:
    """Return the recipe of a name (`deployments/recipes/data-to-model/{name}.yaml`) or of a YAML file's path.

    Raises RecipeError for a name or file that is not there (listing the names), and for what is wrong inside.
    """
    path = recipe_file(name_or_path, folder, "data-to-model recipe")
    recipe = from_mapping(DataToModelRecipe, read_yaml(path), path.name)
    evaluation = replace(
        recipe.evaluation,
        recipe=beside(path, recipe.evaluation.recipe),
        otherwise=beside(path, recipe.evaluation.otherwise) if recipe.evaluation.otherwise else None,
    )
    return replace(
        recipe,
        corpus=replace(recipe.corpus, recipe=beside(path, recipe.corpus.recipe)),
        training=replace(recipe.training, recipe=beside(path, recipe.training.recipe)),
        evaluation=evaluation,
    )
