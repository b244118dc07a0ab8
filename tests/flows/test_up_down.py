"""`olmo up`, `down` and `status` on real services."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from flows.command import services
from flows.command.project import Project, State
from olmo_core import processes
from olmo_core.processes import ProcessRecord
from tests.flows.conftest import ROOT, Place, Services, done, kill_at_once, wait_until
from tests.ports import free_port


def recorded(place: Place) -> State:
    """The state that the commands have left."""
    return Project(directory=ROOT, home=place.home).read_state()


def status(place: Place) -> tuple[int, dict[str, Any]]:
    """Exit code and content of `olmo status --json`."""
    process = place.olmo("status", "--json")
    return process.returncode, json.loads(process.stdout)


@pytest.fixture
def strangers() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Processes that are none of this place's business: a plain one, and one of another state folder."""
    started = {
        "plain": subprocess.Popen(["sleep", "600"]),
        "other": subprocess.Popen(["sleep", "600"], env=os.environ | {processes.MARK: "/another/.olmo"}),
    }
    yield started
    for process in started.values():
        process.kill()
        process.wait()


def test_up_again_changes_nothing(running_services: Services) -> None:
    """Same processes, same deployments, and it says so."""
    before = recorded(running_services)
    deployments = {name: each["id"] for name, each in running_services.api.deployments().items()}
    shown = done(running_services.olmo("up"))
    assert shown.count("already running") == 3
    assert recorded(running_services) == before
    assert {name: each["id"] for name, each in running_services.api.deployments().items()} == deployments
    assert f"http://127.0.0.1:{running_services.port}/v2/" in shown


def test_status_tells_what_runs(running_services: Services) -> None:
    """Exit code 0, both services healthy, pools and deployments listed; the table says the same."""
    code, found = status(running_services)
    assert code == 0
    assert found["healthy"] is True
    assert found["server"]["state"] == "healthy"
    assert [(each["pool"], each["state"]) for each in found["workers"]] == [("cpu", "healthy"), ("gpu", "healthy")]
    assert {each["name"] for each in found["pools"]} >= {"cpu", "gpu"}
    assert "build-dolma/build-dolma" in {each["name"] for each in found["deployments"]}
    table = done(running_services.olmo("status"))
    assert f"process {found['server']['pid']}," in table
    assert "build-dolma/build-dolma" in table


def test_status_shows_a_long_run_before_short_ones(running_services: Services) -> None:
    """One that has run since before the six short ones is the first; beside it the last five."""
    api = running_services.api
    flow = api.request("POST", "/flows/", {"name": "seen"})["id"]
    made = []
    for name, state in [("long", "RUNNING"), *((f"short-{one}", "COMPLETED") for one in range(6))]:
        body = {"flow_id": flow, "name": name, "state": {"type": state}}
        made.append(api.request("POST", "/flow_runs/", body)["id"])
    try:
        runs = [one for one in status(running_services)[1]["runs"] if one["of"] == "seen"]
        assert [one["name"] for one in runs] == ["long", "short-5", "short-4", "short-3", "short-2", "short-1"]
        assert runs[0]["state"] == "Running"
        shown = json.loads(done(running_services.olmo("status", "--json", "--runs", "0")))
        assert shown["runs"] == []
    finally:
        for one in made:
            api.request("DELETE", f"/flow_runs/{one}")


def test_more_objects_than_the_server_gives_at_once(running_services: Services) -> None:
    """200, and not a word of the others."""
    api = running_services.api
    flow = api.request("POST", "/flows/", {"name": "many"})["id"]
    try:
        for one in range(203):
            api.request("POST", "/flow_runs/", {"flow_id": flow, "name": str(one), "state": {"type": "COMPLETED"}})
        of_it: dict[str, Any] = {"flows": {"name": {"any_": ["many"]}}, "sort": "EXPECTED_START_TIME_ASC"}
        names = [str(one) for one in range(203)]
        assert [one["name"] for one in api.find("flow_runs", **of_it)] == names
        assert [one["name"] for one in api.find("flow_runs", **of_it, limit=202, offset=1)] == names[1:]
        assert [one["name"] for one in api.find("flow_runs", **of_it, limit=2)] == ["0", "1"]
        shown = json.loads(done(running_services.olmo("status", "--json", "--runs", "300")))["runs"]
        assert sorted(one["name"] for one in shown if one["of"] == "many") == sorted(names)
    finally:
        api.request("DELETE", f"/flows/{flow}")


def test_services_leave_the_users_prefect_alone(running_services: Services) -> None:
    """Database in the state folder; one profile added and none made active; nothing sent anywhere."""
    assert (running_services.home / "prefect" / "prefect.db").is_file()
    assert "active" not in running_services.profiles.read_text(encoding="utf-8")
    server = recorded(running_services).server
    assert server is not None
    environment = processes.environment_of(server.pid)
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environment["DO_NOT_TRACK"] == "1"


def start_nap(running_services: Services) -> str:
    """Start a run that takes for ever and wait until its worker processes are busy; returns its id."""
    naps = [running_services.home / f"nap-{index}" for index in range(2)]
    for nap in naps:
        nap.unlink(missing_ok=True)
    shown = done(running_services.prefect("deployment", "run", "nap/nap"))
    run_id = shown.split("UUID: ")[1].split()[0]
    wait_until(lambda: all(nap.exists() for nap in naps), seconds=600, what="the run's worker processes")
    # The server learns of the task by an event: a run that is killed before has none.
    wait_until(
        lambda: set(running_services.tasks(run_id).values()) == {"Running"}, seconds=600, what="the task to be recorded"
    )
    return run_id


def test_killed_worker_is_replaced_and_its_run_crashed(running_services: Services) -> None:
    """Worker and run killed together, as by a power cut: status says so although the server believes in both.

    Without help the run would stay Running for ever and every later one would wait for its concurrency slot.
    """
    run_id = start_nap(running_services)
    old = recorded(running_services).workers["cpu"]
    killed = [old, *processes.carrying(PREFECT__FLOW_RUN_ID=run_id)]
    assert len(killed) > 3
    kill_at_once(killed)
    assert not processes.wait(killed, 120)
    code, found = status(running_services)
    assert code == 1
    assert found["workers"][0]["state"] == "not running"
    assert running_services.run(run_id)["state_type"] == "RUNNING"
    (shown_run,) = [one for one in found["runs"] if one["id"] == run_id]
    assert shown_run["of"] == "nap/nap" and shown_run["state"] == "Running" and shown_run["seconds"] > 0
    (line,) = [one for one in running_services.olmo("status").stdout.splitlines() if run_id in one]
    assert f" s  nap/nap  {shown_run['name']}  {run_id}  " in line and " 0.0 s" not in line

    shown = done(running_services.olmo("up"))

    assert "now Crashed" in shown
    assert running_services.run(run_id)["state_type"] == "CRASHED"
    assert set(running_services.tasks(run_id).values()) == {"Crashed"}
    assert running_services.api.deployments()["nap/nap"]["global_concurrency_limit"]["active_slots"] == 0
    assert recorded(running_services).workers["cpu"].pid != old.pid
    assert status(running_services)[0] == 0


def test_up_elsewhere_while_running_is_refused(running_services: Services) -> None:
    """It does not move running services."""
    before = recorded(running_services)
    failed = running_services.olmo("up", "--port", str(free_port()))
    assert failed.returncode == 1
    assert "olmo down" in failed.stderr
    assert recorded(running_services) == before


def test_down_ends_all_and_only_ours(running_services: Services, strangers: dict[str, subprocess.Popen[bytes]]) -> None:
    """In the middle of a run with worker processes: all gone, strangers alive, the run Crashed, and a new up works."""
    run_id = start_nap(running_services)
    workers = [int((running_services.home / f"nap-{index}").read_text(encoding="ascii")) for index in range(2)]
    before = recorded(running_services)
    assert before.server is not None
    ours = [before.server.pid, *(worker.pid for worker in before.workers.values()), *workers]

    shown = done(running_services.olmo("down", "--grace", "2"))

    assert [pid for pid in ours if processes.started(pid)] == []
    assert processes.carrying(**{processes.MARK: str(running_services.home)}) == []
    assert all(process.poll() is None for process in strangers.values())
    for word in ("flow run", "worker cpu", "worker gpu", "server"):
        assert word in shown
    assert done(running_services.olmo("down")) == "nothing was running\n"
    assert status(running_services)[0] == 1

    done(running_services.olmo("up"))
    assert recorded(running_services).port == running_services.port, "the port is remembered"
    assert running_services.run(run_id)["state_type"] == "CRASHED"
    assert set(running_services.tasks(run_id).values()) == {"Crashed"}


@pytest.mark.parametrize("owner", ["another program", "a Prefect server that this project did not start"])
def test_taken_port_is_refused(running_services: Services, place: Place, owner: str) -> None:
    """The message says who seems to have it and how to choose another; nothing is left behind."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1] if owner == "another program" else running_services.port
        failed = place.olmo("up", "--port", str(port))
    assert failed.returncode == 1
    assert f"port {port} is taken by {owner}" in failed.stderr
    assert "--port" in failed.stderr and "OLMO_PORT" in failed.stderr
    assert recorded(place).server is None
    assert processes.carrying(**{processes.MARK: str(place.home)}) == []


def test_down_where_nothing_was_started(place: Place) -> None:
    """Not an error."""
    assert done(place.olmo("down")) == "nothing was running\n"
    code, found = status(place)
    assert code == 1
    assert [(each["pool"], each["state"]) for each in found["workers"]] == [
        ("cpu", "not running"),
        ("gpu", "not running"),
    ]
    assert "services are down: `olmo up` starts them" in place.olmo("status").stdout


def test_before_the_first_up_commands_go_to_the_port_that_is_asked_for(place: Place) -> None:
    """Not to 4200, where somebody else's server may be; once a port is on record that one counts."""
    asked, recorded_port = free_port(), free_port()
    here = replace(place, extra={"OLMO_PORT": str(asked)})
    assert status(here)[1]["server"]["api"] == f"http://127.0.0.1:{asked}/api"
    done(replace(place, extra={"OLMO_PORT": str(recorded_port)}).olmo("down"))
    assert status(here)[1]["server"]["api"] == f"http://127.0.0.1:{asked}/api"
    failed = here.olmo("watch")
    assert failed.returncode == 1 and f":{asked}/api" in failed.stderr, failed.stderr
    failed = here.prefect("deployment", "run", "build-dolma")
    assert failed.returncode == 1 and f"http://127.0.0.1:{asked}/api/; start this project's" in failed.stderr
    Project(directory=ROOT, home=place.home).write_state(State(port=recorded_port))
    assert status(here)[1]["server"]["api"] == f"http://127.0.0.1:{recorded_port}/api"


def test_reused_process_number_is_left_alone(place: Place, strangers: dict[str, subprocess.Popen[bytes]]) -> None:
    """A stale record whose number belongs to a stranger by now."""
    stale = ProcessRecord(pid=strangers["plain"].pid, started="of another time")
    Project(directory=ROOT, home=place.home).write_state(State(server=stale, workers={"cpu": stale}))
    assert done(place.olmo("down", "--grace", "1")) == "nothing was running\n"
    assert strangers["plain"].poll() is None
    assert recorded(place).server is None


def test_unreadable_state_is_an_error(place: Place) -> None:
    """Guessing could mean ending somebody else's process."""
    place.home.mkdir()
    (place.home / "state.json").write_text('{"port": 4200, "server": {"pid": 1}}', encoding="utf-8")
    failed = place.olmo("down")
    assert failed.returncode == 1
    assert "state.json cannot be read" in failed.stderr


def test_service_that_dies_shows_the_end_of_its_log(
    place: Place, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interpreter that fails at once stands for a broken installation."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nsleep 2; echo no module named prefect >&2; exit 1\n", encoding="ascii")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    project = Project(directory=ROOT, home=place.home)
    state = State(port=free_port())
    with pytest.raises(services.ServiceError, match=r"ended while starting.*\n +no module named prefect"):
        services.wait_for_server(project, state, services.start_server(project, state), deadline=600)


def test_bad_port_is_a_usage_error(place: Place) -> None:
    """From the option (argparse: 2) and from the variable (1)."""
    assert place.olmo("up", "--port", "70000").returncode == 2
    failed = Place(home=place.home, profiles=place.profiles, extra={"OLMO_PORT": "many"}).olmo("up")
    assert failed.returncode == 1
    assert "OLMO_PORT: 'many' is not a port" in failed.stderr
    assert replace(place, extra={"OLMO_PORT": "many"}).olmo("status").returncode == 1


def test_help_does_not_import_prefect(place: Place) -> None:
    """`olmo --help` answers at once."""
    code = "import sys; from flows.command.main import main\ntry: main(['--help'])\nfinally: assert 'prefect' not in sys.modules"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "status" in process.stdout
