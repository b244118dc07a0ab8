"""Learning rates and largest norms beside OLMo's own code, at every step of the published runs.

The golden file (by tests/oracles/olmo_golden.py) has sums of 1,024 steps each and a digest of all rates, so that one
wrong step in half a million shows.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest

from olmo_core.model.config import preset
from olmo_core.train.recipe import DataRecipe, OptimizerRecipe, ScheduleRecipe, TrainRecipe
from olmo_core.train.schedule import clip_norm, learning_rate
from tests.oracles.olmo_settings import BLOCK, SCHEDULES, SEQUENCE

GOLDEN = json.loads((Path(__file__).parent / "golden" / "olmo_schedules.json").read_text())


def recipe_of(name: str) -> TrainRecipe:
    """Return the recipe with OLMo's settings."""
    setting: dict[str, Any] = SCHEDULES[name]
    return TrainRecipe(
        name="golden",
        model=preset("1b"),
        tokens=GOLDEN[name]["tokens"],
        batch=setting["batch"],
        data=DataRecipe(sequence_length=SEQUENCE),
        optimizer=OptimizerRecipe(
            learning_rate=setting["learning_rate"],
            clip_norm=1.0,
            clip_warmup=setting["clip_warmup"] or 0,
            clip_warmup_factor=setting["clip_factor"] or 1.0,
        ),
        schedule=ScheduleRecipe(
            kind=setting["kind"].removesuffix("_with_warmup"),
            unit=setting["units"],
            warmup=setting["warmup"],
            horizon=setting["horizon"],
            final=setting["final"],
        ),
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_learning_rates_are_those_of_olmo(name: str) -> None:
    recipe, golden = recipe_of(name), GOLDEN[name]
    assert recipe.steps == golden["steps"]
    for step, rate in golden["rates"]:
        assert learning_rate(recipe, step) == pytest.approx(rate, rel=1e-14, abs=0), step


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
def test_learning_rates_are_those_of_olmo_at_every_step(name: str) -> None:
    recipe, golden = recipe_of(name), GOLDEN[name]
    rates = [learning_rate(recipe, step) for step in range(1, recipe.steps + 1)]
    for number, total in enumerate(golden["block_sums"]):
        first = number * BLOCK
        assert math.fsum(rates[first : first + BLOCK]) == pytest.approx(total, rel=1e-14, abs=0), (
            f"from step {first + 1}"
        )
    assert hashlib.sha256(struct.pack(f"<{len(rates)}d", *rates)).hexdigest() == golden["sha256"]


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_largest_norm_changes_at_the_step_of_olmo(name: str) -> None:
    """By OLMo's schedule; its trainer uses each value one step late, as it clips before it asks."""
    recipe, golden = recipe_of(name), GOLDEN[name]
    assert clip_norm(recipe, 1) == golden["first_norm"]
    assert clip_norm(recipe, recipe.steps) == (golden["norm_changes"] or [[0, golden["first_norm"]]])[-1][1]
    before = golden["first_norm"]
    for step, norm in golden["norm_changes"]:
        assert [clip_norm(recipe, step - 1), clip_norm(recipe, step)] == [before, norm]
        before = norm
