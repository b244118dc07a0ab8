"""Evaluations made by hand for the tests of their report: core benchmarks that grow better, and whatever else is odd."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.evaluation.benchmarks.definitions import CORE, definition
from olmo_core.evaluation.compare import Evaluated
from olmo_core.evaluation.perplexity import domains
from olmo_core.evaluation.results import domain_results
from olmo_core.evaluation.statistics import mean_interval

ODD = "<script>document.title='owned'</script>"
ITEMS = 100


def benchmark(
    name: str, share: float, *, seed: int = 0, cut: int = 0, failed: int = 0, ties: int = 0, **changes: Any
) -> tuple[dict[str, Any], pa.Table]:
    """A benchmark of which about this share is right; easy items stay easy from evaluation to evaluation."""
    found = definition(name, "catwalk").benchmark
    ease = np.random.default_rng(seed).random(ITEMS)
    credit = (ease < share).astype(float)
    credit[:failed] = np.nan
    values = dict.fromkeys(
        {"acc_raw", "acc_per_token", "acc_per_char", "acc_per_byte", "acc_uncond", found.primary}, credit
    )
    values |= {"bits_per_byte": 2.0 - share + 0.1 * ease, "margin": credit * 0.1, "probability": credit * 0.5}
    metrics = {n: {**interval(v), "ties": ties} for n, v in values.items()}
    results = {
        "kind": "benchmark", "name": name, "format": "catwalk", "version": 1, "primary": found.primary,
        "shots": found.shots, "items": ITEMS, "population": found.documents, "scored": ITEMS - failed, "failed": failed,
        "status": {"ok": 4 * ITEMS - cut, **({"truncated": cut} if cut else {}), **({"not_finite": failed} if failed else {})},
        "majority": 0.55, "chance": 0.25, "handmade": False, "metrics": metrics, **changes,
    }  # fmt: skip
    table = pa.table(
        {
            "item": [f"{name}-{i}" for i in range(ITEMS)],
            "cluster": pa.nulls(ITEMS, pa.string()),
            **{n: pa.array(v, from_pandas=True) for n, v in values.items()},
        }
    )
    return results, table


def interval(values: Any) -> dict[str, Any]:
    """An interval as stored; of numbers that are no shares the normal one, as the bootstrap takes its time."""
    good = values[np.isfinite(values)]
    if np.isin(good, (0.0, 1.0)).all():
        return mean_interval(values).to_json()
    half = 1.96 * float(good.std()) / math.sqrt(len(good))
    return {
        "value": float(good.mean()),
        "low": float(good.mean()) - half,
        "high": float(good.mean()) + half,
        "n": len(good),
    }


def texts(bits: float) -> tuple[dict[str, Any], pa.Table]:
    """Two domains, one with a name that must not be taken for markup."""
    n = 30
    wobble = np.random.default_rng(1).normal(0, 0.05, n)
    table = pa.table(
        {
            "source": ["web"] * n,
            "domain": [ODD if i % 2 else "blogs" for i in range(n)],
            "id": [str(i) for i in range(n)],
            "log_likelihood": (-(bits + wobble) * 100 * math.log(2)).tolist(),
            "tokens": [25] * n,
            "bytes": [100] * n,
        }
    )
    assert len(list(domains(table))) == 2
    return domain_results("web", table), table


def evaluated(step: int, share: float, names: Sequence[str] = CORE, *, odd: bool = False) -> Evaluated:
    """One checkpoint's evaluation."""
    made = {f"{name}-catwalk": benchmark(name, share, seed=i) for i, name in enumerate(names)}
    made["web-domains"] = texts(3.0 - share)
    if odd:
        made["sciq-catwalk"] = benchmark("sciq", share, seed=7, cut=12, failed=3, ties=2)
        made["truthfulqa_mc2-catwalk"] = benchmark("truthfulqa_mc2", share, handmade=True, chance=None, majority=None)
    ref = ArtifactRef(kind=Kind.EVALUATION, name="toy-core", fingerprint=f"{step:064x}")
    manifest = Manifest(
        ref=ref,
        stage="evaluation",
        version=1,
        recipe={"recipe": {"name": "core", "windows": "paloma"}, "model": {"weights": "w" * 64, "tokenizer": "t" * 64}},
        inputs={"checkpoint": ArtifactRef(kind=Kind.CHECKPOINT, name="toy", fingerprint=f"{step + 1:064x}")},
        attempt="a",
        shards=(),
        ledger=Ledger(),
    )
    return Evaluated(
        label=f"step {step:,}",
        manifest=manifest,
        results={key: one for key, (one, _) in made.items()},
        items={key: table for key, (_, table) in made.items()},
        step=step,
        tokens=step * 4_000_000,
    )


def series(*, odd: bool = True) -> list[Evaluated]:
    """Five checkpoints of a run that learns, slowly at the end."""
    return [evaluated(1000 * i, share, odd=odd) for i, share in enumerate((0.25, 0.45, 0.6, 0.61, 0.62))]
