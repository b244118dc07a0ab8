"""`olmo up`: server, work pools, deployments and worker, each made only where it is missing."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from flows.command import password, profile, services
from flows.command.project import Project, State, find_project, port_asked_for, port_number
from flows.command.server_api import ServerApi
from flows.command.usage import between
from olmo_core import processes
from olmo_core.errors import OlmoError
from olmo_core.processes import ProcessRecord

DESCRIPTION = """\
Start what is missing of: the Prefect server (for this machine only, or with --host and a password for others), the work pools,
the deployments of prefect.yaml, a worker for each pool (`cpu`, `gpu`), the Prefect profile `olmo`. Run it again after changing
flows or prefect.yaml; what runs already is left running. `olmo down` ends it all. State, logs and database are in .olmo/ (or
OLMO_HOME).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--port", type=_port, help="port of the server (default: OLMO_PORT, the last one used, 4200)")
    parser.add_argument(
        "--host",
        metavar="ADDRESS",
        help="where the server listens, e.g. 0.0.0.0; beyond this machine it has a password, kept in the state folder "
        "(default: OLMO_HOST, the last one used, 127.0.0.1)",
    )
    services.add_limits(parser)
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
        default=300,
        metavar="SECONDS",
        help="patience with each service (default: %(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="name neither deployments nor what could be done next")


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    project = find_project()
    with project.lock():
        state = _choose_address(project, arguments.port, arguments.host or os.environ.get("OLMO_HOST"))
        _start_server(project, state, arguments.wait)
        secret = password.stored(project)
        api = ServerApi(state.port, host=state.host, password=secret, patience=arguments.wait)
        variables = services.environment(project, state)
        services.furnish(project, api, variables, cpu_limit=arguments.limit, gpu_limit=arguments.gpu_limit)
        before = {pool: services.last_heartbeat(api, pool) for pool in arguments.pools}
        started = {pool: _start_worker(project, state, api, pool) for pool in arguments.pools}
        for pool, record in started.items():
            if record is not None:
                services.wait_for_worker(project, api, record, pool, before=before[pool], deadline=arguments.wait)
    _make_profile(state, secret)
    _say_what_to_do(project, state, api, arguments)
    return 0


def _choose_address(project: Project, asked: int | None, host: str | None) -> State:
    """The state with the port and host to use: as asked, by OLMO_PORT, as last time."""
    state = project.read_state()
    asked = port_asked_for() if asked is None else asked
    wanted = replace(state, port=state.port if asked is None else asked, host=host or state.host)
    if (wanted.port, wanted.host) == (state.port, state.host):
        return state
    if any(processes.is_running(each) for each in (state.server, *state.workers.values())):
        raise services.ServiceError(
            f"this project's services already run with host {state.host} and port {state.port}, not {wanted.host} and "
            f"{wanted.port}; `olmo down` first to move them"
        )
    return wanted


def _start_server(project: Project, state: State, patience: float) -> None:
    if state.server is not None and processes.is_running(state.server):
        print(f"server      already running (process {state.server.pid})")
        if os.environ.get(password.SERVER, known := password.stored(project)) != known:
            raise password.PasswordError(
                f"the server runs with another password than {password.SERVER} says; `olmo down`, then up, to change it"
            )
    else:
        services.check_port(state.port, state.host)  # before a password is kept that nobody would be told of
        new = password.settle(project, state.host)
        state.server = services.start_server(project, state)
        project.write_state(state)
        print(f"server      starting (process {state.server.pid}); the first time takes about 20 s", flush=True)
        if new:
            print(
                f"password    kept in {password.file_of(project)}, for you only; commands in this project know it",
                flush=True,
            )
    services.wait_for_server(project, state, state.server, deadline=patience)


def _start_worker(project: Project, state: State, api: ServerApi, pool: str) -> ProcessRecord | None:
    """Start the worker of a pool without waiting for it; None when it runs already."""
    if processes.is_running(record := state.workers.get(pool)):
        assert record is not None
        print(f"worker      {pool} already running (process {record.pid})")
        if stale := services.changed_variables(project, record):
            print(f"            with another value of {', '.join(stale)} than here: `olmo down`, then up, to change it")
        return None
    for name, run_id in services.crash_abandoned_runs(api, pool):
        print(
            f"run         {name} was left without a process: now Crashed; `prefect flow-run retry {run_id}` continues it"
        )
    record = services.start_worker(project, state, pool)
    state.workers[pool] = record
    project.write_state(state)
    print(f"worker      {pool} starting (process {record.pid})", flush=True)
    return record


def _make_profile(state: State, secret: str | None) -> None:
    """The profile is a convenience: that it cannot be written is worth a line, not a failure."""
    path = profile.profiles_path()
    try:
        if profile.write_profile(state, path, secret):
            print(f"profile     {profile.NAME} written to {path}; the active profile is unchanged")
    except (OlmoError, OSError) as error:
        print(f"profile     {profile.NAME} not written: {error}")


def _say_what_to_do(project: Project, state: State, api: ServerApi, arguments: argparse.Namespace) -> None:
    address = state.ui_url
    print(f"dashboard   {address}/dashboard")
    if password.stored(project):
        print(f"            asks for the password in {password.file_of(project)}")
    if not password.is_loopback(state.host):
        print("            from elsewhere at this machine's name; nothing is encrypted on the way (docs/operating.md)")
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


def _pools(text: str) -> tuple[str, ...]:
    pools = tuple(dict.fromkeys(text.split(",")))
    if not pools or set(pools) - set(services.POOLS):
        raise argparse.ArgumentTypeError(f"{text!r}: give one or more of {', '.join(services.POOLS)}")
    return pools


def _port(text: str) -> int:
    try:
        return port_number(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
