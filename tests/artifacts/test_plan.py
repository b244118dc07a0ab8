"""Planning ahead: what is said before a run is what the run does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from olmo_core.artifacts import lineage
from olmo_core.artifacts.build import build
from olmo_core.artifacts.plan import plan
from olmo_core.artifacts.step import Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.workers import Workers
from tests.artifacts.toy import ToyRecipe, toy


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(1) as pool:
        yield pool


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


def chain(shards: dict[str, list[int]], factor: int = 1) -> list[Step]:
    """An inventory that changes with every shard, and three steps, each over the shards of the one before."""
    inventory = toy(
        {"files": [v for values in shards.values() for v in values]}, ToyRecipe(factor=len(shards)), stage="inventory"
    )
    first = toy(shards, stage="first", inputs={"inventory": inventory.ref})
    second = toy(shards, ToyRecipe(factor=factor), stage="second", inputs={"first": first.ref})
    third = toy(shards, stage="third", inputs={"second": second.ref})
    return [inventory, first, second, third]


SHARDS = {"a": [1], "b": [2], "c": [3]}


def predicted_and_done(
    store: ArtifactStore, workers: Workers, steps: list[Step]
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    said = [(p.action, p.shards_reused) for p in plan(store, steps)]
    built = [build(store, step, workers) for step in steps]
    return said, [("reuse" if b.reused else "build", b.shards_reused) for b in built]


def test_everything_is_built_then_nothing(store: ArtifactStore, workers: Workers) -> None:
    said, done = predicted_and_done(store, workers, chain(SHARDS))
    assert said == done == [("build", 0)] * 4
    said, done = predicted_and_done(store, workers, chain(SHARDS))
    assert said == done == [("reuse", 1)] + [("reuse", 3)] * 3


def test_a_changed_recipe_rebuilds_it_and_what_follows(store: ArtifactStore, workers: Workers) -> None:
    predicted_and_done(store, workers, chain(SHARDS))
    planned = plan(store, chain(SHARDS, factor=2))
    assert [p.action for p in planned] == ["reuse", "reuse", "build", "build"]
    assert planned[2].why == ("recipe factor: 1 -> 2",)
    assert planned[3].why[0].startswith("input second:")
    said, done = predicted_and_done(store, workers, chain(SHARDS, factor=2))
    assert said == done


def test_one_more_input_rebuilds_its_shard_only(store: ArtifactStore, workers: Workers) -> None:
    predicted_and_done(store, workers, chain(SHARDS))
    said, done = predicted_and_done(store, workers, chain({**SHARDS, "d": [4]}))
    assert said == done == [("build", 0)] + [("build", 3)] * 3


def test_planning_writes_nothing(store: ArtifactStore) -> None:
    plan(store, chain(SHARDS))
    assert list(store.storage.walk("")) == []


def test_lineage_goes_both_ways(store: ArtifactStore, workers: Workers) -> None:
    inventory, first, second, third = chain(SHARDS)
    predicted_and_done(store, workers, [inventory, first, second, third])
    assert [(a.manifest.ref, a.depth) for a in lineage.backward(store, third.ref)] == [
        (third.ref, 0),
        (second.ref, 1),
        (first.ref, 2),
        (inventory.ref, 3),
    ]
    assert [(a.manifest.ref, a.depth) for a in lineage.forward(store, first.ref)] == [(second.ref, 1), (third.ref, 2)]
