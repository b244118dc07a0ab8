"""The recipe of an evaluation: which benchmarks and which texts, asked how; nothing of the model or the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from olmo_core.artifacts.ref import check_name
from olmo_core.errors import RecipeError
from olmo_core.evaluation.benchmarks.definitions import SUITES, definition
from olmo_core.evaluation.items import Format, Selection
from olmo_core.evaluation.perplexity import Windows
from olmo_core.recipe import from_mapping, read_yaml, recipe_file

RECIPES = Path(__file__).resolve().parents[2] / "deployments" / "recipes" / "evaluation"


@dataclass(frozen=True, kw_only=True)
class BenchmarkRecipe:
    """One benchmark."""

    name: str
    """`arc_easy`, ..., or a suite: `core` (the nine), `all`."""
    format: Format = "catwalk"
    """Whose prompts and primary metric."""
    limit: int | None = None
    """Items at most, a random sample; None for all. Catwalk's published numbers: 1,000."""
    seed: int = 1234
    """Of the sample; Catwalk's."""
    shots: int | None = None
    """Worked examples before each question; None: the benchmark's own number."""

    def selection(self) -> Selection:
        """Return which items are asked."""
        return Selection(limit=self.limit, seed=self.seed, shots=self.shots)


@dataclass(frozen=True, kw_only=True)
class DomainRecipe:
    """Texts whose bits per byte are measured."""

    name: str
    """Name of the source; appears in tables."""
    folder: str | None = None
    """Folder or s3:// prefix of `domain.jsonl` files (.gz or not) with a field `text`, as Paloma's `source/domain.jsonl`."""
    corpus: str | None = None
    """A held-out corpus of ours, e.g. `corpus/quickstart-validation`; its sources are the domains."""
    tokens: int | None = None
    """Tokens of a domain, about: documents in the order of a hash of their ids until so many; None for all. Paloma: 100,000."""

    def __post_init__(self) -> None:
        """Raise RecipeError unless exactly one place is given."""
        check_name(self.name, "domain source")
        if (self.folder is None) == (self.corpus is None):
            raise RecipeError(f"domains of {self.name}: give either `folder` or `corpus`")


@dataclass(frozen=True, kw_only=True)
class EvaluationRecipe:
    """Everything that decides the numbers of an evaluation, but for the model."""

    name: str
    """Part of the evaluation artifacts' names."""
    benchmarks: tuple[BenchmarkRecipe, ...] = ()
    domains: tuple[DomainRecipe, ...] = ()
    windows: Windows = "paloma"
    """How documents longer than the model's context are cut."""
    stand_in: bool = False
    """TruthfulQA by twelve questions made by hand, where its file cannot be had; the number is marked, and is no score."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the model's weights and matrix products; log-probabilities are float32 always."""

    def __post_init__(self) -> None:
        """Raise RecipeError for an evaluation of nothing, of something twice, or of a benchmark as it cannot be asked."""
        check_name(self.name, "evaluation name")
        if not self.benchmarks and not self.domains:
            raise RecipeError(f"evaluation {self.name}: it names no benchmarks and no domains")
        labels = [(b.name, b.format) for b in self.all_benchmarks()] + [(d.name, "domains") for d in self.domains]
        if twice := sorted({name for name, kind in labels if labels.count((name, kind)) > 1}):
            raise RecipeError(f"evaluation {self.name}: {', '.join(twice)} is there twice")
        for one in self.all_benchmarks():
            definition(one.name, one.format).shots(one.selection().shots)

    def all_benchmarks(self) -> list[BenchmarkRecipe]:
        """Return the benchmarks one by one, suites taken apart."""
        return [replace(b, name=name) for b in self.benchmarks for name in SUITES.get(b.name, (b.name,))]


def evaluation_recipe(values: Any, path: str = "recipe") -> EvaluationRecipe:
    """Return the recipe of plain values; a benchmark may be its name alone."""
    if isinstance(values, Mapping) and isinstance(values.get("benchmarks"), list):
        named = [{"name": one} if isinstance(one, str) else one for one in values["benchmarks"]]
        values = {**values, "benchmarks": named}
    return from_mapping(EvaluationRecipe, values, path)


def limited(recipe: EvaluationRecipe, limit: int) -> EvaluationRecipe:
    """Return a recipe with at most so many items of each benchmark, under a name of its own: it takes no tag of the whole one's."""
    benchmarks = tuple(replace(one, limit=limit) for one in recipe.benchmarks)
    return replace(recipe, name=f"{recipe.name}-limit{limit}", benchmarks=benchmarks)


def load_evaluation_recipe(name_or_path: str, folder: Path = RECIPES) -> EvaluationRecipe:
    """Return the recipe of a name (`deployments/recipes/evaluation/{name}.yaml`) or of a YAML file's path."""
    path = recipe_file(name_or_path, folder, "evaluation recipe")
    return evaluation_recipe(read_yaml(path), path.name)
