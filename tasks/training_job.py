"""The task of train-job: exactly one job outside, started or found again, watched to its end."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import JobError, OlmoError, RecipeError, StorageError
from olmo_core.train import retention
from olmo_core.train.run_file import DONE, PREEMPTED, RunFile
from olmo_core.train.run_record import RunRecord, run_file
from tasks.checkpoint_events import CheckpointEvents
from tasks.credentials import credentials
from tasks.expected_errors import shorten, without_credentials
from tasks.launch.job import LOST, Job, JobSpec, Launcher, last_recorded, last_words, record
from tasks.session import store_uri
from tasks.training import TrainingResources, launcher
from tasks.training_view import TrainingView

POLL = 0.5
"""Seconds between two looks at a job on this machine."""
POLL_CLUSTER = 5.0
"""Seconds between two questions to a scheduler."""
_DEAF = 600.0
"""Seconds for which a scheduler may not answer before the task gives up; the job goes on, and a retry finds it."""


class TrainingJob:
    """One run and what trains it. Not a dataclass: Prefect looks inside those when it passes parameters."""

    def __init__(self, store: ArtifactStore, run: RunFile, resources: TrainingResources) -> None:
        self.store, self.run, self.resources = store, run, resources
        self.ref: ArtifactRef = run.ref
        self.record = RunRecord(store=store, run=run.ref)
        self.at_work: tuple[Launcher, Job] | None = None
        """The job that `attach_or_start` has found or started, from before it is let go."""
        self.preempted = 0
        self.done = store.find(run.ref) is not None

    @property
    def again(self) -> bool:
        """Whether the job is to be started (again): it has not finished, and was not preempted too often."""
        return not self.done and self.preempted <= self.resources.restarts

    def prospect(self) -> str:
        """Say where a retry begins."""
        with contextlib.suppress(OlmoError):
            if (newest := next(iter(retention.committed(self.store, self.run)), None)) is not None:
                return (
                    f"a retry goes on from its last checkpoint, step {newest.counts['step']} of {self.run.recipe.steps}"
                )
            where = f"from {self.run.start}, as it did" if self.run.start is not None else "anew"
            return f"there is no checkpoint of it yet: a retry begins {where}"
        return "a retry goes on from its last checkpoint, if there is one"  # the store does not answer

    def told(self) -> str:
        """Return what the trainer said when it was preempted, "" for nothing."""
        with contextlib.suppress(OlmoError):
            self.record.refresh()
        said = [str(e.get("message", "")) for e in self.record.events.values() if e.get("kind") == "preempted"]
        return said[-1] if said else ""

    def outcome(self) -> str:
        """Return the run's address when it is finished."""
        return str(self.ref)

    def spec(self, number: int) -> JobSpec:
        """Return what the `number`th job of the run is started with.

        Its name is this start's alone. Another store may hold the same run, and two flow runs may start the same number at once: who
        looks for a job's processes or its exit code by its name must not find theirs.
        """
        name = f"{self.ref.name}-{self.ref.fingerprint[:12]}-{number:06d}-{secrets.token_hex(3)}"
        folder = Path(os.environ.get("OLMO_HOME") or ".olmo").resolve() / "jobs"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.json"
        path.write_text(self.run.to_json(), encoding="utf-8")
        resources = self.resources
        return JobSpec(
            name=name,
            run_file=path,
            folder=folder,
            processes=resources.ranks_here,
            nodes=resources.nodes,
            threads=resources.threads,
            grace=resources.grace,
        )

    def attach_or_start(self, say: Callable[[str], None]) -> tuple[Launcher, Job]:
        """Return the run's job: the one on record if it still runs, else a new one, on record before it runs."""
        number, known = last_recorded(self.store, self.ref)
        if known is not None:
            kind = launcher(self.resources, known.launcher)
            code = kind.poll(known)
            if code is None:
                self.at_work = kind, known
                kind.release(known)  # who started it may have been killed before it did
                say(f"attached to {known}, started {known.started}")
                return kind, known
            if (host := known.id.get("host", here := socket.gethostname())) != here:
                say(
                    f"the last job, {known}, was started on {host}, which {here} cannot ask: starting anew here. Should it still "
                    f"run there, no checkpoint of it is accepted any more"
                )
            else:
                left = "without an exit code" if code == LOST else f"with exit code {code}"
                say(f"the last job, {known}, ended {left}; starting anew from what it saved")
                kind.discard(known)
        kind = launcher(self.resources)
        job = kind.start(self.spec(number + 1))
        try:
            ours = record(self.store, self.ref, number + 1, job)
        except BaseException:
            with contextlib.suppress(JobError):
                kind.discard(job)  # held, it would wait for ever
            raise
        if not ours:
            kind.discard(job)
            return self.attach_or_start(say)  # another flow run was faster: its job is this run's
        self.at_work = kind, job
        kind.release(job)
        say(f"started {job}; its log: {job.log or 'with the scheduler'}")
        return kind, job


@contextlib.contextmanager
def open_job(run: str, resources: TrainingResources | None) -> Iterator[TrainingJob]:
    """Find the run that `train-olmo` has prepared, by its address `run/name/fingerprint`."""
    shorten()
    resources = resources or TrainingResources()
    with without_credentials(), credentials(resources.credentials_block):
        store = ArtifactStore(store_uri(resources.store))
        ref = _run_ref(run)
        if not store.storage.exists(f"{ref.address}/run.json"):
            raise StorageError(
                f"run: {store.storage.url(ref.address)} has no run.json; `train-olmo` prepares a run and starts this itself"
            )
        wanted = run_file(store, ref)
        if wanted.ref != ref:
            raise RecipeError(
                f"run: {ref.address}/run.json is of run {wanted.ref.fingerprint}, not of {ref.fingerprint}"
            )
        yield TrainingJob(store, wanted, resources)


def _run_ref(run: str) -> ArtifactRef:
    parts = run.split("/")
    if len(parts) != 3 or parts[0] != Kind.RUN or len(parts[2]) != 64:
        raise RecipeError(f"run: {run!r} names no run; write run/name/fingerprint, the latter in full")
    return ArtifactRef(kind=Kind.RUN, name=parts[1], fingerprint=parts[2])


@task(name="job", cache_policy=NO_CACHE, persist_result=False)
def run_job(training: TrainingJob) -> int | State[int]:
    """Start the job, or find it, and wait for its end. Its state is called Preempted when it is to be started again.

    Raises JobError, with the job's last words, when it failed. When this process is told to end, the job is too, from its first
    moment on, and gets its time to save.
    """
    logger = get_run_logger()
    view = TrainingView(training.record, training.run, logger.info, lambda: kind.tail(job, 1))
    events = CheckpointEvents(training.store, training.ref, training.resources)
    training.at_work = None
    try:
        kind, job = training.attach_or_start(logger.info)
        code = _wait(kind, job, view, events)
    except Exception:
        if training.at_work is not None:
            logger.warning("%s goes on; a retry finds it", training.at_work[1])
        raise
    except BaseException as told:
        if training.at_work is None:
            raise
        kind, job = training.at_work
        kind.cancel(job)  # first of all: another signal may end this process amid a word
        logger.warning("told to end (%s): asked %s to save", type(told).__name__, job)
        left = _wait_for_end(kind, job, training.resources.grace)
        logger.warning("%s: %s", job, "still saving" if left is None else f"ended with exit code {left}")
        view.show(final=True)
        raise
    view.show(final=True)
    events.look(final=True)
    if code == DONE:
        if training.store.find(training.ref) is None:
            raise JobError(
                f"{job} ended with exit code 0, but {training.ref} has no manifest; this is a bug. Log: {job.log}"
            )
        training.done = True
        return code
    if code == PREEMPTED:
        training.preempted += 1
        return Completed(name="Preempted", message=f"{job} was preempted: {training.told()}", data=code)
    raise JobError(_failure(training, kind, job, code))


def _pause(kind: Launcher) -> float:
    return POLL if kind.name == "torchrun" else POLL_CLUSTER


def _wait(kind: Launcher, job: Job, view: TrainingView, events: CheckpointEvents) -> int:
    deaf_since: float | None = None
    while True:
        try:
            code = kind.poll(job)
            deaf_since = None
        except JobError:
            deaf_since = deaf_since or time.monotonic()
            if time.monotonic() - deaf_since > _DEAF:
                raise
            code = None
        if code is not None:
            return code
        view.show()
        events.look()
        time.sleep(_pause(kind))


def _wait_for_end(kind: Launcher, job: Job, grace: float) -> int | None:
    deadline = time.monotonic() + grace
    while (code := kind.poll(job)) is None and time.monotonic() < deadline:
        time.sleep(_pause(kind))
    return code


def _failure(training: TrainingJob, kind: Launcher, job: Job, code: int) -> str:
    training.record.refresh()
    how = "was killed (no exit code)" if code == LOST else f"failed with exit code {code}"
    told = [f"{e.get('kind', 'event')}: {e.get('message', '')}" for e in list(training.record.events.values())[-5:]]
    last = training.record.last
    at = f" after step {last['step']}" if last else ""
    lines = [f"{job} {how}{at}; {training.prospect()}. Log: {job.log or 'with the scheduler'}"]
    lines += ["Events:", *(f"  {one}" for one in told)] if told else []
    lines += ["Last lines:", *(f"  {line}" for line in last_words(kind.tail(job, 80))[-25:])]
    return "\n".join(lines)
