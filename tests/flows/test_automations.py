"""The automations on a real server: pausing after repeated failure, runs without a sign of life, a webhook that is told."""

from __future__ import annotations

import http.server
import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.command.automations import HEARTBEAT, NOTIFY, SILENCE, crash_the_silent
from flows.command.services import environment
from tests.flows.conftest import Services, done, wait_until

pytestmark = [pytest.mark.timeout(1800), pytest.mark.slow]


@pytest.fixture
def listener() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An HTTP server on this machine, and the JSON bodies that it got."""
    got: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/hook", got
    server.shutdown()
    server.server_close()


def a_run(services: Services, deployment: str, *, tags: tuple[str, ...] = ()) -> str:
    """A run for tomorrow: no worker takes it, and the test says what becomes of it."""
    known = services.api.deployments()[deployment]
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body = {"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": later}}, "tags": list(tags)}
    return str(services.api.request("POST", f"/deployments/{known['id']}/create_flow_run", body)["id"])


def becomes(services: Services, run_id: str, state: str, message: str = "") -> None:
    body = {"state": {"type": state, "name": state.capitalize(), "message": message}, "force": True}
    services.api.request("POST", f"/flow_runs/{run_id}/set_state", body)


def test_a_deployment_is_paused_after_scheduled_runs_have_failed_and_a_block_is_told(
    running_services: Services, listener: tuple[str, list[dict[str, Any]]]
) -> None:
    """Two failures of scheduled runs and one that a person started leave it alone; the third scheduled one pauses it. The webhook got all."""
    services, (address, got) = running_services, listener
    kind = services.api.request("GET", "/block_types/slug/webhook")
    schema = services.api.find("block_schemas", block_schemas={"block_type_id": {"any_": [kind["id"]]}})[0]
    name = f"hook-{uuid.uuid4().hex[:6]}"
    block = {"name": name, "data": {"url": address}, "block_type_id": kind["id"], "block_schema_id": schema["id"]}
    services.api.request("POST", "/block_documents/", block)
    told = replace(services, extra={**services.extra, NOTIFY: f"webhook/{name}"})
    done(told.olmo("up"))
    wrong = replace(services, extra={**services.extra, NOTIFY: "webhook/none"}).olmo("up")
    assert wrong.returncode == 1 and f"{NOTIFY}: the server has no block 'webhook/none'" in wrong.stderr

    deployment = "probe/probe"

    def paused() -> bool:
        return bool(services.api.deployments()[deployment]["paused"])

    scheduled = ("auto-scheduled",)
    made = []

    def fails(tags: tuple[str, ...], state: str = "FAILED", message: str = "") -> None:
        made.append(a_run(services, deployment, tags=tags))
        becomes(services, made[-1], state, message)

    for i, tags in enumerate((scheduled, scheduled, (), ())):
        fails(tags, message=f'number {i}, "quoted"')
    names = {f'number {i}, "quoted"' for i in range(4)}
    wait_until(lambda: {one["message"] for one in got} >= names, seconds=300, what="four calls of the webhook")
    told_of = [one for one in got if one["message"] in names]  # another test's run may have failed late
    assert len(told_of) == 4
    assert {one["state"] for one in told_of} == {"Failed"} and {one["flow"] for one in told_of} == {"probe"}
    assert not paused(), "two scheduled failures, and two of runs that somebody has started"
    fails(scheduled, "CRASHED")
    try:
        wait_until(paused, seconds=300, what="the deployment to be paused")
    finally:
        services.api.request(
            "POST", f"/deployments/{services.api.deployments()[deployment]['id']}/resume_deployment", {}
        )
        (standing,) = [
            one
            for one in services.api.request("POST", "/automations/filter", {})
            if one["name"] == "notify-of-failures"
        ]
        services.api.request("DELETE", f"/automations/{standing['id']}")
        for one in made:  # for tomorrow as they are, they would be what `olmo watch` of other tests takes for the last
            services.api.request("DELETE", f"/flow_runs/{one}")


def test_a_run_without_a_sign_of_life_is_called_crashed(running_services: Services) -> None:
    """The automation that is there, with a shorter time and for one run: it gave one heartbeat, and no process carries it."""
    services = running_services
    there = {one["name"]: one for one in services.api.request("POST", "/automations/filter", {})}
    wanted = crash_the_silent()
    assert there[wanted["name"]]["trigger"]["within"] == SILENCE >= 3 * HEARTBEAT
    worker = environment_of_services(services)
    assert worker["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(HEARTBEAT)

    run_id = a_run(services, "probe/probe")
    becomes(services, run_id, "RUNNING")
    of_it = {"prefect.resource.id": f"prefect.flow-run.{run_id}"}
    made = services.api.request(
        "POST",
        "/automations/",
        {**wanted, "name": f"test-{run_id}", "trigger": {**wanted["trigger"], "match": of_it, "within": 10}},
    )
    try:
        sent = [beat(services, of_it)]

        def crashed() -> bool:
            # The server may not have taken up the automation yet when the first heartbeat came: then another one begins its time.
            if time.monotonic() > sent[-1] + 40:
                sent.append(beat(services, of_it))
            return bool(services.run(run_id)["state_type"] == "CRASHED")

        wait_until(crashed, seconds=600, what="the run to be Crashed")
        assert "no sign of life" in services.run(run_id)["state"]["message"]
    finally:
        services.api.request("DELETE", f"/automations/{made['id']}")
        services.api.request("DELETE", f"/flow_runs/{run_id}")


def environment_of_services(services: Services) -> dict[str, str]:
    """The variables that `olmo up` gives to server and workers of this place."""
    from flows.command.project import Project

    project = Project(directory=services.project, home=services.home)
    return environment(project, project.read_state())


def beat(services: Services, of_it: dict[str, str]) -> float:
    """Send a heartbeat of a run, and return when."""
    event = {"occurred": datetime.now(UTC).isoformat(), "event": "prefect.flow-run.heartbeat", "resource": of_it}
    body = [{**event, "id": str(uuid.uuid4()), "payload": {}, "related": []}]
    services.api.request("POST", "/events", body)  # type: ignore[arg-type]
    return time.monotonic()
