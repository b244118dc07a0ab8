"""A flow run on a few lines: what `prefect deployment run --watch` prints, reduced to stages, each with its numbers.

The whole output goes to a log file. Prefect prints an event a line; those of task runs name a stage and its new state.
What a stage has done it says in the run's log (`tasks/stages.py: summary`), which reaches the server some seconds later.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from flows.command.server_api import ServerApi, ServerError

_EVENT = re.compile(r"prefect\.(?P<kind>task|flow)-run\.(?P<state>[A-Za-z]+) \* (?P<name>\S+)\s*$")
_RUN = re.compile(r"UUID: (?P<id>[0-9a-f-]{36})")
_PLAIN = re.compile(r"^(Flow run (finished|failed|did not|was|is)|└── URL|Created flow run|.*\berror\b)", re.IGNORECASE)
_DONE = {"Completed", "Reused", "Cached"}
_BAD = {"Failed", "Crashed", "Cancelled"}

Logs = Callable[[str], list[str]]
"""Returns the messages that a flow run has logged so far, given its id."""


class Watched:
    """Takes the lines of the command one by one and shows what they come to."""

    def __init__(self, logs: Logs, out: TextIO) -> None:
        self._logs, self._out = logs, out
        self._terminal = out.isatty()
        self._run = ""
        self._stages: set[str] = set()
        self._running: dict[str, None] = {}
        self._finished: list[str] = []
        self._told: set[str] = set()

    def line(self, text: str) -> None:
        """Take one line of the command's output."""
        if found := _RUN.search(text):
            self._run = found["id"]
        event = _EVENT.search(text)
        if event is None:
            if _PLAIN.match(text):
                self._tell(at_end=text.startswith("Flow run"))
                self._show(text.replace("└── ", "").rstrip())
            return
        name, state = event["name"], event["state"]
        if event["kind"] == "flow":
            if state in ("Pending", "Running", *_BAD):
                self._show(f"{name}: {state}")
            return
        if state in ("Pending", "Scheduled"):
            # A task run has its own name only when it runs; before, it is that of the task with a few letters.
            self._stages.add(name.rpartition("-")[0])
            return
        self._stages.add(name)
        if state in _DONE:
            self._running.pop(name, None)
            self._finished.append(name)
        elif state in _BAD:
            self._running.pop(name, None)
            self._show(f"{name}: {state}")
        else:
            self._running[name] = None
        self._tell(at_end=False)

    def end(self) -> None:
        """Tell what has not been told yet."""
        self._tell(at_end=True)
        self._status("")

    def _tell(self, *, at_end: bool) -> None:
        waiting = [name for name in self._finished if name not in self._told]
        messages = self._logs(self._run) if waiting and self._run else []
        for name in waiting:
            said = next((m.partition(": ")[2] for m in messages if m.startswith(f"{name}: ")), "")
            if said or at_end or self._later_ones(name):
                self._told.add(name)
                self._show(f"[{len(self._told):>3} of {len(self._stages)}] {name:<20} {_short(said) or 'done'}")
        self._status(f"      now: {', '.join(self._running)}" if self._running else "")

    def _later_ones(self, name: str) -> bool:
        """Say whether so many stages have ended since that the log of this one will not come any more."""
        return len(self._finished) - self._finished.index(name) > 12

    def _show(self, text: str) -> None:
        print(f"\r\x1b[K{text}" if self._terminal else text, file=self._out, flush=True)

    def _status(self, text: str) -> None:
        if self._terminal:
            print(f"\r\x1b[K{text[:110]}", end="", file=self._out, flush=True)


def _short(said: str) -> str:
    """Leave out the artifact's address: `olmo artifacts ls` shows it."""
    parts = said.split("; ")
    return "; ".join(parts[1:]) if len(parts) > 1 else said.split(" ")[0]


def watch(command: Sequence[str], log: Path, api: ServerApi, out: TextIO = sys.stdout) -> int:
    """Run a command, show its output in short and keep it whole in `log`; returns its exit code."""

    def logs(run_id: str) -> list[str]:
        try:
            found: list[str] = []
            while len(page := api.find("logs", logs={"flow_run_id": {"any_": [run_id]}}, offset=len(found))) > 0:
                found += [str(one["message"]) for one in page]
            return found
        except ServerError:
            return []  # the command itself tells when its server is gone

    watched = Watched(logs, out)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as whole:
        process = subprocess.Popen(
            list(command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        assert process.stdout is not None
        for line in process.stdout:
            whole.write(line)
            whole.flush()
            watched.line(line)
        code = process.wait()
    watched.end()
    return code
