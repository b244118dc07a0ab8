"""How much a variant differs from the first one, and how sure that is: chance in the texts and chance in training.

Every document or item is scored by the models of all seeds of both variants. Of texts, the differences of the seeds'
means are taken in pairs, document by document, and the documents are resampled (olmo_core.evaluation.statistics). Of
training, each seed's difference over all texts is one draw, and their mean has Student's interval. The interval that is
given holds both: half-widths add up in squares, as the two are independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from olmo_core.errors import InputError
from olmo_core.evaluation.compare import LEVEL, Evaluated, numbers_of
from olmo_core.evaluation.statistics import Floats, Interval, holm, paired_difference, ratio_interval

_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""0.975 quantiles of Student's t for 1, 2, ... degrees of freedom."""
BITS = "bits per byte"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number of every model: its parts by document or item."""

    name: str
    """`held-out/prose`, or a benchmark."""
    metric: str
    better_is: int
    """1 where more is better, -1 where less is (bits per byte)."""
    ids: Sequence[str]
    parts: Floats
    """Of each document or item (n,): bits, or its score."""
    sizes: Floats
    """(n,): bytes, or ones."""

    @property
    def value(self) -> float:
        """The number over all that could be scored."""
        good = np.isfinite(self.parts)
        return float(self.parts[good].sum() / self.sizes[good].sum()) if good.any() else math.nan


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a variant changes in one number: variant minus the first one."""

    variant: str
    measure: str
    metric: str
    reference: float
    """The first variant's number, the mean over seeds."""
    value: float
    """The variant's."""
    texts: Interval
    """The difference with the interval that the choice of texts gives it."""
    seeds: tuple[float, ...]
    """The difference of each seed."""
    both: Interval
    """The difference with an interval for texts and training together; NaN ends with one seed."""
    p: float
    """Of no difference on such texts, by flipping signs of documents; corrected for all comparisons of the table (Holm)."""
    better_is: int

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `not resolved`: the corrected p-value is small and the interval of both leaves out zero."""
        if not (self.p < LEVEL and (self.both.low > 0 or self.both.high < 0)):
            return "not resolved"
        return "better" if self.both.value * self.better_is > 0 else "worse"


def measures(one: Evaluated) -> list[Measure]:
    """Return the numbers of one model: bits per byte of each domain and of all of a source, and benchmarks' primary scores."""
    found = []
    for key, result in one.results.items():
        table = one.items[key]
        if result["kind"] != "domains":
            metric = str(result["primary"])
            if metric in table.column_names:
                parts = numbers_of(table, metric)
                found.append(
                    _measure(
                        str(result["name"]), metric, 1, table.column("item").to_pylist(), parts, np.ones(len(parts))
                    )
                )
            continue
        bits, sizes = -numbers_of(table, "log_likelihood") / np.log(2), numbers_of(table, "bytes")
        ids, domains = table.column("id").to_pylist(), np.array(table.column("domain").to_pylist())
        names = sorted(set(domains.tolist()))
        for name in names:
            of = domains == name
            own = [one for one, good in zip(ids, of, strict=True) if good]
            found.append(_measure(f"{result['name']}/{name}", BITS, -1, own, bits[of], sizes[of]))
        if len(names) > 1:
            found.append(_measure(f"{result['name']}, all", BITS, -1, ids, bits, sizes))
    return found


def _measure(name: str, metric: str, better_is: int, ids: Sequence[str], parts: Floats, sizes: Floats) -> Measure:
    return Measure(name=name, metric=metric, better_is=better_is, ids=tuple(ids), parts=parts, sizes=sizes)


def effects(evaluated: Mapping[str, Sequence[Evaluated]]) -> list[Effect]:
    """Return every variant's effects; `evaluated` has the models of each variant, one for each seed in one order, the first variant first.

    Raises InputError where two models were asked different items.
    """
    variants = list(evaluated)
    every = {name: [measures(one) for one in evaluated[name]] for name in variants}
    first = every[variants[0]]
    found = [
        effect(name, [one[i] for one in first], [one[i] for one in every[name]])
        for name in variants[1:]
        for i in range(len(first[0]))
    ]
    corrected = holm([one.p for one in found])
    return [replace(one, p=p) for one, p in zip(found, corrected, strict=True)]


def effect(variant: str, first: Sequence[Measure], second: Sequence[Measure]) -> Effect:
    """Return the effect of a variant on one number; a measure for each seed, in one order, of the first variant and of this one."""
    named = first[0]
    for one in (*first, *second):
        if (one.name, one.ids) != (named.name, named.ids):
            raise InputError(
                f"{one.name}: two models were asked different texts or items; evaluate all with one recipe"
            )
    if len(first) != len(second):
        raise InputError(f"{named.name}: {len(first)} models of the first variant and {len(second)} of {variant}")
    before, after = (np.stack([one.parts for one in some]) for some in (first, second))
    good = np.isfinite(before).all(0) & np.isfinite(after).all(0)
    sizes = named.sizes[good]
    before, after = before[:, good], after[:, good]
    texts = ratio_interval((after - before).mean(0), sizes)
    seeds = (after - before).sum(1) / sizes.sum() if sizes.sum() else np.full(len(before), math.nan)
    return Effect(
        variant=variant,
        measure=named.name,
        metric=named.metric,
        reference=float(before.mean(0).sum() / sizes.sum()) if sizes.sum() else math.nan,
        value=float(after.mean(0).sum() / sizes.sum()) if sizes.sum() else math.nan,
        texts=texts,
        seeds=tuple(float(one) for one in seeds),
        both=_both(texts, seeds),
        p=paired_difference(before.mean(0), after.mean(0)).p,
        better_is=named.better_is,
    )


def _both(texts: Interval, seeds: Floats) -> Interval:
    """Return the difference with an interval for chance in the texts and in training."""
    n = len(seeds)
    if n < 2:
        return replace(texts, low=math.nan, high=math.nan, n=n)
    student = _STUDENT[n - 2] if n - 2 < len(_STUDENT) else 1.96 + 2.6 / (n - 1)
    training = student * float(np.std(seeds, ddof=1)) / math.sqrt(n)
    low, high = (math.hypot(end, training) for end in (texts.value - texts.low, texts.high - texts.value))
    return Interval(value=texts.value, low=texts.value - low, high=texts.value + high, n=n)
