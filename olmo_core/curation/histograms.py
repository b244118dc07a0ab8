"""Histograms of attribute columns whose bins do not depend on the data, so that those of shards add up.

Bins are cut at fixed places of the column's scale and, exactly, at every threshold of the rules on it: no bin lies on
both sides of a threshold. A histogram is a mapping `bin -> number of rows` without the empty bins, as manifests add
numbers of equal name (`artifacts.build.total_counts`).

Bin 0 lies below the first break, bin i from break i-1 (included) to break i, the last one from the last break on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.curation.rules import Rule

Scale = Literal["boolean", "fraction", "ratio", "count", "length", "number"]
"""How a column's values are spread out:

boolean   false and true;
fraction  0 to 1 in 50 equal steps; what little lies above 1 by rounding (up to 1.001) is in the last one;
ratio     many zeros and a long tail: below 1e-4, then ten steps a decade to 10;
count     integers: each from 0 to 10 alone, then ten steps a decade to 1e12;
length    0 to 20 in steps of 0.5;
number    anything else: below 0, below 1e-6, then ten steps a decade to 1e12.
"""

PREFERRED = ("1", "1.25", "1.6", "2", "2.5", "3.15", "4", "5", "6.3", "8")
"""Ten numbers a decade, each about 1.26 times the one before: Renard's series R10 (ISO 3), rounded to be readable."""

TOP_OF_FRACTIONS = 1.001
"""Probabilities of fastText exceed 1 by some 1e-5."""


def scale_of(column: str, kind: pa.DataType) -> Scale:
    """Return the scale of a column, by its type and name alone. Raises ValueError for a type that has no order."""
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "count"
    if not pa.types.is_floating(kind):
        raise ValueError(f"column {column!r} of type {kind} has no histogram")
    if column == "jaccard":
        return "fraction"
    if column.endswith("_ratio"):
        return "ratio"
    if column.endswith("_length"):
        return "length"
    if "fraction" in column or column.endswith(("_score", "_max", "_document")):
        return "fraction"
    return "number"


def threshold_rule(threshold: float) -> Rule:
    """Return the threshold of near duplicates as a rule: a pair from it on costs the worse document its place."""
    return Rule(name="near_duplicate", column="jaccard", drop_if=">=", value=threshold)


def cut_of(rule: Rule, scale: Scale) -> float:
    """Return the smallest value on the upper side of a rule's threshold: the break that tells its two sides apart."""
    value = float(rule.value)
    if scale == "count":
        return float(math.floor(value) + 1 if rule.drop_if in (">", "<=") else math.ceil(value))
    return math.nextafter(value, math.inf) if rule.drop_if in (">", "<=") else value


def breaks(scale: Scale, rules: Iterable[Rule] = ()) -> npt.NDArray[np.float64]:
    """Return where bins are cut (k,), ascending: the scale's places, and the threshold of each of the `rules`."""
    if scale == "boolean":
        return np.array([0.5])
    fixed = _fixed(scale)
    cuts = np.unique([cut_of(rule, scale) for rule in rules if rule.drop_if != "is"])
    for cut in cuts:
        # 0.1 and the next number above it are one place.
        fixed = fixed[np.abs(fixed - cut) > 1e-9 * max(1e-3, abs(cut))]
    return np.unique(np.concatenate([fixed, cuts]))


@cache
def _fixed(scale: Scale) -> npt.NDArray[np.float64]:
    if scale == "fraction":
        return np.append(np.arange(50) / 50, TOP_OF_FRACTIONS)
    if scale == "length":
        return np.arange(41) / 2
    if scale == "ratio":
        return np.array([0.0, *_decades(-4, 1)])
    if scale == "number":
        return np.array([0.0, *_decades(-6, 12)])
    return np.unique([*range(10), *(round(x) for x in _decades(1, 12))]).astype(np.float64)


def _decades(first: int, last: int) -> list[float]:
    return [float(f"{m}e{power}") for power in range(first, last) for m in PREFERRED] + [float(f"1e{last}")]


def histogram(values: pa.Array, places: npt.NDArray[np.float64]) -> dict[str, int]:
    """Return the number of rows in each bin that has any, by the bin's number; nulls and NaN are in none."""
    numbers = pc.drop_null(values).cast(pa.float64()).to_numpy(zero_copy_only=False)
    numbers = numbers[~np.isnan(numbers)]
    counts = np.bincount(np.searchsorted(places, numbers, side="right"), minlength=len(places) + 1)
    return {str(i): int(counts[i]) for i in np.flatnonzero(counts)}


def describe(column: str, values: pa.Array, rules: Sequence[Rule]) -> dict[str, Any]:
    """Return what a manifest keeps of a column: its scale, histogram, and how many rows have no value."""
    scale = scale_of(column, values.type)
    numbers = values.cast(pa.uint8()) if scale == "boolean" else values
    bins = histogram(numbers, breaks(scale, [rule for rule in rules if rule.column == column]))
    return {"scale": scale, "bins": bins, "without_value": len(values) - sum(bins.values())}


def dense(bins: Mapping[str, int], places: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return a histogram with its empty bins (k + 1,)."""
    counts = np.zeros(len(places) + 1, np.int64)
    for number, count in bins.items():
        counts[int(number)] = count
    return counts


def failing(rule: Rule, scale: Scale, places: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return for each bin whether its rows fail a rule (k + 1,); the rule's threshold must be among the breaks."""
    if rule.drop_if == "is":
        return np.array([False, True]) if rule.value else np.array([True, False])
    above = np.arange(len(places) + 1) > np.searchsorted(places, cut_of(rule, scale))
    return above if rule.drop_if in (">", ">=") else ~above
