"""Events for Prefect's automations: a run has committed a checkpoint.

The trainer knows no Prefect; who watches its job looks into the store. An event is `olmo.checkpoint.saved`, its resource
`olmo.checkpoint.{run}.{fingerprint}`; where the run is to be evaluated as it goes on it has the label `olmo.evaluate-on` too, and its
payload the parameters of evaluate-olmo (flows/command/automations.py has the other half).
"""

from __future__ import annotations

import logging
import time

from prefect.events import emit_event

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from tasks.training import TrainingResources

log = logging.getLogger(__name__)

SAVED = "olmo.checkpoint.saved"
PAUSE = 5.0
"""Seconds between two looks for new checkpoints, at least."""


class CheckpointEvents:
    """Tells of each checkpoint of a run once; trouble with it is logged and never stops training.

    A retry of the run tells of all again: an evaluation that is there is found in the store, in seconds.
    """

    def __init__(self, store: ArtifactStore, run: ArtifactRef, resources: TrainingResources) -> None:
        self._store, self._run, self._resources = store, run, resources
        self._seen: set[str] = set()
        self._looked = 0.0

    def look(self, *, final: bool = False) -> None:
        """Look for checkpoints that are new, when it is time, and tell of them."""
        now = time.monotonic()
        if not final and now - self._looked < PAUSE:
            return
        self._looked = now
        try:
            for manifest in self._new():
                self._tell(manifest)
        except Exception as error:
            log.warning("no event of the checkpoints of %s: %s: %s", self._run, type(error).__name__, error)

    def _new(self) -> list[Manifest]:
        """Manifests of this run that were committed since the last look, by step; a folder without one is still being written."""
        folder = f"{Kind.CHECKPOINT}/{self._run.name}"
        found = []
        for short in self._store.storage.folders(folder):
            path = f"{folder}/{short}/manifest.json"
            if short in self._seen or not self._store.storage.exists(path):
                continue
            manifest = Manifest.from_bytes(self._store.storage.read(path), path)
            self._seen.add(short)
            if manifest.recipe.get("run") == self._run.fingerprint:
                found.append(manifest)
        return sorted(found, key=lambda m: int(m.recipe["step"]))

    def _tell(self, manifest: Manifest) -> None:
        address, resources = str(manifest.ref), self._resources
        resource = {
            "prefect.resource.id": f"olmo.checkpoint.{manifest.ref.name}.{manifest.ref.fingerprint[:12]}",
            "prefect.resource.name": address,
            "olmo.run": str(self._run),
        }
        payload: dict[str, object] = {
            "checkpoint": address,
            "step": int(manifest.recipe["step"]),
            "tokens": int(manifest.counts.get("tokens", 0)),
        }
        if resources.evaluate is not None:
            resource["olmo.evaluate-on"] = resources.evaluate_on
            payload |= {
                "recipe": resources.evaluate,
                "resources": {"store": self._store.uri, "credentials_block": resources.credentials_block},
            }
        emit_event(event=SAVED, resource=resource, payload=payload)
