"""What a store holds after a run: every object's sha256, what is wrong, and how much was done twice."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import OlmoError

_INSIDE = re.compile(r"[a-z]+/[^/]+/[0-9a-f]{12}/(manifest\.json$|last-used$|attempt-[^/]+/.)")
_BESIDE = re.compile(r"refs/[a-z]+/[^/]+/[^/]+\.json$|inventory/[^/]+/known-files\.parquet$")
_TOLD = re.compile(
    r"run/[^/]+/[0-9a-f]{12}/((run|baseline)\.json|(metrics/\d+-\d+\.jsonl|(epochs|jobs|checkpoints)/\d+\.json|events/\d+-\d+\.json))$"
)
"""What a run tells on its way; its artifact is put together from it."""
_SIDECAR = ".done.json"
_MARK = "/started.json"
"""What an execution relies on, for garbage collection; no result."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The state of a store."""

    digests: dict[str, str]
    """`kind/name/fingerprint/key` -> sha256, of all objects of all finished artifacts."""
    problems: list[str] = field(default_factory=list)
    manifests: int = 0
    shards: int = 0
    """Shards listed in manifests."""
    twice: int = 0
    """Shards that more than one attempt has finished; after a kill or between two runs at once."""
    orphans: int = 0
    """Objects in attempt folders that no manifest lists and no sidecar accounts for: cut short, and counted by nobody."""
    temporary: int = 0
    """Files of a local store that a killed process had not published."""


def audit(uri: str, *, read: bool = True) -> Audit:
    """Verify every artifact of a store, and look for what should not be there; with `read` False objects are taken by their sizes."""
    store = ArtifactStore(uri)
    listed = {one.path: one.size for one in store.storage.walk("")}
    problems: list[str] = []
    digests: dict[str, str] = {}
    referred: set[str] = set()
    manifests = list(store.finished())
    for manifest in manifests:
        if read:
            problems += [f"{damage.path}: {damage.problem}" for damage in store.verify(manifest.ref)]
        else:
            problems += [f"{o.path}: not there whole" for o in manifest.objects if listed.get(o.path) != o.size]
        for shard in manifest.shards:
            try:
                shard.ledger.balance(f"{manifest.ref} {shard.key}")
            except OlmoError as error:
                problems.append(str(error))
        for role, ref in manifest.inputs.items():
            if store.find(ref) is None:
                problems.append(f"{manifest.ref}: its input {role} ({ref}) has no manifest")
        for one in manifest.objects:
            digests[f"{manifest.ref}/{one.key}"] = one.sha256
            referred.add(one.path)
            if "/attempt-" not in one.path:
                problems.append(f"{one.path}: an object outside attempt folders")
    sidecars = Counter[str]()
    for path in listed:
        if path.endswith(_SIDECAR):
            shard = json.loads(store.storage.read(path))
            sidecars[shard["fingerprint"]] += 1
            for one in shard["objects"]:
                referred.add(one["path"])
                if listed.get(one["path"]) != one["size"]:
                    problems.append(f"{path}: a sidecar whose object {one['path']} is not there whole")
        if not any(known.match(path) for known in (_INSIDE, _BESIDE, _TOLD)):
            problems.append(f"{path}: neither a manifest, a tag nor in an attempt folder")
        if path.startswith("refs/") and store.find(store.resolve(_named(path))) is None:
            problems.append(f"{path}: a tag of something that is not finished")
    orphans = [p for p in listed if "/attempt-" in p and not p.endswith((_SIDECAR, _MARK)) and p not in referred]
    return Audit(
        digests=digests,
        problems=problems,
        manifests=len(manifests),
        shards=sum(len(m.shards) for m in manifests),
        twice=sum(sidecars.values()) - len(sidecars),
        orphans=len(orphans),
        temporary=0 if "://" in uri else sum(1 for _ in Path(uri).rglob(".tmp-*")),
    )


def _named(path: str) -> str:
    _, kind, name, tag = path.split("/")
    return f"{kind}/{name}@{tag.removesuffix('.json')}"


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Return the keys whose sha256 is not the same in both."""
    return sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
