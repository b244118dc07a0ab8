"""Training, or evaluation, on this machine: a process group of its own that outlives the flow process which started it."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from olmo_core import processes
from olmo_core.errors import JobError
from olmo_core.processes import ProcessRecord
from olmo_core.train.launch import GO
from tasks.launch.job import LOST, Job, JobSpec, last_lines, surroundings

MARK = "OLMO_JOB"
"""Environment variable of all processes of a job; its value is the job's name."""
_GRACE = 10.0
"""Seconds in which what is left of a job must end."""


class Torchrun:
    """Jobs on this machine: `olmo_core.train.launch` over torchrun."""

    name = "torchrun"

    def __init__(self) -> None:
        self._own: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, spec: JobSpec) -> Job:
        """Start the process, which waits for `release` and ends if this one is gone before."""
        if spec.nodes != 1:
            raise JobError(
                f"nodes: {spec.nodes}; the launcher torchrun works on this machine only, use slurm or kubernetes"
            )
        spec.folder.mkdir(parents=True, exist_ok=True)
        log = spec.folder / f"{spec.name}.log"
        command = [sys.executable, "-m", "olmo_core.train.launch", "--await-go", f"--processes={spec.processes}"]
        command += [f"--exit-file={_exit_file(log)}", f"--module={spec.module}", str(spec.run_file)]
        threads = spec.threads or max(1, len(os.sched_getaffinity(0)) // spec.processes)
        environment = {**surroundings(spec), "OMP_NUM_THREADS": str(threads), MARK: spec.name}
        with open(log, "ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        own = processes.record(process.pid)
        if own is None:
            raise JobError(
                f"the job {spec.name} ended at once; its log {log} ends with\n" + "\n".join(last_lines(log, 15))
            )
        self._own[process.pid] = process
        return Job(
            launcher=self.name,
            id={"pid": own.pid, "started": own.started, "host": socket.gethostname()},
            name=spec.name,
            log=str(log),
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )

    def release(self, job: Job) -> None:
        """Let it go on. One that another process started goes on already, or ends: its pipe has closed."""
        own = self._own.get(int(job.id["pid"]))
        if own is None or own.stdin is None or own.stdin.closed:
            return
        stdin = own.stdin
        with contextlib.suppress(BrokenPipeError):  # it has ended: `poll` tells
            stdin.write(GO.encode())
            stdin.close()

    def poll(self, job: Job) -> int | None:
        """Return its exit code; of a job on another machine nothing can be known: LOST."""
        if (own := self._own.get(int(job.id["pid"]))) is not None:
            own.poll()  # collects it, so that it does not stay a zombie
        if processes.is_running(_process(job)):
            return None
        try:
            return int(_exit_file(Path(job.log)).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return LOST

    def cancel(self, job: Job) -> None:
        """Send SIGTERM, which goes on to every rank."""
        if processes.is_running(_process(job)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(job.id["pid"]), signal.SIGTERM)

    def discard(self, job: Job) -> None:
        """End what carries the job's mark: ranks that outlived it, and itself."""
        processes.end(processes.carrying(**{MARK: job.name}), grace=_GRACE)

    def tail(self, job: Job, lines: int = 20) -> list[str]:
        """Return the end of its log."""
        return last_lines(Path(job.log), lines)


def _process(job: Job) -> ProcessRecord:
    # The start time holds the machine's boot id, so that a process of another machine is never taken for this one's.
    return ProcessRecord(pid=int(job.id["pid"]), started=str(job.id["started"]))


def _exit_file(log: Path) -> Path:
    return log.with_suffix(".exit")
