"""The few values of a training recipe that are worth changing without writing a recipe file."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from olmo_core.train.recipe import TrainRecipe, load_train_recipe


@dataclass(frozen=True, kw_only=True)
class TrainOverrides:
    """Values that take the place of the recipe's; None leaves it as it is."""

    name: str | None = None
    """Name of the run and its checkpoints."""
    budget: int | None = None
    """Tokens to train on in all (the recipe's `tokens`)."""
    batch: int | None = None
    """Instances of a step over all devices."""
    sequence_length: int | None = None
    """Tokens of an instance."""
    learning_rate: float | None = None
    """At the peak."""
    warmup: int | None = None
    """Length of the rise to it, in the schedule's unit."""
    seed: int | None = None
    """Of the initial weights and of the order of the data."""

    __pydantic_config__ = {"use_attribute_docstrings": True, "extra": "forbid"}

    def apply(self, recipe: TrainRecipe) -> TrainRecipe:
        """Return the recipe with these values. Raises RecipeError, naming the field, for what cannot be."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        data: dict[str, Any] = {k: given[k] for k in ("sequence_length", "seed") if k in given}
        changes: dict[str, Any] = {k: given[k] for k in ("name", "batch", "seed") if k in given}
        if "budget" in given:
            changes["tokens"] = given["budget"]
        if data:
            changes["data"] = replace(recipe.data, **data)
        if "learning_rate" in given:
            changes["optimizer"] = replace(recipe.optimizer, learning_rate=given["learning_rate"])
        if "warmup" in given:
            changes["schedule"] = replace(recipe.schedule, warmup=given["warmup"])
        return replace(recipe, **changes)


def recipe_with(name_or_path: str, overrides: TrainOverrides | None) -> TrainRecipe:
    """Return a training recipe with what is changed in it."""
    return (overrides or TrainOverrides()).apply(load_train_recipe(name_or_path))
