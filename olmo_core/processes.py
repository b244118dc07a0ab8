"""Processes that outlive the command: start them detached, recognise them later, end them and nothing else.

A process number alone says little: numbers are reused. A process is recognised by its number and the moment it
started. What a worker starts in turn (flow runs, and their own children) is recognised by a variable in its
environment, which survives the worker itself (on Linux only: elsewhere environments cannot be read, and flow runs
that outlive their worker are left to the user).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MARK = "OLMO_SERVICES"
"""Environment variable of everything `olmo up` starts; its value is the state folder."""

LOG_LIMIT = 10_000_000
"""Bytes of a log from which on a restart begins a new one."""

STILL_RUNNING = "still running"
"""What `end` says of a process that even SIGKILL did not remove (stuck in the kernel, another user's)."""

_PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class ProcessRecord:
    """One process that was started here; `started` tells it from a later process with the same number."""

    pid: int
    """Process number, also the number of its session and process group."""
    started: str
    """What `processes.started` gave for it right after the start."""


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


def record(pid: int) -> ProcessRecord | None:
    """The record of a running process, None if it is gone."""
    since = started(pid)
    return None if since is None else ProcessRecord(pid=pid, started=since)


def is_running(record: ProcessRecord | None) -> bool:
    """Whether the very process of a record still runs; False for None and for a reused number."""
    return record is not None and started(record.pid) == record.started


def start_detached(
    command: Sequence[str],
    *,
    log: Path,
    directory: Path,
    environment: Mapping[str, str],
    stdin: int = subprocess.DEVNULL,
) -> int:
    """Start a command in its own session with its output appended to a log; returns its process number.

    A log that has grown beyond LOG_LIMIT is first renamed to `NAME.log.1`. `stdin`: the descriptor that it reads.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_name(f"{log.name}.1"))
    in_main_thread = threading.current_thread() is threading.main_thread()
    with open(log, "ab") as output, _interrupts_heeded() if in_main_thread else contextlib.nullcontext():
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=dict(environment),
            start_new_session=True,
            preexec_fn=None if in_main_thread else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    return process.pid


@contextlib.contextmanager
def _interrupts_heeded() -> Iterator[None]:
    """Have what is started meanwhile heed SIGINT, though this process may ignore it.

    A shell starts its background jobs so, and Prefect's worker, which turns SIGTERM into SIGINT, would then ignore both. After an
    exec a handler, and be it one that does nothing, is the default again. By `preexec_fn` Python would run its hooks around a
    fork: what the handler of a signal raises amid them (KeyboardInterrupt) is dropped, and logging's lock is never let go.
    In another thread than the main one there are no handlers.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def environment_of(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty where it may not be read (another user's, not on Linux)."""
    folder = _PROC.joinpath(str(pid))
    try:
        raw = folder.joinpath("environ").read_bytes()
        # While a process becomes another program (exec), it has neither environment nor words for a moment, longer where
        # processors are rare; the kernel's threads and what has ended have no program either, and never an environment.
        with_words = 0  # the words come just before the environment
        for _ in range(100):
            if raw or with_words == 3:
                break
            folder.joinpath("exe").readlink()
            time.sleep(0.002)
            with_words += bool(folder.joinpath("cmdline").read_bytes())
            raw = folder.joinpath("environ").read_bytes()
    except OSError:
        return {}
    pairs = (variable.partition(b"=") for variable in raw.split(b"\0") if variable)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def _environments() -> Iterator[tuple[int, dict[str, str]]]:
    """Number and environment of every other process."""
    for entry in _PROC.iterdir() if _PROC.is_dir() else ():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            yield int(entry.name), environment_of(int(entry.name))


def carrying(**variables: str | None) -> list[ProcessRecord]:
    """The running processes started with these environment variables (None: any value), whoever their parent is."""
    found = (
        record(pid)
        for pid, environment in _environments()
        if all(name in environment and value in (None, environment[name]) for name, value in variables.items())
    )
    return [process for process in found if process is not None]


def values_of(variable: str) -> set[str]:
    """The values that an environment variable has in the running processes."""
    return {found[variable] for _, found in _environments() if variable in found}


def wait(waiting: Iterable[ProcessRecord], seconds: float) -> list[ProcessRecord]:
    """Wait until processes are gone, at most some seconds; returns those that are not."""
    deadline = time.monotonic() + seconds
    left = [process for process in waiting if is_running(process)]
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [process for process in left if is_running(process)]
    return left


def end(unwanted: Iterable[ProcessRecord], *, grace: float) -> dict[ProcessRecord, str]:
    """End processes: SIGTERM, after half of `grace` seconds again, after all of it SIGKILL.

    Prefect's server and worker take the second SIGTERM as the order not to tidy up any longer. A process whose number
    belongs to somebody else by now is left alone. Returns what it took for each process that was running:
    `ended`, `killed` or STILL_RUNNING.
    """
    left = [process for process in unwanted if is_running(process)]
    outcome = dict.fromkeys(left, STILL_RUNNING)
    steps = (
        (signal.SIGTERM, grace / 2, "ended"),
        (signal.SIGTERM, grace / 2, "ended"),
        (signal.SIGKILL, 5.0, "killed"),
    )
    for sent, patience, word in steps:
        for process in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, sent)
        still = wait(left, patience)
        outcome.update((process, word) for process in left if process not in still)
        left = still
    return outcome
