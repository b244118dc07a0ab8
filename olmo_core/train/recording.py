"""What a trainer writes of its run into the store: metrics as they come, events, and the run artifact at the end.

Rank 0 alone writes. Metrics go in immutable parts, `metrics/{epoch}-{first step}.jsonl`, every ten seconds and by a thread
of their own, so that a slow store does not hold up training; a part that could not be written is tried again with the
next. Of a step that several starts (epochs) have reached the line of the latest counts. Layout: docs/training.md.
"""

from __future__ import annotations

import datetime
import json
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import StorageError
from olmo_core.train import run_artifact
from olmo_core.train.run_file import RunFile
from olmo_core.train.state import TrainState

log = logging.getLogger(__name__)

_EVERY = 10.0
"""Seconds from one part of the metrics to the next."""

Line = dict[str, Any]


class Recorder:
    """Writes the record of one run."""

    def __init__(self, store: ArtifactStore, run: RunFile, epoch: int) -> None:
        self._store, self._run, self._epoch = store, run, epoch
        self._lines: list[Line] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._pending: Future[list[Line]] | None = None
        self._flushed = time.monotonic()
        self._events = 0

    def begin(self) -> None:
        """Put RUN.json where people look for it."""
        self._store.storage.put(f"{self._run.ref.address}/run.json", self._run.to_json().encode())

    def new_epoch(self, epoch: int) -> None:
        """Go on under another epoch number, after a rollback."""
        self.flush(wait=True)
        self._epoch, self._events = epoch, 0

    def line(self, values: Line) -> None:
        """Take a line of metrics."""
        self._lines.append(values)
        if time.monotonic() - self._flushed > _EVERY:
            self.flush()

    def event(self, kind: str, message: str, **facts: Any) -> None:
        """Write something worth telling, at once. A store that fails is logged: training does not depend on it."""
        body = {"kind": kind, "message": message, "time": now(), "epoch": self._epoch, **facts}
        log.info("%s: %s", kind, message)
        try:
            put_event(self._store, self._run.ref, self._epoch, body, self._events)
            self._events += 1
        except StorageError as error:
            log.warning("the event %r was not recorded: %s", kind, error)

    def flush(self, *, wait: bool = False) -> None:
        """Write the lines so far. A store that fails is logged, and tried again with the next part."""
        if self._pending is not None and (wait or self._pending.done()):
            self._settle(self._pending)
        if self._lines and self._pending is None:
            self._flushed = time.monotonic()
            lines, self._lines = self._lines, []
            self._pending = self._thread.submit(self._put, lines, self._epoch)
            if wait:
                self._settle(self._pending)

    def _settle(self, put: Future[list[Line]]) -> None:
        self._lines = put.result() + self._lines
        self._pending = None

    def _put(self, lines: list[Line], epoch: int) -> list[Line]:
        """Write a part; returns what is to be tried again, and touches nothing that the main thread does."""
        path = f"{self._run.ref.address}/metrics/{epoch:06d}-{lines[0]['step']:08d}.jsonl"
        try:
            self._store.storage.put(path, _jsonl(lines))
        except StorageError as error:
            log.warning("metrics of steps %d to %d wait: %s", lines[0]["step"], lines[-1]["step"], error)
            return lines
        return []

    def finish(self, state: TrainState, figures: Mapping[str, Any]) -> Manifest:
        """Publish the run artifact. Raises StorageError when the store fails, SupersededError for a stale trainer."""
        self.flush(wait=True)
        self.flush(wait=True)  # what a failed part has put back
        every, counting = read_metrics(self._store, self._run.ref)
        figures = {**figures, **_last(counting), **_used(every)}
        return run_artifact.publish(self._store, self._run, self._epoch, state, figures)

    def close(self) -> None:
        """Write what is left."""
        self.flush(wait=True)
        self._thread.shutdown()


def put_event(store: ArtifactStore, run: ArtifactRef, epoch: int, body: Mapping[str, Any], number: int = 0) -> None:
    """Write an event under the first free number from `number` on. Raises StorageError when the store fails."""
    raw = json.dumps(body, sort_keys=True, ensure_ascii=False).encode()
    while not store.storage.put_if_absent(f"{run.address}/events/{epoch:06d}-{number:04d}.json", raw):
        number += 1


def read_metrics(store: ArtifactStore, run: ArtifactRef) -> tuple[list[Line], list[Line]]:
    """Return all lines that were written, and those that count: one for each step, in order."""
    every: list[Line] = []
    counting: dict[int, Line] = {}
    for listed in store.storage.walk(f"{run.address}/metrics"):  # by epoch, then by step
        lines = [json.loads(text) for text in store.storage.read(listed.path).splitlines()]
        every += lines
        for line in lines:
            counting[int(line["step"])] = run_artifact.newer(counting.get(int(line["step"])), line)
    return every, [counting[step] for step in sorted(counting)]


def _last(lines: Sequence[Line]) -> dict[str, Any]:
    """The last value of each loss."""
    found: dict[str, Any] = {}
    for line in lines:
        found |= {key: line[key] for key in ("loss", "held_out_loss") if line.get(key) is not None}
    return found


def _used(every: Sequence[Line]) -> dict[str, float | None]:
    """Energy of all that was computed, also what a later start has computed again; None where there was no meter."""
    found = {}
    for key in ("energy_kwh", "co2_kg"):
        values = [line[key] for line in every if key in line]
        found[key] = sum(values) if values and None not in values else None
    return found


def _jsonl(lines: Sequence[Line]) -> bytes:
    return b"".join(json.dumps(one, ensure_ascii=False, allow_nan=False).encode() + b"\n" for one in lines)


def now() -> str:
    """Return the time as events have it: UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
