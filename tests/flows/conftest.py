"""One set of real services (Prefect server and worker) for all tests of the session that ask for it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from flows.command import password
from flows.command.project import Project
from flows.command.server_api import ServerApi
from olmo_core import processes
from olmo_core.processes import ProcessRecord
from tests.flows.in_sight import IN_THE_ENVIRONMENT, SESSION
from tests.ports import free_port

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups, also where the tests' files were named
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need the services run in one process, so that they are started once; all of them take seconds."""
    for item in items:
        if "running_services" in getattr(item, "fixturenames", ()):
            if config.pluginmanager.hasplugin("xdist"):
                item.add_marker(pytest.mark.xdist_group("services"))
            item.add_marker(pytest.mark.slow)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A state folder of its own for the project under test, and the commands that use it."""

    home: Path
    """OLMO_HOME."""
    profiles: Path
    """Prefect profiles file, instead of the user's."""
    project: Path = ROOT
    """Directory in which commands run."""
    extra: dict[str, str] = field(default_factory=dict)
    """Further environment variables of the commands."""

    def environment(self) -> dict[str, str]:
        """The environment of commands: the user's, without what would lead them to other services."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "OLMO_"))}
        return kept | {
            "OLMO_HOME": str(self.home),
            "PREFECT_HOME": str(self.home / "client"),
            "PREFECT_PROFILES_PATH": str(self.profiles),
            "PREFECT_CLI_COLORS": "false",
            "COLUMNS": "400",
            **self.extra,
        }

    def olmo(self, *words: str, timeout: float = 1200) -> subprocess.CompletedProcess[str]:
        """Run an `olmo` command."""
        return self._run(sys.executable, "-m", "flows.command.main", *words, timeout=timeout)

    def prefect(
        self, *words: str, timeout: float = 1200, directory: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a `prefect` command by its script: `python -m prefect` does not understand --profile in all places."""
        script = str(Path(sys.executable).with_name("prefect"))
        return self._run(script, *words, timeout=timeout, directory=directory)

    def _run(self, *command: str, timeout: float, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=directory or self.project,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@dataclass(frozen=True, kw_only=True)
class Services(Place):
    """The services that `olmo up` has started for this place."""

    port: int
    api: ServerApi

    def save_block(self, name: str, value: object) -> None:
        """Keep a Secret block on the server; its value goes the way that nobody sees, by standard input."""
        code = "import json, sys; from prefect.blocks.system import Secret; Secret(value=json.load(sys.stdin)).save(sys.argv[1])"
        subprocess.run(
            [sys.executable, "-c", code, name],
            input=json.dumps(value),
            env=self.client(),
            text=True,
            check=True,
            capture_output=True,
        )

    def client(self) -> dict[str, str]:
        """The environment of a Prefect client elsewhere: the server's address and password are all that it knows."""
        kept = password.stored(Project(directory=self.project, home=self.home))
        address = {"PREFECT_API_URL": self.api.address} | ({password.CLIENT: kept} if kept else {})
        return self.environment() | address

    def run(self, run_id: str) -> dict[str, Any]:
        """What the server knows of a flow run."""
        found: dict[str, Any] = self.api.request("GET", f"/flow_runs/{run_id}")
        return found

    def tasks(self, *run_ids: str) -> dict[str, str]:
        """Names and states of the task runs of flow runs; of several of one name, the last. See `eventually`."""
        found = self.api.find("task_runs", flow_runs={"id": {"any_": run_ids}})
        return {task["name"]: task["state_name"] for task in sorted(found, key=lambda task: str(task["created"]))}

    def logged(self, run_id: str) -> list[str]:
        """The messages of a flow run's log. See `eventually`."""
        found = self.api.find("logs", logs={"flow_run_id": {"any_": [run_id]}})
        return [str(one["message"]) for one in found]


def wait_until(question: Callable[[], T], *, seconds: float, what: str, pause: float = 0.2) -> T:
    """The first answer that is true, `pause` seconds between two questions; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        time.sleep(pause)
    return answer


def eventually(question: Callable[[], T], holds: Callable[[T], bool], *, seconds: float = 60) -> T:
    """The first answer that holds; without one in time, the last, so that an assertion on it tells what was wrong.

    For what the server knows of a run that is over: states of task runs and logs reach it after the run's own state, as Prefect
    sends them apart.
    """
    deadline = time.monotonic() + seconds
    while not holds(answer := question()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer


@contextlib.contextmanager
def standing_still(records: Sequence[ProcessRecord]) -> Iterator[None]:
    """Stop processes meanwhile, those that are first first."""
    _send(records, signal.SIGSTOP)
    try:
        yield
    finally:
        _send(records, signal.SIGCONT)


def kill_at_once(records: Sequence[ProcessRecord]) -> None:
    """Kill processes so that none of them sees another's end."""
    assert records
    with standing_still(records):
        _send(records, signal.SIGKILL)


def _send(records: Sequence[ProcessRecord], sent: signal.Signals) -> None:
    for one in records:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.pid, sent)


def done(process: subprocess.CompletedProcess[str]) -> str:
    """The output of a command that must have succeeded."""
    assert process.returncode == 0, f"{process.args} gave {process.returncode}:\n{process.stdout}\n{process.stderr}"
    return process.stdout


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A state folder in which nothing has been started; what a failing test starts there is ended."""
    place = Place(home=tmp_path / "olmo", profiles=tmp_path / "profiles.toml")
    yield place
    processes.end(processes.carrying(**{processes.MARK: str(place.home)}), grace=2)


@pytest.fixture(scope="session")
def running_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The server and worker of this project on a free port, with the deployments of prefect.yaml and of probes.yaml.

    For other machines too, and so with the password that `olmo up` makes: `make quickstart` is without. A test may kill or end them if it starts them again with `olmo up`.
    """
    folder = tmp_path_factory.mktemp("services")
    port = free_port()
    place = Place(home=folder / "olmo", profiles=folder / "profiles.toml", extra=IN_THE_ENVIRONMENT | SESSION)
    try:
        words = ("up", "--host", "0.0.0.0", "--port", str(port), "--wait", "800")
        (folder / "up.txt").write_text(done(place.olmo(*words, timeout=1800)), encoding="utf-8")
        # Of a loaded machine no answer within the usual 10 s says nothing.
        api = ServerApi(port, password=password.stored(Project(directory=ROOT, home=place.home)), timeout=60)
        services = Services(home=place.home, profiles=place.profiles, port=port, api=api, extra=place.extra)
        done(services.prefect("--no-prompt", "deploy", "--all", "--prefect-file", "tests/flows/probes.yaml"))
        yield services
    finally:
        print(place.olmo("down", "--grace", "4").stdout)
