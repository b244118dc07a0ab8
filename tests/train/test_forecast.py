"""What a run will be, and recipes with a few values changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError, RecipeError
from olmo_core.model.config import preset
from olmo_core.train.forecast import device_bytes, forecast
from olmo_core.train.overrides import TrainOverrides, recipe_with
from olmo_core.train.recipe import TrainRecipe, load_train_recipe
from tests.train.token_artifacts import tokens_artifact


@pytest.fixture
def tokens(tmp_path: Path) -> Manifest:
    """Two files, of 1,000 and 600 tokens."""
    return tokens_artifact(ArtifactStore(str(tmp_path)), [np.zeros(1000, np.uint16), np.ones(600, np.uint16)])


def recipe(**changes: int) -> TrainRecipe:
    return recipe_with("tiny", TrainOverrides(**{"sequence_length": 64, "batch": 4, "budget": 64 * 4 * 9, **changes}))  # type: ignore[arg-type]


def test_numbers_by_hand(tokens: Manifest) -> None:
    """15 + 9 instances of 64 tokens, 40 + 24 tokens dropped, 6 batches of 4 an epoch, 9 steps: one and a half."""
    found = forecast(recipe(), tokens)
    assert (found.available, found.chunks, found.dropped) == (1600, 24, 64)
    assert (found.steps, found.tokens_per_step, found.tokens, found.epochs) == (9, 256, 2304, 1.5)
    assert found.checkpoint_bytes == 12 * preset("tiny").parameters == 12 * 7_487_488


def test_what_cannot_be_trained_names_the_field(tokens: Manifest) -> None:
    with pytest.raises(RecipeError, match=r"batch: 4 instances cannot be shared by 3 ranks"):
        forecast(recipe(), tokens, ranks=3)
    with pytest.raises(InputError, match=r"24 instances of data.sequence_length 64: fewer than one batch of 25"):
        forecast(recipe(batch=25), tokens)


def test_memory_grows_with_what_it_should() -> None:
    """State is shared by ranks, activations grow with instances and shrink with recomputation; 7B fits 8 x 80 GB."""
    model = preset("7b")
    one, eight = (device_bytes(model, 2048, 1, ranks, "bfloat16") for ranks in (1, 8))
    assert one - eight == pytest.approx(16 * model.parameters * 7 / 8, rel=1e-6)
    assert 16 * model.parameters < one < 16 * model.parameters + 40e9
    less = device_bytes(model, 2048, 4, 8, "bfloat16", "block")
    assert less < device_bytes(model, 2048, 4, 8, "bfloat16", "cheap") < device_bytes(model, 2048, 4, 8, "bfloat16")
    assert less < 80e9
    gathered = device_bytes(model, 2048, 1, 8, "bfloat16", "none", False)
    assert gathered - eight == pytest.approx(2 * model.parameters, rel=0.1), "all of it, not one block"


def test_overrides_change_what_they_say_and_nothing_else() -> None:
    base = load_train_recipe("tiny")
    assert recipe_with("tiny", None) == recipe_with("tiny", TrainOverrides()) == base
    changed = recipe_with("tiny", TrainOverrides(name="x", budget=4096, learning_rate=0.5, warmup=3, seed=1))
    assert (changed.name, changed.tokens, changed.seed, changed.data.seed) == ("x", 4096, 1, 1)
    assert (changed.optimizer.learning_rate, changed.schedule.warmup) == (0.5, 3)
    assert (changed.model, changed.batch, changed.optimizer.betas) == (base.model, base.batch, base.optimizer.betas)
    with pytest.raises(RecipeError, match="run name"):
        recipe_with("tiny", TrainOverrides(name="Not A Name"))
