"""`prefect deployment run NAME` with a bare name, and what the plugin must leave alone."""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flows.command import plugin
from flows.command.local_paths import made_absolute
from flows.command.project import Project, State
from flows.command.usage import UsageError
from tests.flows.conftest import ROOT, Place, Services, done


def test_bare_name_runs_to_the_end_in_this_environment(running_services: Services) -> None:
    """The word of the issue: the bare name, with parameters and --watch, exit code 0 after Completed."""
    shown = done(running_services.prefect("deployment", "run", "probe", "--watch", "-p", "word=ok", "-p", "number=3"))
    assert "finished successfully in 'Completed'" in shown
    assert f"http://127.0.0.1:{running_services.port}/v2/runs/flow-run/" in shown
    told = json.loads((running_services.home / "probe.json").read_text(encoding="utf-8"))
    assert told == {"executable": sys.executable, "directory": str(ROOT), "word": "ok", "number": 3}


@pytest.mark.parametrize("name", ["build-dolma", "build-dolma/build-dolma"])
def test_bare_and_full_name_are_the_same_deployment(running_services: Services, name: str) -> None:
    """Far in the future, so that nothing is built here."""
    shown = done(running_services.prefect("deployment", "run", name, "--start-in", "10 days"))
    assert "Creating flow run for deployment 'build-dolma/build-dolma'" in shown
    run_id = shown.split("UUID: ")[1].split()[0]
    running_services.api.request("DELETE", f"/flow_runs/{run_id}")


def test_relative_paths_are_of_the_directory_of_the_command(running_services: Services, tmp_path: Path) -> None:
    """What the worker would look for in its checkout: made absolute where it is there, refused at once where it is not."""
    (tmp_path / "my.yaml").touch()
    words = ("--profile", "olmo", "deployment", "run", "build-dolma", "--start-in", "10 days")
    shown = done(running_services.prefect(*words, "-p", "recipe=my.yaml", directory=tmp_path))
    run_id = shown.split("UUID: ")[1].split()[0]
    assert running_services.run(run_id)["parameters"] == {"recipe": str(tmp_path / "my.yaml")}
    running_services.api.request("DELETE", f"/flow_runs/{run_id}")
    failed = running_services.prefect(*words, "-p", "recipe=mine.yaml", directory=tmp_path)
    assert failed.returncode == 1
    assert f"recipe=mine.yaml: there is no file {tmp_path}/mine.yaml; nothing was started" in failed.stderr
    assert "UUID" not in failed.stdout and "Traceback" not in failed.stdout + failed.stderr


def test_which_parameters_are_paths(tmp_path: Path) -> None:
    """Names of recipes and checkpoints stay; so does what is only in the checkout, where the worker looks."""
    here, project = tmp_path / "here", tmp_path / "project"
    for folder in (here / "hf", project):
        folder.mkdir(parents=True)
    for file in (here / "my.yaml", here / "texts.csv", here / "core", project / "its.yaml"):
        file.touch()
    values = {
        "recipe": "my.yaml#raw",
        "data": "texts.csv",
        "models": ["hf", "./hf", "checkpoint/hf", "a/b"],
        "limit": 3,
    }
    assert made_absolute(values, here, project) == {
        "recipe": f"{here}/my.yaml#raw",
        "data": f"{here}/texts.csv",
        "models": [f"{here}/hf", f"{here}/hf", "checkpoint/hf", "a/b"],
        "limit": 3,
    }
    for same in (
        {"recipe": "quickstart"},
        {"recipe": "core"},
        {"recipe": "its.yaml"},
        {"recipe": "/no/such.yaml"},
        {"data": None},
        {"models": "x"},
    ):
        assert made_absolute(same, here, project) == same
    with pytest.raises(UsageError, match=r"recipe=its.yml: there is no file .*/here/its.yml"):
        made_absolute({"recipe": "its.yml"}, here, project)


def test_unknown_name_lists_what_there_is(running_services: Services) -> None:
    """The nearest name first, then all."""
    failed = running_services.prefect("deployment", "run", "build-dolmas")
    assert failed.returncode == 1
    assert "did you mean 'build-dolma'?" in failed.stderr
    named = failed.stderr.split("There are: ")[1].strip().split(", ")
    assert named == sorted(named) and {"build-dolma/build-dolma", "nap/nap", "nap/twin"} <= set(named)
    assert "Traceback" not in failed.stdout + failed.stderr


def test_ambiguous_name_lists_the_candidates(running_services: Services) -> None:
    """Two flows with a deployment `twin` each, none of them named so."""
    failed = running_services.prefect("deployment", "run", "twin")
    assert failed.returncode == 1
    assert "nap/twin, probe/twin" in failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr


def test_profile_works_in_any_directory(running_services: Services, tmp_path: Path) -> None:
    """`olmo up` has made the profile; outside the project it brings address and plugin."""
    failed = running_services.prefect("--profile", "olmo", "deployment", "run", "twin", directory=tmp_path)
    assert failed.returncode == 1
    assert "nap/twin, probe/twin" in failed.stderr


def test_without_a_server_the_message_says_what_to_do(place: Place) -> None:
    """No traceback of a connection error."""
    failed = place.prefect("deployment", "run", "build-dolma")
    assert failed.returncode == 1
    assert "olmo up" in failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr


def test_a_server_that_hangs_is_said(place: Place) -> None:
    """After Prefect's own patience, here cut short: a listener that nobody accepts from."""
    patience = {"PREFECT_API_REQUEST_TIMEOUT": "0.5", "PREFECT_CLIENT_MAX_RETRIES": "0"}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Project(directory=ROOT, home=place.home).write_state(State(port=listener.getsockname()[1]))
        failed = replace(place, extra=patience).prefect("deployment", "run", "build-dolma")
    assert failed.returncode == 1
    assert "gives no answer in time: the machine is busy or the server hangs" in failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr


def test_broken_state_does_not_break_other_commands(place: Place) -> None:
    """A plugin that cannot do its work warns; `prefect` goes on."""
    place.home.mkdir()
    (place.home / "state.json").write_text("not JSON", encoding="utf-8")
    process = place.prefect("config", "view")
    assert process.returncode == 0
    assert "olmo-flows plugin does nothing" in process.stdout + process.stderr


def test_broken_state_does_not_keep_a_run_from_another_server(running_services: Services, tmp_path: Path) -> None:
    """Whose server that is cannot be told then, so paths in parameters stay as they are."""
    (tmp_path / "state.json").write_text("not JSON", encoding="utf-8")
    elsewhere = {name: value for name, value in running_services.client().items() if name.startswith("PREFECT_API_")}
    words = ("deployment", "run", "build-dolma", "--start-in", "10 days", "-p", "recipe=mine.yaml")
    shown = done(replace(running_services, home=tmp_path, extra=elsewhere).prefect(*words))
    run_id = shown.split("UUID: ")[1].split()[0]
    assert running_services.run(run_id)["parameters"] == {"recipe": "mine.yaml"}
    running_services.api.request("DELETE", f"/flow_runs/{run_id}")


@pytest.mark.parametrize(
    ("line", "command", "profile"),
    [
        ("/bin/prefect deployment run x", "deployment", False),
        ("-m deployment run x -p a=1", "deployment", False),
        ("prefect --profile p deployment ls", "deployment", True),
        ("prefect -p deployment --no-prompt work-pool ls", "work-pool", True),
        ("prefect --profile=deployment version", "version", True),
        ("prefect", None, False),
        ("prefect --version", None, False),
        ("/bin/pytest deployment", None, False),
    ],
)
def test_command_lines_are_read_as_prefect_reads_them(line: str, command: str | None, profile: bool) -> None:
    """Options before the subcommand belong to Prefect; after it, `-p` is something else."""
    assert plugin.subcommand(line.split()) == command
    assert plugin.profile_option(line.split()) is profile


def test_address_comes_from_the_state_unless_another_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable, a profile and another directory each switch it off."""
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "OLMO_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OLMO_HOME", str(tmp_path))
    Project(directory=ROOT, home=tmp_path).write_state(State(port=4999))
    plain = ["prefect", "deployment", "ls"]

    assert plugin.project_environment(ROOT, plain) == {
        "OLMO_PROJECT": str(ROOT),
        "PREFECT_API_URL": "http://127.0.0.1:4999/api",
        "PREFECT_UI_URL": "http://127.0.0.1:4999/v2",
    }
    assert plugin.project_environment(tmp_path, plain) == {}
    assert plugin.project_environment(ROOT, ["prefect", "--profile", "x", "version"]) == {"OLMO_PROJECT": str(ROOT)}
    monkeypatch.setenv("PREFECT_API_URL", "")
    assert plugin.project_environment(ROOT, plain) == {"OLMO_PROJECT": str(ROOT)}
