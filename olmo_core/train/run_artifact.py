"""The run artifact: what a finished run leaves beside its checkpoints, put together from what its trainers wrote on the way.

`metrics.jsonl` has one line for each step: of several trainers that did a step (one was killed, the next went on from a
checkpoint before it), that of the highest epoch; within an epoch the one written last, as after a rollback. One that only has an evaluation adds to it.
"""

from __future__ import annotations

import datetime
import json
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from olmo_core import provenance
from olmo_core.artifacts import marks
from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import FinishedShard, Manifest
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError
from olmo_core.recipe import canonical, fingerprint
from olmo_core.storage import Listed
from olmo_core.train import fence, retention
from olmo_core.train.run_file import UNPLANNED, VERSION, RunFile
from olmo_core.train.state import TrainState

STAGE = "training"
CURVE_POINTS = 1000
"""Most points of the curve; lines with a held-out loss come on top."""
_CURVE = ("step", "tokens", "loss", "learning_rate", "held_out_loss")


def publish(
    store: ArtifactStore, run: RunFile, epoch: int, state: TrainState, figures: Mapping[str, Any] | None = None
) -> Manifest:
    """Commit the artifact of a run that has reached its end, and tag it `latest`; on rank 0, after the last checkpoint.

    `figures` (energy, final losses) are added to its counts. A run that is published already is returned as it stands.
    Raises SupersededError when another trainer has taken the run over, IntegrityError for metrics that cannot be read.
    """
    fence.check(store, run.ref, epoch)
    if (standing := store.find(run.ref)) is not None:
        return standing
    started = _started(store, run)
    attempt = f"attempt-{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    folder = f"{run.ref.address}/{attempt}"
    marks.start(store, folder, run.inputs.values(), ())
    metrics, events = merged_metrics(store, run), merged_events(store, run)
    checkpoints = [
        {
            **{name: m.counts[name] for name in ("step", "tokens", UNPLANNED) if name in m.counts},
            **m.ref.to_json(),
        }
        for m in reversed(list(retention.committed(store, run)))
    ]
    output = Output(store.storage, folder)
    for key, suffix, lines in (
        ("metrics", ".jsonl", list(metrics.values())),
        ("events", ".jsonl", events),
        ("curve", ".jsonl", curve(list(metrics.values()))),
    ):
        with output.raw(key, suffix, len(lines)) as handle:
            handle.writelines(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
    shard = FinishedShard(
        key="run", fingerprint=fingerprint([run.ref.fingerprint]), objects=tuple(output.objects), ledger=Ledger()
    )
    last = next(iter(reversed(metrics.values())), {})
    manifest = Manifest(
        ref=run.ref,
        stage=STAGE,
        version=VERSION,
        recipe=canonical(run.recipe),
        inputs=run.inputs,
        attempt=attempt,
        shards=(shard,),
        ledger=Ledger(),
        counts={
            "steps": state.step,
            "tokens": state.tokens,
            "loss": last.get("loss"),
            "skipped": [list(one) for one in state.skipped],
            "epochs": epoch,
            "checkpoints": checkpoints,
            **(figures or {}),
        },
        environment=provenance.environment(),
        started=started,
        ended=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    fence.check(store, run.ref, epoch)
    published, ours = store.publish(manifest)
    marks.confirm(store, published, attempt, ours=ours)
    store.tag(run.ref, "latest")
    return published


def merged_metrics(store: ArtifactStore, run: RunFile) -> dict[int, dict[str, Any]]:
    """Return the line of each step, steps in order."""
    found: dict[int, dict[str, Any]] = {}
    for part in _parts(store, run, "metrics"):
        for line in store.storage.read(part.path).splitlines():
            value = _json(part.path, line)
            step = _step(part.path, value)
            found[step] = newer(found.get(step), value)
    return dict(sorted(found.items()))


def newer(known: Mapping[str, Any] | None, line: Mapping[str, Any]) -> dict[str, Any]:
    """Return what counts of two lines of a step: the later one; one without a loss only adds an evaluation to what is known."""
    return {**(known or {}), **line} if "loss" not in line else dict(line)


def merged_events(store: ArtifactStore, run: RunFile) -> list[dict[str, Any]]:
    """Return the run's events in order of time."""
    return [_json(one.path, store.storage.read(one.path)) for one in _parts(store, run, "events")]


def curve(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what a plot of the losses needs: some of the steps, evenly spaced, the last, and all with a held-out loss."""
    every = -(-len(lines) // CURVE_POINTS) if lines else 1
    shown = (
        one
        for n, one in enumerate(lines)
        if n % every == 0 or n == len(lines) - 1 or one.get("held_out_loss") is not None
    )
    return [{key: one[key] for key in _CURVE if key in one} for one in shown]


def _parts(store: ArtifactStore, run: RunFile, what: str) -> Iterable[Listed]:
    """Return the parts in the order in which they count: by epoch, then by when they were written."""
    listed = store.storage.walk(f"{run.ref.address}/{what}")
    return sorted(listed, key=lambda one: (one.path.rsplit("/", 1)[1].split("-")[0], one.modified, one.path))


def _json(path: str, raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise IntegrityError(f"{path} cannot be read ({error}); delete it to publish the run without it") from error
    if not isinstance(value, dict):
        raise IntegrityError(f"{path} holds {value!r}, expected objects; delete it to publish the run without it")
    return value


def _step(path: str, value: Mapping[str, Any]) -> int:
    if not isinstance(value.get("step"), int):
        raise IntegrityError(
            f"{path} has a line without `step`: {dict(value)!r:.200}; delete it to publish the run without it"
        )
    return int(value["step"])


def _started(store: ArtifactStore, run: RunFile) -> str:
    """Return when the first trainer of the run began."""
    return fence.holder(store, run.ref, 1).since if fence.highest(store, run.ref) else ""
