"""Checkpoints: a run's parameters, optimizer state and place in the data, saved while training goes on.

Saving, in order: every rank copies what it holds to host memory (that is what training waits for); a background thread
of each writes it as safetensors objects below one attempt folder; rank 0 learns by gloo that all are stored, puts the
index, asks the fence whether this trainer may still commit, and puts the manifest. A manifest exists = the checkpoint is
whole. Anything that is cut off before leaves nothing that a reader finds, and is cleaned up by the next save of that step.

Memory: one copy of what the rank holds, let go of slice by slice as it is written. One save is under way at a time.
"""

from __future__ import annotations

import datetime
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from olmo_core import provenance
from olmo_core.artifacts import marks
from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import FinishedShard, Manifest
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError, JobError, StorageError
from olmo_core.recipe import canonical, differences, fingerprint
from olmo_core.storage_removal import remove_folder
from olmo_core.train import fence, retention
from olmo_core.train.checkpoint_format import INDEX, VERSION, Index
from olmo_core.train.checkpoint_read import read_index, read_into
from olmo_core.train.checkpoint_tensors import HostSlice, host_copy, targets
from olmo_core.train.checkpoint_write import Written, merged, write_slices
from olmo_core.train.checks import same_dataset, same_recipe
from olmo_core.train.ranks import Failure, Ranks
from olmo_core.train.run_file import RunFile, step_tag
from olmo_core.train.state import TrainState

log = logging.getLogger(__name__)

STAGE = "checkpoint"
_PULSE = 0.5
"""Seconds between two signs of life while a save is waited for."""


@dataclass(kw_only=True)
class _Save:
    """A save under way on this rank."""

    state: TrainState
    figures: Mapping[str, Any]
    folder: str
    retain: bool
    started: str
    slices: list[HostSlice] = field(default_factory=list)
    failure: Failure | None = None
    """Before anything was written; later, what all ranks are told."""
    done: threading.Event = field(default_factory=threading.Event)
    """Set when it is known what became of it."""
    manifest: Manifest | None = None


class Checkpointer:
    """Saves and loads the checkpoints of one run; every public method is collective, `latest` excepted."""

    def __init__(
        self,
        store: ArtifactStore,
        run: RunFile,
        epoch: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; `epoch` is what `fence.claim` gave. Call it on all ranks, once model and optimizer are sharded.

        The inputs of the run are marked as in use, and again with each save: a collection spares them. `alive` is called
        every half second while something waits for a save (Watch.alive).
        """
        self._store, self._run, self._epoch = store, run, epoch
        self._model, self._optimizer, self._alive = model, optimizer, alive
        self._ranks = Ranks(seconds=max(3600.0, 2 * run.resources.commit_seconds))  # a rank may store its part at once
        self._threads: list[threading.Thread] = []
        self._save: _Save | None = None
        self._attempt = _attempt(epoch)
        self._retention = threading.Lock()
        self._ranks.together(self._begin)

    # saving
    def save(
        self,
        state: TrainState,
        *,
        figures: Mapping[str, Any] | None = None,
        wait: bool = False,
        timeout: float | None = None,
        retain: bool = True,
    ) -> None:
        """Save what the model and the optimizer are now; returns when that is copied, or with `wait` when it is committed.

        `figures` (losses and the like) go into the manifest. `retain=False` leaves older checkpoints alone, for a save
        that must be quick. Raises what went wrong with the save before, and with `wait` with this one: StorageError when
        the store is full or does not answer (the checkpoints before are whole; a later save may do), SupersededError when
        another trainer has taken the run over, WorkerError when a rank does not answer.
        """
        self.wait()
        chosen = self._ranks.share(self._choose(state) if self._ranks.rank == 0 else ("", None))
        folder, failure = chosen
        if failure is not None:
            raise failure.error()
        if not folder:
            return
        save = _Save(state=state, figures=figures or {}, folder=folder, retain=retain, started=_now())
        try:
            save.slices = host_copy(self._model, self._optimizer)
        except Exception as error:  # told to all by the thread: they are about to write
            save.failure = Failure.of(error)
        self._save = save
        thread = threading.Thread(target=self._work, args=(save,), name="checkpoint", daemon=True)
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()
        if wait:
            self.wait(timeout)

    def wait(self, timeout: float | None = None) -> Manifest | None:
        """Wait until the save under way is committed, and return its manifest; None when none is under way.

        Raises what went wrong, on all ranks, once; StorageError when it takes longer than `timeout` seconds, and
        JobError when it takes longer than `resources.commit_seconds`, which no later save would mend.
        """
        save = self._save
        if save is None:
            return None
        limit = self._run.resources.commit_seconds
        if not self._await(save.done.wait, limit if timeout is None else min(timeout, limit)):
            begun = f"the checkpoint of step {save.state.step} was not committed within"
            if timeout is not None and timeout < limit:
                raise StorageError(
                    f"{begun} {timeout:.0f} s; the one before counts. Give more time (resources.save_seconds, and the sender's "
                    f"grace time), or a faster store"
                )
            raise JobError(
                f"{begun} {limit:g} s (resources.commit_seconds); the one before counts. Does the store {self._store.uri} answer? "
                f"Give more time, or a faster store, and start again"
            )
        self._save = None
        if save.failure is not None:
            raise save.failure.error()
        return save.manifest

    def close(self) -> None:
        """Wait for everything that the threads still do, retention included; raises nothing. Not collective."""
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_PULSE)
                self._alive()

    def _await(self, done: Callable[[float], bool], seconds: float) -> bool:
        """Wait at most so long for what `done` waits for, giving signs of life; says whether it came."""
        until = time.monotonic() + seconds
        while not (came := done(max(0.0, min(_PULSE, until - time.monotonic())))) and time.monotonic() < until:
            self._alive()
        return came

    def _begin(self) -> None:
        if self._ranks.rank == 0:
            retention.take_over(self._store, self._run, self._epoch)
            self._mark_inputs()
            self._tag_newest()

    def _choose(self, state: TrainState) -> tuple[str, Failure | None]:
        """Return the attempt's folder, "" when this very checkpoint is there; on rank 0."""
        try:
            fence.check(self._store, self._run.ref, self._epoch)
            self._begin()
            ref = self._run.checkpoint(state.step)
            standing = self._store.find(ref)
            if standing is not None:
                _same_state(standing, state)
                log.info("step %d: its checkpoint is there already", state.step)
                return "", None
            retention.record(self._store, self._run, state)
            return f"{ref.address}/{_attempt(self._epoch)}", None
        except StorageError as error:
            return "", _not_saved(state, Failure.of(error))
        except Exception as error:
            return "", Failure.of(error)

    def _mark_inputs(self) -> None:
        """Say that the run reads its inputs: they are marked as used, and for a day as read by an execution."""
        read = _read(self._run)
        marks.start(self._store, f"{self._run.ref.address}/{self._attempt}", read, ())
        for ref in read:
            if (manifest := self._store.find(ref)) is not None:
                marks.use(self._store, manifest)

    def _tag_newest(self) -> None:
        """Give the newest checkpoint its tags, in case a trainer ended, or the store did not answer, before it had them."""
        if (newest := self.latest()) is not None:
            tag = step_tag(newest.counts["step"], newest.counts["tokens"])
            if self._store.tags(newest.ref.kind, newest.ref.name).get(tag) != newest.ref:
                self._tag(newest)

    def _tag(self, manifest: Manifest) -> None:
        for tag in (step_tag(manifest.counts["step"], manifest.counts["tokens"]), "latest"):
            self._store.tag(manifest.ref, tag)

    def _work(self, save: _Save) -> None:
        """Write, commit, tell; in the background, on every rank."""
        began = time.monotonic()
        try:
            written, failure = None, save.failure
            if failure is None:
                try:
                    written = write_slices(self._store.storage, save.folder, self._ranks.rank, save.slices)
                except Exception as error:
                    log.warning(
                        "step %d: rank %d could not store its part", save.state.step, self._ranks.rank, exc_info=error
                    )
                    failure = Failure.of(error)
            save.slices.clear()
            answers = self._ranks.gather((written, failure))
            outcome = self._conclude(save, answers) if self._ranks.rank == 0 else (None, None)
            save.manifest, save.failure = self._ranks.share(outcome)
        except Exception as error:
            save.failure = Failure.of(error)
        finally:
            save.slices.clear()
            save.done.set()
        if save.failure is None and self._ranks.rank == 0:
            log.info("step %d: checkpoint committed after %.1f s", save.state.step, time.monotonic() - began)
            if save.retain:
                with self._retention:
                    retention.apply(self._store, self._run, self._epoch)

    def _conclude(
        self, save: _Save, answers: Sequence[tuple[Written | None, Failure | None]]
    ) -> tuple[Manifest | None, Failure | None]:
        """Commit when all ranks have stored their slices, else clean up; on rank 0."""
        failure = self._ranks.first([one for _, one in answers])
        try:
            if failure is None:
                return self._commit(save, [written for written, _ in answers if written is not None]), None
        except Exception as error:
            failure = Failure.of(error)
        assert failure is not None
        try:
            remove_folder(self._store.storage, save.folder)
        except StorageError as error:
            log.warning("%s stays until the next garbage collection: %s", save.folder, error)
        text = (
            f"the checkpoint of step {save.state.step} was not saved, and the ones before are whole: {failure.message}"
        )
        return None, replace(failure, message=text)

    def _commit(self, save: _Save, parts: Sequence[Written]) -> Manifest:
        run, ref = self._run, self._run.checkpoint(save.state.step)
        marks.start(self._store, save.folder, _read(run), ())
        tensors = merged(parts)
        raw = Index(state=save.state, world=self._ranks.world, tensors=tensors).to_bytes()
        Index.from_bytes(raw, INDEX)  # also sees that no rank's part is missing
        output = Output(self._store.storage, save.folder)
        with output.raw(INDEX.removesuffix(".json"), ".json", len(tensors)) as handle:
            handle.write(raw)
        manifest = Manifest(
            ref=ref,
            stage=STAGE,
            version=VERSION,
            recipe={**canonical(run.recipe), "run": run.ref.fingerprint, "step": save.state.step},
            inputs=run.inputs,
            attempt=save.folder.rsplit("/", 1)[1],
            shards=tuple(
                FinishedShard(
                    key=key,
                    fingerprint=fingerprint([ref.fingerprint, key]),
                    objects=objects,
                    ledger=Ledger(),
                    cpu_seconds=round(seconds, 3),
                )
                for key, objects, seconds in [
                    ("index", tuple(output.objects), 0.0),
                    *((f"rank-{n:05d}", one.objects, one.cpu_seconds) for n, one in enumerate(parts)),
                ]
            ),
            ledger=Ledger(),
            counts={**save.state.to_json(), "epoch": self._epoch, "ranks": self._ranks.world, **_finite(save.figures)},
            environment=provenance.environment(),
            started=save.started,
            ended=_now(),
            cpu_seconds=round(sum(one.cpu_seconds for one in parts), 3),
        )
        fence.check(self._store, run.ref, self._epoch)
        published, ours = self._store.publish(manifest)
        if not ours:
            _same_state(published, save.state)
            remove_folder(self._store.storage, save.folder)
            return published
        marks.confirm(self._store, published, manifest.attempt, ours=True)
        try:
            self._tag(published)
            for name in self._store.storage.folders(ref.address):
                if name != manifest.attempt and _epoch_of(name) <= self._epoch:
                    remove_folder(self._store.storage, f"{ref.address}/{name}")  # left by a save that was cut off
        except StorageError as error:  # the checkpoint stands: the next save sets its tags
            log.warning("step %d: the checkpoint is committed, but not tagged: %s", save.state.step, error)
        return published

    # loading
    def latest(self) -> Manifest | None:
        """Return the newest committed checkpoint of this run, None when there is none."""
        return next(iter(retention.committed(self._store, self._run)), None)

    def load(self, manifest: Manifest, *, dataset: str | None = None) -> TrainState:
        """Load a checkpoint, of this or an earlier run, into the model and the optimizer; returns the state it was saved in.

        Any number of ranks will do, each reads the slices of its part. `dataset` is the fingerprint of the tokens that
        training would go on with. Raises RecipeError for a checkpoint of another model, recipe or dataset, IntegrityError
        when it is damaged; on all ranks, and in the first case before anything is changed.
        """
        self.wait()

        def work() -> TrainState:
            same_recipe(manifest, self._run)
            index = read_index(self._store, manifest)
            if dataset is not None:
                same_dataset(manifest.ref, index.state.dataset, dataset)
            found = targets(self._model, self._optimizer, index.tensors)
            read_into(self._store, manifest, found)
            return index.state

        return self._ranks.together(work)


def _not_saved(state: TrainState, failure: Failure) -> Failure:
    text = f"the checkpoint of step {state.step} was not saved, and the ones before are whole: {failure.message}"
    return replace(failure, message=text)


def _same_state(standing: Manifest, state: TrainState) -> None:
    """Raise IntegrityError when the checkpoint that stands for a step is of another way there."""
    mine = state.to_json()
    ours = {key: mine[key] for key in ("tokens", "next_batch", "skipped", "dataset")}
    theirs = {key: standing.counts.get(key) for key in ours}
    if found := differences(theirs, ours):
        raise IntegrityError(
            f"step {state.step} has a checkpoint already, {standing.ref}, of another state: {'; '.join(found)}. To go on without "
            f"it, delete {standing.ref.manifest_path}"
        )


def _read(run: RunFile) -> list[ArtifactRef]:
    return [*run.inputs.values(), *([run.held_out] if run.held_out else [])]


def _attempt(epoch: int) -> str:
    now = datetime.datetime.now(datetime.UTC)
    return f"attempt-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}-epoch-{epoch:06d}"


def _epoch_of(attempt: str) -> int:
    number = attempt.rpartition("-epoch-")[2]
    return int(number) if number.isdigit() else 0


def _finite(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures with None for numbers that are not finite: JSON has none."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
