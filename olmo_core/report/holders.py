"""Who has a document: every artifact of the store that holds it, by looking inside, and all that was trained on those.

Lineage alone names what may hold a document; the shards say what does. Every version is asked, so that it shows which
ones no longer have it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.artifacts.lineage import TRAINED, downstream
from olmo_core.artifacts.manifest import Manifest, StoredObject
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.layout import CORPUS_REPORT, IDS, INDEX, NPY, document_objects
from olmo_core.curation.takedown import Requests
from olmo_core.documents.shards import column, read_shard
from olmo_core.errors import IntegrityError

Has = Literal["yes", "no", "made from it"]
"""`made from it`: a run, checkpoint, model or evaluation whose inputs, directly or through others, hold a document."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an artifact has one document, or one copy of it."""

    document: str
    """`source/id`."""
    shard: str
    """Path in the store."""
    row: int | None = None
    """Row of a documents or corpus shard."""
    start: int | None = None
    """First token, in a token shard."""
    length: int | None = None
    """Tokens, the end-of-text token included."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """One artifact and what it has of the documents asked for."""

    manifest: Manifest
    has: Has
    places: tuple[Place, ...] = ()
    role: str = ""
    """For what was made from a holder: what it was to it."""

    @property
    def documents(self) -> set[str]:
        """The documents that it has, as `source/id`."""
        return {place.document for place in self.places}

    def to_json(self) -> dict[str, Any]:
        """Return the holder as JSON values."""
        return {
            "artifact": str(self.manifest.ref),
            "has": self.has,
            "ended": self.manifest.ended,
            "role": self.role,
            "documents": sorted(self.documents),
            "places": [{k: v for k, v in p.__dict__.items() if v is not None} for p in self.places],
        }


def holders(store: ArtifactStore, wanted: Requests) -> list[Holder]:
    """Return every artifact that has one of the documents, other versions of the same name, and what was trained on them.

    Looked into are documents, corpora, their tokens (also as ids before packing), and the examples in reports. Raises
    StorageError for a store that cannot be read, IntegrityError for tokens whose corpus is not in the store: an artifact that
    cannot be looked into is an error and not a no.
    """
    every = sorted(store.finished(), key=lambda m: (list(Kind).index(m.ref.kind), m.ref.name, m.ended))
    by_ref = {m.ref: m for m in every}
    look = _Look(store, wanted)
    found: dict[ArtifactRef, tuple[Place, ...]] = {}
    for manifest in every:
        if manifest.ref.kind in (Kind.DOCUMENTS, Kind.CORPUS):
            found[manifest.ref] = tuple(look.rows_of(manifest))
    names = {place.document for places in found.values() for place in places}
    for manifest in every:
        corpus = _corpus_of(manifest, by_ref)
        if corpus is not None:
            keys = {o.path: o.key for o in corpus.objects} if found[corpus.ref] else {}
            rows = {(keys[p.shard], p.row): p.document for p in found[corpus.ref]}
            found[manifest.ref] = tuple(look.tokens_of(manifest, rows)) if rows else ()
        elif manifest.ref.kind == Kind.REPORT and manifest.stage == CORPUS_REPORT:
            found[manifest.ref] = tuple(look.examples_of(manifest, names))
    named = {(ref.kind, ref.name) for ref, places in found.items() if places}
    result = [
        Holder(manifest=by_ref[ref], has="yes" if places else "no", places=places)
        for ref, places in found.items()
        if (ref.kind, ref.name) in named
    ]
    holding = [ref for ref, places in found.items() if places]
    made = downstream(store, holding, TRAINED, every=every)
    return result + [Holder(manifest=a.manifest, has="made from it", role=a.role) for a in made.values()]


def _corpus_of(manifest: Manifest, by_ref: Mapping[ArtifactRef, Manifest]) -> Manifest | None:
    """Return the corpus of which an artifact holds the tokens, packed or not; None for another artifact."""
    if manifest.stage == "packing":
        manifest = _input_of(manifest, "tokenization", by_ref)
    return _input_of(manifest, "corpus", by_ref) if manifest.stage == "tokenization" else None


def _input_of(manifest: Manifest, role: str, by_ref: Mapping[ArtifactRef, Manifest]) -> Manifest:
    ref = manifest.inputs.get(role)
    if ref is None or ref not in by_ref:
        raise IntegrityError(
            f"{manifest.ref}: its input {role} ({ref or 'none is named'}) is not in the store, so nobody can say which documents "
            f"its tokens are of; put {ref.manifest_path if ref else 'its manifest'} back, or delete the tokens"
        )
    return by_ref[ref]


class _Look:
    """Looks into shards; one that several artifacts share is read once."""

    def __init__(self, store: ArtifactStore, wanted: Requests) -> None:
        self._store = store
        self._wanted = wanted
        self._known: dict[str, list[Place]] = {}

    def rows_of(self, manifest: Manifest) -> Iterator[Place]:
        """Yield the rows of a documents or corpus artifact."""
        for one in document_objects(manifest):
            if one.path not in self._known:
                source = one.key.split("/")[0] if manifest.ref.kind == Kind.CORPUS else manifest.ref.name
                self._known[one.path] = self._in_shard(one, source)
            yield from self._known[one.path]

    def _in_shard(self, one: StoredObject, source: str) -> list[Place]:
        columns = ["id", "metadata"] if self._wanted.needs_metadata else ["id"]
        table = read_shard(self._store.storage, one.path, columns)
        ids = column(table, "id")
        metadata = column(table, "metadata") if self._wanted.needs_metadata else None
        rows = sorted(self._wanted.find(source, ids, metadata))
        return [Place(document=f"{source}/{ids[row].as_py()}", shard=one.path, row=row) for row in rows]

    def tokens_of(self, manifest: Manifest, rows: Mapping[tuple[str, int | None], str]) -> Iterator[Place]:
        """Yield where tokens of corpus rows are; `rows` names the document of each (shard key, row)."""
        keys, numbers = pa.array({key for key, _ in rows}), pa.array({row for _, row in rows}, pa.int64())
        packed = manifest.stage == "packing"
        paths = {o.key: o.path for o in manifest.objects}
        for one in manifest.objects:
            if not (one.key.endswith(INDEX) if packed else one.path.endswith(".parquet")):
                continue
            index = read_shard(self._store.storage, one.path)
            near = pc.is_in(index.column("row"), value_set=numbers)
            if packed:
                near = pc.and_(near, pc.is_in(index.column("shard"), value_set=keys))
            shard = paths[one.key.removesuffix(INDEX) + NPY if packed else one.key + IDS]
            for record in index.filter(near).to_pylist():
                document = rows.get((record["shard"] if packed else one.key, record["row"]))
                if document is not None:
                    yield Place(document=document, shard=shard, start=record["start"], length=record["length"])

    def examples_of(self, manifest: Manifest, names: set[str]) -> Iterator[Place]:
        """Yield the documents of which a report shows the beginning."""
        one = manifest.object("report.json")
        try:
            examples = json.loads(self._store.storage.read(one.path))["examples"]
        except (ValueError, KeyError) as error:
            raise IntegrityError(f"{one.path} is no report: {error}; `olmo artifacts verify` checks it") from error
        shown = {f"{e['source']}/{e['id']}" for some in examples.values() for e in some}
        for document in sorted(shown & names):
            yield Place(document=document, shard=one.path)
