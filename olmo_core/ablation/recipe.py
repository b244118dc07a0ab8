"""The recipe of an ablation: variants of a corpus, one small model for each of them and each seed, one evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from olmo_core.curation.variants import MARK, Variant, Variants
from olmo_core.errors import RecipeError
from olmo_core.recipe import beside, from_mapping, read_yaml, recipe_file
from olmo_core.summary.recipe import Prices, TrainingPart
from olmo_core.train.overrides import TrainOverrides

RECIPES = Path(__file__).resolve().parents[2] / "deployments" / "recipes" / "ablate-data"


@dataclass(frozen=True, kw_only=True)
class AblationRecipe:
    """N corpora, N times so many models as there are seeds, all trained on the same number of tokens."""

    name: str
    """Beginning of the names of corpora, runs and report."""
    base: str
    """Corpus recipe: a name in deployments/recipes, or a file."""
    variants: tuple[Variant, ...]
    """What each corpus does otherwise; the first is what the others are compared with, and its held-out split is what all are measured on."""
    training: TrainingPart
    """One recipe for all: the same budget, so equal tokens; its seed is replaced by each of `seeds`."""
    evaluation: str
    """Evaluation recipe; texts that it takes from a held-out corpus are those of the first variant's split `validation`."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Of the first weights and the order of the data; with fewer than two nothing can be said about chance in training."""
    prices: Prices = field(default_factory=Prices)
    """By which money is told."""
    file: str = ""
    """Where it was read from."""

    def __post_init__(self) -> None:
        """Raise RecipeError for fewer than two variants, no seed, or a seed twice."""
        self.of_corpora()
        if len(self.variants) < 2:
            raise RecipeError(f"variants: {len(self.variants)}; a comparison needs at least two")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise RecipeError(f"seeds: {list(self.seeds)}; give at least one, each once")
        if self.training.overrides.name is not None or self.training.overrides.seed is not None:
            raise RecipeError("training.overrides: name and seed are those of the variants and `seeds`; leave them out")

    def of_corpora(self) -> Variants:
        """Return the part that says which corpora there are."""
        return Variants(name=self.name, base=self.base, variants=self.variants)

    @property
    def names(self) -> list[str]:
        """The variants' names; the first is the reference."""
        return [one.name for one in self.variants]

    def corpus(self, variant: str) -> str:
        """Return how the corpus recipe of a variant is named: `file#variant`."""
        return f"{self.file}{MARK}{variant}"

    def overrides(self, variant: str, seed: int) -> TrainOverrides:
        """Return what one run does otherwise than the training recipe."""
        return replace(self.training.overrides, name=f"{self.name}-{variant}-s{seed}", seed=seed)


def load_ablation(name_or_path: str, folder: Path = RECIPES) -> AblationRecipe:
    """Return the recipe of a name (`deployments/recipes/ablate-data/{name}.yaml`) or of a YAML file's path."""
    path = recipe_file(name_or_path, folder, "ablate-data recipe")
    recipe = from_mapping(AblationRecipe, read_yaml(path), path.name)
    return replace(
        recipe,
        training=replace(recipe.training, recipe=beside(path, recipe.training.recipe)),
        evaluation=beside(path, recipe.evaluation),
        file=str(path.resolve()),
    )
