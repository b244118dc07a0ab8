"""How far a chain has come, as its store tells, and the processes that work on it, as the kernel tells."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from olmo_core import processes
from olmo_core.processes import ProcessRecord
from tasks.launch.torchrun import MARK
from tests.endurance.runs import listed
from tests.endurance.setting import Setting


class Stage(IntEnum):
    """Parts of a chain's time, in order."""

    START = 0
    """Nothing is in the store yet."""
    CURATION = 1
    BEFORE_TRAINING = 2
    """The corpus is finished; until the first checkpoint."""
    TRAINING = 3
    BEFORE_EVALUATION = 4
    """The run is finished; until a model's evaluation has begun."""
    EVALUATION = 5
    PUBLISHING = 6
    """All models are evaluated: report, summary, tags."""

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


def stage_of(paths: Iterable[str]) -> Stage:
    """Return where a chain is whose store holds these objects."""
    count = Counter[str]()
    for path in paths:
        kind, _, rest = path.partition("/")
        if kind == "report" and path.endswith("/manifest.json") and not re.match(r"(evaluation|data-to-model)-", rest):
            kind = "corpus report"
        count[f"{kind} done" if path.endswith("/manifest.json") else f"{kind} begun"] += 1
    if count["evaluation done"] and count["evaluation done"] >= count["checkpoint done"]:
        return Stage.PUBLISHING
    if count["evaluation begun"]:
        return Stage.EVALUATION
    if count["run done"]:
        return Stage.BEFORE_EVALUATION
    if count["checkpoint done"]:
        return Stage.TRAINING
    if count["corpus report done"]:
        return Stage.BEFORE_TRAINING
    return Stage.CURATION if count else Stage.START


class Watch:
    """Looks at a chain's store and processes, again and again; says what happened meanwhile by stage."""

    def __init__(self, setting: Setting, uri: str) -> None:
        self._setting, self.uri = setting, uri
        self.stage = Stage.START
        self.began: dict[Stage, float] = {}
        """When each stage was first seen; time.monotonic()."""
        self.faults: dict[str, Counter[str]] = {}
        """Requests through the proxy and their faults, by stage."""
        self.most_trainers = 0
        """Jobs whose ranks ran at one time, at most."""
        self.paths: list[str] = []
        self._counted = self._count()

    def look(self) -> Stage:
        """Look once; returns the stage."""
        self.paths = listed(self.uri)
        self.stage = stage_of(self.paths)
        self.began.setdefault(self.stage, time.monotonic())
        now = self._count()
        self.faults.setdefault(str(self.stage), Counter()).update(now - self._counted)
        self._counted = now
        jobs = {
            processes.environment_of(one.record.pid).get(MARK) for one in alive(self._setting) if one.kind == "rank"
        }
        self.most_trainers = max(self.most_trainers, len(jobs))
        return self.stage

    def finished(self, kind: str) -> int:
        """Return how many artifacts of a kind were finished when last looked."""
        return sum(path.startswith(f"{kind}/") and path.endswith("/manifest.json") for path in self.paths)

    def spans(self, end: float) -> dict[Stage, float]:
        """Return how many seconds each stage took, of a chain that ended at `end`."""
        order = sorted(self.began)
        ends = [*(self.began[one] for one in order[1:]), end]
        return {one: until - self.began[one] for one, until in zip(order, ends, strict=True)}

    def _count(self) -> Counter[str]:
        proxy = self._setting.proxy
        return Counter({"requests": sum(proxy.requests.values())} | {str(f): n for f, n in proxy.counts.items()})


@dataclass(frozen=True, kw_only=True)
class Alive:
    """A process that works on a chain."""

    record: ProcessRecord
    kind: str
    """`flow`: `olmo run`; `stage`: of a deployment's flow run; `worker`: of build-dolma's pool; `launcher`, `torchrun`, `rank`: of a
    training job; `beside`: anything else, as the pool's fork server.
    """
    flow_run: str
    """Id of the flow run that the worker has started it for, or ""."""


_KINDS = (
    ("torchrun", "torch.distributed.run"),  # the ranks' module stands in its command line
    ("rank", "olmo_core.train.rank"),
    ("launcher", "olmo_core.train.launch"),
    ("flow", "flows.command.main run"),
)


def alive(setting: Setting) -> list[Alive]:
    """Return the processes of the setting's chains that run, without its services."""
    found = []
    for record in processes.carrying(OLMO_HOME=str(setting.services.home)):
        command = _command(record.pid)
        if record.pid in setting.own or not command:
            continue
        environment = processes.environment_of(record.pid)
        flow_run = environment.get("PREFECT__FLOW_RUN_ID", "")
        kind = next((kind for kind, words in _KINDS if words in command), "")
        if "multiprocessing" in command:
            kind = "worker" if "forkserver" in _command(_parent(record.pid)) else "beside"
        elif not kind:
            kind = "stage" if flow_run and "prefect" in command else "beside"
        found.append(Alive(record=record, kind=kind, flow_run=flow_run))
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0
