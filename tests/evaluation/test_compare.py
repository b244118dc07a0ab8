"""Evaluations beside each other: what changed, corrected for how much was looked at; curves; clean and dirty items."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.errors import InputError
from olmo_core.evaluation.compare import Evaluated, Searched, changes, contamination, curves
from olmo_core.evaluation.statistics import mean_interval


def evaluated(
    label: str,
    credit: dict[str, list[float]],
    bits: list[float] | None = None,
    step: int = 0,
    domains: list[str] | None = None,
) -> Evaluated:
    """An evaluation with accuracies of some benchmarks, and bits of documents of 100 bytes."""
    results: dict[str, dict[str, object]] = {}
    items: dict[str, pa.Table] = {}
    for name, values in credit.items():
        interval = mean_interval(np.array(values))
        results[name] = {
            "kind": "benchmark",
            "primary": "acc_raw",
            "metrics": {"acc_raw": interval.to_json()},
            "chance": 0.5,
        }
        items[name] = pa.table(
            {
                "item": [str(i) for i in range(len(values))],
                "cluster": pa.nulls(len(values), pa.string()),
                "acc_raw": values,
            }
        )
    if bits is not None:
        results["text"] = {"kind": "domains"}
        n = len(bits)
        items["text"] = pa.table(
            {
                "id": [str(i) for i in range(n)],
                "domain": [domain or "a" for domain in domains or [""] * n],
                "bytes": [100] * n,
                "log_likelihood": [-b * 100 * math.log(2) for b in bits],
            }
        )
    ref = ArtifactRef(kind=Kind.EVALUATION, name=f"toy-{label}", fingerprint=f"{step:064x}")
    manifest = Manifest(
        ref=ref, stage="evaluation", version=1, recipe={}, inputs={}, attempt="a", shards=(), ledger=Ledger()
    )
    return Evaluated(label=label, manifest=manifest, results=results, items=items, step=step, tokens=step * 1000)


def test_many_looks_make_a_small_change_no_finding() -> None:
    """One benchmark truly moves; nineteen do not: of those none is called better or worse."""
    rng = np.random.default_rng(0)
    names = [f"b{i}" for i in range(20)]
    before = {name: (rng.random(200) < 0.5).astype(float).tolist() for name in names}
    after = {name: (rng.random(200) < 0.5).astype(float).tolist() for name in names}
    after["b7"] = np.maximum(before["b7"], rng.random(200) < 0.4).astype(float).tolist()
    found = changes([evaluated("one", before), evaluated("two", after, step=1)])
    assert [c.benchmark for c in found if c.verdict != "not resolved"] == ["b7"]
    assert next(c for c in found if c.benchmark == "b7").verdict == "better"
    assert all(c.p >= c.difference.p for c in found) and any(c.p > c.difference.p for c in found)


def test_fewer_bits_are_better() -> None:
    rng = np.random.default_rng(0)
    bits = rng.normal(1.5, 0.4, 60)
    first = evaluated("one", {}, bits.tolist())
    second = evaluated("two", {}, (bits - 0.02 - rng.normal(0, 0.01, 60)).tolist(), step=1)
    (seen,) = changes([first, second])
    assert seen.verdict == "better" and seen.difference.interval.value == pytest.approx(-0.02, abs=0.005)
    (back,) = changes([second, first])
    assert back.verdict == "worse"


def test_a_source_is_the_mean_of_its_domains_in_curves_and_changes_too() -> None:
    """As in the table of bits per byte, however many documents each has."""
    domains = ["books"] * 3 + ["web"] * 30
    rng = np.random.default_rng(4)
    first = [*rng.normal(4.0, 0.1, 3), *rng.normal(1.0, 0.1, 30)]
    second = [*(np.array(first[:3]) - 1.0), *first[3:]]
    both = [evaluated(f"s{i}", {}, bits, i, domains) for i, bits in enumerate((first, second))]
    (curve,) = curves(both)
    for point, bits in zip(curve.points, (first, second), strict=True):
        assert point.value == pytest.approx((np.mean(bits[:3]) + np.mean(bits[3:])) / 2)
        assert point.low < point.value < point.high < point.value + 0.2
    (change,) = changes(both)
    assert change.difference.interval.value == pytest.approx(-0.5)
    weighted = sum(second[:3]) / 6 + sum(second[3:]) / 60 - sum(first[:3]) / 6 - sum(first[3:]) / 60
    assert change.difference.interval.value == pytest.approx(weighted)


def test_other_items_under_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="different items"):
        changes([evaluated("one", {"b": [1.0, 0.0]}), evaluated("two", {"b": [1.0, 0.0, 1.0]}, step=1)])


def test_a_benchmark_that_one_has_not_is_left_out() -> None:
    found = changes(
        [evaluated("one", {"a": [1.0, 0.0], "b": [1.0]}), evaluated("two", {"b": [1.0], "c": [0.0]}, step=1)]
    )
    assert [c.benchmark for c in found] == ["b"]


def test_curves_have_intervals_and_noise() -> None:
    rng = np.random.default_rng(1)
    many = [
        evaluated(
            f"s{i}", {"b": (rng.random(300) < 0.3 + 0.03 * i).astype(float).tolist()}, [2.0 - 0.1 * i] * 5, step=i
        )
        for i in range(10)
    ]
    accuracy, bits = curves(many)
    assert accuracy.steps == tuple(range(10)) and accuracy.chance == 0.5 and bits.chance is None
    assert all(p.low <= p.value <= p.high for p in accuracy.points)
    assert bits.noise.band == pytest.approx(0.0, abs=1e-9) and accuracy.noise.signal_to_noise > 2
    assert [p.value for p in bits.points] == pytest.approx([2.0 - 0.1 * i for i in range(10)])


def test_dirty_items_are_scored_apart() -> None:
    one = evaluated("one", {"b": [1.0] * 10 + [0.0, 1.0] * 20})
    found = [*map(str, range(10)), "no such item"]
    seen = contamination(one, "b", Searched(dirty=found))
    assert (seen.dirty.value, seen.clean.value, len(seen.items)) == (1.0, 0.5, 10)
    assert seen.difference.value == 0.5 and seen.difference.low > 0.15
    assert math.isnan(contamination(one, "b", Searched(dirty=[])).difference.value)
    # Items that were not looked for are neither: every second of the others is wrong, and those are taken out here.
    apart = contamination(one, "b", Searched(dirty=found, unknown=["0", *map(str, range(10, 50, 2))]))
    assert (apart.dirty.n, apart.clean.n, apart.unknown) == (10, 20, 20)
    assert (apart.dirty.value, apart.clean.value) == (1.0, 1.0)


def test_groups_of_clustered_items_have_intervals_over_clusters() -> None:
    """Two subjects all right, two all wrong: 40 items say little more than four; a group of one subject says nothing of others."""
    values = [1.0] * 20 + [0.0] * 20 + [1.0, 0.0] * 20
    one = evaluated("one", {"b": values})
    clusters = pa.array([f"subject {i // 10}" for i in range(80)], pa.string())
    grouped = Evaluated(**{**one.__dict__, "items": {"b": one.items["b"].set_column(1, "cluster", clusters)}})
    dirty = Searched(dirty=[str(i) for i in range(40)])
    alone, seen = contamination(one, "b", dirty), contamination(grouped, "b", dirty)
    assert (seen.dirty.value, seen.dirty.n) == (alone.dirty.value, alone.dirty.n) == (0.5, 40)
    assert (seen.dirty.low, seen.dirty.high) == (0.0, 1.0) and alone.dirty.low > 0.3
    # Within each of the clean subjects half is right: clusters alone would be sure, items are not.
    assert seen.clean == alone.clean and seen.difference.low < alone.difference.low
    few = contamination(grouped, "b", Searched(dirty=[str(i) for i in range(10)]))
    assert few.dirty.value == 1.0 and math.isnan(few.difference.low)


def test_of_five_wrong_items_nothing_is_sure() -> None:
    """A bootstrap of five zeros has no width, and would call any difference resolved."""
    seen = contamination(
        evaluated("one", {"b": [0.0] * 5 + [1.0, 0.0, 0.0, 1.0, 0.0] * 3}),
        "b",
        Searched(dirty=[str(i) for i in range(5)]),
    )
    assert seen.difference.value == pytest.approx(-0.4)
    assert seen.difference.low < -0.4 and seen.difference.high > 0


def test_a_metric_that_only_one_could_be_given_is_no_change() -> None:
    """A checkpoint that has diverged has no finite number; one of an older version may lack the column."""
    a, b = evaluated("a", {"toy": [1.0, 0.0]}), evaluated("b", {"toy": [math.nan] * 2}, step=1)
    (one,) = changes([a, b])
    assert one.verdict == "not resolved" and math.isnan(one.difference.interval.value)
    lacking = {"toy": b.items["toy"].drop_columns(["acc_raw"])}
    assert changes([a, Evaluated(**{**b.__dict__, "items": lacking})]) == []


def test_a_mean_of_subjects_changes_as_its_score_does() -> None:
    """Catwalk's MMLU: one subject of two items gains, one of six loses; the mean of subjects rises, that of items falls."""
    clusters, first, second = ["a"] * 2 + ["b"] * 6, [0.0] * 2 + [1.0] * 6, [1.0] * 2 + [1.0] * 3 + [0.0] * 3
    pair = [evaluated("a", {"mmlu": first}), evaluated("b", {"mmlu": second}, step=1)]
    for one in pair:
        one.results["mmlu"].update(name="mmlu", format="catwalk")  # type: ignore[attr-defined]
        place = one.items["mmlu"].column_names.index("cluster")
        one.items["mmlu"] = one.items["mmlu"].set_column(place, "cluster", pa.array(clusters))  # type: ignore[index]
    (change,) = changes(pair)
    assert change.difference.interval.value == pytest.approx((1.0 - 0.5) / 2) and change.difference.interval.n == 2
