"""Which checkpoints of a run stay: the first, the last, the last few, every so manieth, and whatever somebody uses.

`{run}/checkpoints/{step}.json` is put before a checkpoint is begun and taken away after it is deleted: so a run knows its
checkpoints without looking through those of others. Whether one exists, its manifest tells.

A checkpoint is deleted as a garbage collection deletes (`artifacts/gc.py`), at once and without a grace, but only one that
nothing else refers to: no tag but the one that training set, no evaluation, converted model or other run made from it, no
execution that reads it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator

from olmo_core.artifacts.gc import RUNNING, delete_unused
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError, OlmoError
from olmo_core.train import fence
from olmo_core.train.run_file import RunFile, step_tag
from olmo_core.train.state import TrainState

log = logging.getLogger(__name__)


def superfluous(steps: Iterable[int], keep_last: int | None, keep_every: int) -> set[int]:
    """Return the steps whose checkpoints go: neither first nor last, nor among the `keep_last` newest, nor a multiple of `keep_every`."""
    ordered = sorted(set(steps))
    if keep_last is None or len(ordered) < 3:
        return set()
    kept = {ordered[0], ordered[-1], *ordered[max(0, len(ordered) - keep_last) :]}
    return {step for step in ordered if step not in kept and (keep_every < 1 or step % keep_every)}


def record(store: ArtifactStore, run: RunFile, state: TrainState) -> None:
    """Note that a checkpoint is about to be made."""
    body = {**run.checkpoint(state.step).to_json(), "step": state.step, "tokens": state.tokens}
    store.storage.put(_path(run, state.step), json.dumps(body, sort_keys=True).encode())


def committed(store: ArtifactStore, run: RunFile) -> Iterator[Manifest]:
    """Yield the manifests of the run's checkpoints, the newest first."""
    for step in sorted(noted(store, run), reverse=True):
        if (manifest := store.find(run.checkpoint(step))) is not None:
            yield manifest


def noted(store: ArtifactStore, run: RunFile) -> list[int]:
    """Return the steps of checkpoints that were begun and not deleted."""
    names = store.storage.contents(f"{run.ref.address}/checkpoints")[1]
    return sorted(int(stem) for name in names if (stem := name.removesuffix(".json")).isdigit())


def apply(store: ArtifactStore, run: RunFile, epoch: int) -> list[int]:
    """Delete the run's superfluous checkpoints that nobody uses; returns their steps.

    What hinders it is logged and raises nothing: the checkpoints are whole, and the next save tries again.
    """
    wanted = run.resources
    if wanted.keep_last is None:
        return []
    try:
        known = noted(store, run)
        steps = [step for step in known if store.storage.exists(run.checkpoint(step).manifest_path)]
        found = {run.checkpoint(step): step for step in superfluous(steps, wanted.keep_last, wanted.keep_every)}
        ended = {run.checkpoint(step): step for step in known if steps and step < steps[-1] and step not in steps}
        if not found and not ended:
            return []
        fence.check(store, run.ref, epoch)
        holder = {"run": run.ref.address, "epoch": epoch}
        gone = delete_unused(store, found, own_tags=_own_tags(store, run, found), abandoned=ended, holder=holder)
        for ref in (*gone, *ended):
            store.storage.delete(_path(run, {**found, **ended}[ref]))
        deleted = sorted(found[ref] for ref in gone)
        if deleted:
            log.info("deleted the checkpoints of steps %s", ", ".join(map(str, deleted)))
        return deleted
    except OlmoError as error:
        log.warning("older checkpoints are not deleted now: %s", error)
        return []


def _own_tags(store: ArtifactStore, run: RunFile, found: dict[ArtifactRef, int]) -> dict[str, ArtifactRef]:
    """Return the paths of the tags that training gave to these checkpoints, and what they stand for now."""
    own: dict[str, ArtifactRef] = {}
    for ref, step in found.items():
        try:
            tokens = int(json.loads(store.storage.read(_path(run, step)))["tokens"])
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"{_path(run, step)} cannot be read ({error}); delete it, and that checkpoint stays"
            ) from error
        own[f"refs/{Kind.CHECKPOINT}/{ref.name}/{step_tag(step, tokens)}.json"] = ref
    return own


def take_over(store: ArtifactStore, run: RunFile, epoch: int) -> None:
    """Remove the mark of a deletion that an earlier trainer of this run was killed in; the next deletion ends it."""
    if store.storage.exists(RUNNING):
        try:
            mark = json.loads(store.storage.read(RUNNING))
        except ValueError:
            return
        if mark.get("run") == run.ref.address and mark.get("epoch", epoch) < epoch:
            store.storage.delete(RUNNING)


def _path(run: RunFile, step: int) -> str:
    return f"{run.ref.address}/checkpoints/{step:010d}.json"
