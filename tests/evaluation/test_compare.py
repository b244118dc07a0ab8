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


def evaluated(label: str, credit: dict[str, list[float]], bits: list[float] | None = None, step: int = 0) -> Evaluated:
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


def test_of_five_wrong_items_nothing_is_sure() -> None:
    """A bootstrap of five zeros has no width, and would call any difference resolved."""
    seen = contamination(
        evaluated("one", {"b": [0.0] * 5 + [1.0, 0.0, 0.0, 1.0, 0.0] * 3}),
        "b",
        Searched(dirty=[str(i) for i in range(5)]),
    )
    assert seen.difference.value == pytest.approx(-0.4)
    assert seen.difference.low < -0.4 and seen.difference.high > 0
