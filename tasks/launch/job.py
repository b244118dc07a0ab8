"""A training or evaluating job outside this process, and the record that lets a later process find it again.

Every launcher has one shape: `start` makes the job but holds it, its record is put into the store if absent, `release`
lets it run. So there is never a running job that nobody can find, whatever is killed in between; `poll` gives the exit
code once there is one, `cancel` asks it to save and end.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError
from olmo_core.train.launch import TRAINER

LOST = -1
"""Exit code of a job that is gone without having left one: its processes were killed, or their machine."""


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What is to be started."""

    name: str
    """For people, and unique: run, beginning of its fingerprint, number of the job."""
    run_file: Path
    """RUN.json, where the job can read it."""
    folder: Path
    """For log, exit code and scripts; on every machine of the job, where there are several."""
    processes: int
    """Ranks on each machine."""
    nodes: int = 1
    """Machines."""
    threads: int | None = None
    """OMP threads of each rank; None: the machine's cores over the ranks."""
    grace: float = 30.0
    """Seconds between SIGTERM and SIGKILL that a scheduler should leave."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those of this process."""
    module: str = TRAINER
    """What the ranks run; the launcher torchrun knows another one than the trainer."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job that was started, as its record keeps it."""

    launcher: str
    """`torchrun`, `slurm`, `kubernetes`."""
    id: Mapping[str, Any]
    """What the launcher finds it by: process and start time and host; or the scheduler's number or name."""
    name: str
    log: str
    """File with what it printed; "" where the scheduler keeps that."""
    started: str
    """ISO time."""

    def __str__(self) -> str:
        return (
            f"{self.launcher} job {self.name} ({', '.join(f'{k} {v}' for k, v in self.id.items() if k != 'started')})"
        )


def surroundings(spec: JobSpec) -> dict[str, str]:
    """Return the environment of a job on this machine: this process's, but for what is Prefect's. It is no part of the flow run,
    and whoever looks for the processes of one, or for its server's password, must not find it there.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**own, "PYTHONUNBUFFERED": "1", **spec.environment}


class Launcher(Protocol):
    """Starts jobs in one way, and looks after them."""

    name: str

    def start(self, spec: JobSpec) -> Job:
        """Make the job, held until `release`."""
        ...

    def release(self, job: Job) -> None:
        """Let it run, whoever started it; nothing to do where it does already."""
        ...

    def poll(self, job: Job) -> int | None:
        """Return its exit code, LOST when it has left none, None while it runs. May be another process's job."""
        ...

    def cancel(self, job: Job) -> None:
        """Ask it to save and end (SIGTERM); returns at once."""
        ...

    def discard(self, job: Job) -> None:
        """Make sure that nothing of it is left, saved or not."""
        ...

    def tail(self, job: Job, lines: int = 20) -> list[str]:
        """Return the last lines that it printed."""
        ...


def record(store: ArtifactStore, run: ArtifactRef, number: int, job: Job) -> bool:
    """Put a job on record as the run's `number`th, unless there is one; True when it is this one that stands there."""
    data = json.dumps(asdict(job), indent=1, sort_keys=True).encode()
    return store.storage.put_if_absent(f"{run.address}/jobs/{number:06d}.json", data)


def last_recorded(store: ArtifactStore, run: ArtifactRef) -> tuple[int, Job | None]:
    """Return the number and the record of the job of a run that was started last; 0 and None where there was none."""
    found = store.storage.contents(f"{run.address}/jobs")[1]
    if not found:
        return 0, None
    name = max(found)
    path = found[name].path
    try:
        return int(name.removesuffix(".json")), Job(**json.loads(store.storage.read(path)))
    except (ValueError, TypeError) as error:
        raise IntegrityError(
            f"{store.storage.url(path)} is no record of a job ({error}); delete it if that run has no job now"
        ) from error


def last_words(lines: Sequence[str]) -> list[str]:
    """Return the end of a job's log without torchrun's own traceback, which says nothing but which rank ended how."""
    found = [i for i, line in enumerate(lines) if "failed (exitcode" in line]
    if not found:
        return list(lines)
    after = [line for line in lines[found[-1] :] if re.match(r"\s+(rank|exitcode|host) +:", line)]
    return [*lines[: found[-1]], *after]


def last_lines(path: Path, lines: int) -> list[str]:
    """Return the last lines of a log; of a large one only the end is read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 100_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
