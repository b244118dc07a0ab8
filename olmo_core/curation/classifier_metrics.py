"""How good a binary classifier is on examples it has not seen: rates with intervals, confusion, table of thresholds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Thresholds of the table: 0.05 to 0.95."""
NORMAL_95 = 1.959963984540054
"""Two-sided 95% quantile of the normal distribution."""
RESAMPLES = 2000
"""Bootstrap resamples for the interval of F1."""


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95% score interval of a proportion (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    share, z2 = successes / trials, NORMAL_95**2
    centre = share + z2 / (2 * trials)
    spread = NORMAL_95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    scale = 1 + z2 / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def f1(found: int, wrong: int, missed: int) -> float:
    """Harmonic mean of precision and recall; 0 when there is nothing to find and nothing was found."""
    return 2 * found / (2 * found + wrong + missed) if found + wrong + missed else 0.0


def f1_interval(found: int, wrong: int, missed: int, rest: int, seed: int) -> tuple[float, float]:
    """95% percentile bootstrap interval of F1: examples drawn again with replacement, which is a multinomial draw."""
    counts = np.array([found, wrong, missed, rest])
    draws = np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), RESAMPLES)
    scores = np.sort([f1(*draw[:3]) for draw in draws.tolist()])
    return float(scores[int(0.025 * RESAMPLES)]), float(scores[int(0.975 * RESAMPLES) - 1])


def _rate(successes: int, trials: int) -> dict[str, float]:
    low, high = wilson(successes, trials)
    return {"value": successes / trials if trials else 0.0, "low": low, "high": high}


def average_precision(scores: npt.NDArray[np.float32], positive: npt.NDArray[np.bool_]) -> float:
    """Area under the precision-recall curve, as the mean precision at each positive; equal scores count as one step."""
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(positive[order])
    last = np.append(np.diff(scores[order]) != 0, True)  # the end of each run of equal scores
    steps = np.diff(np.concatenate(([0], found[last])))
    precision = found[last] / (np.flatnonzero(last) + 1)
    return float((steps * precision).sum() / max(1, positive.sum()))


def evaluate(
    scores: npt.NDArray[np.float32],
    positive: npt.NDArray[np.bool_],
    *,
    threshold: float = 0.5,
    seed: int = 0,
) -> dict[str, Any]:
    """Metrics of scores (n,) against the truth (n,), as JSON values; an example is found when its score >= `threshold`.

    precision, recall and f1 are of the positive label, `negative_f1` of the other; `always_f1` is what calling
    everything positive would have. Intervals are 95%: Wilson's for rates, bootstrapped for F1.
    """
    if len(scores) != len(positive) or len(scores) == 0:
        raise ValueError(f"{len(scores)} scores for {len(positive)} examples; need as many, and at least one")
    table = []
    for limit in sorted({*THRESHOLDS, threshold}):
        flagged = scores >= limit
        found, wrong = int((flagged & positive).sum()), int((flagged & ~positive).sum())
        missed = int(positive.sum()) - found
        rest = len(scores) - found - wrong - missed
        line = {
            "threshold": limit,
            "precision": found / (found + wrong) if found + wrong else 0.0,
            "recall": found / (found + missed) if found + missed else 0.0,
            "f1": f1(found, wrong, missed),
            "flagged": (found + wrong) / len(scores),
        }
        table.append(line)
        if limit == threshold:
            low, high = f1_interval(found, wrong, missed, rest, seed)
            at = {
                "precision": _rate(found, found + wrong),
                "recall": _rate(found, found + missed),
                "f1": {"value": f1(found, wrong, missed), "low": low, "high": high},
                "negative_f1": f1(rest, missed, wrong),
                "confusion": {
                    "true_positive": found,
                    "false_positive": wrong,
                    "false_negative": missed,
                    "true_negative": rest,
                },
            }
    everything = int(positive.sum())
    return {
        "examples": len(scores),
        "positives": everything,
        "threshold": threshold,
        **at,
        "average_precision": average_precision(scores, positive),
        "always_f1": f1(everything, len(scores) - everything, 0),
        "thresholds": table,
    }
