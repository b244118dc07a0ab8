"""`olmo watch`: a flow run and the runs it has started, on a few lines, until it is over."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime
from typing import Any

from flows.command.following import PATIENCE, follow
from flows.command.project import find_project
from flows.command.server_api import ServerApi
from olmo_core.errors import OlmoError

DESCRIPTION = """\
Follow a flow run: what each stage made, how far training is, what goes wrong, in the runs that it has started, too. Without RUN
the one that started last. Ctrl-C ends the watching, not the run. Exit code 0 when it completes, 1 when it does not.

    prefect deployment run data-to-model && olmo watch
"""
_WRONG = re.compile(r"\bRecipeError\b|\breceived invalid parameters\b")
"""In the message of a run that fails again, whoever retries it, until a recipe or a parameter is mended."""
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("run", nargs="?", metavar="RUN", help="its id or its name (`olmo status` lists both)")


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    api = ServerApi.of(find_project(), elsewhere=True, patience=PATIENCE)
    found = named(api, arguments.run)
    print(
        f"{api.origins([found])[found['id']]}  {found['name']}  {found['id']}  {api.run_page(found['id'])}", flush=True
    )
    try:
        ended = follow(api, found["id"])
    except KeyboardInterrupt:
        print(f"\n{found['name']} goes on: `olmo watch {found['id']}`", file=sys.stderr)
        return 130
    print(in_words(ended))
    return 0 if ended["state_type"] == "COMPLETED" else 1


def named(api: ServerApi, run: str | None) -> dict[str, Any]:
    """Return the flow run of an id or a name; for None the one that started last and that no other has started.

    Raises OlmoError where there is none.
    """
    of_a_person = {"parent_task_run_id": {"is_null_": True}}
    wanted: dict[str, Any] = {"start_time": {"is_null_": False}}
    if run is None:
        wanted |= of_a_person
    elif _ID.match(run):
        wanted = {"id": {"any_": [run]}}
    else:
        wanted = {"name": {"any_": [run]}}
    found = api.find("flow_runs", sort="EXPECTED_START_TIME_DESC", limit=1, flow_runs=wanted)
    if run is None:
        # One that a worker has not taken yet counts too, but nothing that a schedule has made.
        waiting = api.find(
            "flow_runs",
            sort="EXPECTED_START_TIME_DESC",
            limit=20,
            flow_runs={
                "state": {"type": {"any_": ["SCHEDULED", "PENDING"]}},
                "expected_start_time": {"before_": datetime.now(UTC).isoformat()},
                **of_a_person,
            },
        )
        waiting = [one for one in waiting if not one["auto_scheduled"]]
        found = sorted(found + waiting, key=lambda one: str(one["created"]), reverse=True)[:1]
    if not found:
        what = f"no flow run has the id or name {run!r}" if run else "there is no flow run yet"
        raise OlmoError(f"{what}; `olmo status` lists the last ones")
    return found[0]


def in_words(ended: dict[str, Any]) -> str:
    """Return how a run ended, with its error unless that was `said` before, and how it goes on where it failed."""
    message = next(iter(str((ended.get("state") or {}).get("message") or "").splitlines()), "")
    told = f"{ended['name']}: {ended['state_name']}" + (
        f": {message[:300]}" if message and not ended.get("said") else ""
    )
    if ended["state_type"] == "COMPLETED":
        return told
    if _WRONG.search(message):
        return f"{told}\nA recipe or parameter is wrong: mend that first, then start it anew."
    if ended.get("deployment_id") is None:
        return f"{told}\nThe command that started it goes on from what is finished."
    return f"{told}\n`prefect flow-run retry {ended['id']}` goes on from what is finished."
