"""The services of a project: a Prefect server on this machine and a worker for each of the work pools.

Each is a detached process of this very interpreter with its own log in the state folder. The services see none of
the user's Prefect settings (another server's address, a Cloud key, a profile, a database), only those below.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flows.command import automations, password
from flows.command.project import HOST, Project, State, reached_at
from flows.command.server_api import NotFoundError, ServerApi
from flows.command.usage import whole
from olmo_core import processes
from olmo_core.errors import OlmoError
from olmo_core.processes import ProcessRecord

POOLS = {
    "cpu": "Curation, tokenization, training of small classifiers and the flows that only wait for others.",
    "gpu": "Training and evaluation: its worker starts them on this machine's accelerators, or submits them to a cluster.",
}
"""Work pools, with what each is for; `olmo up` starts a worker for each."""

_PASSED_ON = "PREFECT_LOGGING_"
"""Those of the user's Prefect variables that reach the services: what is logged."""


class ServiceError(OlmoError):
    """A service did not start, or cannot be started as asked."""


def environment(project: Project, state: State) -> dict[str, str]:
    """The environment of the services and of every command that `olmo` runs against them."""
    secret = password.stored(project)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PREFECT_") or name.startswith(_PASSED_ON)
    }
    ours = dict.fromkeys((HOST, reached_at(state.host)))
    bypass = ",".join(filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), *ours)))
    return kept | {
        processes.MARK: str(project.home),
        "OLMO_HOME": str(project.home),
        "OLMO_PROJECT": str(project.directory),
        "NO_PROXY": bypass,
        "no_proxy": bypass,
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
        "PREFECT_HOME": str(project.prefect_home),
        "PREFECT_API_URL": state.api_url,
        "PREFECT_UI_URL": state.ui_url,
        **({password.CLIENT: secret} if secret else {}),
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_LOGGING_COLORS": "false",
        # The plugin serves people's commands; here the address is already given and names are full.
        "PREFECT_PLUGINS_ENABLED": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Relative: the dashboard works under whatever name a browser found it by, and never needs another origin's API.
        "PREFECT_SERVER_UI_API_URL": "/api",
        # The defaults, `*` and no token, let any page that somebody has open in a browser read from a server on loopback
        # that has no password, and change what runs there: with a Blob as its body a request needs no permission.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": state.api_url.removesuffix("/api"),
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # Nothing of ours is kept as a Prefect result; should anything be, then as JSON: Prefect's default is a pickle.
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        # How long SQLite waits for another writer before the server answers 503 (10 s by default: too few on a busy machine).
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        # A schedule that is switched on shows its runs within 10 s, not 60.
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "10",
        # Signs of life of flow runs, by which an automation knows those that have none (180 s by default).
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(automations.HEARTBEAT),
        # A loopback server bears a look every 2 s; the default of 10 s is most of a short run's time.
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }


def changed_variables(project: Project, worker: ProcessRecord) -> list[str]:
    """Names of the variables for flow runs (OLMO_*, AWS_*, the password) that a running worker knows otherwise than this command."""
    known = processes.environment_of(worker.pid)
    names = {name for name in (*known, *os.environ) if name.startswith(("OLMO_", "AWS_"))}
    names -= {processes.MARK, "OLMO_HOME", "OLMO_PROJECT", "OLMO_PORT", "OLMO_HOST"}
    found = sorted(name for name in names if known and known.get(name) != os.environ.get(name))
    return found + ([password.CLIENT] if known and known.get(password.CLIENT) != password.stored(project) else [])


def check_port(port: int, host: str = HOST) -> None:
    """Raise ServiceError when the server could not listen on an address and a port of it, saying why."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ServiceError(
            f"{host} is no address or name of this machine ({error}); give --host or OLMO_HOST another"
        ) from error
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            return
        except PermissionError as error:
            raise ServiceError(f"port {port} may not be used: {error}; take one above 1023 with --port") from error
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise ServiceError(
                    f"{host} is no address of this machine; give --host or OLMO_HOST another one"
                ) from error
    owner = (
        "a Prefect server that this project did not start"
        if ServerApi(port, host=host, timeout=2, patience=0).is_healthy()
        else "another program"
    )
    raise ServiceError(f"port {port} is taken by {owner}; choose another one with `olmo up --port N` or OLMO_PORT=N")


def worker_name(pool: str) -> str:
    """The name under which the dashboard shows the worker of a pool on this machine."""
    return f"{pool}@{socket.gethostname()}"


def start_server(project: Project, state: State) -> ProcessRecord:
    """Start the Prefect server and return at once; `wait_for_server` tells when it answers.

    Beyond loopback it has the password that is kept in the state folder: `password.settle` has been called before.
    """
    secret = password.stored(project)
    if secret is None and not password.is_loopback(state.host):
        raise ServiceError(f"no server without a password on {state.host}")
    project.home.mkdir(parents=True, exist_ok=True)
    # The database holds what runs logged and, encrypted with a key beside it, secrets: for its owner only.
    project.prefect_home.mkdir(mode=0o700, exist_ok=True)
    variables = environment(project, state) | ({password.SERVER: secret} if secret else {})
    # Not in the project's directory: pyproject.toml and .env there hold settings for clients.
    return start(server_command(state), project, variables, service="server", directory=project.home)


def server_command(state: State) -> list[str]:
    """The command line of a Prefect server at the state's host and port."""
    return [sys.executable, "-m", "flows.command.prefect_server", "--host", state.host, "--port", str(state.port)]


def limit_pool(api: ServerApi, pool: str, limit: int) -> None:
    """Let at most `limit` flow runs of a pool run at once.

    Not by the worker's own `--limit`: a run that is retried before the worker has given its slot back ends the worker
    (prefect 3.8.8: "this borrower is already holding one of this CapacityLimiter's tokens").
    """
    api.request("PATCH", f"/work_pools/{pool}", {"concurrency_limit": limit})


def start_worker(project: Project, state: State, pool: str) -> ProcessRecord:
    """Start a worker of a pool; flow runs use this interpreter too."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
    command += ["--name", worker_name(pool), "--no-create-pool-if-not-found"]
    return start(command, project, environment(project, state), service=f"worker-{pool}", directory=project.directory)


def start(
    command: list[str],
    project: Project,
    variables: dict[str, str],
    *,
    service: str,
    directory: Path,
    stdin: int = subprocess.DEVNULL,
) -> ProcessRecord:
    """Start a detached process that logs to `project.log(service)`; raises ServiceError when it ended at once.

    `stdin`: the descriptor that it reads.
    """
    log = project.log(service)
    pid = processes.start_detached(command, log=log, directory=directory, environment=variables, stdin=stdin)
    record = processes.record(pid)
    if record is None:
        raise ServiceError(f"the {service} ended at once; its log {log} ends with\n{log_tail(log)}")
    return record


def wait_for_server(project: Project, state: State, record: ProcessRecord, *, deadline: float) -> None:
    """Return when the server answers; raise ServiceError when it ended or does not within `deadline` seconds."""
    api = ServerApi(state.port, host=state.host, timeout=5, patience=0)  # `wait_for` is patient
    wait_for(api.is_healthy, record, log=project.log("server"), what="the Prefect server", deadline=deadline)


def wait_for_worker(
    project: Project, api: ServerApi, record: ProcessRecord, pool: str, *, before: str | None, deadline: float
) -> None:
    """Return when the worker has reported to the server; raise ServiceError as `wait_for_server` does.

    `before`: its `last_heartbeat` before it was started. A worker of the same name that was killed a moment ago still
    counts as online: a new sign of life is looked for.
    """
    wait_for(
        lambda: last_heartbeat(api, pool) != before,
        record,
        log=project.log(f"worker-{pool}"),
        what=f"the worker of pool {pool}",
        deadline=deadline,
    )


GOES_ON = "it goes on starting: run this again, or give --wait more, or end it with `olmo down`"
"""What becomes of a service of `olmo up` that takes too long."""


def wait_for(
    ready: Callable[[], bool],
    record: ProcessRecord,
    *,
    log: Path,
    what: str,
    deadline: float,
    too_late: str = GOES_ON,
) -> None:
    """Return when a process that was started is ready; raise ServiceError when it ended or is not within `deadline` seconds.

    `too_late`: what the second error tells to do.
    """
    until = time.monotonic() + deadline
    while not ready():
        if not processes.is_running(record):
            raise ServiceError(f"{what} ended while starting; its log {log} ends with\n{log_tail(log)}")
        if time.monotonic() > until:
            raise ServiceError(
                f"{what} was not ready after {deadline:.0f} s; {too_late}; its log {log} ends with\n{log_tail(log)}"
            )
        time.sleep(0.25)


def last_heartbeat(api: ServerApi, pool: str) -> str | None:
    """When the worker that `olmo up` starts for a pool last told the server that it is alive; None if it never did."""
    workers = api.request("POST", f"/work_pools/{pool}/workers/filter", {})
    times = [worker["last_heartbeat_time"] for worker in workers if worker["name"] == worker_name(pool)]
    return max(times, default=None)


def log_tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, indented; of a large log only the end is read."""
    with open(log, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
        text = file.read().decode(errors="replace")
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) or "    (empty)"


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Declare --limit and --gpu-limit, which `furnish` takes."""
    parser.add_argument(
        "--limit", type=whole(1), default=6, metavar="N", help="flow runs of pool cpu at once (default: %(default)s)"
    )
    parser.add_argument(
        "--gpu-limit",
        type=whole(1),
        default=1,
        metavar="N",
        help="training runs at once, on pool gpu (default: %(default)s)",
    )


def furnish(
    project: Project, api: ServerApi, variables: dict[str, str], *, cpu_limit: int, gpu_limit: int
) -> list[str]:
    """Put pools with their limits, deployments and automations on a server; returns the names of pools that were missing.

    `variables`: Prefect's environment. Raises ServiceError as `deploy` does.
    """
    created = create_pools(project, api)
    limit_pool(api, "cpu", cpu_limit)
    limit_pool(api, "gpu", gpu_limit)
    deploy(project, variables, api)
    automations.apply(api)
    return created


def create_pools(project: Project, api: ServerApi) -> list[str]:
    """Create the work pools that are missing and return their names; one that exists keeps its settings."""
    created = []
    template = json.loads((project.directory / "deployments" / "pools" / "process.json").read_text(encoding="utf-8"))
    for pool, purpose in POOLS.items():
        try:
            api.request("GET", f"/work_pools/{pool}")
        except NotFoundError:
            body = {"name": pool, "type": "process", "description": purpose, "base_job_template": template}
            api.request("POST", "/work_pools/", body)
            created.append(pool)
    return created


def deploy(project: Project, variables: dict[str, str], api: ServerApi) -> None:
    """Apply every deployment of `prefect.yaml`; a schedule that is switched on stays on. `variables`: Prefect's environment.

    Raises ServiceError with Prefect's own words when a deployment is refused.
    """
    switched_on = {
        (name, schedule["slug"])
        for name, deployment in api.deployments().items()
        for schedule in deployment["schedules"]
        if schedule["active"] and schedule["slug"]
    }
    # Left in the pull steps as {{ $OLMO_PROJECT }}, for each worker to fill in.
    variables = {name: value for name, value in variables.items() if name != "OLMO_PROJECT"}
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=project.directory,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ServiceError(f"`prefect deploy --all` failed in {project.directory}:\n{done.stdout}{done.stderr}")
    # Applying a deployment resets its schedules to what the file says (`active: false`): switch back on what was on.
    for name, deployment in api.deployments().items():
        for schedule in deployment["schedules"]:
            if (name, schedule["slug"]) in switched_on and not schedule["active"]:
                api.request("PATCH", f"/deployments/{deployment['id']}/schedules/{schedule['id']}", {"active": True})


def crash_abandoned_runs(api: ServerApi, pool: str) -> list[tuple[str, str]]:
    """Report as Crashed the runs of a pool that the server takes for running though no process here carries them.

    After a power cut, a killed worker or `olmo down` nobody else would: such a run stays Running for ever and keeps
    its deployment's concurrency slot, so that every later run waits for it. Call it while the pool's worker is not
    running. Returns name and id of each run; `prefect flow-run retry ID` continues it.
    """
    under_way = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}
    of_pool = {"name": {"any_": [pool]}}
    runs = api.find("flow_runs", flow_runs=under_way, work_pools=of_pool)
    carried = processes.values_of("PREFECT__FLOW_RUN_ID") if runs else set()
    abandoned = [run for run in runs if run["id"] not in carried]
    for run in abandoned:
        _crash(api, "flow_runs", run["id"])
    # Task runs end with their process, too, and nobody tells the server.
    over = {"state": {"type": {"any_": ["CRASHED", "FAILED", "CANCELLED", "COMPLETED"]}}}
    tasks = api.find("task_runs", task_runs=under_way, flow_runs=over)
    parents = {"id": {"any_": sorted({task["flow_run_id"] for task in tasks})}}
    here = {run["id"] for run in api.find("flow_runs", flow_runs=parents, work_pools=of_pool)} if tasks else set()
    for task in tasks:
        if task["flow_run_id"] in here:
            _crash(api, "task_runs", task["id"])
    return [(str(run["name"]), str(run["id"])) for run in abandoned]


def _crash(api: ServerApi, kind: str, run_id: str) -> None:
    state = {"type": "CRASHED", "name": "Crashed", "message": "Its process is gone (seen by olmo)."}
    api.request("POST", f"/{kind}/{run_id}/set_state", {"state": state, "force": True}, repeatable=True)
