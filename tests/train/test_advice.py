"""What is said of a run that is allowed and unwise; and that the published recipes are not told off."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.train.advice import taken_over, unwise, usual_learning_rate
from olmo_core.train.overrides import TrainOverrides, recipe_with
from olmo_core.train.recipe import RECIPES
from olmo_core.train.run_file import DONE, RunFile, TrainResources
from olmo_core.train.session import train
from tests.train.tiny_run import tiny_run


def run(recipe: str = "tiny", *, save_every: int | None = None, unit: Any = None, **changes: Any) -> RunFile:
    made = recipe_with(recipe, TrainOverrides(**changes))
    made = dataclasses.replace(made, schedule=dataclasses.replace(made.schedule, unit=unit or made.schedule.unit))
    tokens = ArtifactRef(kind=Kind.TOKENS, name="web", fingerprint="0" * 64)
    return RunFile(store="memory://x", recipe=made, tokens=tokens, resources=TrainResources(save_every=save_every))


@pytest.mark.parametrize("name", sorted(one.stem for one in RECIPES.glob("*.yaml")))
def test_our_own_recipes_are_wise(name: str) -> None:
    assert unwise(run(name), epochs=1.0) == ()


@pytest.mark.parametrize(
    ("given", "epochs", "said"),
    [
        ({"warmup": 1172}, 1.0, "schedule.warmup: 1,172 steps, and the run has 1,172"),
        ({"warmup": 1_300_000, "unit": "tokens"}, None, "schedule.warmup: 1,300,000 tokens, and the run has 1,200,128"),
        ({}, 4.1, "tokens: 4.1 epochs"),
        ({"save_every": 1172}, 1.0, "resources.save_every: 1,172 of 1,172 steps"),
        ({"learning_rate": 1.0}, 1.0, "times the usual"),
        ({"learning_rate": 1e-5}, 1.0, "th of the usual"),
    ],
)
def test_what_is_unwise_is_said_with_its_field(given: dict[str, Any], epochs: float | None, said: str) -> None:
    found = unwise(run(**given), epochs)
    assert len(found) == 1 and said in found[0], found


def test_the_edge_is_no_warning() -> None:
    assert unwise(run(warmup=1171, save_every=1171), epochs=4.0) == ()


def test_a_name_that_another_run_has_is_said_once(tmp_path: Path) -> None:
    """Not of the run itself, nor of a larger budget from its checkpoint; also where only a checkpoint of it was saved."""
    first = tiny_run(tmp_path, steps=2, save_every=1)
    store = ArtifactStore(first.store)
    assert taken_over(store, first) == ()
    assert train(first) == DONE
    assert taken_over(store, first) == ()
    name = first.recipe.name
    other = dataclasses.replace(first, recipe=dataclasses.replace(first.recipe, seed=first.recipe.seed + 1))
    (said,) = taken_over(store, other)
    assert f"{name!r} is also the name of {first.ref}, another run" in said
    assert f"run/{name}@latest and checkpoint/{name}@latest will be this one's ({other.ref})" in said
    assert taken_over(store, dataclasses.replace(other, start=first.checkpoint(2))) == ()
    assert taken_over(store, dataclasses.replace(other, recipe=dataclasses.replace(other.recipe, name="free"))) == ()
    store.storage.delete(f"refs/run/{name}/latest.json")  # as while it is under way
    assert taken_over(store, other) == (said,) and taken_over(store, first) == ()
    assert train(other) == DONE
    assert store.resolve(f"run/{name}@latest") == other.ref
    assert taken_over(store, other) == taken_over(store, first) == (), "both are finished: nothing moves"


def test_the_usual_learning_rate_is_near_the_published_ones() -> None:
    """OLMo 1B (3.1e12 tokens): 4e-4; OLMo 7B (2.5e12): 3e-4."""
    assert usual_learning_rate(1_176_764_416, 3_100_966_387_712) == pytest.approx(4e-4, rel=0.4)
    assert usual_learning_rate(6_888_095_744, 2_460_000_000_000) == pytest.approx(3e-4, rel=0.4)
