"""Benchmark metrics from raw scores: every normalisation from one scoring pass, ties split and counted, failures counted.

Definitions (`../shared/reference/evaluation.md`, section 1): the choice with the highest value wins. Values are the
log-likelihood as it is, divided by tokens, characters or bytes of the continuation, or minus the log-likelihood after
the unconditional context: a *difference*, as pointwise mutual information is (OLMo's in-loop `pmi_dc` takes the quotient of the two,
which prefers the worse choice, as both are negative).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from olmo_core.errors import IntegrityError
from olmo_core.evaluation.items import Benchmark, Item, Metric
from olmo_core.evaluation.scores import Floats, ItemScores

TIE = 1e-6
"""Two values closer than this, in nats, are a tie: below what float32 sums of a few tokens resolve."""
RANKED: tuple[Metric, ...] = ("acc_raw", "acc_per_token", "acc_per_char", "acc_per_byte", "acc_uncond")


@dataclass(frozen=True, kw_only=True)
class MetricValues:
    """One metric of one benchmark, item by item."""

    name: str
    values: Floats
    """(n,): credit of each item, 0 to 1 for accuracies; NaN where the item could not be scored."""
    ties: int = 0
    """Items whose best value several choices share; the right one then has a share of the credit."""

    @property
    def mean(self) -> float:
        """Mean over scored items; NaN where there is none."""
        good = self.values[np.isfinite(self.values)]
        return float(good.mean()) if len(good) else float("nan")

    @property
    def scored(self) -> int:
        """Items that have a value."""
        return int(np.isfinite(self.values).sum())


def evaluate(benchmark: Benchmark, items: Sequence[Item], scores: ItemScores) -> dict[str, MetricValues]:
    """Return all metrics that the items allow, by name, and the continuous ones that move earlier in training.

    Continuous: `bits_per_byte` of the right choice (lower is better), `margin` (nats for a character between the right
    choice and the best wrong one), `probability` (share of the right choice of the sum of all choices' probabilities).
    Raises IntegrityError when scores and items are not of each other.
    """
    if tuple(item.id for item in items) != scores.items:
        raise IntegrityError(f"{benchmark.name}: the scores are of other items; score the benchmark again")
    found: dict[str, MetricValues] = {}
    if all(item.gold is not None for item in items):
        gold = np.array([item.gold for item in items], np.int64)
        for name in RANKED:
            if name != "acc_uncond" or any(item.unconditional is not None for item in items):
                found[name] = _accuracy(name, ranking(name, scores, benchmark.count_leading_space), gold, scores)
        found.update(_continuous(benchmark, gold, scores))
    if any(item.golds for item in items):
        found["mc2"] = _probability_mass(items, scores)
    return found


def ranking(metric: Metric, scores: ItemScores, count_leading_space: bool) -> Floats:
    """Return the value of each choice (c,) by which a metric ranks."""
    space = 0 if count_leading_space else scores.leading_space.astype(np.int64)
    if metric == "acc_raw":
        return scores.log_likelihood
    if metric == "acc_uncond":
        return scores.log_likelihood - scores.unconditional
    lengths = {
        "acc_per_token": scores.tokens,
        "acc_per_char": scores.characters - space,
        "acc_per_byte": scores.bytes - space,
    }
    if metric not in lengths:
        raise IntegrityError(f"metric {metric} ranks no choices")
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Floats = np.where(lengths[metric] > 0, scores.log_likelihood / lengths[metric], np.nan)
    return result


def _accuracy(name: str, values: Floats, gold: npt.NDArray[np.int64], scores: ItemScores) -> MetricValues:
    credit = np.full(len(gold), np.nan)
    ties = 0
    good = scores.scored
    for i in np.flatnonzero(good):
        row = values[scores.choices(int(i))]
        if not np.isfinite(row).all():
            continue
        best = np.flatnonzero(row >= row.max() - TIE)
        ties += len(best) > 1
        credit[i] = 1.0 / len(best) if gold[i] in best else 0.0
    return MetricValues(name=name, values=credit, ties=ties)


def _continuous(benchmark: Benchmark, gold: npt.NDArray[np.int64], scores: ItemScores) -> dict[str, MetricValues]:
    n = len(gold)
    bits, margin, probability = np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan)
    per_character = ranking("acc_per_char", scores, benchmark.count_leading_space)
    for i in np.flatnonzero(scores.scored):
        where = scores.choices(int(i))
        raw, scaled, right = scores.log_likelihood[where], per_character[where], int(gold[i])
        bits[i] = -raw[right] / scores.bytes[where][right] / np.log(2) if scores.bytes[where][right] else np.nan
        others = np.delete(scaled, right)
        margin[i] = scaled[right] - others.max() if len(others) else np.nan
        probability[i] = np.exp(raw - raw.max())[right] / np.exp(raw - raw.max()).sum()
    made = {"bits_per_byte": bits, "margin": margin, "probability": probability}
    return {name: MetricValues(name=name, values=values) for name, values in made.items()}


def _probability_mass(items: Sequence[Item], scores: ItemScores) -> MetricValues:
    """TruthfulQA's MC2: the share of the right choices in the sum of all choices' probabilities; no length norm."""
    values = np.full(len(items), np.nan)
    for i in np.flatnonzero(scores.scored).tolist():
        raw = scores.log_likelihood[scores.choices(i)]
        mass = np.exp(raw - raw.max())
        values[i] = mass[list(items[i].golds)].sum() / mass.sum()
    return MetricValues(name="mc2", values=values)


def exact_match(items: Sequence[Item], answers: Sequence[str | None]) -> MetricValues:
    """Return 1 where a generated answer is the right one, 0 where it is another or none was found (None: NaN, a failure)."""
    values = [np.nan if a is None else float(a == item.answer) for item, a in zip(items, answers, strict=True)]
    return MetricValues(name="exact_match", values=np.array(values, np.float64))
