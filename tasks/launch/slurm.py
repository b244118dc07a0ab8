"""Training as a Slurm job: one batch script whose `srun` starts `olmo_core.train.launch` once on each machine.

The interpreter, the job's folder and a store that is a folder must be on a file system which all machines share. The
job is submitted held, put on record, then released. Its exit code is in a file beside its log, so that it is known
without accounting and long after the controller has forgotten the job.
"""

from __future__ import annotations

import datetime
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from olmo_core.errors import JobError
from tasks.launch.job import LOST, Job, JobSpec, last_lines, surroundings

_OVER = {
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "NODE_FAIL",
    "PREEMPTED",
    "OUT_OF_MEMORY",
    "BOOT_FAIL",
    "DEADLINE",
}
"""States of a job that will not run any more, as `squeue` and `scontrol` name them."""
_WAIT = 60.0
"""Seconds for one command of Slurm."""


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """What the cluster wants to know."""

    partition: str | None = None
    """Partition; None for the cluster's default."""
    account: str | None = None
    """Account that is charged."""
    time_limit: str | None = None
    """Time limit in Slurm's form, e.g. `2-00:00:00`; a run that needs longer is resumed."""
    gpus: bool = True
    """Ask for a GPU for each process."""
    directives: tuple[str, ...] = ()
    """Further lines of the script after `#SBATCH `, e.g. `--exclusive`."""
    port: int = 29_500
    """Where the machines meet, on the first of them."""

    __pydantic_config__ = {"use_attribute_docstrings": True, "extra": "forbid"}


class Slurm:
    """Jobs of a Slurm cluster whose commands are on this machine."""

    name = "slurm"

    def __init__(self, options: SlurmOptions | None = None) -> None:
        self._options = options or SlurmOptions()

    def start(self, spec: JobSpec) -> Job:
        """Submit the job, held. Raises JobError with Slurm's own words when it is refused."""
        spec.folder.mkdir(parents=True, exist_ok=True)
        log = spec.folder / f"{spec.name}.log"
        path = spec.folder / f"{spec.name}.sbatch"
        path.write_text(script(spec, self._options), encoding="utf-8")
        said = _slurm("sbatch", "--parsable", "--hold", str(path), environment=surroundings(spec))
        return Job(
            launcher=self.name,
            id={"number": said.strip().split(";")[0]},
            name=spec.name,
            log=str(log),
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )

    def release(self, job: Job) -> None:
        """Let Slurm schedule it."""
        if self._state(job) == "PENDING":
            _slurm("scontrol", "release", job.id["number"])

    def poll(self, job: Job) -> int | None:
        """Return its exit code once it is over."""
        if self._state(job) not in (*_OVER, ""):
            return None
        try:
            return int(Path(job.log).with_suffix(".exit").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return LOST

    def cancel(self, job: Job) -> None:
        """Send SIGTERM to the job's steps; one that has not begun is taken out of the queue."""
        if self._state(job) in ("PENDING", "CONFIGURING"):
            _slurm("scancel", job.id["number"])
        elif self._state(job) not in (*_OVER, ""):
            _slurm("scancel", "--signal=TERM", job.id["number"])

    def discard(self, job: Job) -> None:
        """Cancel it: Slurm ends what is left after its own KillWait."""
        if self._state(job) not in (*_OVER, ""):
            _slurm("scancel", job.id["number"])

    def tail(self, job: Job, lines: int = 20) -> list[str]:
        """Return the end of its log."""
        return last_lines(Path(job.log), lines)

    def _state(self, job: Job) -> str:
        """Return the state of a job, "" when the controller does not know it any more."""
        try:
            said = _slurm("squeue", "--noheader", "--states=all", f"--jobs={job.id['number']}", "--format=%T")
        except JobError as error:
            if "Invalid job id" in str(error):
                return ""
            raise
        return said.strip().splitlines()[0] if said.strip() else ""


def script(spec: JobSpec, options: SlurmOptions) -> str:
    """Return the batch script of a job."""
    exit_file = spec.folder / f"{spec.name}.exit"
    lines = [
        f"--job-name={spec.name}",
        f"--nodes={spec.nodes}",
        "--ntasks-per-node=1",
        f"--output={spec.folder / spec.name}.log",
        "--open-mode=append",
        "--no-requeue",
        *([f"--cpus-per-task={spec.threads * spec.processes}"] if spec.threads else []),
        *([f"--gpus-per-node={spec.processes}"] if options.gpus else []),
        *([f"--partition={options.partition}"] if options.partition else []),
        *([f"--account={options.account}"] if options.account else []),
        *([f"--time={options.time_limit}"] if options.time_limit else []),
        *options.directives,
    ]
    threads = f"export OMP_NUM_THREADS={spec.threads or 1}\n"
    launch = [sys.executable, "-m", "olmo_core.train.launch", f"--processes={spec.processes}"]
    if spec.nodes > 1:
        launch += [f"--nodes={spec.nodes}"]
    quoted = " ".join(shlex.quote(word) for word in launch)
    meeting = f' --rendezvous="$first:{options.port}" --id="$SLURM_JOB_ID"' if spec.nodes > 1 else ""
    quoted_exit = shlex.quote(str(exit_file))
    # A task of its own shell, as only there SLURM_NODEID is known.
    task = f'exec {quoted}{meeting} --exit-file={quoted_exit}."$SLURM_NODEID" {shlex.quote(str(spec.run_file))}'
    directives = "".join(f"#SBATCH {line}\n" for line in lines)
    return f"""#!/bin/bash
{directives}
trap : TERM  # at its time limit Slurm tells this shell too, which must live to write the exit code
{threads}first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export first
srun --kill-on-bad-exit=0 bash -c {shlex.quote(task)}
# srun gives the highest code of all machines; one that failed counts more than those that were preempted with it.
code=0
for node in $(seq 0 {spec.nodes - 1}); do
  case $(cat {quoted_exit}."$node" 2>/dev/null || echo none) in
    0) ;;
    75) [ $code = 0 ] && code=75 ;;
    *) code=1 ;;
  esac
done
echo $code > {quoted_exit}.tmp && mv {quoted_exit}.tmp {quoted_exit}
exit $code
"""


def _slurm(command: str, *words: str, environment: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            [command, *words], env=environment, capture_output=True, text=True, timeout=_WAIT, check=False
        )
    except FileNotFoundError as error:
        raise JobError(
            f"launcher: slurm needs the command {command}, which this machine does not have; run the worker of pool gpu on a "
            "machine of the cluster that submits jobs"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise JobError(f"{command} {' '.join(words)} did not answer within {_WAIT:.0f} s") from error
    if done.returncode != 0:
        raise JobError(
            f"{command} {' '.join(words)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}"
        )
    return done.stdout
