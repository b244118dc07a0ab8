"""Kubernetes jobs: manifests that its own schema takes, and what is asked of `kubectl` (a stand-in: there is no cluster)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from olmo_core.errors import JobError
from tasks.launch.job import LOST, Job, JobSpec
from tasks.launch.kubernetes import Kubernetes, KubernetesOptions, manifest, resource_name

SCHEMA = json.loads((Path(__file__).parent / "golden" / "kubernetes.json").read_text(encoding="utf-8"))
FULL = KubernetesOptions(
    image="registry/olmo:1",
    namespace="train",
    cpu="32",
    memory="512Gi",
    secret="bucket",
    claim="store",
    node_selector={"gpu": "h200"},
)
JOB = Job(launcher="kubernetes", id={"job": "tiny-1", "namespace": "train"}, name="tiny-1", log="", started="")


def spec(folder: Path, nodes: int = 1) -> JobSpec:
    path = folder / "run.json"
    path.write_text('{"store": "/data/store"}')
    return JobSpec(name="tiny-0123456789ab-000001", run_file=path, folder=folder, processes=8, nodes=nodes, grace=55.0)


@pytest.mark.parametrize("options", [FULL, KubernetesOptions(image="olmo:1", gpus=False)])
@pytest.mark.parametrize("nodes", [1, 4])
def test_manifests_are_what_kubernetes_takes(tmp_path: Path, options: KubernetesOptions, nodes: int) -> None:
    """No unknown field, every type as published."""
    for one in manifest(spec(tmp_path, nodes), options)["items"]:
        jsonschema.validate(one, SCHEMA[one["kind"]])


def test_the_schema_refuses_what_kubernetes_would() -> None:
    """The check is one: a misspelt field and a wrong type do not pass."""
    job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": {"containers": [{"name": "x"}]}}}}
    jsonschema.validate(job, SCHEMA["Job"])
    for field, value in (("paralelism", 1), ("parallelism", "one")):
        wrong: dict[str, Any] = {**job, "spec": {**job["spec"], field: value}}  # type: ignore[dict-item]
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA["Job"])


def test_pods_meet_at_the_first_and_know_no_prefect(tmp_path: Path) -> None:
    """Indexed, started once, with time to save; RUN.json is in them."""
    configuration, service, job = manifest(spec(tmp_path, 4), FULL)["items"]
    own, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (own["completionMode"], own["completions"], own["parallelism"], own["backoffLimit"]) == ("Indexed", 4, 4, 0)
    assert own["suspend"] is True and pod["restartPolicy"] == "Never" and pod["terminationGracePeriodSeconds"] == 55
    (container,) = pod["containers"]
    name = service["metadata"]["name"]
    assert f"--rendezvous={name}-0.{name}:29500" in container["command"] and pod["subdomain"] == name
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert json.loads(configuration["data"]["run.json"]) == {"store": "/data/store"}
    assert {"name": "store", "mountPath": "/data/store"} in container["volumeMounts"]
    assert "prefect" not in json.dumps(job).lower()


def test_an_image_is_needed(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="kubernetes.image"):
        manifest(spec(tmp_path), KubernetesOptions())


def test_names_are_what_a_host_may_be_called() -> None:
    """The number at the end tells jobs apart: it is not cut off."""
    for name in ("1b-0123456789ab-000001", "a" * 80 + "-000002", "x_y.z-1"):
        found = resource_name(name)
        assert len(found) <= 52 and found[0].isalpha() and found.replace("-", "").isalnum() and found[-1] == name[-1]


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `kubectl` that writes down its words and answers from files."""
    program = tmp_path / "kubectl"
    program.write_text(
        '#!/bin/bash\necho "$@" >> "${0%/*}/asked"\n[ "$2" = create ] && cat > "${0%/*}/given"\n'
        '[ -f "${0%/*}/error" ] && { cat "${0%/*}/error" >&2; exit 1; }\n[ -f "${0%/*}/$2-$3.json" ] && cat "${0%/*}/$2-$3.json"\nexit 0\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_start_release_cancel_discard(kubectl: Path) -> None:
    """Created suspended, resumed, suspended again so that the pods may save, deleted."""
    launcher = Kubernetes(FULL)
    job = launcher.start(spec(kubectl))
    assert [one["kind"] for one in json.loads((kubectl / "given").read_text())["items"]] == [
        "ConfigMap",
        "Service",
        "Job",
    ]
    launcher.release(job)
    launcher.cancel(job)
    launcher.discard(job)
    created, resumed, suspended, deleted = (kubectl / "asked").read_text().splitlines()
    assert created == "--namespace=train create -f -"
    assert '{"spec": {"suspend": false}}' in resumed and '{"spec": {"suspend": true}}' in suspended
    assert "delete job,service,configmap tiny-0123456789ab-000001" in deleted


@pytest.mark.parametrize(
    ("status", "suspend", "pods", "code"),
    [
        ({"active": 1}, False, [], None),
        ({}, False, [], None),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, False, [], 0),
        ({"conditions": [{"type": "Failed", "status": "True"}]}, False, [75, 75], 75),
        ({"conditions": [{"type": "Failed", "status": "True"}]}, False, [75, 1], 1),
        ({"conditions": [{"type": "Failed", "status": "True"}]}, False, [], LOST),
        ({"active": 1}, True, [], None),
        ({}, True, [], 75),
    ],
)
def test_exit_codes(kubectl: Path, status: dict[str, Any], suspend: bool, pods: list[int], code: int | None) -> None:
    """From the job's conditions and the codes of its pods; suspended and without pods: preempted."""
    (kubectl / "get-job.json").write_text(json.dumps({"spec": {"suspend": suspend}, "status": status}))
    ended = [{"status": {"containerStatuses": [{"state": {"terminated": {"exitCode": one}}}]}} for one in pods]
    (kubectl / "get-pods.json").write_text(json.dumps({"items": ended}))
    assert Kubernetes(FULL).poll(JOB) == code


def test_a_job_that_was_deleted_is_lost_and_other_errors_are_told(kubectl: Path) -> None:
    (kubectl / "error").write_text('Error from server (NotFound): jobs.batch "tiny-1" not found')
    assert Kubernetes(FULL).poll(JOB) == LOST
    (kubectl / "error").write_text("Unable to connect to the server")
    with pytest.raises(JobError, match="Unable to connect"):
        Kubernetes(FULL).poll(JOB)
