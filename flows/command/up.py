"""`olmo up`: server, work pools, deployments and worker, each made only where it is missing."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from flows.command import automations, profile, services
from flows.command.project import Project, State, find_project, ui_url
from flows.command.server_api import ServerApi
from flows.command.usage import between
from olmo_core import processes
from olmo_core.errors import OlmoError
from olmo_core.processes import ProcessRecord

DESCRIPTION = """\
Start what is missing of: the Prefect server (on this machine only), the work pools, the deployments of prefect.yaml,
a worker for each pool (`cpu`, `gpu`), the Prefect profile `olmo`. Run it again after changing flows or prefect.yaml; what runs
already is left running. `olmo down` ends it all. State, logs and database are in .olmo/ (or OLMO_HOME).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--port", type=_port, help="port of the server (default: OLMO_PORT, the last one used, 4200)")
    parser.add_argument(
        "--limit", type=_limit, default=6, metavar="N", help="flow runs of pool cpu at once (default: %(default)s)"
    )
    parser.add_argument(
        "--gpu-limit",
        type=_limit,
        default=1,
        metavar="N",
        help="training runs at once, on pool gpu (default: %(default)s)",
    )
    parser.add_argument(
        "--pools",
        type=_pools,
        default=tuple(services.POOLS),
        metavar="POOL,...",
        help="pools that get a worker here (default: cpu,gpu); give cpu where another machine has the accelerators",
    )
    parser.add_argument(
        "--wait",
        type=between(0, float("inf")),
        default=120,
        metavar="SECONDS",
        help="patience with each service",
    )
    parser.add_argument("--quiet", action="store_true", help="name neither deployments nor what could be done next")


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    project = find_project()
    with project.lock():
        state = _choose_port(project, arguments.port)
        _start_server(project, state, arguments.wait)
        api = ServerApi(state.port)
        template = project.directory / "deployments" / "pools" / "process.json"
        services.create_pools(api, json.loads(template.read_text(encoding="utf-8")))
        services.limit_pool(api, "cpu", arguments.limit)
        services.limit_pool(api, "gpu", arguments.gpu_limit)
        services.deploy(project, state.port)
        automations.apply(api)
        before = {pool: services.last_heartbeat(api, pool) for pool in arguments.pools}
        started = {pool: _start_worker(project, state, pool) for pool in arguments.pools}
        for pool, record in started.items():
            if record is not None:
                services.wait_for_worker(
                    project, state.port, record, pool, before=before[pool], deadline=arguments.wait
                )
    _make_profile(state.port)
    _say_what_to_do(project, state, api, arguments)
    return 0


def _choose_port(project: Project, asked: int | None) -> State:
    """The state with the port to use: as asked, by OLMO_PORT, as last time."""
    state = project.read_state()
    if asked is None and (named := os.environ.get("OLMO_PORT")):
        try:
            asked = _port(named)
        except argparse.ArgumentTypeError as error:
            raise services.ServiceError(f"OLMO_PORT: {error}") from error
    if asked in (None, state.port):
        return state
    assert asked is not None
    if any(processes.is_running(each) for each in (state.server, *state.workers.values())):
        raise services.ServiceError(
            f"this project's services already run with port {state.port}, not {asked}; `olmo down` first to move them"
        )
    return replace(state, port=asked)


def _start_server(project: Project, state: State, patience: float) -> None:
    if state.server is not None and processes.is_running(state.server):
        print(f"server      already running (process {state.server.pid})")
    else:
        state.server = services.start_server(project, state.port)
        project.write_state(state)
        print(f"server      starting (process {state.server.pid}); the first time takes about 20 s", flush=True)
    services.wait_for_server(project, state.port, state.server, deadline=patience)


def _start_worker(project: Project, state: State, pool: str) -> ProcessRecord | None:
    """Start the worker of a pool without waiting for it; None when it runs already."""
    if processes.is_running(record := state.workers.get(pool)):
        assert record is not None
        print(f"worker      {pool} already running (process {record.pid})")
        if stale := services.changed_variables(record):
            print(f"            with another value of {', '.join(stale)} than here: `olmo down`, then up, to change it")
        return None
    api = ServerApi(state.port)
    for name, run_id in services.crash_abandoned_runs(api, pool):
        print(
            f"run         {name} was left without a process: now Crashed; `prefect flow-run retry {run_id}` continues it"
        )
    record = services.start_worker(project, state.port, pool)
    state.workers[pool] = record
    project.write_state(state)
    print(f"worker      {pool} starting (process {record.pid})", flush=True)
    return record


def _make_profile(port: int) -> None:
    """The profile is a convenience: that it cannot be written is worth a line, not a failure."""
    path = profile.profiles_path()
    try:
        if profile.write_profile(port, path):
            print(f"profile     {profile.NAME} written to {path}; the active profile is unchanged")
    except (OlmoError, OSError) as error:
        print(f"profile     {profile.NAME} not written: {error}")


def _say_what_to_do(project: Project, state: State, api: ServerApi, arguments: argparse.Namespace) -> None:
    address = ui_url(state.port)
    print(f"dashboard   {address}/dashboard")
    for name, deployment in sorted(api.deployments().items()) if not arguments.quiet else ():
        print(f"deployment  {name}  {address}/deployments/deployment/{deployment['id']}")
    print(f"logs        {', '.join(str(project.log(one)) for one in ('server', 'worker-cpu', 'worker-gpu'))}")
    if not arguments.quiet:
        print(f"next        {_prefect()} deployment run data-to-model && olmo watch")


def _prefect() -> str:
    """How to call the `prefect` of this environment from here: by name only if that finds this very one."""
    own = Path(sys.executable).with_name("prefect")
    found = shutil.which("prefect")
    if found and Path(found).resolve() == own.resolve():
        return "prefect"
    return os.path.relpath(own) if own.is_relative_to(Path.cwd()) else str(own)


def _limit(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _pools(text: str) -> tuple[str, ...]:
    pools = tuple(dict.fromkeys(text.split(",")))
    if not pools or set(pools) - set(services.POOLS):
        raise argparse.ArgumentTypeError(f"{text!r}: give one or more of {', '.join(services.POOLS)}")
    return pools


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, that is a number from 1 to 65535")
    return int(text)
