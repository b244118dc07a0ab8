"""Several evaluations beside each other: curves over checkpoints, what changed from one to the next, clean and dirty items.

Differences are in pairs, item by item; over all benchmarks of a comparison their p-values are corrected (Holm). A difference
whose corrected p-value is not below the level is *not resolved*, whatever the numbers look like: the table says so, and how large
a difference would have been found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.documents.shards import read_shard
from olmo_core.errors import InputError
from olmo_core.evaluation.benchmarks.definitions import DEFINITIONS
from olmo_core.evaluation.stage import read_results
from olmo_core.evaluation.statistics import (
    Difference,
    Floats,
    Interval,
    Noise,
    detectable_beside,
    holm,
    mean_interval,
    mean_of_ratios,
    noise,
    paired_difference,
)

LEVEL = 0.05
EARLY = ("bits_per_byte", "margin", "probability")
"""Metrics that move before accuracies do."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """One evaluation artifact, read."""

    label: str
    """For people: the checkpoint's tag, or the model's name."""
    manifest: Manifest
    results: Mapping[str, Mapping[str, Any]]
    """By benchmark and format, or source of texts."""
    items: Mapping[str, pa.Table]
    """Tables of items and documents, by the same keys."""
    step: int | None = None
    """Of the checkpoint."""
    tokens: int | None = None
    """That the checkpoint had seen."""


def read_evaluation(store: ArtifactStore, manifest: Manifest, label: str | None = None) -> Evaluated:
    """Return an evaluation artifact with its tables; label, step and tokens are the checkpoint's where it is one of ours."""
    step = tokens = None
    checkpoint = manifest.inputs.get("checkpoint")
    if checkpoint is not None and (found := store.find(checkpoint)) is not None:
        step, tokens = found.counts.get("step"), found.counts.get("tokens")
    tables = {
        one.key.rsplit(".", 1)[0]: read_shard(store.storage, one.path)
        for one in manifest.objects
        if one.key.endswith((".items", ".documents"))
    }
    return Evaluated(
        label=label or (f"step {step:,}" if step is not None else manifest.ref.name),
        manifest=manifest,
        results=read_results(store, manifest),
        items=tables,
        step=step,
        tokens=tokens,
    )


@dataclass(frozen=True, kw_only=True)
class Change:
    """What changed in one number from one evaluation to another."""

    benchmark: str
    metric: str
    first: str
    second: str
    difference: Difference
    p: float = float("nan")
    """Corrected for all comparisons made together (Holm)."""
    better_is: int = 1
    """1 where more is better, -1 where less is (bits per byte)."""

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `not resolved`."""
        if not self.p < LEVEL:
            return "not resolved"
        return "better" if self.difference.interval.value * self.better_is > 0 else "worse"


def changes(evaluations: Sequence[Evaluated]) -> list[Change]:
    """Return the change of every primary number from each evaluation to the next, p-values corrected over all of them.

    Raises InputError when two evaluations asked different items under one name.
    """
    found = [
        one for first, second in zip(evaluations, evaluations[1:], strict=False) for one in _between(first, second)
    ]
    corrected = holm([one.difference.p for one in found])
    return [
        Change(**{**one.__dict__, "p": p})  # all fields are plain values
        for one, p in zip(found, corrected, strict=True)
    ]


def _between(first: Evaluated, second: Evaluated) -> list[Change]:
    found = []
    for key in first.results:
        if key not in second.results:
            continue
        a, b = first.items[key], second.items[key]
        names = "id" if first.results[key]["kind"] == "domains" else "item"
        if a.column(names).to_pylist() != b.column(names).to_pylist():
            raise InputError(
                f"{key}: {first.manifest.ref} and {second.manifest.ref} asked different items; evaluate both with one recipe"
            )
        if names == "id":
            made = _bits_changed(a, b)
            metric, better = "bits_per_byte", -1
        else:
            metric, better = str(first.results[key]["primary"]), 1
            if not {metric} <= {*a.column_names} & {*b.column_names}:
                continue
            made = _credit_changed(a, b, metric, by_cluster=_means_of_clusters(first.results[key]))
        found.append(
            Change(
                benchmark=key,
                metric=metric,
                first=first.label,
                second=second.label,
                difference=made,
                better_is=better,
            )
        )
    return found


def _means_of_clusters(result: Mapping[str, Any]) -> bool:
    """Whether a benchmark's score is the mean of its clusters' (Catwalk's MMLU)."""
    found = DEFINITIONS.get((str(result.get("name")), result.get("format", "catwalk")))
    return found is not None and found.benchmark.average == "clusters"


def _credit_changed(a: pa.Table, b: pa.Table, metric: str, *, by_cluster: bool) -> Difference:
    """Return the change of a benchmark's metric, averaged as its score is."""
    first, second, clusters = numbers_of(a, metric), numbers_of(b, metric), a.column("cluster").to_pylist()
    if not by_cluster or any(name is None for name in clusters):
        return paired_difference(first, second, clusters)
    good = np.isfinite(first) & np.isfinite(second)
    _, which = np.unique(np.array(clusters, dtype=str)[good], return_inverse=True)
    counts = np.bincount(which)
    return paired_difference(np.bincount(which, first[good]) / counts, np.bincount(which, second[good]) / counts)


def _bits_changed(a: pa.Table, b: pa.Table) -> Difference:
    """Return the change of a source's bits per byte, the mean of its domains: a document weighs its part of its domain's bytes."""
    sizes, domains = numbers_of(a, "bytes"), np.array(a.column("domain").to_pylist(), dtype=str)
    first, second = (-numbers_of(t, "log_likelihood") / np.log(2) for t in (a, b))
    good = np.isfinite(first) & np.isfinite(second) & (sizes > 0)
    if not good.any():
        return paired_difference(np.full(1, np.nan), np.full(1, np.nan))
    first, second, sizes, domains = first[good], second[good], sizes[good], domains[good]
    names, which = np.unique(domains, return_inverse=True)
    weights = len(sizes) / (len(names) * np.bincount(which, weights=sizes)[which])
    made = paired_difference(first * weights, second * weights)
    interval = mean_of_ratios(second - first, sizes, domains.tolist())
    # Not the weighted documents' own spread: most of that is how unequal they are in size.
    return Difference(interval=interval, p=made.p, detectable=detectable_beside(interval))


def numbers_of(table: pa.Table, name: str) -> Floats:
    """Return a column as float64 (n,), NaN for null."""
    values = table.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
    return np.asarray(values, np.float64)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One number over checkpoints."""

    benchmark: str
    metric: str
    labels: tuple[str, ...]
    steps: tuple[int | None, ...]
    tokens: tuple[int | None, ...]
    points: tuple[Interval, ...]
    noise: Noise
    chance: float | None = None
    """Accuracy of guessing."""


def curves(evaluations: Sequence[Evaluated]) -> list[Curve]:
    """Return every primary and every early-moving number over the evaluations that have it, in their order."""
    keys = list(dict.fromkeys(key for one in evaluations for key in one.results))
    found = []
    for key in keys:
        having = [one for one in evaluations if key in one.results]
        first = having[0].results[key]
        metrics = ["bits_per_byte"] if first["kind"] == "domains" else [first["primary"], *EARLY]
        for metric in metrics:
            points = [_point(one, key, metric) for one in having]
            if all(math.isnan(point.value) for point in points):
                continue
            found.append(
                Curve(
                    benchmark=key,
                    metric=metric,
                    labels=tuple(one.label for one in having),
                    steps=tuple(one.step for one in having),
                    tokens=tuple(one.tokens for one in having),
                    points=tuple(points),
                    noise=noise(np.array([point.value for point in points])),
                    chance=first.get("chance") if str(metric).startswith("acc_") else None,
                )
            )
    return found


def _point(one: Evaluated, key: str, metric: str) -> Interval:
    results = one.results[key]
    if results["kind"] == "domains":
        table = one.items[key]
        bits, sizes = -numbers_of(table, "log_likelihood") / np.log(2), numbers_of(table, "bytes")
        good = np.isfinite(bits) & (sizes > 0)
        domains = [name for name, known in zip(table.column("domain").to_pylist(), good, strict=True) if known]
        return mean_of_ratios(bits[good], sizes[good], domains)
    stored = results["metrics"].get(metric)
    if stored is None:
        return Interval(value=float("nan"), low=float("nan"), high=float("nan"), n=0)
    numbers = {name: float("nan") if stored[name] is None else stored[name] for name in ("value", "low", "high")}
    return Interval(n=stored["n"], **numbers)


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """A benchmark's score on items that training text holds, and on those that it was searched for and does not hold."""

    benchmark: str
    metric: str
    dirty: Interval
    clean: Interval
    difference: Interval
    """Dirty minus clean, of two independent groups."""
    items: Sequence[str] = field(default_factory=tuple)
    """Ids of the dirty ones."""
    unknown: int = 0
    """Items that are in neither group."""


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What a search of training text says of a benchmark's items; of those that it names nowhere, that they are clean."""

    dirty: Sequence[str]
    """Ids of the items that were found."""
    unknown: Sequence[str] = ()
    """Ids of those that have too few words to be looked for."""


def contamination(one: Evaluated, key: str, searched: Searched) -> Contamination:
    """Return a benchmark's score apart for the items that were found, and for those that were looked for and not found."""
    table, metric = one.items[key], str(one.results[key]["primary"])
    values, names = numbers_of(table, metric), table.column("item").to_pylist()
    dirty, unknown = set(searched.dirty), set(searched.unknown) - set(searched.dirty)
    of = np.array([name in dirty for name in names], bool)
    clean = np.array([name not in dirty and name not in unknown for name in names], bool)
    clusters = np.array(table.column("cluster").to_pylist(), object)
    first, second = (_share(values[some], clusters[some].tolist()) for some in (of, clean))
    return Contamination(
        benchmark=key,
        metric=metric,
        dirty=first,
        clean=second,
        difference=_groups(first, second),
        items=tuple(name for name, bad in zip(names, of, strict=True) if bad),
        unknown=int((~of & ~clean).sum()),
    )


def _share(values: Floats, clusters: Sequence[str | None]) -> Interval:
    """Return the mean over a group's items. Where items are clustered (MMLU: subjects) its interval resamples clusters, as that of the
    whole benchmark does, and is never narrower than one of items would be; of a single cluster nobody knows it.
    """
    items = mean_interval(values)
    if all(one is None for one in clusters):
        return items
    whole = mean_interval(values, clusters)
    return Interval(
        value=items.value,
        low=float(np.minimum(items.low, whole.low)),
        high=float(np.maximum(items.high, whole.high)),
        n=items.n,
    )


def _groups(a: Interval, b: Interval) -> Interval:
    """Return the difference of two groups' means, first minus second, with Newcombe's interval (1998, method 10).

    Out of the intervals of the two: of a group of five items that are all wrong a bootstrap would say that it is sure.
    """
    if not a.n or not b.n:
        return Interval(value=float("nan"), low=float("nan"), high=float("nan"), n=a.n)
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Interval(value=value, low=low, high=high, n=a.n)
