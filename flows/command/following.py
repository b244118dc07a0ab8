"""A flow run and the runs it starts, on a few lines: what `prefect deployment run --watch` shows of one run, over all of them.

Prefect's own command tells of the run it has started only, not of its children. This one asks the server.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any, TextIO

from flows.command.server_api import ServerApi, ServerError

OVER = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PAUSE = 1.0
"""Seconds between two looks."""
PATIENCE = 300.0
"""Seconds for which a server that is slow is asked again: what it tells of takes minutes or days."""
_SILENCE = 60.0
"""Seconds without any server that are borne: one that is started again is back by then."""
_QUIET = 10.0
"""Seconds between two lines about a training run, at least, where the output is no terminal."""
_STEP = re.compile(r"^(step [\d,]+ of [\d,]+|before the first step: )")
_ERROR = re.compile(r".*(\b[A-Z]\w*(?:Error|Exception)\b)(\W.*)")
_ALIKE = 120
_TELLING = 20
"""Characters by which two reports are of one error, at most; fewer than the second are not enough."""
_OVERLAP = 50
"""Messages of a run that are asked for again: the server orders them by time, and one that comes late is among those seen before.
One that is earlier than so many of them is not shown."""
_LAST = 6
"""Looks at a run that is over, at most: what it logged last and the ends of its tasks reach the server up to seconds after its own
end, as Prefect sends them apart."""


class Followed:
    """One flow run with all below it; `look` asks the server and shows what is new."""

    def __init__(
        self, api: ServerApi, run_id: str, out: TextIO = sys.stdout, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api, self.run_id, self._out, self._clock = api, run_id, out, clock
        self._terminal = out.isatty()
        self._states: dict[str, str] = {}
        self._origins: dict[str, str] = {}
        self._told: set[str] = set()
        self._said: dict[str, str] = {}
        self._seen: dict[str, int] = {}
        self._quiet = 0.0
        self._errors: set[str] = set()
        self.settled = False
        """Whether the last look found all there is to tell of a run that is over: its last log message, and the end of each task."""
        self._logged_all = False

    def look(self) -> dict[str, Any]:
        """Show what is new since the last look; returns the run as the server has it now."""
        runs = self._family()
        self._origins |= self._api.origins(run for run in runs if run["id"] not in self._origins)
        for run in runs:
            self._show_state(run)
        names = {str(run["id"]): str(run["name"]) for run in runs}
        for run_id in names:
            self._read_log(run_id)
        told = self._show_tasks(list(names))
        self.settled = self._logged_all and told
        return runs[0]

    def _family(self) -> list[dict[str, Any]]:
        found = [self._api.request("GET", f"/flow_runs/{self.run_id}")]
        known, parents = {self.run_id}, [self.run_id]
        while parents:
            children = self._api.find("flow_runs", flow_runs={"parent_flow_run_id": {"any_": parents}})
            new = sorted((one for one in children if one["id"] not in known), key=lambda one: str(one["created"]))
            found += new
            parents = [one["id"] for one in new]
            known.update(parents)
        return found

    def _show_state(self, run: dict[str, Any]) -> None:
        name, state = f"{self._origins[run['id']]} {run['name']}", str(run["state_name"])
        if self._states.get(run["id"]) != state:
            self._states[run["id"]] = state
            if state not in ("Scheduled", "Pending"):
                self._show(f"{name}: {state}")

    def _read_log(self, run_id: str) -> None:
        """Note what the stages say of themselves; show how far training is."""
        since = max(0, self._seen.get(run_id, 0) - _OVERLAP)
        found = self._api.find("logs", logs={"flow_run_id": {"any_": [run_id]}}, offset=since)
        self._seen[run_id] = since + len(found)
        if run_id == self.run_id and (of_itself := [one for one in found if not one["task_run_id"]]):
            self._logged_all = str(of_itself[-1]["message"]).startswith("Finished in state")
        for one in found:
            if one["id"] in self._told:
                continue
            self._told.add(one["id"])
            message = str(one["message"])
            label, colon, said = message.partition(": ")
            if _STEP.match(message):
                self._progress(message)
            elif one["level"] >= 30 and "Retry" not in message:
                if not self.said(message):
                    self._show(f"      {message.splitlines()[0][:300]}")
            elif colon and "/" in label and " " not in label:
                self._said[label] = said

    def said(self, message: str) -> bool:
        """Whether a message reports an error that was said before; from now on it was.

        Prefect logs one error up to four times, in other words: of the task, of its run, of the engine, of the run above.
        """
        report, error = _error_in(message)
        if not error:
            return False
        known = error in self._errors or any(one in report for one in self._errors)
        self._errors.add(error)
        return known

    def _progress(self, message: str) -> None:
        now = self._clock()
        if self._terminal:
            print(f"\r\x1b[K      {message[:110]}", end="", file=self._out, flush=True)
        elif now - self._quiet >= _QUIET:
            self._quiet = now
            self._show(f"      {message}")

    def _show_tasks(self, runs: list[str]) -> bool:
        """Show the tasks that have ended since the last look; returns whether all that ever began have ended and were shown."""
        tasks = self._api.find("task_runs", flow_runs={"id": {"any_": runs}})
        done = [one for one in tasks if one["state_type"] in OVER and one["id"] not in self._told]
        for one in sorted(done, key=lambda task: str(task["end_time"])):
            name, state = str(one["name"]), str(one["state_name"])
            if "/" not in name:
                self._told.add(one["id"])  # of a child run: its own lines tell more
                continue
            said = self._said.get(name, "")
            if not said and state in ("Completed", "Reused") and not self._late(one):
                continue  # its log is on the way
            self._told.add(one["id"])
            text = _short(said) if state in ("Completed", "Reused") else state
            self._show(f"      {name:<22} {text or state}")
        return all(one["id"] in self._told or one["state_type"] == "PENDING" for one in tasks)

    def _late(self, task: dict[str, Any]) -> bool:
        """Say whether the log of a task that is done will not come any more: three looks later."""
        key = f"late {task['id']}"
        self._seen[key] = self._seen.get(key, 0) + 1
        return self._seen[key] > 3

    def _show(self, text: str) -> None:
        print(f"\r\x1b[K{text}" if self._terminal else text, file=self._out, flush=True)


def _error_in(message: str) -> tuple[str, str]:
    """The words of a message that reports an error, and those that are in every report of that error; "" where it reports none.

    The latter are the beginning of what the error says. Where that is short it is its class, too, and a full stop, which no report
    has: only the very same is known again (`TimeoutError()` says nothing of the next TimeoutError). Of several errors that a
    message names it is the last: the run above says `JobError: ... ended as Failed: RecipeError: ...`.
    """
    lines = message.splitlines() or [""]
    for line in (lines[0], lines[-1]):
        if found := _ERROR.match(line):
            said = _words(found[2].partition("\\n")[0])  # of a repr
            return _words(line), said[:_ALIKE].strip() if len(said) >= _TELLING else f"{_words(found[1] + found[2])}."
    return "", ""


def _words(text: str) -> str:
    return re.sub(r"\W+", " ", text.replace("\\n", " ").replace("\\", "")).strip()


def _short(said: str) -> str:
    """Leave out the artifact's address: `olmo artifacts ls` shows it."""
    parts = said.split("; ")
    return "; ".join(parts[1:]) if len(parts) > 1 else said.split(" ")[0]


def follow(api: ServerApi, run_id: str, out: TextIO = sys.stdout) -> dict[str, Any]:
    """Show a run until it is over; returns it, with `said`: whether its error was shown. Raises ServerError when no server is there for a minute, or the client's patience ends."""
    followed, heard = Followed(api, run_id, out), time.monotonic()
    while True:
        try:
            run = followed.look()
            heard = time.monotonic()
        except ServerError:
            if time.monotonic() - heard > _SILENCE:
                raise
            run = {}
        if run.get("state_type") in OVER:
            killed = run["state_type"] in ("CRASHED", "CANCELLED")  # nothing more comes of such a run
            with contextlib.suppress(ServerError):  # how it ended is known, also where the server is gone by now
                for _ in range(1 if killed else _LAST):
                    followed.look()
                    if followed.settled:
                        break
                    time.sleep(PAUSE)
            return run | {"said": followed.said(str((run.get("state") or {}).get("message") or ""))}
        time.sleep(PAUSE)


def start(api: ServerApi, deployment: str, parameters: dict[str, Any]) -> str:
    """Start a deployment (`flow/name`) as `prefect deployment run` does; returns the flow run's id."""
    known = api.deployments()[deployment]
    made = api.request(
        "POST",
        f"/deployments/{known['id']}/create_flow_run",
        {"parameters": parameters, "state": {"type": "SCHEDULED"}, "idempotency_key": str(uuid.uuid4())},
        repeatable=True,
    )
    return str(made["id"])
