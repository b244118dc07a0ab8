"""`make quickstart`: start the services, build the quickstart corpus through its deployment, show what came out."""

from __future__ import annotations

import os
import sys
import time

from flows.command import main as olmo
from flows.command.project import find_project, ui_url
from flows.command.server_api import ServerApi
from flows.command.watching import watch

CORPUS = "quickstart"


def main() -> int:
    """Run the quickstart; returns the exit code of the first part that fails."""
    began = time.monotonic()
    project = find_project()
    os.chdir(project.directory)
    if code := olmo.main(["up"]):
        return code
    _say("prefect deployment run build-dolma --watch")
    prefect = [sys.executable, "-m", "prefect", "deployment", "run", "build-dolma", "--watch"]
    port, log = project.read_state().port, project.log("quickstart")
    if code := watch(prefect, log, ServerApi(port)):
        print(f"\nThe run failed. Look at {ui_url(port)}/runs, {log} and {project.log('worker-cpu')}", file=sys.stderr)
        return code
    print(f"(all that the command said: {log})")
    _say("olmo waterfall quickstart --examples 1")
    if code := olmo.main(["waterfall", CORPUS, "--examples", "1"]):
        return code
    print(f"\nDone in {time.monotonic() - began:.0f} s. Dashboard: {ui_url(port)}/runs")
    print("Try: olmo explain ID   olmo plan   olmo artifacts ls   prefect deployment run build-dolma   olmo down")
    print("Train on it: prefect deployment run train-olmo/tiny --watch")
    return 0


def _say(command: str) -> None:
    print(f"\n$ {command}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
