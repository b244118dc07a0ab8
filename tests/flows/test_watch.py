"""`olmo watch` of what fails: the error once, and advice only where a retry can help."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flows.command import following, password
from flows.command.following import Followed
from flows.command.project import Project
from flows.command.server_api import ServerApi
from flows.command.watch import in_words
from tests.flows.conftest import Services, done
from tests.ports import free_port

TASK = """Finished in state Failed('Task run encountered an exception RecipeError: tokens: there is no tokens/web@latest in /s; tags: none')"""
FLOW = """Encountered exception during execution: RecipeError('tokens: there is no tokens/web@latest in /s; tags: none')
Traceback (most recent call last):
  File "tasks/training.py", line 142, in _named
    ref = store.resolve(text)
RecipeError: tokens: there is no tokens/web@latest in /s; tags: none"""
ENGINE = FLOW.replace(FLOW.splitlines()[0], "Engine execution exited with unexpected exception")
STATE = "Flow run encountered an exception: RecipeError: tokens: there is no tokens/web@latest in /s; tags: none"
ABOVE = f"JobError: training: its run tiny ended as Failed: {STATE.removeprefix('Flow run encountered an exception: ')}"
"""One error as Prefect 3.8.8 has logged it in five places."""


def test_reports_of_one_error_are_known_as_such() -> None:
    followed = Followed(ServerApi(1), "", io.StringIO())
    assert [followed.said(one) for one in (TASK, FLOW, ENGINE, STATE, ABOVE)] == [False, True, True, True, True]
    job = "JobError: torchrun job toy (pid 1) failed with exit code 1; there is no checkpoint\\nLast lines:\\n  x"
    assert not followed.said(f"Finished in state Failed('Task run encountered an exception {job}')")
    assert followed.said(job.replace("\\n", "\n"))
    assert followed.said(
        "JobError: training: its run tiny ended as Failed: " + job.removeprefix("JobError: ").replace("\\n", "\n")
    )
    assert not followed.said("KeyError: 'a'") and not followed.said("KeyError: 'b'") and followed.said("KeyError('a')")
    assert not followed.said("a warning") and not followed.said("a warning")


def test_an_error_without_words_hides_no_other_one() -> None:
    """Each of these is another error than those before it, though its report holds their words."""
    followed = Followed(ServerApi(1), "", io.StringIO())
    for one in (
        "AssertionError()",
        "AssertionError: no shard",
        "KeyError: 'a'",
        "KeyError: 'a b'",
        "x: AssertionError: y",
    ):
        assert not followed.said(f"Task run failed with exception: {one}"), one
        assert followed.said(f"Flow run encountered an exception: {one}"), one


def test_a_long_warning_costs_no_time() -> None:
    """Of 200,000 characters in which no error is named: time that grows with their square would be twenty minutes."""
    assert not Followed(ServerApi(1), "", io.StringIO()).said("a b " * 50_000)


def test_advice_to_retry_is_left_out_where_it_cannot_help() -> None:
    run = {"name": "n", "id": "i", "deployment_id": "d", "state_name": "Failed", "state_type": "FAILED"}
    for message in (STATE, "Validation of flow parameters failed with error: Flow run received invalid parameters:"):
        told = in_words(run | {"state": {"message": message}})
        assert "retry" not in told and "mend that first" in told and message in told
        assert message not in in_words(run | {"state": {"message": message}, "said": True})
    told = in_words(run | {"state": {"message": "Flow run encountered an exception: JobError: it died"}})
    assert "`prefect flow-run retry i` goes on" in told and "it died" in told


def test_a_wrong_recipe_is_said_once(running_services: Services, tmp_path: Path) -> None:
    """As a deployment, on real services."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: x\nsurces: []\n", encoding="utf-8")
    done(running_services.prefect("deployment", "run", "build-dolma", "-p", f"recipe={wrong}"))
    watched = running_services.olmo("watch")
    assert watched.returncode == 1
    assert watched.stdout.count("unknown field 'surces'") == 1, watched.stdout
    assert "mend that first" in watched.stdout and "flow-run retry" not in watched.stdout


def test_what_a_run_logs_last_is_shown_though_it_comes_after_its_end(
    running_services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect sends log and task runs apart from the run's state: here a run that is Completed when its last stage is not yet."""
    monkeypatch.setattr(following, "_LAST", 100)
    api = running_services.api
    flow = api.request("POST", "/flows/", {"name": "late"})["id"]
    run = api.request("POST", "/flow_runs/", {"flow_id": flow, "name": "late-one"})["id"]
    stage = {"flow_run_id": run, "name": "publish/x", "task_key": "publish", "dynamic_key": "0"}
    task = api.request("POST", "/task_runs/", stage)["id"]

    def ended(kind: str, one: str) -> None:
        for state in ("RUNNING", "COMPLETED"):
            api.request("POST", f"/{kind}/{one}/set_state", {"state": {"type": state}, "force": True})

    def log(message: str, logger: str) -> None:
        line = {
            "name": logger,
            "level": 20,
            "message": message,
            "timestamp": datetime.now(UTC).isoformat(),
            "flow_run_id": run,
        }
        api.request("POST", "/logs/", [line])

    class Late(ServerApi):
        """The rest is there at the fourth look only."""

        looks = 0

        def find(self, kind: str, **body: Any) -> list[dict[str, Any]]:
            self.looks += kind == "logs"
            if self.looks == 4 and kind == "logs":
                ended("task_runs", task)
                log("publish/x: corpus/x@1; 3 documents", "prefect.task_runs")
                log("Finished in state Completed()", "prefect.flow_runs")
            return super().find(kind, **body)

    ended("flow_runs", run)
    kept = password.stored(Project(directory=running_services.project, home=running_services.home))
    out, late = io.StringIO(), Late(running_services.port, password=kept)
    assert following.follow(late, run, out)["state_type"] == "COMPLETED"
    assert "      publish/x              3 documents\n" in out.getvalue(), out.getvalue()
    assert late.looks == 4, "it ends with the last message"


def test_a_message_that_comes_late_is_shown_once(running_services: Services) -> None:
    """The server orders messages by their time, not as they came: a late one is before those that were seen."""
    api = running_services.api
    flow = api.request("POST", "/flows/", {"name": "late"})["id"]
    run = api.request("POST", "/flow_runs/", {"flow_id": flow, "name": "unordered", "state": {"type": "RUNNING"}})["id"]

    def log(message: str, second: int) -> None:
        line = {"name": "prefect.flow_runs", "level": 40, "message": message, "flow_run_id": run}
        api.request(
            "POST", "/logs/", [line | {"timestamp": datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC).isoformat()}]
        )

    out = io.StringIO()
    followed = Followed(api, run, out)
    for message, second in (("first", 1), ("third", 3), ("second", 2), ("fourth", 4)):
        log(message, second)
        followed.look()
    assert [line.strip() for line in out.getvalue().splitlines()[1:]] == ["first", "third", "second", "fourth"]
    api.request("DELETE", f"/flow_runs/{run}")


def test_a_run_that_is_over_is_told_though_its_server_goes(running_services: Services) -> None:
    """`olmo down` in another terminal the moment after: the run completed, whatever is not shown of it."""
    api = running_services.api
    flow = api.request("POST", "/flows/", {"name": "late"})["id"]
    run = api.request("POST", "/flow_runs/", {"flow_id": flow, "name": "last", "state": {"type": "COMPLETED"}})["id"]

    class Gone(ServerApi):
        """Another port, where nobody listens, after the first look at the tasks."""

        def find(self, kind: str, **body: Any) -> list[dict[str, Any]]:
            found = super().find(kind, **body)
            if kind == "task_runs":
                self.address = f"http://127.0.0.1:{free_port()}/api"
            return found

    kept = password.stored(Project(directory=running_services.project, home=running_services.home))
    assert following.follow(Gone(running_services.port, password=kept), run, io.StringIO())["state_type"] == "COMPLETED"
    api.request("DELETE", f"/flow_runs/{run}")
