"""Runaway repetition: the rule word by word, and that batches keep the slot of what it masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.errors import RecipeError
from olmo_core.train.recipe import RepetitionRecipe
from olmo_core.train.repetition import check_repetition, repetitive


def by_hand(row: list[int], recipe: RepetitionRecipe) -> bool:
    """Some slice of `times` repetitions is its first period again and again."""
    for period in range(recipe.shortest_period, recipe.longest_period + 1):
        size = period * recipe.times
        for start in range(len(row) - size + 1):
            if row[start : start + size] == row[start : start + period] * recipe.times:
                return True
    return False


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), min_size=24, max_size=24), st.integers(1, 4), st.integers(0, 4), st.integers(3, 7))
def test_it_is_the_rule_on_short_instances(row: list[int], shortest: int, more: int, times: int) -> None:
    recipe = RepetitionRecipe(shortest_period=shortest, longest_period=shortest + more, times=times)
    assert repetitive(np.array([row]), recipe).tolist() == [by_hand(row, recipe)]


@settings(deadline=None)
@given(st.integers(1, 16), st.integers(28, 36), st.integers(0, 600), st.integers(0, 99))
def test_it_is_the_rule_on_planted_repetitions(period: int, times: int, start: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.integers(0, 50_000, (3, 1200))
    piece = np.tile(random.integers(0, 50_000, period), times)[: 1200 - start]
    rows[1, start : start + len(piece)] = piece
    assert repetitive(rows, RepetitionRecipe()).tolist() == [False, period <= 13 and len(piece) // period >= 32, False]


def test_rules_that_cannot_be_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"data\.repetition\.times: 2; .*at least 3"):
        check_repetition(RepetitionRecipe(times=2))
    with pytest.raises(RecipeError, match="periods from 5 to 4"):
        check_repetition(RepetitionRecipe(shortest_period=5, longest_period=4))
