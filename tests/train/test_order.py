"""The order of chunks: a permutation, its inverse, nothing but seed, epoch and number of chunks; batches and steps."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.errors import InputError, RecipeError
from olmo_core.train.order import Batches, Order, batch_of_step, step_of_batch

KINDS = st.sampled_from(["permutation", "olmo"])
RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=5)


@settings(deadline=None)
@given(KINDS, st.integers(1, 700), st.integers(0, 2**40), st.integers(0, 5))
def test_every_epoch_is_a_permutation_with_an_inverse(kind: str, chunks: int, seed: int, epoch: int) -> None:
    order = Order(kind, seed=seed, chunks=chunks)  # type: ignore[arg-type]
    every = np.arange(chunks)
    there = order.at(epoch, every)
    assert sorted(there.tolist()) == every.tolist()
    assert order.positions(epoch, there).tolist() == every.tolist()
    assert Order(kind, seed=seed, chunks=chunks).at(epoch, every[::-1]).tolist() == there[::-1].tolist()  # type: ignore[arg-type]


def test_the_permutation_of_today_is_that_of_ever() -> None:
    """A checkpoint names its batches by these numbers: another network would give it other data on resume."""
    assert Order("permutation", seed=6198, chunks=1000).at(0, np.arange(12)).tolist() == EVER
    assert Order("permutation", seed=6198, chunks=10**12).at(3, [0, 1, 10**12 - 1]).tolist() == EVER_LARGE


EVER = [709, 363, 227, 562, 860, 291, 873, 572, 551, 44, 752, 915]
EVER_LARGE = [132400555821, 376070425172, 627003073971]


def test_all_orders_of_few_chunks_come_up_equally_often() -> None:
    """Five chunks, 12,000 seeds: every one of the 120 orders about 100 times (chi-squared with 119 degrees of freedom)."""
    seen = Counter(
        tuple(Order("permutation", seed=seed, chunks=5).at(0, np.arange(5)).tolist()) for seed in range(12_000)
    )
    assert len(seen) == 120
    assert sum((n - 100) ** 2 / 100 for n in seen.values()) < 175  # exceeded by chance once in 1,500


@pytest.mark.parametrize("chunks", [1000, 65_536, 100_003])
def test_neighbours_are_scattered(chunks: int) -> None:
    there = Order("permutation", seed=1, chunks=chunks).at(0, np.arange(chunks)).astype(float)
    other = Order("permutation", seed=1, chunks=chunks).at(1, np.arange(chunks)).astype(float)
    limit = 4.5 / np.sqrt(chunks)
    for a, b in ((there[1:], there[:-1]), (there, np.arange(chunks)), (there, other)):
        assert abs(np.corrcoef(a, b)[0, 1]) < limit
    ascents = int((np.diff(there) > 0).sum())  # mean n/2, variance n/12
    assert abs(ascents - chunks / 2) < 4.5 * np.sqrt(chunks / 12)


def test_the_order_of_olmo_is_limited_to_what_it_can_number() -> None:
    with pytest.raises(InputError, match="use `permutation`"):
        Order("olmo", seed=1, chunks=2**32 - 1)
    with pytest.raises(InputError, match="only 3 whole chunks"):
        Batches(Order("olmo", seed=1, chunks=3), 4)


@settings(deadline=None, max_examples=50)
@given(KINDS, st.integers(1, 90), st.integers(1, 20))
def test_batches_are_runs_of_the_epochs(kind: str, chunks: int, batch: int) -> None:
    order = Order(kind, seed=3, chunks=max(chunks, batch))  # type: ignore[arg-type]
    batches = Batches(order, batch)
    expected: list[list[int]] = []
    for epoch in range(3):
        whole = order.at(epoch, np.arange(order.chunks)).tolist()
        expected += [whole[i : i + batch] for i in range(0, order.chunks - batch + 1, batch)]
    assert [batches.instances(i).tolist() for i in range(len(expected))] == expected
    below = len(expected) - 1
    wanted = [0, order.chunks - 1] if order.chunks > 1 else [0]
    brute = [(i, row, c) for i, some in enumerate(expected[:below]) for row, c in enumerate(some) if c in wanted]
    assert batches.of_chunks(wanted, below) == brute


@given(RANGES, st.integers(1, 150))
def test_a_step_trains_on_the_next_batch_that_was_not_left_out(ranges: list[tuple[int, int]], step: int) -> None:
    out = {i for first, end in ranges for i in range(first, end)}
    left = [i for i in range(500) if i not in out]
    assert batch_of_step(step, ranges) == left[step - 1]
    assert step_of_batch(left[step - 1], ranges) == step
    assert all(step_of_batch(i, ranges) is None for i in out)


def test_step_0_has_no_batch() -> None:
    with pytest.raises(RecipeError, match="steps count from 1"):
        batch_of_step(0)
