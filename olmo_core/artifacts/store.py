"""The artifact store: finding, publishing, naming and checking artifacts in a `Storage`."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from olmo_core.artifacts.manifest import Manifest, StoredObject
from olmo_core.artifacts.near import near_names, near_tags
from olmo_core.artifacts.ref import ArtifactRef, Kind, check_tag
from olmo_core.errors import IntegrityError, RecipeError, StorageError
from olmo_core.storage import Storage

_BLOCK = 1 << 23
_AT_ONCE = 8
"""Objects that `verify` reads at the same time: hashing holds no lock, and a store answers many at once."""


_MOST_TAGS = 12
"""Tags that a message lists."""


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One thing `verify` found wrong."""

    path: str
    problem: str


def parse_address(text: str) -> tuple[list[str], str]:
    """Return the parts (kind, name and perhaps fingerprint) and the tag ("" for none) of what names an artifact.

    Raises RecipeError for what cannot name one.
    """
    address, _, tag = text.partition("@")
    parts = address.strip("/").split("/")
    if len(parts) not in (2, 3) or parts[0] not in set(Kind) or (tag and len(parts) == 3):
        raise RecipeError(
            f"{text!r} names no artifact; write kind/name, kind/name@tag or kind/name/fingerprint; kinds: {', '.join(Kind)}"
        )
    return parts, tag


class ArtifactStore:
    """Artifacts below one root URI."""

    def __init__(self, uri: str) -> None:
        self.storage = Storage(uri)

    @property
    def uri(self) -> str:
        """The root's address."""
        return self.storage.uri

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """Return the manifest of a finished artifact. Raises StorageError when it is not there."""
        where = ref.manifest_path
        manifest = Manifest.from_bytes(self.storage.read(where), where)
        if manifest.ref.fingerprint != ref.fingerprint:
            raise IntegrityError(f"{where} is of fingerprint {manifest.ref.fingerprint}, expected {ref.fingerprint}")
        return manifest

    def find(self, ref: ArtifactRef) -> Manifest | None:
        """Return the manifest when the artifact is done, None when it is not."""
        return self.manifest(ref) if self.storage.exists(ref.manifest_path) else None

    def publish(self, manifest: Manifest) -> tuple[Manifest, bool]:
        """Commit an artifact: put its manifest if absent. Returns the manifest that stands and whether it is ours."""
        raw = manifest.to_bytes()
        if self.storage.put_if_absent(manifest.ref.manifest_path, raw):
            return manifest, True
        standing = self.manifest(manifest.ref)
        return standing, standing.attempt == manifest.attempt

    # names
    def tag(self, ref: ArtifactRef, tag: str) -> None:
        """Give an artifact a human name (`latest`, `2026.11.21`); the name may be moved later."""
        check_tag(tag)
        if not self.storage.exists(ref.manifest_path):
            raise RecipeError(f"cannot tag {ref}: there is no such finished artifact")
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        body = json.dumps({**ref.to_json(), "tag": tag, "tagged": now}, sort_keys=True).encode()
        path = f"refs/{ref.kind}/{ref.name}/{tag}.json"
        before = self.storage.read(path) if self.storage.exists(path) else None
        self.storage.put(path, body)
        # A garbage collection reads the tags after it has deleted a manifest: so one of the two sees the other.
        if not self.storage.exists(ref.manifest_path):
            self.storage.delete(path) if before is None else self.storage.put(path, before)
            raise RecipeError(f"cannot tag {ref}: a garbage collection has just deleted it; run again to make it anew")

    def all_tags(self) -> dict[str, ArtifactRef]:
        """Return what each tag file of the store stands for, by the file's path."""
        return {one.path: ref for one in self.storage.walk("refs") if (ref := self._ref_file(one.path)) is not None}

    def tags(self, kind: str, name: str) -> dict[str, ArtifactRef]:
        """Return the tags of a name and the artifacts they stand for."""
        found = {}
        for one in self.storage.walk(f"refs/{kind}/{name}"):
            if (ref := self._ref_file(one.path)) is not None:
                found[one.path.rsplit("/", 1)[1].removesuffix(".json")] = ref
        return found

    def tagged(self, kind: str, name: str, tag: str) -> ArtifactRef | None:
        """Return the artifact that one tag of a name stands for, without a look at its other tags; None where there is no such tag."""
        path = f"refs/{kind}/{name}/{tag}.json"
        return self._ref_file(path) if self.storage.exists(path) else None

    def _read(self, path: str) -> bytes | None:
        """Return an object that was listed a moment ago, None when somebody has deleted it since."""
        try:
            return self.storage.read(path)
        except StorageError:
            if self.storage.exists(path):
                raise
            return None

    def _ref_file(self, path: str) -> ArtifactRef | None:
        if (raw := self._read(path)) is None:
            return None
        try:
            data = json.loads(raw)
            return ArtifactRef.from_json({key: data[key] for key in ("kind", "name", "fingerprint")})
        except (ValueError, KeyError) as error:
            raise IntegrityError(
                f"{path} is not a tag file: {error}; set the tag again with `olmo artifacts tag`"
            ) from error

    def resolve(self, text: str) -> ArtifactRef:
        """Return the artifact that `text` names: `kind/name`, `kind/name@tag`, or `kind/name/fingerprint`.

        `kind/name` is the one tagged `latest`, or, where nothing has that tag, the one finished last.
        A fingerprint may be cut to any unambiguous beginning. Raises RecipeError that lists what there is.
        """
        parts, tag = parse_address(text)
        kind, name = parts[0], parts[1]
        if len(parts) == 2:
            tags = self.tags(kind, name)
            if (tag or "latest") in tags:
                return tags[tag or "latest"]
            if not tag and (every := list(self.finished(kind, name))):
                return max(every, key=lambda m: m.ended).ref
            raise RecipeError(self._not_there(kind, name, tag, tags))
        found = [m.ref for m in self.finished(kind, name) if m.ref.fingerprint.startswith(parts[2])]
        if len(found) == 1:
            return found[0]
        if not found and not self.storage.folders(f"{kind}/{name}"):
            raise RecipeError(f"{text!r} names 0 artifacts: {self._not_there(kind, name)}")
        raise RecipeError(f"{text!r} names {len(found)} artifacts; `olmo artifacts ls {kind}/{name}` lists them")

    def _not_there(self, kind: str, name: str, tag: str = "", tags: Collection[str] = ()) -> str:
        """What to tell somebody who has named an artifact that is not there, with the nearest names of those that are."""
        near = [f"{kind}/{name}@{one}" for one in near_tags(tag, sorted(tags))] if tag else []
        near = near or (near_names(self.storage, kind, name) if not tags else [])
        told = f"there is no {kind}/{name}{'@' + tag if tag else ''} in {self.uri}; "
        if near:
            told += f"did you mean {' or '.join(near)}? "
        if len(tags) > _MOST_TAGS:
            return f"{told}`olmo artifacts ls {kind}/{name}` lists its {len(tags):,} tags"
        if tags:
            told += f"tags: {', '.join(sorted(tags))}; "
        return f"{told}`olmo artifacts ls` lists all artifacts"

    def finished(self, kind: str | None = None, name: str | None = None) -> Iterator[Manifest]:
        """Yield the manifests of all finished artifacts, of one kind, or of one name."""
        for one_kind in [kind] if kind else list(Kind):
            for one_name in [name] if name else self.storage.folders(one_kind):
                for short in self.storage.folders(f"{one_kind}/{one_name}"):
                    path = f"{one_kind}/{one_name}/{short}/manifest.json"
                    if self.storage.exists(path) and (raw := self._read(path)) is not None:
                        yield Manifest.from_bytes(raw, path)

    # checking
    def verify(self, artifact: ArtifactRef | Manifest, *, contents: bool = True) -> list[Damage]:
        """Check every object of an artifact: present, of the right size, and (with `contents`) of the right sha256."""
        manifest = artifact if isinstance(artifact, Manifest) else self.manifest(artifact)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            seen = threads.map(lambda one: self._problem(one, contents), manifest.objects)
            found = [
                Damage(path=one.path, problem=problem)
                for one, problem in zip(manifest.objects, seen, strict=True)
                if problem
            ]
        try:
            manifest.ledger.balance(str(manifest.ref))
        except IntegrityError as error:
            found.append(Damage(path=manifest.ref.manifest_path, problem=str(error)))
        return found

    def _problem(self, one: StoredObject, contents: bool) -> str:
        size = self.storage.size(one.path)
        if size is None:
            return "missing"
        if size != one.size:
            return f"{size} bytes, expected {one.size}"
        if contents and (seen := self.sha256(one.path)) != one.sha256:
            return f"sha256 {seen[:12]}..., expected {one.sha256[:12]}..."
        return ""

    def sha256(self, path: str) -> str:
        """Return the sha256 of an object, read in blocks of 8 MiB."""
        digest = hashlib.sha256()
        with self.storage.open(path) as handle:
            while block := handle.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()
