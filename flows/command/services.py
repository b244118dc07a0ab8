"""The services of a project: a Prefect server on this machine and a worker for each of the work pools.

Each is a detached process of this very interpreter with its own log in the state folder. The services see none of
the user's Prefect settings (another server's address, a Cloud key, a profile, a database), only those below.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.command.automations import HEARTBEAT
from flows.command.project import HOST, Project, api_url, ui_url
from flows.command.server_api import NotFoundError, ServerApi
from olmo_core import processes
from olmo_core.errors import OlmoError
from olmo_core.processes import ProcessRecord

POOLS = {
    "cpu": "Curation, tokenization, training of small classifiers and the flows that only wait for others.",
    "gpu": "Training and evaluation: its worker starts them on this machine's accelerators, or submits them to a cluster.",
}
"""Work pools, with what each is for; `olmo up` starts a worker for each."""

_PASSED_ON = ("PREFECT_LOGGING_", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING")
"""Those of the user's Prefect variables that reach the services: what is logged, and the server's password."""


class ServiceError(OlmoError):
    """A service did not start, or cannot be started as asked."""


def environment(project: Project, port: int) -> dict[str, str]:
    """The environment of the services and of every command that `olmo` runs against them."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PREFECT_") or name.startswith(_PASSED_ON)
    }
    bypass = ",".join(filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST)))
    return kept | {
        processes.MARK: str(project.home),
        "OLMO_HOME": str(project.home),
        "OLMO_PROJECT": str(project.directory),
        "NO_PROXY": bypass,
        "no_proxy": bypass,
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
        "PREFECT_HOME": str(project.prefect_home),
        "PREFECT_API_URL": api_url(port),
        "PREFECT_UI_URL": ui_url(port),
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_LOGGING_COLORS": "false",
        # The plugin serves people's commands; here the address is already given and names are full.
        "PREFECT_PLUGINS_ENABLED": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_API_URL": api_url(port),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # How long SQLite waits for another writer before the server answers 503 (10 s by default: too few on a busy machine).
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        # A schedule that is switched on shows its runs within 10 s, not 60.
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "10",
        # Signs of life of flow runs, by which an automation knows those that have none (180 s by default).
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT),
        # A loopback server bears a look every 2 s; the default of 10 s is most of a short run's time.
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }


def changed_variables(worker: ProcessRecord) -> list[str]:
    """Names of the variables for flow runs (OLMO_*, AWS_*) that a running worker knows otherwise than this command."""
    known = processes.environment_of(worker.pid)
    names = {name for name in (*known, *os.environ) if name.startswith(("OLMO_", "AWS_"))}
    names -= {processes.MARK, "OLMO_HOME", "OLMO_PROJECT", "OLMO_PORT"}
    return sorted(name for name in names if known and known.get(name) != os.environ.get(name))


def check_port(port: int) -> None:
    """Raise ServiceError when something listens on a port of this machine, saying what it seems to be."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            return
        except PermissionError as error:
            raise ServiceError(f"port {port} may not be used: {error}; take one above 1023 with --port") from error
        except OSError:
            pass
    owner = (
        "a Prefect server that this project did not start"
        if ServerApi(port, timeout=2).is_healthy()
        else "another program"
    )
    raise ServiceError(f"port {port} is taken by {owner}; choose another one with `olmo up --port N` or OLMO_PORT=N")


def worker_name(pool: str) -> str:
    """The name under which the dashboard shows the worker of a pool on this machine."""
    return f"{pool}@{socket.gethostname()}"


def start_server(project: Project, port: int) -> ProcessRecord:
    """Start the Prefect server and return at once; `wait_for_server` tells when it answers."""
    check_port(port)
    project.home.mkdir(parents=True, exist_ok=True)
    # The database holds what runs logged and, encrypted with a key beside it, secrets: for its owner only.
    project.prefect_home.mkdir(mode=0o700, exist_ok=True)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    # Not in the project's directory: pyproject.toml and .env there hold settings for clients.
    return _start(command, project, port, service="server", directory=project.home)


def limit_pool(api: ServerApi, pool: str, limit: int) -> None:
    """Let at most `limit` flow runs of a pool run at once.

    Not by the worker's own `--limit`: a run that is retried before the worker has given its slot back ends the worker
    (prefect 3.8.8: "this borrower is already holding one of this CapacityLimiter's tokens").
    """
    api.request("PATCH", f"/work_pools/{pool}", {"concurrency_limit": limit})


def start_worker(project: Project, port: int, pool: str) -> ProcessRecord:
    """Start a worker of a pool; flow runs use this interpreter too."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
    command += ["--name", worker_name(pool), "--no-create-pool-if-not-found"]
    return _start(command, project, port, service=f"worker-{pool}", directory=project.directory)


def _start(command: list[str], project: Project, port: int, *, service: str, directory: Path) -> ProcessRecord:
    log = project.log(service)
    pid = processes.start_detached(command, log=log, directory=directory, environment=environment(project, port))
    record = processes.record(pid)
    if record is None:
        raise ServiceError(f"the {service} ended at once; its log {log} ends with\n{log_tail(log)}")
    return record


def wait_for_server(project: Project, port: int, record: ProcessRecord, *, deadline: float) -> None:
    """Return when the server answers; raise ServiceError when it ended or does not within `deadline` seconds."""
    api = ServerApi(port, timeout=5)
    _wait(api.is_healthy, record, log=project.log("server"), what="the Prefect server", deadline=deadline)


def wait_for_worker(
    project: Project, port: int, record: ProcessRecord, pool: str, *, before: str | None, deadline: float
) -> None:
    """Return when the worker has reported to the server; raise ServiceError as `wait_for_server` does.

    `before`: its `last_heartbeat` before it was started. A worker of the same name that was killed a moment ago still
    counts as online: a new sign of life is looked for.
    """
    api = ServerApi(port)
    _wait(
        lambda: last_heartbeat(api, pool) != before,
        record,
        log=project.log(f"worker-{pool}"),
        what=f"the worker of pool {pool}",
        deadline=deadline,
    )


def _wait(ready: Callable[[], bool], record: ProcessRecord, *, log: Path, what: str, deadline: float) -> None:
    until = time.monotonic() + deadline
    while not ready():
        if not processes.is_running(record):
            raise ServiceError(f"{what} ended while starting; its log {log} ends with\n{log_tail(log)}")
        if time.monotonic() > until:
            raise ServiceError(f"{what} was not ready after {deadline:.0f} s; its log {log} ends with\n{log_tail(log)}")
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


def create_pools(api: ServerApi, template: dict[str, Any]) -> list[str]:
    """Create the work pools that are missing and return their names; one that exists keeps its settings."""
    created = []
    for pool, purpose in POOLS.items():
        try:
            api.request("GET", f"/work_pools/{pool}")
        except NotFoundError:
            body = {"name": pool, "type": "process", "description": purpose, "base_job_template": template}
            api.request("POST", "/work_pools/", body)
            created.append(pool)
    return created


def deploy(project: Project, port: int) -> None:
    """Apply every deployment of `prefect.yaml`; a schedule that is switched on stays on.

    Raises ServiceError with Prefect's own words when a deployment is refused.
    """
    api = ServerApi(port)
    switched_on = {
        (name, schedule["slug"])
        for name, deployment in api.deployments().items()
        for schedule in deployment["schedules"]
        if schedule["active"] and schedule["slug"]
    }
    variables = environment(project, port)
    # Left in the pull steps as {{ $OLMO_PROJECT }}, for each worker to fill in.
    del variables["OLMO_PROJECT"]
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
    api.request("POST", f"/{kind}/{run_id}/set_state", {"state": state, "force": True})
