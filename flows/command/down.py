"""`olmo down`: end what `olmo up` started, and nothing else."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterable, Iterator

from flows.command import password, services
from flows.command.project import Project, State, find_project
from flows.command.server_api import ServerApi, ServerError
from flows.command.usage import between
from olmo_core import processes
from olmo_core.processes import ProcessRecord

DESCRIPTION = """\
End, in this order: the worker's flow runs, the worker, the server. Each is asked to end, asked again, and killed when
it takes longer than --grace. Only processes that `olmo up` started are touched. Runs that were under way are reported
as Crashed, so that `prefect flow-run retry` continues them after the next `olmo up`.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--grace",
        type=between(0, float("inf")),
        default=10,
        metavar="SECONDS",
        help="time to end before being killed (default: 10)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; exit code 0 when nothing of it runs any more."""
    project = find_project()
    with project.lock():
        state = project.read_state()
        lines = _end_workers(project, state, arguments.grace)
        lines += _end("server", [state.server], arguments.grace)
        server = state.server if processes.is_running(state.server) else None
        workers = {pool: worker for pool, worker in state.workers.items() if processes.is_running(worker)}
        if (server, workers) != (state.server, state.workers):  # else OLMO_PORT would be on record before any `olmo up`
            state.server, state.workers = server, workers
            project.write_state(state)
    print("\n".join(lines) or "nothing was running")
    return 1 if any(line.endswith(processes.STILL_RUNNING) for line in lines) else 0


def _end_workers(project: Project, state: State, grace: float) -> list[str]:
    """End flow runs and workers while the server is still there to be told what became of the runs."""
    lines = []
    # A server that hangs may not keep the rest from being ended.
    own = ServerApi(state.port, host=state.host, password=password.stored(project), patience=20)
    api = own if processes.is_running(state.server) else None
    with contextlib.ExitStack() as pauses:
        # A worker that is told to end kills its runs at once (Prefect issue 22528). So the runs are asked first, and
        # meanwhile the worker must not take the next ones from the queue.
        for pool in state.workers:
            if api is not None:
                pauses.enter_context(_paused(api, pool))
        lines += _end("flow run", _flow_runs(project), grace)
        for pool, worker in state.workers.items():
            lines += _end(f"worker {pool}", [worker], grace)
        # Children that outlived their flow run, a service that has lost its record.
        marked = processes.carrying(**{processes.MARK: str(project.home)})
        lines += _end("leftover", [process for process in marked if process != state.server], grace)
        if api is not None:
            try:
                for pool in state.workers:
                    runs = services.crash_abandoned_runs(api, pool)
                    lines += [
                        f"run {name}: reported as Crashed; `prefect flow-run retry {id_}` continues it after `olmo up`"
                        for name, id_ in runs
                    ]
            except ServerError as error:
                lines.append(f"runs could not be reported as Crashed: {error}")
    return lines


@contextlib.contextmanager
def _paused(api: ServerApi, pool: str) -> Iterator[None]:
    """Keep a work pool paused meanwhile; nothing happens if it is already, or if the server does not answer."""
    try:
        pausing = not api.request("GET", f"/work_pools/{pool}")["is_paused"]
        if pausing:
            api.request("PATCH", f"/work_pools/{pool}", {"is_paused": True})
    except ServerError:
        pausing = False
    try:
        yield
    finally:
        if pausing:
            with contextlib.suppress(ServerError):
                api.request("PATCH", f"/work_pools/{pool}", {"is_paused": False})


def _flow_runs(project: Project) -> list[ProcessRecord]:
    """The main process of each flow run; its children follow it, or are ended as leftovers."""
    mark = {processes.MARK: str(project.home), "PREFECT__FLOW_RUN_ID": None}
    return [process for process in processes.carrying(**mark) if os.getsid(process.pid) == process.pid]


def _end(what: str, unwanted: Iterable[ProcessRecord | None], grace: float) -> list[str]:
    """End processes and say of each what it took."""
    outcome = processes.end([process for process in unwanted if process is not None], grace=grace)
    return [f"{what} (process {process.pid}): {word}" for process, word in outcome.items()]
