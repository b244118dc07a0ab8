"""What two executions of one chain must have in common: all bytes of all objects but for the few named here, and all tags."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.train.run_file import UNPLANNED


@dataclass(frozen=True, kw_only=True)
class MayDiffer:
    """Objects that are not compared byte for byte."""

    objects: str
    """Pattern of `kind/name/fingerprint/key`."""
    why: str
    fields: frozenset[str] | None
    """JSON fields that are left out, anywhere, before the rest is compared; None: nothing is compared."""


MAY_DIFFER = (
    MayDiffer(
        objects="run/*/metrics.jsonl",
        why="measured on the way; losses, norms, rates and counts of all steps are compared",
        fields=frozenset(
            (
                "seconds",
                "tokens_per_second_per_device",
                "mfu",
                "data_wait_seconds",
                "memory_bytes",
                "energy_kwh",
                "co2_kg",
            )
        ),
    ),
    MayDiffer(objects="run/*/events.jsonl", why="each start of a trainer says that it started, and when", fields=None),
    MayDiffer(
        objects="report/data-to-model-*/summary.json",
        why="processor time of the stages; all else that the summary tells is compared",
        fields=frozenset(("costs",)),
    ),
    MayDiffer(objects="report/data-to-model-*/summary.md", why="printed from the same facts, costs too", fields=None),
    MayDiffer(objects="report/data-to-model-*/summary.txt", why="the same", fields=None),
)


def comparable(store: ArtifactStore, digests: dict[str, str]) -> dict[str, str]:
    """Return what must be equal in two stores, by name: digests of objects (of those that may differ in part, of the rest), the
    artifact of each tag, and of each address the whole fingerprint.

    Not of checkpoints that are there only because a trainer was told to end (`unplanned`): nothing else may rest on them.
    """
    found: dict[str, str] = {}
    everything = list(store.finished())
    unplanned = unplanned_in(everything)
    manifests = [one for one in everything if str(one.ref) not in unplanned]
    paths = {f"{m.ref}/{one.key}": one.path for m in manifests for one in m.objects}
    for key, digest in digests.items():
        if "/".join(key.split("/")[:3]) in unplanned:
            continue
        rule = next((one for one in MAY_DIFFER if fnmatch(key, one.objects)), None)
        if rule is None:
            found[key] = digest
        elif rule.fields is not None:
            found[key] = hashlib.sha256(rest(store.storage.read(paths[key]), key, rule.fields)).hexdigest()
        else:
            found[key] = "is there"
    found |= {path: str(ref) for path, ref in store.all_tags().items() if str(ref) not in unplanned}
    return found | {m.ref.address: m.ref.fingerprint for m in manifests}


def unplanned_in(manifests: Iterable[Manifest]) -> set[str]:
    """Return the addresses of the checkpoints that are there only because a trainer was told to end; nothing else depends on them."""
    return {one.ref.address for one in manifests if one.counts.get(UNPLANNED)}


def rest(raw: bytes, key: str, fields: frozenset[str]) -> bytes:
    """Return JSON, or lines of it, without some fields."""
    lines = raw.splitlines() if key.endswith(".jsonl") else [raw]
    kept = [json.loads(line, object_hook=lambda o: {k: v for k, v in o.items() if k not in fields}) for line in lines]
    return json.dumps(kept, sort_keys=True).encode()
