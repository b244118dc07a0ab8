"""Looking ahead: for each step of a chain, whether it will be reused or built, how much of it, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from olmo_core.artifacts.build import adoptable, reusable
from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import FinishedShard, Manifest, StoredObject
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.step import Shard, Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.recipe import canonical, differences


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What will happen to one step."""

    label: str
    ref: ArtifactRef
    action: Literal["reuse", "build"]
    shards: int
    shards_reused: int
    """At least so many; a shard whose input is rebuilt is reused too when that input comes out the same."""
    bytes_to_read: int
    why: tuple[str, ...]
    """For a build: what differs from the newest artifact of this name."""

    def to_json(self) -> dict[str, Any]:
        """Return the plan's line as JSON values."""
        return {**self.__dict__, "ref": str(self.ref), "why": list(self.why)}


def plan(store: ArtifactStore, steps: Sequence[Step]) -> list[Planned]:
    """Return what will happen to each step of a chain, in order, reading manifests only.

    A step whose input will be built gets a predicted manifest: known digests for the shards that will be reused,
    unknown ones for the rest, so that the prediction goes through to the end of the chain.
    """
    known: dict[ArtifactRef, Manifest] = {}
    result = []
    for step in steps:
        standing = store.find(step.ref)
        if standing is not None:
            known[step.ref] = standing
            n = len(standing.shards)
            result.append(
                Planned(
                    label=step.label, ref=step.ref, action="reuse", shards=n, shards_reused=n, bytes_to_read=0, why=()
                )
            )
            continue
        inputs = {role: known[ref] if ref in known else store.manifest(ref) for role, ref in step.inputs.items()}
        shards = list(step.shards(inputs))
        found = {**reusable(store, step), **adoptable(store, step)}
        prints = {shard.key: step.shard_fingerprint(shard) for shard in shards}
        todo = [shard for shard in shards if prints[shard.key] not in found]
        known[step.ref] = _predicted(step, shards, prints, found)
        result.append(
            Planned(
                label=step.label,
                ref=step.ref,
                action="build",
                shards=len(shards),
                shards_reused=len(shards) - len(todo),
                bytes_to_read=sum(s.size for s in todo),
                why=_why(store, step),
            )
        )
    return result


def _predicted(
    step: Step, shards: Sequence[Shard], prints: dict[str, str], found: dict[str, FinishedShard]
) -> Manifest:
    finished = []
    for shard in shards:
        if prints[shard.key] in found:
            finished.append(found[prints[shard.key]])
            continue
        objects = tuple(
            StoredObject(
                key=key, path="", size=shard.size, sha256="", digest=f"unbuilt {step.ref.fingerprint} {key}", rows=0
            )
            for key in step.outputs(shard)
        )
        finished.append(FinishedShard(key=shard.key, fingerprint=prints[shard.key], objects=objects, ledger=Ledger()))
    return Manifest(
        ref=step.ref,
        stage=step.stage,
        version=step.version,
        recipe={},
        inputs=step.inputs,
        attempt="",
        shards=tuple(finished),
        ledger=Ledger(),
    )


def _why(store: ArtifactStore, step: Step) -> tuple[str, ...]:
    earlier = [m for m in store.finished(step.kind, step.name) if m.stage == step.stage]
    if not earlier:
        return ("never built",)
    newest = max(earlier, key=lambda m: m.ended)
    reasons = [f"recipe {d}" for d in differences(dict(newest.recipe), canonical(step.recipe))]
    if newest.version != step.version:
        reasons.append(f"stage version: {newest.version} -> {step.version}")
    for role in sorted(newest.inputs.keys() | step.inputs.keys()):
        before, after = newest.inputs.get(role), step.inputs.get(role)
        if before != after:
            shown = [r.fingerprint[:12] if r else "none" for r in (before, after)]
            reasons.append(f"input {role}: {shown[0]} -> {shown[1]}")
    return tuple(reasons) or ("an earlier artifact is gone",)
