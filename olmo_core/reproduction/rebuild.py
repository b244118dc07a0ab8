"""`reproduce`: every artifact of a lineage made again in another store, inputs first, and compared with the one it repeats.

Stages of build-dolma run as the report of their run says, with the places of files of a recipe where one is given.
Training and evaluation run as their own manifests say. What cannot be made again (a classifier, whose labelled texts
nothing names; source files that are gone) is copied, and said to be: what follows is then rebuilt from the copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from olmo_core import provenance
from olmo_core.artifacts import graph
from olmo_core.artifacts.build import build
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.repair import Origins
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError, IntegrityError, OlmoError, RecipeError, StorageError
from olmo_core.reproduction.comparison import Outcome, Verdict, compare, environment_differences
from olmo_core.workers import Executes

_BLOCK = 8 << 20
TOLERANCE = 0.02
"""Nats by which the mean loss of a repeated run's last steps may differ: see `training`."""


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """Where and how an artifact is made again."""

    made: ArtifactStore
    """The store that has the artifact."""
    again: ArtifactStore
    """The store that it is made in."""
    origins: Origins
    workers: Executes
    tolerance: float = TOLERANCE
    progress: Callable[[str], None] | None = None

    def tell(self, text: str) -> None:
        """Say what is being done."""
        if self.progress is not None:
            self.progress(text)


def reproduce(work: Reproduction, ref: ArtifactRef) -> list[Outcome]:
    """Make an artifact and all it was made from again; returns what became of each, inputs first.

    What the other store has already is compared as it stands. Raises StorageError for a store that cannot be read or
    written, IntegrityError when a manifest of the lineage is gone; what goes wrong with one artifact is its outcome.
    """
    known = {one.ref: one for one in _with_inputs(work.made, ref)}
    order = [node.ref for node in graph.trace(known, [ref]).nodes]
    found: list[Outcome] = []
    different: set[ArtifactRef] = set()
    for number, one in enumerate(order, 1):
        manifest = known[one]
        work.tell(f"{number} of {len(order)}: {manifest.stage}, {one.address}")
        began = time.monotonic()
        verdict, detail = _again(work, manifest)
        if verdict is Verdict.DIFFERENT:
            different.add(one)
        told = environment_differences(manifest.environment, provenance.environment())
        found.append(
            Outcome(
                ref=one,
                stage=manifest.stage,
                verdict=verdict,
                detail=detail,
                inputs_differ=tuple(sorted(p.address for p in set(manifest.inputs.values()) if p in different)),
                environment=() if verdict in (Verdict.SAME, Verdict.COPIED) else told,
                seconds=time.monotonic() - began,
            )
        )
    return found


def _with_inputs(store: ArtifactStore, ref: ArtifactRef) -> Iterable[Manifest]:
    seen: dict[ArtifactRef, Manifest] = {}
    waiting = [ref]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        found = store.find(one)
        if found is None:
            raise IntegrityError(f"{one} is not in {store.uri} any more, so {ref} cannot be made again from there")
        seen[one] = found
        waiting += found.inputs.values()
    return seen.values()


def _again(work: Reproduction, manifest: Manifest) -> tuple[Verdict, str]:
    """Make one artifact again, and say how it compares."""
    kind = manifest.ref.kind
    try:
        if kind in (Kind.RUN, Kind.CHECKPOINT):
            from olmo_core.reproduction import training

            return training.again(work, manifest)
        if kind == Kind.EVALUATION or manifest.stage == "evaluation-report":
            from olmo_core.reproduction import evaluations

            return evaluations.again(work, manifest)
        if work.again.find(manifest.ref) is None:
            step = work.origins.step(manifest.ref, [shard.key for shard in manifest.shards])
            build(work.again, step, work.workers)
        return compare(manifest, work.again.manifest(manifest.ref))
    except (RecipeError, InputError) as error:
        return copied(work, manifest, str(error))
    except StorageError:
        raise
    except OlmoError as error:
        return Verdict.DIFFERENT, f"it cannot be made again: {error}"


def copied(work: Reproduction, manifest: Manifest, why: str) -> tuple[Verdict, str]:
    """Take an artifact over as it is, objects first and manifest last. Raises IntegrityError for one that is damaged."""
    if work.again.find(manifest.ref) is None:
        for one in manifest.objects:
            with work.made.storage.open(one.path) as source, work.again.storage.writer(one.path) as (handle, written):
                while block := source.read(_BLOCK):
                    handle.write(block)
            if written.sha256 != one.sha256:
                raise IntegrityError(
                    f"{one.path} is damaged: it has not the sha256 of its manifest; `olmo artifacts verify --repair` first"
                )
        work.again.publish(manifest)
    return Verdict.COPIED, why
