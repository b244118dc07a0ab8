"""The numbers of an evaluation, with their intervals, as JSON values: what tables and curves are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from olmo_core.evaluation.items import Item, Items
from olmo_core.evaluation.metrics import MetricValues, evaluate
from olmo_core.evaluation.perplexity import DomainFit, domains
from olmo_core.evaluation.scores import ItemScores
from olmo_core.evaluation.statistics import Interval, mean_interval


def benchmark_results(items: Items, scores: ItemScores) -> tuple[dict[str, Any], pa.Table]:
    """Return a benchmark's numbers, and one row for each item with the credit of every metric.

    Accuracies of a benchmark with clusters that weigh the same are the mean of the clusters' means; intervals resample
    clusters where there are any.
    """
    found = evaluate(items.benchmark, items.items, scores)
    table = pa.table(
        {
            "item": pa.array([item.id for item in items.items], pa.string()),
            "cluster": pa.array([item.cluster for item in items.items], pa.string()),
            **{name: pa.array(metric.values, from_pandas=True) for name, metric in found.items()},
        }
    )
    return _figures(items, found, scores.count()), table


def generated_results(items: Items, metric: MetricValues, status: Mapping[str, int]) -> tuple[dict[str, Any], pa.Table]:
    """Return the same for a benchmark whose answers are generated."""
    table = pa.table(
        {
            "item": pa.array([item.id for item in items.items], pa.string()),
            "cluster": pa.array([item.cluster for item in items.items], pa.string()),
            metric.name: pa.array(metric.values, from_pandas=True),
        }
    )
    return _figures(items, {metric.name: metric}, status), table


def _figures(items: Items, found: Mapping[str, MetricValues], status: Mapping[str, int]) -> dict[str, Any]:
    primary = items.benchmark.primary
    metrics = {name: {**interval(items, metric).to_json(), "ties": metric.ties} for name, metric in found.items()}
    scored = found[primary].scored if primary in found else 0
    return {
        "kind": "benchmark",
        "name": items.benchmark.name,
        "format": items.benchmark.format,
        "version": items.benchmark.version,
        "primary": primary,
        "shots": items.benchmark.shots if items.selection.shots is None else items.selection.shots,
        "items": len(items.items),
        "population": items.population,
        "scored": scored,
        "failed": len(items.items) - scored,
        "status": dict(status),
        "majority": majority(items.items),
        "chance": chance(items.items),
        "handmade": items.handmade,
        "metrics": metrics,
    }


def interval(items: Items, metric: MetricValues) -> Interval:
    """Return a metric's mean and interval by the benchmark's way of averaging."""
    clusters = [item.cluster for item in items.items]
    if items.benchmark.average == "items" or all(c is None for c in clusters):
        return mean_interval(metric.values, clusters)
    good = np.isfinite(metric.values)
    names = np.array([c or "" for c in clusters])
    means = [float(metric.values[good & (names == name)].mean()) for name in sorted(set(names[good]))]
    # Of means, not of zeros and ones: the bootstrap, over clusters.
    return mean_interval(np.array(means) + 0.0, list(map(str, range(len(means)))))


def chance(items: Sequence[Item]) -> float | None:
    """Return the accuracy of guessing at random; None where there are no choices."""
    shares = [1.0 / len(item.choices) for item in items if item.choices]
    return float(np.mean(shares)) if shares else None


def majority(items: Sequence[Item]) -> float | None:
    """Return the accuracy of always taking the place that is right most often; None where that is no one place."""
    golds = [item.gold for item in items if item.gold is not None]
    return max(golds.count(g) for g in set(golds)) / len(golds) if golds else None


def domain_results(source: str, table: pa.Table) -> dict[str, Any]:
    """Return a source's numbers: each domain's bits per byte with its interval, and their mean."""
    fits = list(domains(table))
    values = [fit.bits_per_byte.value for fit in fits if np.isfinite(fit.bits_per_byte.value)]
    return {
        "kind": "domains",
        "name": source,
        "bits_per_byte": float(np.mean(values)) if values else None,
        "documents": sum(fit.documents for fit in fits),
        "failed": sum(fit.failed for fit in fits),
        "tokens": sum(fit.tokens for fit in fits),
        "domains": {fit.domain: _fit(fit) for fit in fits},
    }


def _fit(fit: DomainFit) -> dict[str, Any]:
    return {key: value for key, value in asdict(fit).items() if key not in ("source", "domain")}


def plain(value: Any) -> Any:
    """Return JSON values in which what is no finite number is null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
