"""What a run has left in the store so far, for whoever watches it: metrics, events, checkpoints.

A trainer writes metrics in immutable parts, `metrics/{epoch}-{first step}.jsonl`, and events one by one. Parts are read
once. Of a step that several starts have reached the line of the latest start counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError
from olmo_core.train.run_artifact import newer
from olmo_core.train.run_file import UNPLANNED, RunFile, run_from_mapping

Line = Mapping[str, Any]
"""One step's metrics, or one event."""


@dataclass(kw_only=True)
class RunRecord:
    """The record of one run; `refresh` reads what is new."""

    store: ArtifactStore
    run: ArtifactRef
    events: dict[str, Line] = field(default_factory=dict)
    """By name of their object, in order of time."""
    _steps: dict[int, tuple[int, float, Line]] = field(default_factory=dict)
    _read: set[str] = field(default_factory=set)

    def refresh(self) -> bool:
        """Read the parts and events that are new; says whether there were any."""
        storage = self.store.storage
        new = False
        for name, listed in sorted(storage.contents(f"{self.run.address}/metrics")[1].items()):
            if name in self._read or not name.endswith(".jsonl"):
                continue
            epoch = int(name.partition("-")[0])
            self._take(epoch, listed.modified, storage.read(listed.path), listed.path)
            self._read.add(name)
            new = True
        for name, listed in sorted(storage.contents(f"{self.run.address}/events")[1].items()):
            if name not in self.events and name.endswith(".json"):
                self.events[name] = _json(storage.read(listed.path), listed.path)
                new = True
        return new

    def _take(self, epoch: int, modified: float, raw: bytes, path: str) -> None:
        for text in raw.splitlines():
            line = _json(text, path)
            step = int(line["step"])
            known = self._steps.get(step)
            # A rollback raises the epoch as a start does; within one epoch the part written later counts.
            if known is None or (epoch, modified) >= known[:2]:
                self._steps[step] = (epoch, modified, newer(known[2] if known is not None else None, line))

    @property
    def steps(self) -> list[Line]:
        """The metrics of each step, in order."""
        return [self._steps[step][2] for step in sorted(self._steps)]

    @property
    def last(self) -> Line | None:
        """The metrics of the last step."""
        return self._steps[max(self._steps)][2] if self._steps else None


def run_of(manifest: Manifest) -> ArtifactRef:
    """Return the run whose manifest, or whose checkpoint's, this is."""
    if manifest.ref.kind == Kind.RUN:
        return manifest.ref
    return ArtifactRef(kind=Kind.RUN, name=manifest.ref.name, fingerprint=str(manifest.recipe["run"]))


def saved_in(run: Manifest, *, planned: bool = False) -> list[tuple[int, ArtifactRef]]:
    """Return step and address of the checkpoints that a run had at its end, as its manifest lists them, by step.

    `planned`: without those that are there only because the run was told to end, and so do not depend on interruptions.
    """
    listed = [one for one in run.counts.get("checkpoints", ()) if not (planned and one.get(UNPLANNED))]
    return sorted(((int(one["step"]), ArtifactRef.from_json(one)) for one in listed), key=lambda one: one[0])


def run_file(store: ArtifactStore, run: ArtifactRef) -> RunFile:
    """Return RUN.json as the run was last started. Raises StorageError where it never was."""
    return run_from_folder(store, run.address)


def run_from_folder(store: ArtifactStore, folder: str) -> RunFile:
    """Return RUN.json of the run whose folder this is. Raises StorageError where it is none."""
    path = f"{folder}/run.json"
    return run_from_mapping(_json(store.storage.read(path), path), store.storage.url(path))


def put_run_file(store: ArtifactStore, run: RunFile) -> None:
    """Put RUN.json where the trainer, and people, look for it."""
    store.storage.put(f"{run.ref.address}/run.json", run.to_json().encode())


def put_baseline(store: ArtifactStore, run: ArtifactRef, loss: float, note: str, chunks: int) -> None:
    """Keep the held-out loss of a bigram model of a run's tokens, in nats, on so many held-out chunks; `note` says how it was made."""
    body = {"loss": loss, "note": note, "held_out_chunks": chunks}
    store.storage.put(f"{run.address}/baseline.json", json.dumps(body, ensure_ascii=False).encode())


def baseline_of(store: ArtifactStore, run: ArtifactRef) -> Line | None:
    """Return what `put_baseline` has kept; None where nothing was measured yet."""
    path = f"{run.address}/baseline.json"
    return _json(store.storage.read(path), path) if store.storage.exists(path) else None


def checkpoints(store: ArtifactStore, run: ArtifactRef) -> list[Manifest]:
    """Return the committed checkpoints of a run, by step."""
    found = [m for m in store.finished(str(Kind.CHECKPOINT), run.name) if m.recipe.get("run") == run.fingerprint]
    return sorted(found, key=lambda m: int(m.recipe["step"]))


def _json(raw: bytes, path: str) -> Line:
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise IntegrityError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, Mapping):
        raise IntegrityError(f"{path} holds {type(value).__name__}, expected an object")
    return value
