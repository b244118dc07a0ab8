"""`make quickstart`: start the services, run data-to-model through its deployments, show what came out.

`make quickstart-data` (`--data`) stops at the corpus: build-dolma alone, and its waterfall.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

from flows.command import main as olmo
from flows.command.following import PATIENCE, follow, start
from flows.command.project import Project, find_project
from flows.command.run_chain import text_of
from flows.command.server_api import ServerApi
from flows.command.watch import in_words
from olmo_core.artifacts.store import ArtifactStore

CORPUS = "quickstart"
RECIPE = "quickstart"


def main() -> int:
    """Run the quickstart; returns the exit code of the first part that fails."""
    parser = argparse.ArgumentParser(
        prog="make quickstart", description="From real text to an evaluated model, then what came out."
    )
    parser.add_argument("--data", action="store_true", help="stop at the corpus (make quickstart-data)")
    arguments = parser.parse_args()
    return olmo.reported("make quickstart", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    project = find_project()
    os.chdir(project.directory)
    if code := olmo.main(["up", "--quiet"]):
        return code
    api = ServerApi.of(project, patience=PATIENCE)
    code = _corpus(project, api) if arguments.data else _chain(project, api)
    if code:
        return code
    print(f"\nDone in {time.monotonic() - began:.0f} s. Dashboard: {project.read_state().ui_url}/runs")
    return 0


def _chain(project: Project, api: ServerApi) -> int:
    run = _followed(project, api, "data-to-model", {"recipe": RECIPE})
    if run is None:
        return 1
    store = ArtifactStore(os.environ.get("OLMO_STORE") or str(project.home / "store"))
    print(f"\n{text_of(store, run['labels']['olmo.made.summary'])}")
    print(f"This run: {api.run_page(run['id'])}")
    print("Again, and every stage is reused: prefect deployment run data-to-model   End the services: olmo down")
    return 0


def _corpus(project: Project, api: ServerApi) -> int:
    if _followed(project, api, "build-dolma", {}) is None:
        return 1
    _say("olmo waterfall quickstart --examples 1")
    if code := olmo.main(["waterfall", CORPUS, "--examples", "1"]):
        return code
    print("\nTry: olmo explain ID   olmo plan   olmo artifacts ls   prefect deployment run build-dolma   olmo down")
    print("Train on it: prefect deployment run train-olmo/tiny && olmo watch")
    return 0


def _followed(project: Project, api: ServerApi, deployment: str, parameters: dict[str, Any]) -> dict[str, Any] | None:
    """Start a deployment and show its run to the end; returns the run, or None, with the reason told, if it did not complete."""
    _say(f"prefect deployment run {deployment} && olmo watch")
    run_id = start(api, f"{deployment}/{deployment}", parameters)
    print(f"run {run_id}  {api.run_page(run_id)}", flush=True)
    try:
        run = follow(api, run_id)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the run goes on; `olmo watch` follows it, `olmo down` ends it") from None
    if run["state_type"] == "COMPLETED":
        return run
    print(f"\n{in_words(run)}", file=sys.stderr)
    _failed(project)
    return None


def _failed(project: Project) -> None:
    logs = ", ".join(str(project.log(f"worker-{pool}")) for pool in ("cpu", "gpu"))
    print(f"Look at {project.read_state().ui_url}/runs and {logs}.", file=sys.stderr)


def _say(command: str) -> None:
    print(f"\n$ {command}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
