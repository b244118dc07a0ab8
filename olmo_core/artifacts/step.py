"""A step: one stage with its recipe and inputs, ready to be planned or built.

A stage is a pure function of its inputs and recipe. A `Step` says what it is called, what identifies its output, how
its work falls into shards, and which top-level function does one shard in a worker process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from olmo_core.artifacts.ledger import Ledger, Tally
from olmo_core.artifacts.manifest import FinishedShard, Manifest
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.recipe import canonical, fingerprint

if TYPE_CHECKING:
    from olmo_core.artifacts.store import ArtifactStore


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One unit of work."""

    key: str
    identity: Mapping[str, Any]
    """What of the inputs decides this shard's output: names and content digests, as JSON values."""
    inputs: Mapping[str, Any]
    """What the work function needs to find its inputs: object paths. Not part of the identity."""
    size: int = 0
    """Bytes of input, for progress and for starting large shards first."""


def whole(key: str, inputs: Mapping[str, Manifest]) -> list[Shard]:
    """Return one shard of all inputs together, which finds them as `inputs["refs"]`, by role: that of a report."""
    identity = {role: manifest.ref.fingerprint for role, manifest in inputs.items()}
    refs = {role: manifest.ref for role, manifest in inputs.items()}
    return [Shard(key=key, identity=identity, inputs={"refs": refs})]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A shard on its way to a worker process."""

    store: str
    folder: str
    stage: str
    fingerprint: str
    recipe: Any
    shard: Shard
    work: Callable[[Job, Output], tuple[Ledger, Mapping[str, Any]]]
    alone: bool = False
    """Take nothing over from other attempts: a forced rebuild makes everything itself."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage applied to given inputs."""

    stage: str
    source: str
    """The source it works on, or `all`."""
    version: int
    """Raised whenever the stage's output changes for the same inputs and recipe."""
    kind: Kind
    name: str
    recipe: Any
    inputs: Mapping[str, ArtifactRef]
    shards: Callable[[Mapping[str, Manifest]], Sequence[Shard]]
    """Splits the work, given the manifests of the inputs by role."""
    work: Callable[[Job, Output], tuple[Ledger, Mapping[str, Any]]]
    """Does one shard: reads its inputs, writes to the output, returns ledger and counts. Top-level, picklable."""
    reads: Callable[[Mapping[str, Manifest]], Tally] | None = None
    """What the inputs kept and this stage must therefore have read; None for a stage that reads from outside."""
    shard_recipe: Any = None
    """What of the recipe decides one shard, where a shard hangs on less than all of it; None: the whole recipe."""
    settings: Any = None
    """What the work needs but does not decide the output, such as where a source's files lie."""
    compiled: bool = False
    """Its work runs compiled loops: the first shard runs alone, so that they are compiled once and not by every worker."""
    quarantine_limit: float | None = None
    """Largest fraction of records that may be quarantined; None where the stage reads no outside records."""
    first_quarantined: Callable[[ArtifactStore, Sequence[FinishedShard]], str] | None = None
    """Names the first quarantined records, a sentence with a space behind it; for the message when they are too many."""
    check: Callable[[ArtifactStore, Sequence[FinishedShard]], None] | None = None
    """A last look at all shards together before the manifest is put; raises to stop."""
    outputs: Callable[[Shard], Sequence[str]] = lambda shard: [shard.key]
    """Keys of the objects a shard will have, for `plan`, which looks ahead of what is built."""

    @property
    def label(self) -> str:
        """`stage/source`, as task runs are named."""
        return f"{self.stage}/{self.source}"

    @property
    def identity(self) -> dict[str, Any]:
        """What the fingerprint is made of, in canonical form."""
        return {
            "stage": self.stage,
            "version": self.version,
            "recipe": canonical(self.recipe, self.label),
            "inputs": {role: ref.fingerprint for role, ref in sorted(self.inputs.items())},
        }

    @property
    def ref(self) -> ArtifactRef:
        """The artifact this step makes; known before anything is built."""
        return ArtifactRef(kind=self.kind, name=self.name, fingerprint=fingerprint(self.identity))

    def shard_fingerprint(self, shard: Shard) -> str:
        """Return what identifies one shard's output, independent of the other shards."""
        recipe = canonical(self.recipe if self.shard_recipe is None else self.shard_recipe, self.label)
        return fingerprint(
            {"stage": self.stage, "version": self.version, "recipe": recipe, "key": shard.key, "inputs": shard.identity}
        )
