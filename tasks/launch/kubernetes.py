"""Training as an indexed Kubernetes job: one pod a machine, which knows torch and a RUN.json and nothing of Prefect.

The job is created suspended, put on record, then resumed. It goes through `kubectl`, with whatever context and rights
that has here. Pods meet at the first one by the name that the headless service gives it. Not tried on a cluster: the
manifests are checked against Kubernetes' published schema, and the commands against a stand-in for `kubectl`.
"""

from __future__ import annotations

import datetime
import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olmo_core.errors import JobError
from olmo_core.train.launch import DONE, FAILED, PREEMPTED
from tasks.launch.job import LOST, Job, JobSpec

_WAIT = 60
"""Seconds for one command."""
_RUN_FILE = "/etc/olmo/run.json"


@dataclass(frozen=True, kw_only=True)
class KubernetesOptions:
    """What the cluster wants to know."""

    image: str = ""
    """Image with Python, torch and this package; needed."""
    namespace: str = "default"
    """Namespace of job, service and configuration."""
    gpus: bool = True
    """Ask for a GPU (`nvidia.com/gpu`) for each process."""
    cpu: str | None = None
    """Processors of a pod, e.g. `32`."""
    memory: str | None = None
    """Memory of a pod, e.g. `512Gi`."""
    secret: str | None = None
    """Secret with the store's AWS_... variables."""
    claim: str | None = None
    """Persistent volume claim with a store that is a folder; it is mounted where the store's address says."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels that a machine must have."""
    port: int = 29_500
    """Where the pods meet, on the first of them."""

    __pydantic_config__ = {"use_attribute_docstrings": True, "extra": "forbid"}


class Kubernetes:
    """Jobs of the cluster that `kubectl` speaks to."""

    name = "kubernetes"

    def __init__(self, options: KubernetesOptions | None = None) -> None:
        self._options = options or KubernetesOptions()

    def start(self, spec: JobSpec) -> Job:
        """Create configuration, service and job, suspended."""
        manifests = manifest(spec, self._options)
        self._kubectl("create", "-f", "-", given=json.dumps(manifests))
        return Job(
            launcher=self.name,
            id={"job": resource_name(spec.name), "namespace": self._options.namespace},
            name=spec.name,
            log="",
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )

    def release(self, job: Job) -> None:
        """Resume it."""
        self._suspend(job, False)

    def poll(self, job: Job) -> int | None:
        """Return its exit code: that of its pods, or 75 when it was suspended and its pods are gone."""
        try:
            found = json.loads(self._kubectl("get", "job", job.id["job"], "-o", "json"))
        except JobError as error:
            if "NotFound" in str(error):
                return LOST
            raise
        status = found.get("status", {})
        over = {one["type"] for one in status.get("conditions", ()) if one.get("status") == "True"}
        if "Complete" in over:
            return DONE
        if "Failed" in over:
            return self._pods_code(job)
        if found["spec"].get("suspend") and not status.get("active"):
            return PREEMPTED
        return None

    def cancel(self, job: Job) -> None:
        """Suspend it: its pods get SIGTERM and the grace time."""
        self._suspend(job, True)

    def discard(self, job: Job) -> None:
        """Delete job, service and configuration, where they are there."""
        self._kubectl("delete", "job,service,configmap", job.id["job"], "--ignore-not-found", "--wait=true")

    def tail(self, job: Job, lines: int = 20) -> list[str]:
        """Return the end of the first pod's log."""
        try:
            selector = f"job-name={job.id['job']},batch.kubernetes.io/job-completion-index=0"
            return self._kubectl("logs", "-l", selector, f"--tail={lines}").splitlines()
        except JobError as error:
            return [f"(no log: {error})"]

    def _pods_code(self, job: Job) -> int:
        pods = json.loads(self._kubectl("get", "pods", "-l", f"job-name={job.id['job']}", "-o", "json"))["items"]
        ended = [
            state["state"]["terminated"]["exitCode"]
            for pod in pods
            for state in pod.get("status", {}).get("containerStatuses", ())
            if "terminated" in state.get("state", {})
        ]
        if not ended:
            return LOST
        return PREEMPTED if set(ended) <= {DONE, PREEMPTED} and PREEMPTED in ended else FAILED

    def _suspend(self, job: Job, suspend: bool) -> None:
        patch = json.dumps({"spec": {"suspend": suspend}})
        self._kubectl("patch", "job", job.id["job"], "--type=merge", "-p", patch)

    def _kubectl(self, *words: str, given: str | None = None) -> str:
        command = ["kubectl", f"--namespace={self._options.namespace}", *words]
        try:
            done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=_WAIT, check=False)
        except FileNotFoundError as error:
            raise JobError(
                "launcher: kubernetes needs the command kubectl, which this machine does not have; install it where the worker of pool gpu runs"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise JobError(f"kubectl {words[0]} did not answer within {_WAIT} s") from error
        if done.returncode != 0:
            raise JobError(f"kubectl {' '.join(words[:3])} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout


def resource_name(name: str) -> str:
    """Return a name that a job, a service and a host may have: at most 52 letters, as pods get an index behind it."""
    cleaned = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    cleaned = cleaned if cleaned[:1].isalpha() else f"run-{cleaned}"
    return cleaned if len(cleaned) <= 52 else f"{cleaned[:30].rstrip('-')}-{cleaned[-21:].lstrip('-')}"


def manifest(spec: JobSpec, options: KubernetesOptions) -> dict[str, Any]:
    """Return configuration, service and job as one list. Raises JobError when the image is missing."""
    if not options.image:
        raise JobError("kubernetes.image: an image with Python, torch and this package is needed")
    name = resource_name(spec.name)
    labels = {"app.kubernetes.io/name": "olmo-train", "app.kubernetes.io/instance": name}
    metadata = {"name": name, "namespace": options.namespace, "labels": labels}
    text = spec.run_file.read_text(encoding="utf-8")
    configuration = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"run.json": text}}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "clusterIP": "None",
            # The first pod must be found before it is ready: the others wait for it.
            "publishNotReadyAddresses": True,
            "selector": labels,
            "ports": [{"name": "rendezvous", "port": options.port}],
        },
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "suspend": True,
            "completionMode": "Indexed",
            "completions": spec.nodes,
            "parallelism": spec.nodes,
            # One rank that is gone ends them all; starting anew is the flow's business, which knows what was saved.
            "backoffLimit": 0,
            "template": {"metadata": {"labels": labels}, "spec": _pod(spec, options, name, json.loads(text)["store"])},
        },
    }
    return {"apiVersion": "v1", "kind": "List", "items": [configuration, service, job]}


def _pod(spec: JobSpec, options: KubernetesOptions, name: str, store: str) -> dict[str, Any]:
    command = ["python", "-m", "olmo_core.train.launch", f"--processes={spec.processes}"]
    if spec.nodes > 1:
        command += [f"--nodes={spec.nodes}", f"--rendezvous={name}-0.{name}:{options.port}", f"--id={name}"]
    amounts = {
        **({"nvidia.com/gpu": str(spec.processes)} if options.gpus else {}),
        **({"cpu": options.cpu} if options.cpu else {}),
        **({"memory": options.memory} if options.memory else {}),
    }
    volumes: list[dict[str, Any]] = [
        {"name": "run", "configMap": {"name": name}},
        # NCCL and the loader share memory; the default of 64 MiB is too little.
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
    ]
    mounts = [{"name": "run", "mountPath": str(Path(_RUN_FILE).parent)}, {"name": "memory", "mountPath": "/dev/shm"}]
    if options.claim:
        volumes.append({"name": "store", "persistentVolumeClaim": {"claimName": options.claim}})
        mounts.append({"name": "store", "mountPath": store})
    variables = {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": str(spec.threads or 1), **spec.environment}
    container = {
        "name": "trainer",
        "image": options.image,
        "command": [*command, _RUN_FILE],
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        **({"envFrom": [{"secretRef": {"name": options.secret}}]} if options.secret else {}),
        "resources": {"limits": amounts, "requests": amounts},
        "volumeMounts": mounts,
    }
    return {
        "restartPolicy": "Never",
        "subdomain": name,
        "terminationGracePeriodSeconds": round(spec.grace),
        **({"nodeSelector": dict(options.node_selector)} if options.node_selector else {}),
        "containers": [container],
        "volumes": volumes,
    }
