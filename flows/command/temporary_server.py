"""The Prefect server of a run for which none is up: `olmo run` starts it, and it is gone when that is, however it ends.

It is the server of `olmo up` (prefect_server.py) with its dashboard, on a free port of 127.0.0.1; only its history is kept
elsewhere. It holds the read end of a pipe of which nobody but this process has the other end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from flows.command import password, services
from flows.command.following import OVER
from flows.command.prefect_server import UNTIL_EOF
from flows.command.project import HOST, Project, State
from flows.command.server_api import ServerApi, ServerError
from olmo_core import processes

SERVICE = "run-server"
"""Name of its log: `.olmo/run-server.log`."""
STARTUP_SECONDS = 600.0
"""It may take so long on a busy machine; on an idle one it takes about ten."""
GRACE = 20.0
"""Seconds that it has to write down what it was told last, and to end."""


@contextlib.contextmanager
def temporary_server(project: Project, *, patience: float = STARTUP_SECONDS) -> Iterator[State]:
    """Yield where a server answers that is there as long as the context is.

    Its database is in PREFECT_HOME, or where the user's Prefect variables say; its password is that of
    PREFECT_SERVER_API_AUTH_STRING. Raises ServiceError, with the end of its log, when it ends or is not ready in time.
    """
    with held_port() as port, _pipe() as end, contextlib.ExitStack() as at_last:
        state = State(port=port)
        log = project.log(SERVICE)
        print(
            f"no Prefect server is up; one is started for this run, as long as it lasts: {state.ui_url}/runs (log {log})",
            file=sys.stderr,
            flush=True,
        )
        with _one_after_the_other(Path(os.environ["PREFECT_HOME"])):
            command = services.server_command(state)
            record = services.start(
                [*command[:3], UNTIL_EOF, *command[3:]],
                project,
                _environment(project, state),
                service=SERVICE,
                directory=project.home,  # as `olmo up` does
                stdin=end,
            )
            at_last.callback(processes.end, [record], grace=GRACE)
            services.wait_for(
                ServerApi(port, timeout=5, patience=0).is_healthy,  # `wait_for` is patient
                record,
                log=log,
                what="the run's Prefect server",
                deadline=patience,
                too_late="with `olmo up` there is one that need not be waited for",
            )
        yield state


def await_records(state: State, since: datetime) -> None:
    """Return when the server has on record how the tasks of runs ended that began `since` and are over; after GRACE in any case.

    It learns of tasks by events, which it takes one by one: those that wait in its memory when it is told to end are lost.
    """
    api = ServerApi(state.port, password=os.environ.get(password.CLIENT), patience=0)
    over = {"state": {"type": {"any_": list(OVER)}}, "start_time": {"after_": since.isoformat()}}
    under_way = {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}
    deadline = time.monotonic() + GRACE
    with contextlib.suppress(ServerError):  # the run itself is done
        while api.find("task_runs", task_runs=under_way, flow_runs=over) and time.monotonic() < deadline:
            time.sleep(0.1)


@contextlib.contextmanager
def _one_after_the_other(home: Path) -> Iterator[None]:
    """Let servers that share a database start one at a time: of two that find none, one fails to make its tables."""
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "starting", "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _environment(project: Project, state: State) -> dict[str, str]:
    """That of `olmo up`'s server, with the database and password of this process, and not known to `olmo down`."""
    variables = services.environment(project, state)
    del variables[processes.MARK]
    variables["PREFECT_HOME"] = os.environ["PREFECT_HOME"]
    variables |= {
        name: value for name, value in os.environ.items() if name.startswith("PREFECT_") and "DATABASE" in name
    }
    secret = os.environ.get(password.SERVER)
    return variables | ({password.SERVER: secret} if secret else {})


@contextlib.contextmanager
def _pipe() -> Iterator[int]:
    """Yield the read end of a pipe whose other end only this process has, and no child of it."""
    read, write = os.pipe()
    try:
        yield read
    finally:
        os.close(read)
        os.close(write)


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """Yield a port that the system gives to nobody else meanwhile.

    It stays bound, and so is not free, but nobody listens on it: Linux lets a second socket have it then that says
    SO_REUSEADDR too, as the server's does. So who answers there is ours, also of two runs that start at once.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((HOST, 0))
        port = int(held.getsockname()[1])
        if sys.platform != "linux":  # where it would keep the server from it, too
            held.close()
        yield port
