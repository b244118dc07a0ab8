"""Effects of variants against numbers worked out by hand, and what chance in texts and in training does to the interval."""

from __future__ import annotations

import math

import numpy as np
import pytest

from olmo_core.ablation.compare import Effect, Measure, effect
from olmo_core.errors import InputError


def measure(bits: list[float], sizes: list[float] | None = None, name: str = "held-out/prose") -> Measure:
    values = np.array(bits, np.float64)
    return Measure(
        name=name, metric="bits per byte", better_is=-1, ids=[str(i) for i in range(len(bits))], parts=values,
        sizes=np.array(sizes if sizes is not None else [10.0] * len(bits)),
    )  # fmt: skip


def drawn(shift: float, seeds: float, n: int = 200) -> Effect:
    """Three seeds of two variants on n documents; `seeds` is how much a seed moves everything."""
    rng = np.random.default_rng(0)
    base = rng.normal(20.0, 3.0, n)
    first = [measure((base + rng.normal(0, 0.1, n)).tolist()) for _ in range(3)]
    second = [measure((base + 10 * shift + 10 * seeds * s + rng.normal(0, 0.1, n)).tolist()) for s in (-1, 0, 1)]
    return effect("other", first, second)


def test_by_hand() -> None:
    """Bits over bytes of all documents, not the mean of ratios; differences are of the same documents; an unscored one is left out."""
    first = [measure([10.0, 40.0, math.nan], [10.0, 20.0, 5.0]), measure([14.0, 40.0, 1.0], [10.0, 20.0, 5.0])]
    second = [measure([13.0, 40.0, 9.0], [10.0, 20.0, 5.0]), measure([17.0, 46.0, 9.0], [10.0, 20.0, 5.0])]
    found = effect("other", first, second)
    assert found.reference == pytest.approx((12.0 + 40.0) / 30.0)
    assert found.value == pytest.approx((15.0 + 43.0) / 30.0)
    assert found.both.value == pytest.approx(6.0 / 30.0)
    assert found.seeds == pytest.approx((3.0 / 30.0, 9.0 / 30.0))
    # Student's interval of two seeds: 12.706 times the standard error, 0.1.
    assert found.both.high - found.both.value == pytest.approx(
        math.hypot(found.texts.high - found.texts.value, 12.706 * 0.1)
    )


def test_verdicts() -> None:
    """A clear effect is one; one as large as what seeds do among themselves is not, however many texts there are; nor is none."""
    clear = drawn(0.1, 0.001)
    assert clear.verdict == "worse" and clear.texts.low > 0
    assert drawn(-0.1, 0.001).verdict == "better"
    seeds = drawn(0.1, 0.1)
    assert seeds.texts.low > 0 and seeds.p < 0.001, "of the texts alone it would be resolved"
    assert seeds.verdict == "not resolved"
    assert drawn(0.0, 0.001).verdict == "not resolved"


def test_one_seed_resolves_nothing() -> None:
    """Nothing is known of chance in training."""
    found = effect("other", [measure([1.0] * 50)], [measure([2.0] * 50)])
    assert math.isnan(found.both.low) and found.verdict == "not resolved" and found.p < 0.05


def test_what_cannot_be_compared_is_refused() -> None:
    """Other texts, and other numbers of models."""
    with pytest.raises(InputError, match="asked different texts or items"):
        effect("other", [measure([1.0, 2.0])], [measure([1.0])])
    with pytest.raises(InputError, match="2 models of the first variant and 1 of other"):
        effect("other", [measure([1.0])] * 2, [measure([1.0])])
