"""Intervals, paired tests, corrections and power, against scipy and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from olmo_core.errors import InputError
from olmo_core.evaluation.statistics import (
    benjamini_hochberg,
    detectable_beside,
    holm,
    mean_interval,
    mean_of_ratios,
    minimum_detectable,
    noise,
    paired_difference,
    ratio_interval,
    wilson,
)


@given(st.integers(0, 60), st.integers(1, 60))
def test_wilson_is_scipys(successes: int, n: int) -> None:
    successes = min(successes, n)
    seen = wilson(successes, n)
    expected = scipy.stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert (seen.low, seen.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_nothing_scored_is_no_number() -> None:
    assert np.isnan(mean_interval(np.array([np.nan, np.nan])).value)
    assert np.isnan(ratio_interval(np.zeros(0), np.zeros(0)).low)
    assert np.isnan(paired_difference(np.array([np.nan]), np.array([1.0])).p)


def test_failures_are_left_out_of_the_mean() -> None:
    seen = mean_interval(np.array([1.0, 0.0, np.nan, 1.0]))
    assert (seen.value, seen.n) == (pytest.approx(2 / 3), 3)


def test_the_bootstrap_covers_as_often_as_it_says() -> None:
    """Bits per byte of 80 documents of very different length: 300 worlds, nominal 95%."""
    rng = np.random.default_rng(5)
    hits = 0
    for world in range(300):
        sizes = rng.lognormal(6, 1, 80)
        rates = rng.normal(1.2, 0.3, 80)
        seen = ratio_interval(rates * sizes, sizes, seed=world)
        hits += seen.low <= 1.2 <= seen.high
    assert 0.90 <= hits / 300 <= 0.985


def test_clusters_widen_an_interval() -> None:
    """Ten subjects whose items agree: the items are not a hundred independent ones."""
    values = np.repeat(np.random.default_rng(1).random(10).round(), 10)
    clusters = [f"subject {i // 10}" for i in range(100)]
    plain, clustered = mean_interval(values), mean_interval(values, clusters)
    assert clustered.n == 10 and plain.n == 100
    assert clustered.high - clustered.low > 2 * (plain.high - plain.low)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_corrections_are_the_textbooks(p_values: list[float]) -> None:
    assert benjamini_hochberg(p_values) == pytest.approx(list(scipy.stats.false_discovery_control(p_values)), abs=1e-12)
    order = np.argsort(p_values, kind="stable")
    running, expected = 0.0, np.zeros(len(p_values))
    for rank, i in enumerate(order):  # Holm, step by step
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        expected[i] = running
    assert holm(p_values) == pytest.approx(expected, abs=1e-12)


def test_a_comparison_without_a_value_does_not_count_as_one() -> None:
    assert holm([0.01, float("nan"), 0.04])[0] == pytest.approx(0.02)
    assert np.isnan(benjamini_hochberg([0.01, float("nan")])[1])


def test_pairs_see_what_separate_intervals_do_not() -> None:
    """Two models right on nearly the same items: one better on 12 of 400 and worse on 2."""
    rng = np.random.default_rng(3)
    first = (rng.random(400) < 0.5).astype(float)
    second = first.copy()
    second[np.flatnonzero(first == 0)[:12]] = 1.0
    second[np.flatnonzero(first == 1)[:2]] = 0.0
    seen = paired_difference(first, second)
    assert seen.interval.value == pytest.approx(10 / 400) and seen.resolved
    assert seen.p == pytest.approx(scipy.stats.binomtest(2, 14).pvalue, abs=1e-12)  # McNemar's exact test
    a, b = mean_interval(first), mean_interval(second)
    assert a.high > b.low  # unpaired, they overlap


def test_random_flips_agree_with_the_exact_test() -> None:
    first, second = np.zeros(200), np.zeros(200)
    second[:30], first[30:45] = 1.0, 1.0
    assert paired_difference(first, second).p == pytest.approx(scipy.stats.binomtest(15, 45).pvalue, abs=0.01)


def test_no_difference_is_none() -> None:
    same = np.array([0.0, 1.0, 1.0])
    seen = paired_difference(same, same)
    assert (seen.interval.value, seen.p, seen.resolved) == (0.0, 1.0, False)
    assert np.isnan(seen.detectable), "three items alike are no proof of precision"
    with pytest.raises(InputError, match="in pairs"):
        paired_difference(np.zeros(3), np.zeros(4))


def test_the_detectable_effect_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(11)
    effect = minimum_detectable(0.5, 60)
    found = [scipy.stats.ttest_1samp(rng.normal(effect, 0.5, 60), 0.0).pvalue < 0.05 for _ in range(1500)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


def test_what_is_detectable_follows_from_the_interval() -> None:
    rng = np.random.default_rng(12)
    interval = paired_difference(np.zeros(400), rng.normal(0.1, 0.5, 400)).interval
    assert detectable_beside(interval) == pytest.approx(minimum_detectable(0.5, 400), rel=0.12)


def test_noise_is_what_is_left_when_the_trend_is_out() -> None:
    rng = np.random.default_rng(2)
    steps = np.arange(40.0)
    seen = noise(0.3 + 0.005 * steps + rng.normal(0, 0.01, 40), last=30)
    assert seen.band == pytest.approx(0.01, rel=0.35)
    assert seen.signal_to_noise > 10
    assert np.isnan(noise(steps[:7]).band), "a whole run's few checkpoints bend"
    assert noise(steps[:8]).band == pytest.approx(0.0, abs=1e-9)


def test_the_mean_of_two_ratios_is_covered() -> None:
    """Two domains, of 10 and 60 documents of unequal length; the interval holds the true mean about 95 times in 100."""
    rng = np.random.default_rng(7)
    groups = ["a"] * 10 + ["b"] * 60
    rates = np.where(np.array(groups) == "a", 2.0, 1.0)
    held = 0
    for _ in range(400):
        sizes = rng.uniform(50, 150, 70)
        seen = mean_of_ratios(sizes * (rates + rng.normal(0, 0.2, 70)), sizes, groups)
        held += seen.low <= 1.5 <= seen.high
    assert 0.89 < held / 400 < 0.985
    alone = mean_of_ratios(np.ones(3), np.ones(3), ["a", "b", "b"])
    assert alone.value == 1.0 and np.isnan(alone.low)
    one = [np.arange(1.0, 9.0), np.full(8, 2.0)]
    assert mean_of_ratios(*one, ["a"] * 8) == ratio_interval(*one)


def test_a_clear_change_stands_the_correction_for_many_comparisons() -> None:
    """200 items that all grow better: 2 ** -199 of all signs; ten thousand flips alone would say 0.0001."""
    found = paired_difference(np.zeros(200), np.ones(200))
    assert 2.0**-199 <= found.p < 1e-40
    assert holm([found.p, *[0.5] * 999])[0] < 0.05
