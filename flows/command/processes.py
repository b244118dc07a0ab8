"""Processes that outlive the command: start them detached, recognise them later, end them and nothing else.

A process number alone says little: numbers are reused. A process is recognised by its number and the moment it
started. What a worker starts in turn (flow runs, and their own children) is recognised by a variable in its
environment, which survives the worker itself; where /proc does not show environments (macOS), by descent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from flows.command.project import ProcessRecord

MARK = "OLMO_SERVICES"
"""Environment variable of everything `olmo up` starts; its value is the state folder."""

_PROC = Path("/proc")


def started(pid: int) -> str | None:
    """When a process started, in a form that no other process of that number shares; None if it is not running.

    A zombie (ended, not yet collected by its parent) counts as not running.
    """
    if _PROC.joinpath("self", "stat").exists():
        try:
            # The name in brackets may itself hold brackets and spaces: read what follows the last one.
            fields = _PROC.joinpath(str(pid), "stat").read_text(encoding="utf-8", errors="replace")
            fields = fields.rpartition(")")[2]
            boot = _PROC.joinpath("sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, *rest = fields.split()
        return None if state in "ZX" else f"{boot}:{rest[18]}"
    found = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    return None if len(found) < 2 or found[0].startswith("Z") else found[1].strip()


def is_running(record: ProcessRecord | None) -> bool:
    """Whether the very process of a record still runs; False for None and for a reused number."""
    return record is not None and started(record.pid) == record.started


def start_detached(command: Sequence[str], *, log: Path, directory: Path, environment: Mapping[str, str]) -> int:
    """Start a command in its own session with its output appended to a log; returns its process number."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=dict(environment),
            start_new_session=True,
        )
    return process.pid


def environment_of(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty when it is gone, another user's, or /proc has none."""
    try:
        raw = _PROC.joinpath(str(pid), "environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if entry)
    return {os.fsdecode(key): os.fsdecode(value) for key, _, value in pairs}


def marked(mark: str) -> dict[int, dict[str, str]]:
    """All running processes whose environment has MARK=mark: process number -> environment."""
    found = {}
    for entry in _PROC.iterdir() if _PROC.is_dir() else ():
        if entry.name.isdigit() and (environment := environment_of(int(entry.name))).get(MARK) == mark:
            found[int(entry.name)] = environment
    found.pop(os.getpid(), None)
    return {pid: environment for pid, environment in found.items() if started(pid) is not None}


def descendants(pid: int) -> list[int]:
    """Children, grandchildren and so on of a process, parents first."""
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in listing.splitlines():
        child, parent = (int(number) for number in line.split())
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found.extend(below)
        waiting.extend(below)
    return found


def record(pid: int) -> ProcessRecord | None:
    """The record of a running process, None if it is gone."""
    since = started(pid)
    return None if since is None else ProcessRecord(pid=pid, started=since)


def end(
    records: Iterable[ProcessRecord],
    *,
    grace: float,
    signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL),
) -> dict[int, signal.Signals | None]:
    """End processes: each signal in turn to those still running, `grace` seconds in all before the last one.

    A Prefect worker takes the first SIGTERM as a wish to finish its runs and the second as an order, hence two.
    Returns, for each process that was running, the signal after which it was gone (None: it outlived them all).
    A process whose number belongs to somebody else by now is left alone.
    """
    left = [entry for entry in records if is_running(entry)]
    ended: dict[int, signal.Signals | None] = {entry.pid: None for entry in left}
    pause = grace / max(1, len(signals) - 1)
    for position, sent in enumerate(signals):
        for entry in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(entry.pid, sent)
        deadline = time.monotonic() + (max(pause, 5.0) if position == len(signals) - 1 else pause)
        while left and time.monotonic() < deadline:
            gone = [entry for entry in left if not is_running(entry)]
            ended.update((entry.pid, sent) for entry in gone)
            left = [entry for entry in left if entry not in gone]
            time.sleep(0.05 if left else 0)
        if not left:
            break
    return ended
