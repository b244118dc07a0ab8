"""The whole path on a real server: a corpus that leaks, a run whose checkpoints an automation evaluates, a report that finds the leak."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.evaluation.benchmarks.definitions import find
from olmo_core.evaluation.benchmarks.export import export
from olmo_core.evaluation.benchmarks.loading import load
from olmo_core.evaluation.reporting import series
from olmo_core.report.evaluation.rows import NOT_RESOLVED
from tests.evaluation.planted import CORPUS, SET, plant
from tests.flows.conftest import Services, done, eventually, wait_until
from tests.report.html_checks import Page

pytestmark = [pytest.mark.timeout(4500), pytest.mark.slow]
TRAINING = """\
name: leaky
model: {preset: tiny, width: 64, layers: 2, mlp_width: 128}
tokens: 61440
batch: 8
data: {sequence_length: 128}
optimizer: {learning_rate: 1.0e-2, eps: 1.0e-8}
schedule: {kind: cosine, warmup: 5}
"""
EVALUATION = """\
name: small
benchmarks: [truthfulqa_mc2]
stand_in: true
domains: [{name: held-out, corpus: corpus/leaky-validation, tokens: 2000}]
"""


def run(services: Services, deployment: str, **parameters: Any) -> str:
    """Run a deployment to its end; returns the flow run's id."""
    words = [word for name, value in parameters.items() for word in ("-p", f"{name}={json.dumps(value)}")]
    said = done(services.prefect("deployment", "run", deployment, "--watch", *words, timeout=900))
    found = re.search(r"UUID: ([0-9a-f-]{36})", said)
    assert found, said
    return found.group(1)


def evaluations(services: Services) -> list[dict[str, Any]]:
    name = {"id": {"any_": [services.api.deployments()["evaluate-olmo/evaluate-olmo"]["id"]]}}
    return services.api.find("flow_runs", deployments=name)


def test_a_leak_is_found_and_its_effect_is_reported(running_services: Services, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    items = load(find("truthfulqa_mc2"), stand_in=True).items
    dirty = [item for item in items if len(item.context(0).removeprefix(item.shots).split()) >= 11][:6]
    export(["truthfulqa_mc2"], str(tmp_path / "benchmarks"), stand_in=True)
    plant(dirty, tmp_path / "leak.jsonl", copies=60, together=3, filling=40)
    fields = SET.format(name="truthfulqa_mc2", folder=tmp_path, fields="question")
    (tmp_path / "corpus.yaml").write_text(CORPUS.format(sets=fields, folder=tmp_path, prose=100_000))
    (tmp_path / "train.yaml").write_text(TRAINING)
    (tmp_path / "evaluation.yaml").write_text(EVALUATION)
    resources = {"store": store.uri}
    run(running_services, "build-dolma", recipe=str(tmp_path / "corpus.yaml"), resources={**resources, "workers": 1})
    before = {one["id"] for one in evaluations(running_services)}
    run(
        running_services,
        "train-olmo/tiny",
        recipe=str(tmp_path / "train.yaml"),
        tokens="tokens/leaky@latest",
        resources={
            **resources,
            "threads": 1,
            "evaluate": str(tmp_path / "evaluation.yaml"),
            "trainer": {"device": "cpu", "save_every": 30},
        },
    )

    # Nobody has asked for an evaluation: the automation has, of each checkpoint.
    def over() -> bool:
        new = [one for one in evaluations(running_services) if one["id"] not in before]
        states = {one["state_type"] for one in new}
        assert not states & {"FAILED", "CRASHED"}, new
        return len(new) == 3 and states == {"COMPLETED"}

    wait_until(over, seconds=1500, what="three evaluations by the automation")
    manifests = series(store, "leaky-small")
    assert len(manifests) == 3

    # A person asks for all of them: each is found, and the report is over all.
    again = run(
        running_services,
        "evaluate-olmo",
        models=["checkpoint/leaky@step*"],
        recipe=str(tmp_path / "evaluation.yaml"),
        resources=resources,
    )
    expected = {f"evaluation/step{step}-tokens0B" for step in (0, 30, 60)}
    assert expected == eventually(
        lambda: {name for name, state in running_services.tasks(again).items() if state == "Reused"},
        lambda found: found == expected,
    )
    (shown,) = running_services.api.find("artifacts", flow_runs={"id": {"any_": [again]}})
    assert "## Contamination" in shown["data"] and "data:image/png;base64," in shown["data"]
    report = store.manifest(store.resolve("report/evaluation-leaky-small"))
    numbers = json.loads(store.storage.read(report.object("report.json").path))
    assert [one["step"] for one in numbers["evaluations"]] == [0, 30, 60]
    bits = [one["results"]["held-out-domains"]["bits_per_byte"] for one in numbers["evaluations"]]
    assert bits[0] > bits[1] > bits[2], "it learns"
    first, _, last = numbers["contamination"]
    assert last["dirty"]["n"] == len(dirty)
    assert 0 < last["clean"]["n"] <= len(items) - len(dirty), "questions of too few words are in neither group"
    # Six items of each kind, and clean ones near the top already: the interval of their difference may touch zero.
    assert last["dirty"]["low"] > first["dirty"]["value"], "it has learned the planted answers"
    assert last["difference"]["value"] > max(0.0, first["difference"]["value"])
    assert not first["difference"]["low"] > 0, "before training it knew none"
    page = store.storage.read(report.object("report.html").path).decode()
    verdict = "dirty higher" if last["difference"]["low"] > 0 else NOT_RESOLVED
    assert Page(page).faults == [] and verdict in page and "stand-in: no score" in page
    assert "evaluation-leaky-small" in done(
        running_services.olmo("report", "evaluation", "leaky-small", "--store", store.uri)
    )
