"""An evaluation in processes of its own: on GPUs, which the flow's process stays away from, or several for one model.

The job is `olmo_core.evaluation` under torchrun on this machine (docs/evaluation.md). It writes the artifact; the flow finds it. What
was scored when a job is ended or dies is in the scores' cache, and the next one goes on from there.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from olmo_core import processes
from olmo_core.artifacts.build import Built
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import JobError
from olmo_core.evaluation.recipe import EvaluationRecipe
from olmo_core.evaluation.resources import ScoringResources
from olmo_core.evaluation.run import evaluate, evaluation_ref
from olmo_core.evaluation.run_file import EvaluationRun
from olmo_core.evaluation.targets import Target
from olmo_core.train.launch import DONE, EVALUATION
from tasks.launch.job import LOST, Job, JobSpec, last_words
from tasks.launch.torchrun import MARK, Torchrun

_POLL = 0.5
"""Seconds between two looks at the job."""
_GRACE = 60.0
"""Seconds for a job to end in: one batch, and what the ranks have to tell each other."""
_PROGRESS = re.compile(r" INFO (\S+): (\d+) of (\d+) requests$")


def evaluate_apart(
    store: ArtifactStore,
    recipe: EvaluationRecipe,
    target: Target,
    resources: ScoringResources,
    number: int,
    *,
    say: Callable[[str], None],
    progress: Callable[[str, int, int], None],
) -> Built:
    """Evaluate one model by `number` processes, or find that it is evaluated.

    `progress`: called with shard, requests done and their number. Raises JobError, with the job's last words, when it failed. When this
    process is told to end, the job is too.
    """
    ref = evaluation_ref(store, recipe, target, resources)
    if store.find(ref) is not None:
        return evaluate(store, recipe, target, resources)
    began = time.monotonic()
    name = f"evaluate-{target.label}-{ref.fingerprint[:12]}"
    _end_left_over(name, say)
    launcher = Torchrun()
    job = launcher.start(
        _spec(store, recipe, target, resources, number, f"{name}-{os.getpid()}-{secrets.token_hex(4)}")
    )
    try:
        launcher.release(job)
        say(f"started {job} with {number} process{'es' if number > 1 else ''}; its log: {job.log}")
        code = _wait(launcher, job, progress)
    except BaseException as told:
        launcher.cancel(job)  # first of all: a signal may end this process amid a word
        say(f"told to end ({type(told).__name__}): ending {job}; what it scored is kept")
        deadline = time.monotonic() + _GRACE
        while launcher.poll(job) is None and time.monotonic() < deadline:
            time.sleep(_POLL)
        launcher.discard(job)
        raise
    if code != DONE:
        raise JobError(_failure(launcher.tail(job, 80), job, code))
    built = evaluate(store, recipe, target, resources)
    if not built.reused:
        raise JobError(f"{job} ended with exit code 0, but {ref} was not there; this is a bug. Log: {job.log}")
    return Built(
        ref=built.ref,
        manifest=built.manifest,
        reused=False,
        shards_reused=0,
        seconds=time.monotonic() - began,
    )


def _spec(
    store: ArtifactStore, recipe: EvaluationRecipe, target: Target, resources: ScoringResources, number: int, name: str
) -> JobSpec:
    folder = Path(os.environ.get("OLMO_HOME") or ".olmo").resolve() / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    run = EvaluationRun(
        store=store.uri,
        models=(str(target.checkpoint or target.hub or target.folder),),
        recipe=recipe,
        resources=resources,
    )
    path = folder / f"{name}.json"
    path.write_text(run.to_json(), encoding="utf-8")
    return JobSpec(name=name, run_file=path, folder=folder, processes=number, module=EVALUATION, grace=_GRACE)


def _end_left_over(name: str, say: Callable[[str], None]) -> None:
    """End a job of the same evaluation whose flow run was killed: two would compete for one device. The job of a flow run that
    lives, which its name tells by its process, is left alone: both do all, and what one has scored the other takes.
    """
    for value in processes.values_of(MARK):
        owner = value.removeprefix(f"{name}-").split("-")[0]
        if value == owner or not owner.isdecimal():
            continue
        if int(owner) != os.getpid() and Path(f"/proc/{owner}").exists():
            say(f"{value} still runs, and so does its flow run (process {owner}): both score, and share what is scored")
            continue
        say(f"{value} still runs, and its flow run does not: ending it")
        processes.end(processes.carrying(**{MARK: value}), grace=_GRACE)


def _wait(launcher: Torchrun, job: Job, progress: Callable[[str, int, int], None]) -> int:
    while (code := launcher.poll(job)) is None:
        for line in reversed(launcher.tail(job)):
            if found := _PROGRESS.search(line):
                progress(found[1], int(found[2]), int(found[3]))
                break
        time.sleep(_POLL)
    return code


def _failure(lines: Sequence[str], job: Job, code: int) -> str:
    how = "was killed (no exit code)" if code == LOST else f"ended with exit code {code}"
    last = [f"  {line}" for line in last_words(lines)[-25:]]
    return "\n".join([f"{job} {how}; a retry goes on from what is scored. Log: {job.log}", "Last lines:", *last])
