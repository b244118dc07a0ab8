"""A toy stage over numbered shards, whose work is a top-level function as worker processes need it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.step import Job, Shard, Step


@dataclass(frozen=True, kw_only=True)
class ToyRecipe:
    factor: int = 1
    lose: bool = False
    quarantine: int = 0


def work(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    """Write the numbers of a shard times a factor; die, if a file says so."""
    recipe: ToyRecipe = job.recipe[0]
    deadly = job.recipe[1]
    if deadly and job.shard.key == deadly["key"] and Path(deadly["while"]).exists():
        if deadly.get("once"):
            Path(deadly["while"]).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    values = [v * recipe.factor for v in job.shard.inputs["values"]]
    output.table(job.shard.key, pa.table({"value": values}))
    ledger = Ledger()
    ledger.read.add(len(values), 8 * len(values))
    ledger.quarantine("broken", recipe.quarantine, 8 * recipe.quarantine)
    kept = len(values) - recipe.quarantine - recipe.lose
    ledger.kept.add(kept, 8 * kept)
    return ledger, {"sum": sum(values)}


def toy(
    shards: Mapping[str, Sequence[int]],
    recipe: ToyRecipe | None = None,
    *,
    stage: str = "toy",
    inputs: Mapping[str, ArtifactRef] | None = None,
    settings: Any = None,
    version: int = 1,
) -> Step:
    """A step with the given shards; with inputs, shards of the input are added to its own by key."""

    def split(manifests: Mapping[str, Manifest]) -> list[Shard]:
        upstream = {o.key: o.digest for m in manifests.values() for o in m.objects}
        return [
            Shard(
                key=k,
                identity={"values": list(v), "upstream": upstream.get(k)},
                inputs={"values": list(v)},
                size=8 * len(v),
            )
            for k, v in shards.items()
        ]

    return Step(
        stage=stage,
        source="all",
        version=version,
        kind=Kind.ATTRIBUTES,
        name=f"x-{stage}",
        recipe=recipe or ToyRecipe(),
        inputs=dict(inputs or {}) or {},
        shards=split,
        work=work,
        settings=settings,
        quarantine_limit=0.1,
    )
