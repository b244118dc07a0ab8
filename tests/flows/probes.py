"""Flows for the tests of services and plugin: one that says where it runs, one that takes for ever."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from prefect import flow, task

from olmo_core.workers import Workers


@flow(name="probe")
def probe(word: str = "nothing", number: int = 0) -> None:
    """Write down where and with what this run was executed."""
    found = {"executable": sys.executable, "directory": str(Path.cwd()), "word": word, "number": number}
    (Path(os.environ["OLMO_HOME"]) / "probe.json").write_text(json.dumps(found), encoding="utf-8")


@task
def sleep_in_workers(folder: str) -> None:
    """Keep two worker processes busy for longer than any test."""
    with Workers(2) as workers:
        for _ in workers.map(nap_and_tell, [f"{folder}/nap-{index}" for index in range(2)], name=str):
            pass


def nap_and_tell(path: str) -> None:
    """Write the number of this process into a file, then sleep."""
    temporary = Path(f"{path}.tmp")
    temporary.write_text(str(os.getpid()), encoding="ascii")
    temporary.rename(path)
    time.sleep(600)


@flow(name="nap")
def nap() -> None:
    """Wait for worker processes that take for ever."""
    sleep_in_workers.submit(os.environ["OLMO_HOME"]).result()
