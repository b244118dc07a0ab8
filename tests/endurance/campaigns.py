"""Runs of the whole chain: undisturbed, with the server started anew on the way, and killed at random moments of every stage."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from olmo_core import assets, processes
from olmo_core.artifacts import gc
from olmo_core.artifacts.reach import Grace
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import OlmoError
from tasks.launch.torchrun import MARK
from tests.endurance import runs
from tests.endurance.audit import audit
from tests.endurance.progress import Alive, Stage, Watch, alive
from tests.endurance.runs import Run, Started
from tests.endurance.same import comparable, unplanned_in
from tests.endurance.setting import SAVE_EVERY, Setting

WORKERS = 2
ELSEWHERE = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere; exec "$@"', "elsewhere")
"""Beginning of a command line whose process takes itself to be on another machine: it cannot ask for this one's jobs."""
_GONE = 40.0
"""Seconds after a run's end in which everything that it has started must be gone."""
_NOTICED = 25.0
"""Seconds in which a worker has noticed the end of a flow run's process (see tests/flows/test_build_dolma.py)."""
PAUSE = 0.3
"""Seconds between two looks."""
_FAILURES = 4
"""Starts beyond one for each kill after which a run is given up."""
LONGEST = 2 * runs.PATIENCE
"""Seconds for a run with all its kills."""
FLOW, WORKER, ALL, ORPHANED, CHILD, PARENT = (
    "flow", "worker", "everything", "flow, then another host", "child", "parent",
)  # fmt: skip
"""Victims, beside the parts of a training job: `launcher`, `torchrun`, `rank`."""

KILLED, RETRIED = "the same command", "flow-run retry"
"""How a run goes on after a kill."""


@dataclass(frozen=True, kw_only=True)
class Aim:
    """A kill that is meant."""

    stage: Stage
    victim: str


@dataclass(kw_only=True)
class ChainRun(Run):
    """A run of the whole chain."""

    compared: dict[str, str] = field(default_factory=dict)
    """What must be the same in all runs."""
    unplanned: int = 0
    """Checkpoints that are there only because a trainer was told to end, as ranks are whose launcher was killed."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds of each stage, kills and retries included."""
    faults: dict[str, dict[str, int]] = field(default_factory=dict)
    """Requests through the proxy and faults, by stage."""
    starts: int = 0
    """Starts of the command, or tries of the flow run."""
    trainers: dict[str, int] = field(default_factory=dict)
    """`jobs` on record, `epochs` taken, trainers at one time at `most`."""
    collected: int = 0
    """Objects that a garbage collection without grace took."""
    processes_left: int = 0

    def to_json(self) -> dict[str, Any]:
        """JSON values; of what was compared only the number."""
        return {**super().to_json(), "compared": len(self.compared)}


def undisturbed(
    setting: Setting, store: str, name: str, *, restarts: bool = False
) -> tuple[ChainRun, dict[Stage, float]]:
    """Run once; with `restarts` the S3 server is stopped and started amid training and amid evaluation. Returns the stages' seconds, too."""
    run = ChainRun(store=store, workers=WORKERS, how="two restarts" if restarts else "undisturbed", starts=1)
    watch, began = Watch(setting, setting.uri(store, name)), time.monotonic()
    started, due = _start(setting, store, name), [("checkpoint", 2), ("evaluation", 2)] if restarts else []
    while not started.ended(PAUSE) and time.monotonic() - began < runs.PATIENCE:
        watch.look()
        if due and watch.finished(due[0][0]) >= due[0][1]:
            del due[0]
            setting.server.stop_gateway()
            setting.server.start_gateway()
    runs.finish(run, started)
    if due:
        run.problems.append("it ended before the server was started anew twice")
    _close(setting, run, watch, began)
    return run, watch.spans(time.monotonic())


def killed(setting: Setting, name: str, aims: list[Aim], spans: dict[Stage, float], draw: random.Random) -> ChainRun:
    """Start `olmo run`, kill as aimed, each at a moment drawn over its stage's time, start again, until the chain is done."""
    run = ChainRun(store="s3-faults", workers=WORKERS, how=KILLED, starts=1)
    watch, began = Watch(setting, setting.uri("s3-faults", name)), time.monotonic()
    started, due = _start(setting, "s3-faults", name), _Due(aims, spans, draw)
    while True:
        stage = watch.look()
        if started.ended(PAUSE):
            if not started.process.returncode or run.starts > len(run.kills) + _FAILURES:
                break
            if not run.kills or run.kills[-1].get("failed", False):
                run.problems.append(f"it failed, and nothing was killed: {started.said()[-1500:]}")
            else:
                run.kills[-1]["failed"] = True  # the victim took it along: that is what a retry is for
            run.starts += 1
            started = _start(setting, "s3-faults", name)
        elif time.monotonic() - began > LONGEST:
            break
        elif (aim := due.now(stage)) is not None:
            victim = _kill_one(setting, aim.victim, started, draw)
            run.kills.append({"stage": str(stage), "victim": victim, **runs.state(watch.uri)})
            if victim in (FLOW, ALL, ORPHANED):
                run.starts += 1
                started = _start(setting, "s3-faults", name, ELSEWHERE if victim == ORPHANED else ())
            elif victim != WORKER:
                _settle(setting, started)
    runs.finish(run, started)
    _close(setting, run, watch, began)
    return run


def retried(setting: Setting, name: str, aims: list[Aim], spans: dict[Stage, float], draw: random.Random) -> ChainRun:
    """Start a run of the deployment, kill as aimed, go on each time by `prefect flow-run retry` of the parent, until it is done."""
    run = ChainRun(store="s3-faults", workers=WORKERS, how=RETRIED, starts=1)
    watch, began = Watch(setting, setting.uri("s3-faults", name)), time.monotonic()
    trainer = {"device": "cpu", "save_every": SAVE_EVERY}
    scoring = {"device": "cpu", "scores": str(_cache(setting, name).parent / "scores")}
    training = {"threads": 1, "trainer": trainer}
    resources = {"store": watch.uri, "workers": WORKERS, "training": training, "scoring": scoring}
    parent = runs.deployed(setting, ["-p", f"recipe={setting.recipe}", "-p", f"resources={json.dumps(resources)}"])
    due, ending = _Due(aims, spans, draw), False
    while (state := _state(setting, parent)) != "Completed" and time.monotonic() - began < LONGEST:
        stage = watch.look()
        if state in ("Failed", "Crashed"):
            if not ending:
                said = setting.services.run(parent)["state"].get("message")
                run.problems.append(f"the flow run {parent} is {state}, and nothing was killed: {said}")
            if run.starts > len(run.kills) + _FAILURES:
                break
            _retry(setting, parent, state, watch)
            run.starts, ending = run.starts + 1, False
        elif not ending and (aim := due.now(stage)) is not None:
            if victim := _kill_run(setting, aim.victim, parent, draw):
                run.kills.append({"stage": str(stage), "victim": victim, **runs.state(watch.uri)})
                ending = victim != WORKER  # a build goes on without one
            else:
                due.again()
        time.sleep(PAUSE)
    if state != "Completed":
        run.problems.append(f"the flow run {parent} is {state}: {setting.services.run(parent)['state'].get('message')}")
    _close(setting, run, watch, began)
    return run


class _Due:
    """When the next kill is due: so long after its stage was seen, or when that is over."""

    def __init__(self, aims: list[Aim], spans: dict[Stage, float], draw: random.Random) -> None:
        self._left = [(aim, draw.uniform(0.0, spans[aim.stage])) for aim in aims]
        self._at: float | None = None
        self._last: Aim | None = None

    def now(self, stage: Stage) -> Aim | None:
        """Return the kill that is due in this stage, once."""
        if not self._left or stage < self._left[0][0].stage:
            return None
        aim, after = self._left[0]
        if self._at is None:
            self._at = time.monotonic() + after
        if time.monotonic() < self._at and stage == aim.stage:
            return None
        self._left, self._at, self._last = self._left[1:], None, aim
        return aim

    def again(self) -> None:
        """There was nobody to kill yet: the same is due at once."""
        if self._last is not None:
            self._left = [(self._last, 0.0), *self._left]


def _retry(setting: Setting, parent: str, state: str, watch: Watch) -> None:
    if state == "Crashed":
        noticed = time.monotonic() + _NOTICED
        runs.wait(lambda: watch.look() is not None and time.monotonic() > noticed)
    tries = int(setting.services.run(parent)["run_count"])
    setting.services.prefect("flow-run", "retry", parent)
    runs.wait(lambda: watch.look() is not None and int(setting.services.run(parent)["run_count"]) > tries)


def _start(setting: Setting, store: str, name: str, before: tuple[str, ...] = ()) -> Started:
    extra = {"OLMO_ASSETS": str(_cache(setting, name))}
    return runs.start(setting, store, setting.uri(store, name), WORKERS, extra=extra, before=before)


def _cache(setting: Setting, name: str) -> Any:
    """A folder for assets, those of this machine, with one for scores beside it that is of this store alone."""
    folder = setting.folder / "caches" / name
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (folder / "assets").symlink_to(assets.cache_folder().absolute())
    return folder / "assets"


def _kill_one(setting: Setting, wanted: str, started: Started, draw: random.Random) -> str:
    """Kill a victim of a kind, of all that runs for one `olmo run`; the flow's process where there is none. Returns whom."""
    there = alive(setting)
    if wanted == ALL:
        _kill(there)
        started.kill()
        return ALL
    if some := [one for one in there if one.kind == wanted and wanted != FLOW]:
        _kill([draw.choice(some)])
        return wanted
    if not [one for one in there if one.kind == "rank"] and wanted == ORPHANED:
        wanted = FLOW
    # The head alone: what it has started finds out by itself, or goes on.
    with contextlib.suppress(ProcessLookupError):
        os.kill(started.process.pid, signal.SIGKILL)
    started.process.wait()
    started.groups.discard(started.process.pid)
    return wanted if wanted == ORPHANED else FLOW


def _kill_run(setting: Setting, wanted: str, parent: str, draw: random.Random) -> str:
    """Kill a process of a deployment's run; where there is none of that kind the parent's; nothing, and "", if that is not there yet."""
    there = alive(setting)
    ours = [one for one in there if one.kind == "stage"]
    some = [one for one in there if one.kind == wanted]
    if wanted == CHILD:
        some = [one for one in ours if one.flow_run != parent]
    if not some:
        wanted, some = PARENT, [one for one in ours if one.flow_run == parent]
    if not some:
        return ""
    chosen = draw.choice(some)
    _kill([chosen])
    if wanted != CHILD:
        return wanted
    flow = setting.services.run(chosen.flow_run)["flow_id"]
    return f"child {setting.services.api.request('GET', f'/flows/{flow}')['name']}"


def _kill(some: list[Alive]) -> None:
    for one in some:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.record.pid, signal.SIGKILL)


def _settle(setting: Setting, started: Started) -> None:
    """Wait until a training job of which a part was killed is over: the flow fails of it, or, where it had not attached yet, starts another."""
    old = _jobs(setting)
    runs.wait(lambda: started.ended(PAUSE) or not old & _jobs(setting))


def _jobs(setting: Setting) -> set[str]:
    return {processes.environment_of(one.record.pid).get(MARK, "") for one in alive(setting)} - {""}


def _state(setting: Setting, run_id: str) -> str:
    return str(setting.services.run(run_id)["state_name"])


def _close(setting: Setting, run: ChainRun, watch: Watch, began: float) -> None:
    """Look at what a run has left: processes, store, and what a garbage collection does not take."""
    end = time.monotonic()
    run.seconds = end - began
    watch.look()
    run.stages = {str(stage): round(seconds, 1) for stage, seconds in watch.spans(end).items()}
    run.faults = {stage: dict(count) for stage, count in watch.faults.items()}
    while (left := alive(setting)) and time.monotonic() - end < _GONE:
        time.sleep(0.5)
    run.processes_left = len(left)
    if left:
        run.problems.append(f"{len(left)} processes are left: {', '.join(one.kind for one in left)}")
    told = Counter(path.split("/")[3] for path in watch.paths if path.startswith("run/") and path.count("/") == 4)
    run.trainers = {"jobs": told["jobs"], "epochs": told["epochs"], "most": watch.most_trainers}
    if watch.most_trainers > 1 and not any(kill["victim"] == ORPHANED for kill in run.kills):
        run.problems.append(f"{watch.most_trainers} jobs trained at one time")
    runs.close(run, watch.uri)
    try:
        store = ArtifactStore(watch.uri)
        found = gc.collect(store, grace=Grace(attempt_seconds=0.0), delete=True, now=time.time() + 60.0)
        run.collected = sum(one.objects for one in found.waste)
        after = audit(watch.uri, read=False)
        run.compared, run.unplanned = comparable(store, after.digests), len(unplanned_in(store.finished("checkpoint")))
        run.problems += after.problems
        if run.audit is None or after.digests != run.audit.digests:
            run.problems.append("a garbage collection took more than what nobody refers to")
        if after.orphans:
            run.problems.append(f"{after.orphans} objects of attempts are left that no manifest lists")
    except OlmoError as error:
        run.problems.append(f"garbage collection: {error}")
