"""The manifest: what an artifact is made of and where it came from. A manifest exists = the artifact is done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.errors import IntegrityError

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """One object of an artifact."""

    key: str
    """Name within the artifact, e.g. `00a3` or `prose/00a3`; the same before and after a rebuild."""
    path: str
    """Path relative to the store's root; may lie in another attempt or another artifact that is shared by reference."""
    size: int
    """Bytes."""
    sha256: str
    """Of the stored bytes."""
    digest: str
    """Logical content digest: equal for equal rows, whatever library version wrote them. Identity for what follows."""
    rows: int
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Small facts a later stage needs without opening the object (bytes of text, tokens)."""

    def to_json(self) -> dict[str, Any]:
        """Return the object as JSON values."""
        return {**self.__dict__, "meta": dict(self.meta)}


@dataclass(frozen=True, kw_only=True)
class FinishedShard:
    """What one unit of work left behind; written as a sidecar beside its objects, and listed in the manifest."""

    key: str
    fingerprint: str
    """sha256 of stage, version, recipe and the digests of this shard's inputs."""
    objects: tuple[StoredObject, ...]
    ledger: Ledger
    counts: Mapping[str, Any] = field(default_factory=dict)
    """What people want to know about the shard; numbers of equal name are added up for the artifact."""
    code: str = ""
    """Digest of the code and libraries that made it."""
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the shard as JSON values."""
        return {
            **self.__dict__,
            "objects": [o.to_json() for o in self.objects],
            "ledger": self.ledger.to_json(),
            "counts": dict(self.counts),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FinishedShard:
        """Return the shard that `to_json` wrote."""
        objects = tuple(StoredObject(**o) for o in data["objects"])
        return cls(**{**data, "objects": objects, "ledger": Ledger.from_json(data["ledger"])})


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything about one artifact; `{address}/manifest.json`."""

    ref: ArtifactRef
    stage: str
    version: int
    recipe: Mapping[str, Any]
    """The stage's recipe in canonical form."""
    inputs: Mapping[str, ArtifactRef]
    """Role -> artifact."""
    attempt: str
    shards: tuple[FinishedShard, ...]
    ledger: Ledger
    counts: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Code version and commit, Python and packages, host, hardware. Does not decide the fingerprint."""
    started: str = ""
    ended: str = ""
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0

    @property
    def objects(self) -> list[StoredObject]:
        """All objects, in order of key."""
        return sorted((o for shard in self.shards for o in shard.objects), key=lambda o: o.key)

    def object(self, key: str) -> StoredObject:
        """Return the object `key`. Raises IntegrityError when the artifact has none."""
        for one in self.objects:
            if one.key == key:
                return one
        raise IntegrityError(f"{self.ref} has no object {key!r}; it has {[o.key for o in self.objects][:10]}")

    def to_bytes(self) -> bytes:
        """Return the manifest as readable JSON."""
        data = {
            "format": FORMAT,
            **self.__dict__,
            "ref": self.ref.to_json(),
            "inputs": {role: ref.to_json() for role, ref in self.inputs.items()},
            "shards": [s.to_json() for s in self.shards],
            "ledger": self.ledger.to_json(),
        }
        return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, default=dict).encode()

    @classmethod
    def from_bytes(cls, raw: bytes, where: str) -> Manifest:
        """Return the manifest that `to_bytes` wrote. Raises IntegrityError when it cannot be read."""
        try:
            data = json.loads(raw)
            version = data.pop("format")
            if version != FORMAT:
                raise IntegrityError(f"{where}: manifest format {version}; this olmo-flows reads {FORMAT}: upgrade it")
            return cls(
                **{
                    **data,
                    "ref": ArtifactRef.from_json(data["ref"]),
                    "inputs": {role: ArtifactRef.from_json(ref) for role, ref in data["inputs"].items()},
                    "shards": tuple(FinishedShard.from_json(s) for s in data["shards"]),
                    "ledger": Ledger.from_json(data["ledger"]),
                }
            )
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"{where}: not a manifest ({type(error).__name__}: {error}); `olmo artifacts verify` looks at the rest"
            ) from error
