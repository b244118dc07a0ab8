"""Runs of the real command in processes of their own: undisturbed, killed at random moments, two at once, retried."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import OlmoError
from tests.endurance.audit import Audit, audit
from tests.endurance.setting import Setting
from tests.flows.conftest import ROOT

PATIENCE = 900
"""Seconds for one run on a busy machine."""


@dataclass(kw_only=True)
class Run:
    """One store, brought to the end by one start of the command or more."""

    store: str
    workers: int
    how: str
    seconds: float = 0.0
    """Wall time of all its starts."""
    kills: list[dict[str, Any]] = field(default_factory=list)
    built: list[int] = field(default_factory=list)
    """Shards that each start of the command has built, as its log says; of killed ones as far as they came."""
    problems: list[str] = field(default_factory=list)
    audit: Audit | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values; of the digests only the number."""
        data = asdict(self)
        if self.audit is not None:
            data["audit"] = {**asdict(self.audit), "digests": len(self.audit.digests)}
        return data


@dataclass(kw_only=True)
class Span:
    """When, after its start, an undisturbed run put its first object, and when it ended; seconds."""

    first: float
    end: float


@dataclass(kw_only=True)
class Started:
    """One start of the command."""

    process: subprocess.Popen[bytes]
    log: Path
    groups: set[int]
    """Where its process group is noted as long as it may run."""

    def said(self) -> str:
        """What it has said so far."""
        return self.log.read_text(errors="replace")

    def ended(self, seconds: float) -> bool:
        """Say whether it ends within so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=seconds)
            self.groups.discard(self.process.pid)
            return True
        return False

    def kill(self) -> None:
        """SIGKILL for the flow's process and all that it has started, at the same moment."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.groups.discard(self.process.pid)


def start(
    setting: Setting,
    store: str,
    uri: str,
    workers: int,
    *,
    extra: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
) -> Started:
    """Start `olmo run FLOW` as the head of a process group; `before` is the beginning of its command line."""
    words = ["run", setting.flow, "--recipe", str(setting.recipe), "--store", uri, "--workers", str(workers), "--json"]
    log = setting.folder / "logs" / f"{time.time_ns()}.log"
    log.parent.mkdir(exist_ok=True)
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "flows.command.main", *words, *setting.words],
            cwd=ROOT,
            env=setting.environment(store) | dict(extra or {}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    setting.groups.add(process.pid)
    return Started(process=process, log=log, groups=setting.groups)


def finish(run: Run, started: Started) -> None:
    """Wait for a run that must succeed; note what it has built."""
    if not started.ended(PATIENCE):
        started.kill()
        run.problems.append(f"not done in {PATIENCE} s: {started.said()[-2000:]}")
    elif started.process.returncode:
        run.problems.append(f"exit code {started.process.returncode}: {started.said()[-2000:]}")
    run.built.append(built_in(started.said()))


def built_in(said: str) -> int:
    """Return the number of shards that a log says were built."""
    return sum(int(number) for number in re.findall(r"(\d+) shards? built", said))


def undisturbed(setting: Setting, store: str, workers: int, name: str, restart: bool = False) -> tuple[Run, Span]:
    """Run once; with `restart` the S3 server is stopped and started on the way."""
    run = Run(store=store, workers=workers, how="restart" if restart else "undisturbed")
    uri, began, clock = setting.uri(store, name), time.monotonic(), time.time()
    started = start(setting, store, uri, workers)
    if restart:
        wait(lambda: started.ended(0) or len(listed(uri)) > 20)
        setting.server.stop_gateway()
        setting.server.start_gateway()
    finish(run, started)
    run.seconds = time.monotonic() - began
    close(run, uri)
    times = [one.modified for one in ArtifactStore(uri).storage.walk("")]
    return run, Span(first=max(0.0, min(times, default=clock) - clock), end=run.seconds)


def killed(setting: Setting, store: str, workers: int, name: str, span: Span, draw: random.Random, most: int) -> Run:
    """Start, kill at a moment drawn over an undisturbed run's time, start again, until it is done or `most` are killed."""
    run = Run(store=store, workers=workers, how="killed")
    uri, began = setting.uri(store, name), time.monotonic()
    while True:
        started = start(setting, store, uri, workers)
        moment = draw.uniform(span.first, span.end)
        if len(run.kills) == most or started.ended(moment):
            finish(run, started)
            break
        started.kill()
        run.built.append(built_in(started.said()))
        run.kills.append({"after": round(moment, 2), **state(uri)})
    run.seconds = time.monotonic() - began
    close(run, uri)
    return run


def state(uri: str) -> dict[str, Any]:
    """How far a killed run had come: finished artifacts, and the stages that it was in the middle of."""
    found = listed(uri)
    finished = {p.rsplit("/", 1)[0] for p in found if p.endswith("/manifest.json")}
    begun = {"/".join(p.split("/")[:3]) for p in found if "/attempt-" in p}
    return {"finished": len(finished), "amid": sorted(a.rsplit("/", 1)[0] for a in begun - finished)}


def two_at_once(setting: Setting, store: str, workers: int, name: str) -> Run:
    """Start the same run twice at the same time; both must succeed."""
    run = Run(store=store, workers=workers, how="two at once")
    uri, began = setting.uri(store, name), time.monotonic()
    both = [start(setting, store, uri, workers) for _ in range(2)]
    for started in both:
        finish(run, started)
    run.seconds = time.monotonic() - began
    close(run, uri)
    return run


def deployed(setting: Setting, parameters: Sequence[str]) -> str:
    """Start a run of the deployment; returns its id. Raises RuntimeError with what was said when it was not started."""
    said = setting.services.prefect("deployment", "run", setting.flow, *parameters).stdout
    ids = re.findall(r"UUID: ([0-9a-f-]{36})", said)
    if not ids:
        raise RuntimeError(f"the deployment was not started: {said[-1000:]}")
    return str(ids[0])


def retried(setting: Setting, workers: int, name: str, span: Span, draw: random.Random) -> Run:
    """Kill a run of the deployment by SIGKILL, then continue it with `prefect flow-run retry`. Through the proxy."""
    from tests.flows.test_build_dolma import flow_process  # here: it is a test module

    run = Run(store="s3-faults", workers=workers, how="flow-run retry")
    uri, began = setting.uri("s3-faults", name), time.monotonic()
    resources = json.dumps({"store": uri, "workers": workers})
    parameters = ["-p", f"recipe={json.dumps(str(setting.recipe))}", "-p", f"resources={resources}"]
    run_id = deployed(setting, parameters)

    def found() -> int | None:
        try:
            return flow_process(run_id)
        except LookupError:
            return None

    pid = wait(found)
    moment = draw.uniform(span.first, span.end)
    deadline = time.monotonic() + moment
    wait(lambda: time.monotonic() > deadline)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        run.kills.append({"after": round(moment, 2), **state(uri)})
    kind = wait(lambda: (k := _state(setting, run_id)) in ("Crashed", "Completed", "Failed") and k)
    if kind == "Crashed":
        # The worker notices the end of the process later than its runner (see tests/flows/test_build_dolma.py).
        noticed = time.monotonic() + 25
        wait(lambda: time.monotonic() > noticed)
        setting.services.prefect("flow-run", "retry", run_id)
        kind = wait(lambda: (k := _state(setting, run_id)) in ("Completed", "Failed") and k)
    if kind != "Completed":
        run.problems.append(f"the flow run {run_id} is {kind}")
    run.seconds = time.monotonic() - began
    close(run, uri)
    return run


def close(run: Run, uri: str) -> None:
    """Look at what a run has left in its store."""
    try:
        run.audit = audit(uri)
        run.problems += run.audit.problems
    except OlmoError as error:
        run.problems.append(f"audit: {error}")


def listed(uri: str) -> list[str]:
    return [one.path for one in ArtifactStore(uri).storage.walk("")]


def _state(setting: Setting, run_id: str) -> str:
    return str(setting.services.run(run_id)["state_name"])


def wait(question: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (answer := question()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE} s")
        time.sleep(0.1)
    return answer
