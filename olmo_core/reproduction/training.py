"""Training made again, and the rule by which a checkpoint is the same.

On as many ranks and threads, on such hardware and with such packages, the same run gives the same bits: then every slice of
every tensor must have the sha256 it had. Otherwise sums are made in another order, and runs drift apart: then the mean loss
of the last tenth of the steps must be within a tolerance (0.02 nats by default) of what it was. The outcome says which it is.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError, JobError, RecipeError
from olmo_core.report.training import series
from olmo_core.reproduction.comparison import Verdict
from olmo_core.reproduction.rebuild import Reproduction, copied
from olmo_core.train.checkpoint_format import INDEX, Index
from olmo_core.train.run_file import DONE, PREEMPTED, RunFile, save_interval
from olmo_core.train.run_record import RunRecord, run_file, run_of

_LOOK = 2.0
"""Seconds between two looks whether the checkpoint is there."""


def again(work: Reproduction, manifest: Manifest) -> tuple[Verdict, str]:
    """Train up to a checkpoint, or to a run's end, and compare."""
    of_run = manifest.ref.kind == Kind.RUN
    run = run_of(manifest)
    made = run_file(work.made, run)
    if made.files:
        raise RecipeError(f"{run} was trained on token files made elsewhere, which no artifact holds")
    if made.held_out is not None and work.again.find(made.held_out) is None:
        copied(
            work, work.made.manifest(made.held_out), ""
        )  # it changes no weight, but a run that has it measures on it
    step = int(manifest.counts["steps"] if of_run else manifest.recipe["step"])
    if work.again.find(manifest.ref) is None:
        saved = (
            work.made.find(made.checkpoint(step)) if of_run else None
        )  # a checkpoint notes its ranks, a run does not
        _train(work, _elsewhere(made, work.again, step), saved or manifest, None if of_run else manifest.ref)
    if of_run:
        return _losses(work, run, step)
    return _tensors(work, manifest, run, step)


def _elsewhere(run: RunFile, store: ArtifactStore, step: int) -> RunFile:
    """The same run in another store, with a checkpoint at the step that is asked for."""
    every = save_interval(run)
    kept = dataclasses.replace(
        run.resources, save_every=every if step % every == 0 else max(step, 1), keep_last=None, cache=None
    )
    return dataclasses.replace(run, store=store.uri, resources=kept)


def _train(work: Reproduction, run: RunFile, made: Manifest, until: ArtifactRef | None) -> None:
    """Run the trainer on as many ranks and threads as it had; it is ended once the checkpoint is there."""
    ranks = int(made.counts.get("ranks", 1))
    threads = str(made.environment.get("threads") or max(1, len(os.sched_getaffinity(0)) // ranks))
    with tempfile.TemporaryDirectory(prefix="olmo-reproduce-") as folder:
        file, log = Path(folder) / "RUN.json", Path(folder) / "log"
        file.write_text(run.to_json(), encoding="utf-8")
        work.again.storage.put(f"{run.ref.address}/run.json", run.to_json().encode())
        command = [sys.executable, "-m", "olmo_core.train.launch", f"--processes={ranks}", str(file)]
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": threads},
                start_new_session=True,
            )
            try:
                code = _wait(work, process, run, until)
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                    process.wait()
        # A trainer that is ended once the checkpoint is there may be at its own end, and its exit code anything.
        made_it = code in (DONE, PREEMPTED) if until is None else work.again.find(until) is not None
        if not made_it:
            last = log.read_text(errors="replace").splitlines()[-8:]
            raise JobError("the trainer failed; its log ends with\n" + "\n".join(last))


def _wait(work: Reproduction, process: subprocess.Popen[bytes], run: RunFile, until: ArtifactRef | None) -> int:
    record = RunRecord(store=work.again, run=run.ref)
    while True:
        try:
            return process.wait(timeout=_LOOK)
        except subprocess.TimeoutExpired:
            if record.refresh() and record.last is not None:
                work.tell(f"training {run.ref.address}: step {int(record.last['step']):,} of {run.recipe.steps:,}")
            if until is not None and work.again.find(until) is not None:
                process.send_signal(signal.SIGTERM)
                return process.wait()


def _index(store: ArtifactStore, ref: ArtifactRef) -> Index:
    path = store.manifest(ref).object(INDEX).path
    return Index.from_bytes(store.storage.read(path), path)


def _tensors(work: Reproduction, manifest: Manifest, run: ArtifactRef, step: int) -> tuple[Verdict, str]:
    before, after = _index(work.made, manifest.ref), _index(work.again, manifest.ref)
    if _slices(before) == _slices(after):
        return Verdict.SAME, f"all {len(before.tensors)} tensors bit-equal, on {after.world} ranks"
    names = sorted(before.tensors)
    other = [n for n in names if n not in after.tensors or before.tensors[n].slices != after.tensors[n].slices]
    verdict, told = _losses(work, run, step)
    if step == 0:
        verdict = Verdict.DIFFERENT  # nothing was trained: both are the initialisation
    return (
        verdict,
        f"{len(other)} of {len(names)} tensors are not bit-equal ({other[0] if other else '?'}, ...); {told}",
    )


def _slices(index: Index) -> dict[str, list[tuple[tuple[int, ...], tuple[int, ...], str]]]:
    """What the tensors hold, wherever it lies."""
    return {
        name: sorted((one.offset, one.shape, one.sha256) for one in tensor.slices)
        for name, tensor in index.tensors.items()
    }


def _losses(work: Reproduction, run: ArtifactRef, step: int) -> tuple[Verdict, str]:
    """Compare the losses of the steps up to one, by the rule above."""
    both = []
    for store in (work.made, work.again):
        record = RunRecord(store=store, run=run)
        record.refresh()
        both.append(
            {int(at): float(loss) for at, loss in zip(*series(record.steps, "loss"), strict=True) if at <= step}
        )
    common = sorted(both[0].keys() & both[1].keys())
    if not common:
        raise IntegrityError(
            f"{run}: no step's loss is on record in both stores up to step {step}, so nothing can be compared"
        )
    apart = [abs(both[0][at] - both[1][at]) for at in common]
    if max(apart) == 0.0:
        return Verdict.SAME, f"the losses of all {len(common):,} steps are equal"
    last = common[-max(1, len(common) // 10) :]
    mean = abs(sum(both[0][at] - both[1][at] for at in last) / len(last))
    near = mean <= work.tolerance
    told = f"mean loss of the last {len(last):,} of {len(common):,} steps {mean:.2g} nats apart (allowed: {work.tolerance:g}), at most {max(apart):.2g} at one step"
    return (Verdict.NEAR if near else Verdict.DIFFERENT), told
