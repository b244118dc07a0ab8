"""How sure a number is: intervals, paired differences, corrections for many comparisons, what could be found at all.

Everything is deterministic: resampling has a seed. Items that could not be scored (NaN) are left out, in pairs where
two models are compared. Where items belong together (a subject, a document), whole clusters are resampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from olmo_core.errors import InputError

Floats = npt.NDArray[np.float64]
_DRAWS = 10_000_000
"""Numbers drawn for one interval, about: 0.3 s. Up to 1,000 items that is 10,000 resamples (the ends of a 95% interval
then move by about 1% of its width from seed to seed), for 10,000 items a thousand (3%)."""
_BLOCK = 1 << 22
"""Numbers drawn at a time, to bound memory."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with its confidence interval."""

    value: float
    low: float
    high: float
    n: int
    """Items, or clusters where items are clustered."""

    def to_json(self) -> dict[str, Any]:
        """Return the interval as JSON values."""
        return dict(self.__dict__)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What changed from one model to another on the same items: second minus first."""

    interval: Interval
    p: float
    """Of no difference, two-sided, by flipping signs of the (clusters') differences."""
    detectable: float
    """Smallest true difference that would be found with power 0.8 at level 0.05; NaN where nothing differs, which tells no spread."""

    @property
    def resolved(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.interval.low > 0 or self.interval.high < 0


def wilson(successes: float, n: int, level: float = 0.95) -> Interval:
    """Return a share with Wilson's score interval (Wilson 1927), right also for 0 of n and for small n."""
    if n < 1:
        return Interval(value=float("nan"), low=float("nan"), high=float("nan"), n=0)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(value=share, low=max(0.0, centre - half), high=min(1.0, centre + half), n=n)


def mean_interval(
    values: Floats, clusters: Sequence[str | None] | None = None, *, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return the mean of values (n,) with its interval: Wilson's for zeros and ones, else the bootstrap; of clusters where given."""
    good = np.isfinite(values)
    kept = values[good]
    names = [c for c, g in zip(clusters, good, strict=True) if g] if clusters is not None else None
    if names is None or all(name is None for name in names):
        if len(kept) and np.isin(kept, (0.0, 1.0)).all():
            return wilson(float(kept.sum()), len(kept), level)
        return ratio_interval(kept, np.ones(len(kept)), level=level, seed=seed)
    sums, counts = _by_cluster(kept, names)
    return ratio_interval(sums, counts, level=level, seed=seed)


def ratio_interval(numerators: Floats, denominators: Floats, *, level: float = 0.95, seed: int = 0) -> Interval:
    """Return sum(numerators) / sum(denominators), both (n,), with the percentile bootstrap over their rows.

    For bits per byte: bits and bytes of each document. Raises InputError for rows that do not pair up.
    """
    if numerators.shape != denominators.shape:
        raise InputError(f"{numerators.shape} numerators and {denominators.shape} denominators do not pair up")
    n = len(numerators)
    if n == 0 or not denominators.sum():
        return Interval(value=float("nan"), low=float("nan"), high=float("nan"), n=n)
    value = float(numerators.sum() / denominators.sum())
    if n == 1:
        return Interval(value=value, low=float("nan"), high=float("nan"), n=1)
    drawn = _resampled(np.stack([numerators, denominators], 1), resamples(n), seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = drawn[:, 0] / drawn[:, 1]
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high), n=n)


def mean_of_ratios(numerators: Floats, denominators: Floats, groups: Sequence[str], *, level: float = 0.95) -> Interval:
    """Return the mean over groups of sum(numerators) / sum(denominators), all (n,), with an interval over the rows of each.

    For bits per byte of a source: the mean of its domains. Of one group this is `ratio_interval`; of several the interval is normal, the
    variance of a ratio that of its residuals (Cochran 1977, *Sampling Techniques*, 6.3), and unknown where a group has one row only.
    """
    names, which = np.unique(np.array(groups, dtype=str), return_inverse=True)
    if len(names) <= 1:
        return ratio_interval(numerators, denominators, level=level)
    sums, sizes = (np.bincount(which, weights=one, minlength=len(names)) for one in (numerators, denominators))
    counts = np.bincount(which, minlength=len(names))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = sums / sizes
        residuals = (numerators - ratios[which] * denominators) ** 2
        squares = np.bincount(which, weights=residuals, minlength=len(names))
        half = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(
            (counts / (counts - 1) * squares / sizes**2).sum() / len(names) ** 2
        )
    value = float(ratios.mean())
    return Interval(value=value, low=value - half, high=value + half, n=len(numerators))


def resamples(n: int) -> int:
    """Return how many resamples of n items an interval or test takes: 1,000 to 10,000."""
    return int(np.clip(_DRAWS // max(n, 1), 1_000, 10_000))


def _resampled(rows: Floats, samples: int, seed: int) -> Floats:
    """Return the sums over `samples` resamples of rows (n, k), as (samples, k); multinomial counts for rows."""
    n = len(rows)
    rng = np.random.Generator(np.random.PCG64(seed))
    block = max(1, _BLOCK // n)
    parts = []
    for start in range(0, samples, block):
        counts = rng.multinomial(n, np.full(n, 1.0 / n), size=min(block, samples - start))
        parts.append(counts @ rows)
    return np.concatenate(parts)


def _by_cluster(values: Floats, names: Sequence[str | None]) -> tuple[Floats, Floats]:
    """Return sums and counts of each cluster; an item without one is a cluster of its own."""
    keys = [f"\0{i}" if name is None else name for i, name in enumerate(names)]
    _, inverse = np.unique(np.array(keys), return_inverse=True)
    return np.bincount(inverse, values).astype(np.float64), np.bincount(inverse).astype(np.float64)


def paired_difference(
    first: Floats, second: Floats, clusters: Sequence[str | None] | None = None, *, level: float = 0.95, seed: int = 0
) -> Difference:
    """Return second minus first over the items (n,) that both could score.

    The p-value is that of a sign-flip test over items or clusters, exact for up to 16 that differ and from random flips
    beyond (where these find nothing as large, Hoeffding's bound); it needs no normal distribution. Raises InputError for scores of different items.
    """
    if first.shape != second.shape:
        raise InputError(f"scores of {len(first)} and {len(second)} items cannot be compared in pairs")
    good = np.isfinite(first) & np.isfinite(second)
    change = (second - first)[good]
    names: list[str | None] = [None] * len(change)
    if clusters is not None:
        names = [c for c, g in zip(clusters, good, strict=True) if g]
    sums, counts = _by_cluster(change, names)
    interval = ratio_interval(sums, counts, level=level, seed=seed)
    if interval.n == 0:
        return Difference(interval=interval, p=float("nan"), detectable=float("nan"))
    if not sums.any():
        return Difference(interval=interval, p=1.0, detectable=float("nan"))
    residuals = sums - interval.value * counts
    deviation = float(np.sqrt((residuals**2).sum() / max(len(sums) - 1, 1)) / counts.mean())
    return Difference(interval=interval, p=_sign_flip(sums, seed), detectable=minimum_detectable(deviation, len(sums)))


def _sign_flip(sums: Floats, seed: int) -> float:
    moved = sums[sums != 0]
    if not len(moved):
        return 1.0
    seen = abs(moved.sum()) - 1e-12 * np.abs(moved).sum()
    if len(moved) <= 16:
        signs = 1.0 - 2.0 * ((np.arange(1 << len(moved))[:, None] >> np.arange(len(moved))) & 1)
        return float((np.abs(signs @ moved) >= seen).mean())
    flips, hits = resamples(len(moved)), 0
    # Hoeffding's bound for sums of random signs is a p-value too: beyond what so many flips resolve it is the better one, without which
    # no change could stand the correction for some hundred comparisons.
    bound = 2.0 * float(np.exp(-(seen**2) / (2.0 * (moved**2).sum())))
    if bound < 1.0 / (flips + 1):
        return bound
    rng = np.random.Generator(np.random.PCG64(seed))
    block = max(1, _BLOCK // len(moved))
    for start in range(0, flips, block):
        signs = 1.0 - 2.0 * rng.integers(0, 2, size=(min(block, flips - start), len(moved)), dtype=np.int8)
        hits += int((np.abs(signs @ moved) >= seen).sum())
    return (hits + 1) / (flips + 1)


def detectable_beside(interval: Interval, *, level: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest true difference that an experiment with this interval (of 1 - level) would show: its half width is z(1 - level/2)
    standard errors, and z(1 - level/2) + z(power) of them are needed (normal approximation).
    """
    error = (interval.high - interval.low) / (2 * NormalDist().inv_cdf(1 - level / 2))
    return _errors_needed(level, power) * error if error else float("nan")


def minimum_detectable(deviation: float, n: int, *, level: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest true mean difference that n pairs with this standard deviation would show (normal approximation)."""
    if n < 2:
        return float("nan")
    return _errors_needed(level, power) * deviation / float(np.sqrt(n))


def _errors_needed(level: float, power: float) -> float:
    """How many standard errors a true difference must be to be found at a level with this power."""
    z = NormalDist()
    return z.inv_cdf(1 - level / 2) + z.inv_cdf(power)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that the chance of any false finding stays below the level (Holm 1979). NaN stays NaN."""
    return _adjusted(p_values, lambda p, m: np.maximum.accumulate(p * (m - np.arange(m))))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that the expected share of false findings stays below the level (1995). NaN stays NaN."""
    return _adjusted(p_values, lambda p, m: np.minimum.accumulate((p * m / (np.arange(m) + 1))[::-1])[::-1])


def _adjusted(p_values: Sequence[float], rule: Any) -> list[float]:
    given = np.array(p_values, np.float64)
    known = np.flatnonzero(np.isfinite(given))
    order = known[np.argsort(given[known], kind="stable")]
    given[order] = np.minimum(rule(given[order], len(order)), 1.0)
    return [float(p) for p in given]


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How much a curve over checkpoints wobbles beside how much it moves."""

    band: float
    """Standard deviation of the last checkpoints about their straight line."""
    signal: float
    """Range of the curve, smoothed by the mean of three neighbours."""

    @property
    def signal_to_noise(self) -> float:
        """Signal over noise band; NaN where the band is not known, infinite where it is zero."""
        if not np.isfinite(self.band):
            return float("nan")
        return self.signal / self.band if self.band else float("inf")


def noise(values: Floats, last: int = 8) -> Noise:
    """Return noise band and signal of a metric over checkpoints (k,) in their order; the band needs `last` of them.

    After "Signal and Noise" (Heineman et al. 2025, arXiv 2508.13144): the noise of a benchmark is the deviation of its
    last checkpoints; the trend over them is taken out first, as a run still learns. Of fewer it is not known: over a whole run the
    curve bends, and its bend is no noise.
    """
    curve = values[np.isfinite(values)]
    smooth = np.convolve(curve, np.ones(3) / 3, mode="valid") if len(curve) >= 3 else curve
    signal = float(np.ptp(smooth)) if len(smooth) else float("nan")
    tail = curve[-last:]
    if len(tail) < last:
        return Noise(band=float("nan"), signal=signal)
    place = np.arange(len(tail), dtype=np.float64)
    residuals = tail - np.polyval(np.polyfit(place, tail, 1), place)
    return Noise(band=float(np.sqrt((residuals**2).sum() / (len(tail) - 2))), signal=signal)
