"""The learning rate and the clipping of each step: warmup, shape, horizon, last decay. OLMo's own: test_schedule_golden."""

from __future__ import annotations

import math
from typing import Any

import pytest

from olmo_core.errors import RecipeError
from olmo_core.model.config import preset
from olmo_core.train.recipe import DataRecipe, OptimizerRecipe, ScheduleRecipe, TrainRecipe
from olmo_core.train.schedule import check, clip_norm, learning_rate


def recipe(steps: int = 100, optimizer: dict[str, Any] | None = None, **schedule: Any) -> TrainRecipe:
    """A recipe of so many steps of 16 tokens, its peak 1."""
    return TrainRecipe(
        name="x", model=preset("tiny"), tokens=steps * 16, batch=2, data=DataRecipe(sequence_length=8),
        optimizer=OptimizerRecipe(**{"learning_rate": 1.0, **(optimizer or {})}),
        schedule=ScheduleRecipe(**{"warmup": 10, **schedule}),
    )  # fmt: skip


def test_the_warmup_rises_from_a_tenth_to_the_peak() -> None:
    rates = [learning_rate(recipe(kind="constant"), step) for step in (1, 5, 10, 100)]
    assert rates == pytest.approx([0.19, 0.55, 1.0, 1.0])


def test_shapes_end_at_the_horizon() -> None:
    linear, cosine = recipe(kind="linear"), recipe(kind="cosine", horizon=50)
    assert learning_rate(linear, 55) == pytest.approx(0.55)
    assert learning_rate(linear, 100) == pytest.approx(0.1)
    assert learning_rate(cosine, 30) == pytest.approx(0.55)
    assert learning_rate(cosine, 20) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert [learning_rate(cosine, step) for step in (50, 51, 100)] == pytest.approx([0.1] * 3)


def test_tokens_are_those_seen_when_the_step_is_done() -> None:
    steps, tokens = recipe(kind="linear"), recipe(kind="linear", unit="tokens", warmup=160)
    assert [learning_rate(steps, s) for s in range(1, 101)] == [learning_rate(tokens, s) for s in range(1, 101)]


def test_the_last_steps_go_linearly_to_zero() -> None:
    annealed, plain = recipe(kind="linear", anneal_steps=20), recipe(kind="linear")
    assert [learning_rate(annealed, s) for s in range(1, 81)] == [learning_rate(plain, s) for s in range(1, 81)]
    start = learning_rate(plain, 80)
    expected = [start * (100 - s) / 20 for s in range(81, 101)]
    assert [learning_rate(annealed, s) for s in range(81, 101)] == pytest.approx(expected)
    assert learning_rate(annealed, 100) == 0


def test_the_first_steps_have_the_wider_clipping_from_the_first_on() -> None:
    warm = recipe(optimizer={"clip_norm": 1.0, "clip_warmup": 3, "clip_warmup_factor": 10.0})
    assert [clip_norm(warm, s) for s in range(1, 6)] == [10.0, 10.0, 10.0, 1.0, 1.0]
    tokens = recipe(unit="tokens", optimizer={"clip_norm": 1.0, "clip_warmup": 32, "clip_warmup_factor": 5.0})
    assert [clip_norm(tokens, s) for s in range(1, 4)] == [5.0, 5.0, 1.0]
    assert clip_norm(recipe(optimizer={"clip_norm": None}), 1) is None


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"schedule.anneal_steps: 101 of a run of 100 steps"):
        check(recipe(anneal_steps=101))
    with pytest.raises(RecipeError, match=r"schedule.warmup: -1"):
        check(recipe(warmup=-1))
