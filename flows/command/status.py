"""`olmo status`: what of this project runs, and how its last runs went."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from flows.command import password, services
from flows.command.project import Project, find_project
from flows.command.server_api import NotFoundError, ServerApi, ServerError
from flows.command.usage import whole
from olmo_core import processes

DESCRIPTION = """\
Show server, worker, pools, deployments, the runs that run and the last ones. Exit code 0 only when the server answers and every worker
that `olmo up` has started (at least that of pool `cpu`) runs and has reported to the server within the last minutes; 1 otherwise.
"""
_RUNNING = ("RUNNING", "CANCELLING")
_MOST_RUNNING = 20
"""Runs that run and are shown at most."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--runs",
        type=whole(0),
        default=5,
        metavar="N",
        help="last runs to show beside those that run (default: %(default)s; 0: no runs at all)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    found = status(find_project(), runs=arguments.runs)
    print(json.dumps(found, indent=1) if arguments.json else _for_people(found))
    return 0 if found["healthy"] else 1


def status(project: Project, *, runs: int) -> dict[str, Any]:
    """Everything the command shows, as plain values; `healthy` sums it up."""
    state = project.read_state()
    api = ServerApi.of(project)
    running = processes.is_running(state.server)
    answers = api.is_healthy() if running else False
    found: dict[str, Any] = {
        "healthy": False,
        "project": str(project.directory),
        "home": str(project.home),
        "server": {
            "state": "healthy" if answers else "not answering" if running else "not running",
            "pid": state.server.pid if state.server is not None and running else None,
            "api": api.address,
            "host": state.host,
            "password": str(password.file_of(project)) if password.stored(project) else None,
            "dashboard": f"{state.ui_url}/dashboard",
            "log": str(project.log("server")),
        },
        "workers": [],
        "pools": [],
        "deployments": [],
        "runs": [],
    }
    # Where anything was started, what is missing of it; `olmo up --pools cpu` starts none for gpu on purpose.
    down = not running and not any(map(processes.is_running, state.workers.values()))
    for pool in sorted(services.POOLS if down else {"cpu", *state.workers}):
        worker = state.workers.get(pool)
        alive = processes.is_running(worker)
        online = answers and alive and _is_online(api, pool)
        found["workers"].append(
            {
                "pool": pool,
                "state": "healthy" if online else "not reporting" if alive else "not running",
                "pid": worker.pid if worker is not None and alive else None,
                "log": str(project.log(f"worker-{pool}")),
            }
        )
    if answers:
        found["pools"] = [
            {"name": pool["name"], "type": pool["type"], "paused": pool["is_paused"], "status": pool["status"]}
            for pool in api.find("work_pools")
        ]
        found["deployments"] = [
            {
                "name": name,
                "pool": deployment["work_pool_name"],
                "paused": deployment["paused"],
                "schedules": [
                    {"slug": each["slug"], "schedule": each["schedule"], "active": each["active"]}
                    for each in deployment["schedules"]
                ],
            }
            for name, deployment in sorted(api.deployments().items())
        ]
        found["runs"] = _runs(api, runs)
    found["healthy"] = answers and all(worker["state"] == "healthy" for worker in found["workers"])
    return found


def _is_online(api: ServerApi, pool: str) -> bool:
    """Whether the server counts the worker as online: it has heard from it within three heartbeats (90 s)."""
    try:
        workers = api.find(f"work_pools/{pool}/workers")
    except NotFoundError:
        return False
    return any(each["name"] == services.worker_name(pool) and each["status"] == "ONLINE" for each in workers)


def _runs(api: ServerApi, limit: int) -> list[dict[str, Any]]:
    """The flow runs that run, then so many of the others that were to start last; those that a schedule has put into the future are none.

    Running ones come first, whenever they have started: short ones after it do not push a long one out of sight.
    """
    if not limit:
        return []
    under_way = {"state": {"type": {"any_": list(_RUNNING)}}}
    past = {"expected_start_time": {"before_": datetime.now(UTC).isoformat()}}
    order = "EXPECTED_START_TIME_DESC"
    try:
        running = api.find("flow_runs", sort=order, limit=_MOST_RUNNING, flow_runs=under_way)
        last = api.find("flow_runs", sort=order, limit=limit + len(running), flow_runs=past)
        first = {entry["id"] for entry in running}
        found = running + [entry for entry in last if entry["id"] not in first][:limit]
        origins = api.origins(found)
    except ServerError:
        return []
    return [
        {
            "id": entry["id"],
            "of": origins[entry["id"]],
            "name": entry["name"],
            "state": entry["state_name"],
            "started": entry["start_time"],
            # Of one that runs up to now; `total_run_time` counts what is over only.
            "seconds": round(entry["estimated_run_time"], 1),
            "url": api.run_page(entry["id"]),
        }
        for entry in found
    ]


def _for_people(found: dict[str, Any]) -> str:
    server = found["server"]
    lines = [f"server      {server['state']:<14}{server['dashboard']}" + _pid(server)]
    if server["password"]:
        lines.append(f"password    in {server['password']}; the server listens on {server['host']}")
    lines += [f"worker      {each['state']:<14}pool {each['pool']}" + _pid(each) for each in found["workers"]]
    lines += [
        f"pool        {each['name']:<14}{each['type']}, {'paused' if each['paused'] else str(each['status']).lower()}"
        for each in found["pools"]
    ]
    for each in found["deployments"]:
        on = [schedule["slug"] or "unnamed" for schedule in each["schedules"] if schedule["active"]]
        note = ("paused, " if each["paused"] else "") + (f"scheduled: {', '.join(on)}" if on else "no active schedule")
        lines.append(f"deployment  {each['name']}  (pool {each['pool']}, {note})")
    lines += [
        f"run         {each['state']:<14}{each['seconds']:>8.1f} s  {each['of']}  {each['name']}  {each['id']}  {each['url']}"
        for each in found["runs"]
    ]
    if server["state"] == "not running" and not any(each["pid"] for each in found["workers"]):
        lines.append(f"services are down: `olmo up` starts them; logs are in {found['home']}")
    elif not found["healthy"]:
        lines.append(f"not well: run `olmo up`; logs are in {found['home']}")
    return "\n".join(lines)


def _pid(entry: dict[str, Any]) -> str:
    return f"  (process {entry['pid']}, log {entry['log']})" if entry["pid"] else ""
