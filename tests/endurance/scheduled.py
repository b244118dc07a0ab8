"""`python -m tests.endurance.scheduled`: fifty runs of one schedule, one after the other; what has grown?

Real services of their own; a schedule of `build-dolma` with a short interval on a small corpus that gets a new file every
fifth run (the others are all Reused). After each run: memory and open files of server and workers, processes, the sizes
of database, logs and store, objects that no manifest lists. Prints the values of the first and last runs and writes all
as JSON. Exit code 1 when a run failed, a process or an attempt was left, or memory grew by more than a tenth in the second half.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from flows.command import tables
from flows.command.server_api import ServerApi, ServerError
from olmo_core import processes
from olmo_core.artifacts.store import ArtifactStore
from tests.flows.conftest import Services, done
from tests.ports import free_port
from tests.small_corpus import passages, record, write_jsonl

DEPLOYMENT = "build-dolma/build-dolma"
NEW_FILE_EVERY = 5
GROWTH = 0.10
"""Growth of a service's memory in the second half of the runs that counts as a leak."""
_PATIENCE = 5
"""Times out in a row, of a minute each, before the server is taken for dead."""
_ENDING = 60.0
"""Seconds that a run's own processes have to end after its state did, before all are counted."""
KNOWN = "known-files.parquet"
"""Digests of files already read, beside an inventory; overwritten, and in no manifest."""
_TEXTS = 12
"""Documents of a file."""


def main(words: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.endurance.scheduled", description=__doc__)
    parser.add_argument("--runs", type=int, default=50, help="scheduled runs (default: %(default)s)")
    parser.add_argument(
        "--interval", type=int, default=30, help="seconds from one to the next at least (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, default=Path("bench-results/scheduled.json"), metavar="FILE")
    arguments = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    with tempfile.TemporaryDirectory(prefix="olmo-scheduled-") as name:
        folder, port = Path(name), free_port()
        api = ServerApi(port, timeout=60)
        services = Services(home=folder / "olmo", profiles=folder / "profiles.toml", port=port, api=api)
        try:
            done(services.olmo("up", "--port", str(port), "--wait", "900", timeout=1800))
            rows = observe(services, folder, arguments.runs, arguments.interval)
        finally:
            services.olmo("down", "--grace", "4")
    return report(rows, arguments)


def observe(services: Services, folder: Path, runs: int, interval: int) -> list[dict[str, Any]]:
    """Let the schedule make its runs; returns one row of values for each."""
    recipe, store = folder / "nightly.yaml", ArtifactStore(str(folder / "store"))
    recipe.write_text(yaml.safe_dump(small(folder)), encoding="utf-8")
    new_file(folder, 0)
    api = services.api
    deployment = api.deployments()[DEPLOYMENT]
    parameters = {"recipe": str(recipe), "resources": {"store": store.uri, "workers": 1}}
    schedule = {"schedule": {"interval": interval}, "active": True, "slug": "endurance", "parameters": parameters}
    api.request("POST", f"/deployments/{deployment['id']}/schedules", [schedule])
    rows: list[dict[str, Any]] = []
    while len(rows) < runs:
        over = finished(api, deployment["id"])
        if len(over) > len(rows):
            last = over[len(rows)]
            processes.wait(processes.carrying(PREFECT__FLOW_RUN_ID=last["id"]), _ENDING)
            rows.append(
                {
                    "run": len(rows) + 1,
                    "state": last["state_name"],
                    "seconds": round(last["total_run_time"], 1),
                    **measured(services, store),
                }
            )
            print(
                f"{len(rows):>3} {rows[-1]['state']}, {rows[-1]['seconds']} s, {rows[-1]['processes']} processes",
                flush=True,
            )
            if len(rows) % NEW_FILE_EVERY == 0:
                new_file(folder, len(rows))
        time.sleep(1)
    return rows


def finished(api: ServerApi, deployment: str) -> list[dict[str, Any]]:
    """Return the runs of a deployment that are over, in the order in which they ended; asks again where the machine is busy."""
    for _ in range(_PATIENCE):
        try:
            return _finished(api, deployment)
        except ServerError as error:
            print(f"    {error}", flush=True)
    return _finished(api, deployment)


def _finished(api: ServerApi, deployment: str) -> list[dict[str, Any]]:
    over = {"operator": "and_", "state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}}
    found = api.find("flow_runs", flow_runs=over, deployments={"id": {"any_": [deployment]}})
    return sorted(found, key=lambda run: str(run["end_time"]))


def measured(services: Services, store: ArtifactStore) -> dict[str, Any]:
    """Return what the services take now, in MB, and what lies on the disk."""
    state = json.loads((services.home / "state.json").read_text())
    named = {"server": state["server"]["pid"], **{pool: one["pid"] for pool, one in state["workers"].items()}}
    found: dict[str, Any] = {}
    for name, pid in named.items():
        found[f"{name} MB"] = round(memory(pid) / 1e6, 1)
        found[f"{name} files"] = len(os.listdir(f"/proc/{pid}/fd"))
    found["processes"] = len(processes.carrying(**{processes.MARK: str(services.home)}))
    found["database MB"] = round(size(services.home / "prefect") / 1e6, 2)
    found["events MB"] = round(events(services.home / "prefect" / "prefect.db") / 1e6, 2)
    found["logs MB"] = round(sum(one.stat().st_size for one in services.home.glob("*.log")) / 1e6, 2)
    found["store MB"] = round(size(Path(store.uri)) / 1e6, 3)
    manifests = list(store.finished())
    listed = {one.path for manifest in manifests for one in manifest.objects}
    data = {str(path.relative_to(store.uri)) for path in Path(store.uri).rglob("*.parquet") if path.name != KNOWN}
    return {**found, "artifacts": len(manifests), "unlisted": len(data - listed)}


def events(database: Path) -> int:
    """Return what the server's events take of its database, in bytes; it keeps them for a week."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as connection:
        of_events = "select sum(pgsize) from dbstat where name like '%event%'"
        return int(connection.execute(of_events).fetchone()[0] or 0)


def memory(pid: int) -> int:
    """Return the resident bytes of a process with all its children."""
    total = 0
    for one in (pid, *children(pid)):
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            continue
    return total


def children(pid: int) -> list[int]:
    """Return the server's own subprocesses; the runs that a worker has started are not its memory."""
    try:
        found = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    names = {one: Path(f"/proc/{one}/cmdline").read_bytes() for one in found if Path(f"/proc/{one}/cmdline").exists()}
    return [one for one, line in names.items() if b"uvicorn" in line]


def size(folder: Path) -> int:
    """Return the bytes below a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def small(folder: Path) -> dict[str, Any]:
    """Return the recipe: one source, so few stages."""
    read = {"kind": "dolma-jsonl", "name": "daily", "paths": [f"{folder}/daily/*.jsonl"]}
    return {"name": "daily", "shard_bytes": 30000, "content": {"kind": "lexicon"}, "sources": [{"read": read}]}


def new_file(folder: Path, number: int) -> None:
    """Add one file of documents that no other file has."""
    texts = passages()
    chosen = [texts[(number * _TEXTS + i) % len(texts)] + f"\n\nNumber {number}.{i}." for i in range(_TEXTS)]
    write_jsonl(
        folder / "daily" / f"day-{number:03d}.jsonl", [record(f"d{number}-{i}", one) for i, one in enumerate(chosen)]
    )


def report(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> int:
    """Print the table, write the JSON; returns the exit code."""
    marks = sorted({0, 1, len(rows) // 4, len(rows) // 2, 3 * len(rows) // 4, len(rows) - 1} & set(range(len(rows))))
    names = [name for name in rows[0] if name not in ("run", "state")]
    print()
    tables.show(
        [(name, *(rows[i][name] for i in marks)) for name in names], ("", *(f"run {rows[i]['run']}" for i in marks))
    )
    middle = rows[len(rows) // 2]
    problems = [f"run {row['run']} ended as {row['state']}" for row in rows if row["state"] != "Completed"]
    for name in (name for name in names if name.endswith(" MB") and name.split()[0] in ("server", "cpu", "gpu")):
        if rows[-1][name] > (1 + GROWTH) * middle[name]:
            problems.append(f"{name}: {middle[name]} in the middle, {rows[-1][name]} at the end")
    if min(row["processes"] for row in rows[-3:]) > min(row["processes"] for row in rows[:3]):
        problems.append("more processes at the end than at the beginning")
    if rows[-1]["unlisted"]:
        problems.append(f"{rows[-1]['unlisted']} objects that no manifest lists")
    for problem in problems:
        print(f"GROWN {problem}")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(
        json.dumps({"rows": rows, "problems": problems, "load": os.getloadavg()}, indent=1), encoding="utf-8"
    )
    print(
        f"{len(rows)} runs, {'nothing has grown that should not' if not problems else f'{len(problems)} problems'}; {arguments.json}"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
