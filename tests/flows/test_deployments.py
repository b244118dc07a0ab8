"""The deployments of prefect.yaml, in the file and on the server."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from flows.deployed import BUILD, EVALUATE, TRAIN
from olmo_core.train.recipe import load_train_recipe
from tasks.training import TrainingResources
from tests.flows.conftest import ROOT, Services, done, wait_until


@pytest.fixture(scope="module")
def declared() -> dict[str, Any]:
    """prefect.yaml."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    return found


def test_file_agrees_with_the_project(declared: dict[str, Any]) -> None:
    """Every flow is there; version and Prefect are those of pyproject.toml."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"prefect=={declared['prefect-version']}" in pyproject["optional-dependencies"]["flows"]
    assert declared["deployments"]
    for deployment in declared["deployments"]:
        path, _, function = deployment["entrypoint"].partition(":")
        assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8")
        assert deployment["version"] == pyproject["version"]
        assert deployment["tags"]
        assert deployment["description"].strip()


def test_what_flows_start_is_there(declared: dict[str, Any]) -> None:
    """On the pools that their names promise."""
    pools = {}
    for deployment in declared["deployments"]:
        flow = deployment["entrypoint"].partition(":")[2].replace("_", "-")
        pools[f"{flow}/{deployment['name']}"] = deployment["work_pool"]["name"]
    started = {BUILD: "cpu", TRAIN: "cpu", **{name: pool for pool, name in EVALUATE.items()}}
    assert started == {name: pools.get(name) for name in started}


def test_up_has_deployed_all_of_them(declared: dict[str, Any], running_services: Services) -> None:
    """Same parameters, tags, pool, limit on the server; schedules are there and off; the form has the flow's parameters."""
    deployed = running_services.api.deployments()
    for wanted in declared["deployments"]:
        (found,) = [
            each
            for each in deployed.values()
            if (each["entrypoint"], each["name"]) == (wanted["entrypoint"], wanted["name"])
        ]
        assert set(wanted["tags"]) <= set(found["tags"])
        assert found["parameters"] == wanted.get("parameters", {})
        assert found["work_pool_name"] == wanted["work_pool"]["name"]
        assert found["global_concurrency_limit"]["limit"] == wanted["concurrency_limit"]["limit"]
        assert found["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        assert [each["slug"] for each in found["schedules"]] == [each["slug"] for each in wanted.get("schedules", [])]
        assert not any(each["active"] for each in found["schedules"])
        # Resolved by the worker, not by `deploy`: the same deployment serves a checkout in any directory.
        assert found["pull_steps"] == wanted["pull"]
    form = deployed["build-dolma/build-dolma"]["parameter_openapi_schema"]["properties"]
    assert set(form) >= {"recipe", "overrides"}
    form = deployed["train-olmo/tiny"]["parameter_openapi_schema"]
    assert set(form["properties"]) == {"recipe", "tokens", "held_out", "start", "overrides", "resources"}
    described = form["definitions"]["TrainResources"]["properties"]["save_every"]
    assert described["description"].startswith("Steps from one checkpoint to the next")


def test_every_recipe_is_one_that_a_deployment_names_or_a_person_may(declared: dict[str, Any]) -> None:
    """Deployments of train-olmo, but for the one of any recipe, are called after recipes that load, and give resources that the flow takes."""
    for deployment in declared["deployments"]:
        if deployment["entrypoint"].startswith("flows/train_olmo") and deployment["name"] != "train-olmo":
            parameters = deployment["parameters"]
            assert load_train_recipe(parameters["recipe"]).name == parameters["recipe"] == deployment["name"]
            TypeAdapter(TrainingResources).validate_python(parameters.get("resources", {}))


def test_schedule_that_is_switched_on_makes_runs(running_services: Services) -> None:
    """With SQLAlchemy 2.1 it silently makes none; and `olmo up` must not switch it off again."""
    api = running_services.api
    name = "build-dolma/build-dolma"

    def scheduled() -> list[dict[str, Any]]:
        deployment = {"id": {"any_": [api.deployments()[name]["id"]]}}
        return [run for run in api.find("flow_runs", deployments=deployment) if run["auto_scheduled"]]

    (schedule,) = api.deployments()[name]["schedules"]
    assert not scheduled()
    # Its time is 02:30 (UTC): a run that were due meanwhile would be started.
    wait_until(lambda: not "02:24" < f"{datetime.now(UTC):%H:%M}" < "02:31", seconds=800, what="the hour to pass")
    done(running_services.prefect("deployment", "schedule", "resume", name, schedule["id"]))
    try:
        runs = wait_until(scheduled, seconds=300, what="a scheduled run of build-dolma")
        assert {run["state_name"] for run in runs} == {"Scheduled"}
        assert all(run["expected_start_time"].split("T")[1].startswith("02:30") for run in runs)
        done(running_services.olmo("up"))
        (schedule,) = api.deployments()[name]["schedules"]
        assert schedule["active"]
    finally:
        done(running_services.prefect("deployment", "schedule", "pause", name, schedule["id"]))
    wait_until(lambda: not scheduled(), seconds=300, what="the scheduled runs to go with the schedule")
