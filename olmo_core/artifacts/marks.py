"""Marks in the store that tell a garbage collection what a build relies on. No build waits for one: they are no locks.

Two marks, each one small object:

- `{attempt}/started.json`: this execution reads these inputs and lists these objects of others. It counts for as long
  as something was written in the attempt within the collection's grace (24 h).
- `{address}/last-used`: the artifact was found finished and taken as it is; its time is the last use. Written only when
  the artifact, or its mark, is more than an hour old, so that running again at once writes nothing.

Why that is enough. Both sides first write and then look (a collection deletes the manifest or sidecar and then reads
the marks; a build puts its mark and then reads manifests and sidecars), and stores are consistent. So of the two, at
least one sees the other: the collection sees the mark and puts the manifest back before it has deleted any object, or
the build finds no manifest and makes the artifact again.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError

STARTED = "started.json"
USED = "last-used"
_STALE = 3600.0
"""Seconds after which a use is noted again."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """What `started.json` says."""

    inputs: tuple[ArtifactRef, ...]
    """Artifacts that are read."""
    reuses: tuple[str, ...] | None
    """Paths of objects that the manifest will list though others wrote them; None: not decided yet, any of that name."""


def start(store: ArtifactStore, folder: str, inputs: Iterable[ArtifactRef], reuses: Iterable[str] | None) -> None:
    """Say what the execution with this attempt folder relies on; a second time with what it has decided to reuse."""
    body = {"inputs": [ref.to_json() for ref in inputs], "reuses": None if reuses is None else sorted(reuses)}
    store.storage.put(f"{folder}/{STARTED}", json.dumps(body, indent=1, ensure_ascii=False).encode())


def read_started(store: ArtifactStore, path: str) -> Started:
    """Return what a mark says. Raises IntegrityError when it cannot be read: then nobody knows what it protects."""
    try:
        data = json.loads(store.storage.read(path))
        reuses = data["reuses"]
        return Started(
            inputs=tuple(ArtifactRef.from_json(ref) for ref in data["inputs"]),
            reuses=None if reuses is None else tuple(str(one) for one in reuses),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{store.storage.url(path)} cannot be read ({error}): it says what a run relies on; nothing was deleted. "
            f"Delete that file if no run uses the store now"
        ) from error


def use(store: ArtifactStore, manifest: Manifest) -> bool:
    """Note that a finished artifact is taken as it is; False when a garbage collection has taken it away meanwhile."""
    now = time.time()
    if now - finished_at(manifest) < _STALE:
        return True
    address = manifest.ref.address
    mark = store.storage.contents(address)[1].get(USED)
    if mark is None or now - mark.modified > _STALE:
        store.storage.put(f"{address}/{USED}", b"")
    return store.storage.exists(manifest.ref.manifest_path)


def finished_at(manifest: Manifest) -> float:
    """Return when an artifact was finished, in seconds since the epoch."""
    return datetime.datetime.fromisoformat(manifest.ended).timestamp() if manifest.ended else 0.0


def confirm(store: ArtifactStore, published: Manifest, attempt: str, *, ours: bool) -> None:
    """Look, after the manifest is put, whether a garbage collection has taken this execution for dead and cleaned up.

    That takes an execution that wrote nothing for the whole grace time. Raises IntegrityError, and takes the manifest
    back, when objects are gone.
    """
    if store.storage.exists(f"{published.ref.address}/{attempt}/{STARTED}"):
        return
    gone = [one.path for one in published.objects if store.storage.size(one.path) != one.size]
    if gone:
        if ours:
            store.storage.delete(published.ref.manifest_path)
        raise IntegrityError(
            f"{published.ref}: a garbage collection deleted {len(gone)} objects of this run ({gone[0]}, ...), which had "
            f"written nothing for longer than its --attempt-hours; run again, and give it more hours"
        )


def by_path(started: Mapping[str, Started]) -> set[str]:
    """Return the paths of all objects that executions rely on."""
    return {path for one in started.values() for path in one.reuses or ()}
