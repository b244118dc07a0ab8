"""The recipes that come with the project: all can be read, and the published ones say what was published."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.train.recipe import RECIPES, load_train_recipe
from olmo_core.train.run_file import RunFile, TrainResources, run_from_mapping, save_interval, step_tag
from olmo_core.train.schedule import check, clip_norm, learning_rate

NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_can_be_read(name: str) -> None:
    recipe = load_train_recipe(name)
    check(recipe)
    assert recipe.steps > 100
    assert learning_rate(recipe, 1) < recipe.optimizer.learning_rate
    assert max(learning_rate(recipe, s) for s in range(1, 6000)) == pytest.approx(
        recipe.optimizer.learning_rate, rel=0.01
    )


@pytest.mark.parametrize("steps", [1, 9, 10, 19, 20, 99, 1953, 6409, 10_000, 739_328])
def test_checkpoints_come_at_round_steps_and_not_too_often(steps: int) -> None:
    """Ten to 25 of a run, fewer of a very short one, more of a long one: 1,000 steps apart at most."""
    recipe = load_train_recipe("tiny")
    tokens = ArtifactRef(kind=Kind.TOKENS, name="toy", fingerprint="0" * 64)
    run = RunFile(store="memory://x", tokens=tokens, recipe=replace(recipe, tokens=steps * recipe.tokens_per_step))
    every = save_interval(run)
    assert str(every).strip("0") in ("1", "2", "5") and every <= 1000
    assert steps // every <= 25 or every == 1000
    assert steps < 10 or steps // every >= 10
    assert save_interval(replace(run, resources=TrainResources(save_every=7))) == 7


def test_published_settings() -> None:
    """allenai/OLMo configs and the names of the published checkpoints."""
    assert {"tiny", "20m", "150m", "1b", "7b", "65b"} <= set(NAMES)
    one, seven, large = (load_train_recipe(name) for name in ("1b", "7b", "65b"))
    assert (one.steps, one.tokens_per_step) == (739_328, 4_194_304)
    assert step_tag(20_000, 20_000 * one.tokens_per_step) == "step20000-tokens84B"
    assert step_tag(556_000, 556_000 * seven.tokens_per_step) == "step556000-tokens2460B"
    assert step_tag(452_000, 452_000 * seven.tokens_per_step) == "step452000-tokens2000B"
    assert [clip_norm(seven, s) for s in (1, 1000, 1001)] == [10.0, 10.0, 1.0]
    assert learning_rate(seven, 5000) == 3e-4
    assert learning_rate(seven, seven.steps) == 0
    assert [learning_rate(large, 10_485_760_000 // 4_194_304), learning_rate(large, 500_000)] == pytest.approx(
        [1.5e-4, 1.5e-5]
    )
    assert [clip_norm(large, s) for s in (1, 500, 501)] == [5.0, 5.0, 1.0]
    assert (large.optimizer.decay_embeddings, one.optimizer.decay_embeddings) == (True, False)


def test_the_run_file_of_the_documentation_is_one() -> None:
    """With a preset's name for the model, as written by hand; stored ones have the whole model, of the same fingerprint."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    found = re.search(r'^    (\{"store".*?\}\})\s+#', page, re.MULTILINE | re.DOTALL)
    assert found
    values = json.loads(found[1].replace('"..."', json.dumps("0" * 64)))
    run = run_from_mapping(values)
    assert run.recipe.steps == 489 and run.resources.save_every == 100
    assert run_from_mapping(json.loads(run.to_json())) == run
    values["recipe"]["model"] = {"preset": "tiny", "layers": 2}
    assert run_from_mapping(values).recipe.model.layers == 2
