"""`make quickstart`: start the services, build the quickstart corpus through its deployment, show what came out."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from flows.command import main as olmo
from flows.command.project import find_project, ui_url

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
    if code := subprocess.run(prefect, check=False).returncode:
        port = project.read_state().port
        print(f"\nThe run failed. Look at {ui_url(port)}/runs and {project.log('worker-cpu')}", file=sys.stderr)
        return code
    _say("olmo waterfall quickstart --examples 1")
    if code := olmo.main(["waterfall", CORPUS, "--examples", "1"]):
        return code
    port = project.read_state().port
    print(f"\nDone in {time.monotonic() - began:.0f} s. Dashboard: {ui_url(port)}/runs")
    print("Try: olmo explain ID   olmo plan   olmo artifacts ls   prefect deployment run build-dolma   olmo down")
    return 0


def _say(command: str) -> None:
    print(f"\n$ {command}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
