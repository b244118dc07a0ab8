"""Takedown as steps: the list, the documents that it names, and copies of those in all sources.

Each step says little that is new when the list changes, so that most shards of selection stay: a document shard that no
entry names, and that has no copy to drop, has the selection that it had without a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest, StoredObject
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.step import Job, Shard, Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation import signatures
from olmo_core.curation.corpus_recipe import CorpusRecipe
from olmo_core.curation.layout import count_of, document_objects
from olmo_core.curation.signatures import SignatureRecipe
from olmo_core.curation.steps.inputs import Inventory, inventory_of
from olmo_core.curation.takedown import COPY, NAME, Requests, TakedownRecipe, read_list
from olmo_core.documents.listing import list_files
from olmo_core.documents.shards import column, read_shard
from olmo_core.kernels.jaccard import jaccard, shingle_sets
from olmo_core.storage import Storage

LIST_VERSION = 1
NAMED_VERSION = 2
COPIES_VERSION = 1
LIST_IDENTITY = "takedown-list"
"""What identifies the inventory of the list beside its files."""
_BANDED = ["shingle_count", "bands"]
_MOST_PARTNERS = 64
"""Listed documents of one band key that a document is compared with: shared boilerplate makes more."""


@dataclass(frozen=True, kw_only=True)
class ListRecipe:
    """Nothing but the files decides a list."""


@dataclass(frozen=True, kw_only=True)
class NamedRecipe:
    """What decides what is noted of listed documents."""

    signature: SignatureRecipe


@dataclass(frozen=True, kw_only=True)
class CopiesRecipe:
    """What counts as a copy of a listed document, and what becomes of it."""

    copies: str
    threshold: float
    """Jaccard similarity from which on a near copy is reported."""
    signature: SignatureRecipe


def takedown_inventory(store: ArtifactStore, recipe: TakedownRecipe, *, rehash: bool = False) -> Inventory:
    """Return the inventory of the list's files. Raises InputError when a path matches nothing."""
    return inventory_of(store, NAME, LIST_IDENTITY, list_files(NAME, recipe.paths, None), rehash=rehash)


def list_step(inventory: Inventory) -> Step:
    """Return the step that reads the list into the store, one row for each different entry."""
    files = [(f.name, f.url, inventory.sha256[f.name]) for f in inventory.files]
    identity = {"files": [[name, sha256] for name, _, sha256 in files]}
    shard = Shard(key="list", identity=identity, inputs={"files": files}, size=sum(f.size for f in inventory.files))
    return Step(
        stage="takedown-list",
        source="all",
        version=LIST_VERSION,
        kind=Kind.ATTRIBUTES,
        name="takedown-list",
        recipe=ListRecipe(),
        inputs={"inventory": inventory.step.ref},
        shards=lambda _: [shard],
        work=_read,
    )


def _read(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    table = read_list(job.shard.inputs["files"])
    output.table(job.shard.key, table)
    return Ledger(), {"entries": table.num_rows}


def named_step(recipe: CorpusRecipe, source: str, documents: ArtifactRef, requests: ArtifactRef) -> Step:
    """Return the step that looks a source's documents up in the list, by id and by the URLs in their metadata."""
    return Step(
        stage="takedown",
        source=source,
        version=NAMED_VERSION,
        kind=Kind.ATTRIBUTES,
        name=f"{source}-takedown",
        recipe=NamedRecipe(signature=recipe.near_duplicates.signature),
        inputs={"documents": documents, "list": requests},
        shards=lambda manifests: _to_look_up(manifests, source),
        work=_name,
        reads=lambda manifests: manifests["documents"].ledger.kept,
    )


def _to_look_up(inputs: Mapping[str, Manifest], source: str) -> list[Shard]:
    (listed,) = inputs["list"].objects
    return [
        Shard(
            key=one.key,
            identity={"documents": one.digest, "list": listed.digest},
            inputs={"documents": one.path, "list": listed.path, "source": source, **_rows(one)},
            size=one.size,
        )
        for one in document_objects(inputs["documents"])
    ]


def _rows(one: StoredObject) -> dict[str, int]:
    return {"rows": one.rows, "bytes": int(one.meta.get("text_bytes", 0))}


def _all_kept(job: Job) -> Ledger:
    """Return the ledger of a stage that looks at every document and drops none, without reading their texts."""
    ledger = Ledger()
    ledger.read.add(job.shard.inputs["rows"], job.shard.inputs["bytes"])
    ledger.kept.add(job.shard.inputs["rows"], job.shard.inputs["bytes"])
    return ledger


def _name(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    """Write for each row `entries` and `by` (null where no entry names it), and the signature of those that are named."""
    inputs, recipe = job.shard.inputs, job.recipe[0]
    requests = Requests(read_shard(output.storage, inputs["list"]))
    wanted = ["id", "metadata"] if requests.needs_metadata else ["id"]
    table = read_shard(output.storage, inputs["documents"], wanted)
    metadata = column(table, "metadata") if requests.needs_metadata else None
    found = dict(sorted(requests.find(inputs["source"], column(table, "id"), metadata).items()))
    rows = pa.array(list(found), pa.int64())
    texts = pa.array([], pa.large_string())
    if found:
        texts = column(read_shard(output.storage, inputs["documents"], ["text"]), "text").take(rows)
    entries = [[entry for entry, _ in one] for one in found.values()]
    by = ["id" if any(way == "id" for _, way in one) else "url" for one in found.values()]
    named = pa.table({"entries": pa.array(entries, pa.list_(pa.string())), "by": pa.array(by, pa.string())})
    signed = signatures.tag(texts, recipe.signature)
    for field, values in zip(signed.schema, signed.columns, strict=True):
        named = named.append_column(pa.field(field.name, values.type), values)
    output.table(job.shard.key, _spread(named, rows.to_numpy(), table.num_rows), {"named": len(found)})
    return _all_kept(job), {"named": {way: by.count(way) for way in ("id", "url")}}


def _spread(table: pa.Table, rows: npt.NDArray[np.int64], total: int) -> pa.Table:
    """Return a table of `total` rows, null but where `rows` says that the rows of `table` go."""
    place = np.full(total, -1, np.int64)
    place[rows] = np.arange(len(rows))
    nullable = pa.schema([pa.field(f.name, f.type) for f in table.schema])
    if not len(rows):
        return pa.table([pa.nulls(total, f.type) for f in nullable], schema=nullable)
    return table.cast(nullable).take(pa.array(place, mask=place < 0))


def copies_step(
    recipe: CorpusRecipe,
    takedown: TakedownRecipe,
    source: str,
    documents: Mapping[str, ArtifactRef],
    signed: ArtifactRef,
    named: Mapping[str, ArtifactRef],
) -> Step:
    """Return the step that looks for copies, in one source, of what the list names in any; mappings are by source."""
    inputs = {f"{name}-documents": documents[name] for name in sorted(documents)}
    inputs |= {f"{name}-takedown": named[name] for name in sorted(named)}
    return Step(
        stage="takedown-copies",
        source=source,
        version=COPIES_VERSION,
        kind=Kind.ATTRIBUTES,
        name=f"{source}-takedown-copies",
        recipe=CopiesRecipe(
            copies=takedown.copies,
            threshold=recipe.near_duplicates.threshold,
            signature=recipe.near_duplicates.signature,
        ),
        inputs={"signatures": signed, **inputs},
        shards=lambda manifests: _to_compare(manifests, source, sorted(named)),
        work=_compare,
        reads=lambda manifests: manifests[f"{source}-documents"].ledger.kept,
        compiled=True,
    )


def _to_compare(inputs: Mapping[str, Manifest], source: str, sources: Sequence[str]) -> list[Shard]:
    requested, digests = [], []
    for name in sources:
        documents = {o.key: o for o in inputs[f"{name}-documents"].objects}
        for one in inputs[f"{name}-takedown"].objects:
            if count_of(one, "named"):
                requested.append((name, one.path, documents[one.key].path))
                digests.append([name, one.digest, documents[one.key].digest])
    own = {o.key: o for o in inputs[f"{source}-takedown"].objects}
    signed = {o.key: o for o in inputs["signatures"].objects}
    shards = []
    for one in document_objects(inputs[f"{source}-documents"]):
        identity = {"documents": one.digest, "own": own[one.key].digest, "requested": digests}
        paths = {"documents": one.path, "own": own[one.key].path, "requested": requested}
        if requested:
            identity["signatures"], paths["signatures"] = signed[one.key].digest, signed[one.key].path
        shards.append(Shard(key=one.key, identity=identity, inputs={**paths, **_rows(one)}, size=one.size))
    return shards


@dataclass(frozen=True, kw_only=True)
class _Requested:
    """The documents that the list names, over all sources."""

    names: list[str]
    places: list[tuple[str, int]]
    """Path and row of each one's text."""
    text_hash: pa.Array
    shingle_count: npt.NDArray[np.int64]
    bands: npt.NDArray[np.uint64]
    """(n, bands)"""


def _requested(storage: Storage, shards: Sequence[tuple[str, str, str]]) -> _Requested:
    parts, names, places = [], [], []
    for source, path, documents in shards:
        table = read_shard(storage, path)
        rows = pc.indices_nonzero(table.column("by").is_valid())
        ids = column(read_shard(storage, documents, ["id"]), "id").take(rows).to_pylist()
        names += [f"{source}/{i}" for i in ids]
        places += [(documents, row) for row in rows.to_pylist()]
        parts.append(table.take(rows))
    whole = pa.concat_tables(parts)
    return _Requested(
        names=names,
        places=places,
        text_hash=column(whole, "text_hash"),
        shingle_count=column(whole, "shingle_count").to_numpy().astype(np.int64),
        bands=_matrix(column(whole, "bands")),
    )


def _matrix(bands: pa.Array) -> npt.NDArray[np.uint64]:
    flat: npt.NDArray[np.uint64] = bands.flatten().to_numpy().reshape(len(bands), bands.type.list_size)
    return flat


def _compare(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    """Write for each row: `reason` (null where it stays), `by` (id, url, copy, near_copy), `of` and `jaccard` of copies."""
    inputs, recipe = job.shard.inputs, job.recipe[0]
    total = inputs["rows"]
    own = read_shard(output.storage, inputs["own"], ["by"])
    by: dict[int, tuple[str, str | None, float | None]] = {
        row: (own["by"][row].as_py(), None, None) for row in pc.indices_nonzero(own["by"].is_valid()).to_pylist()
    }
    if inputs["requested"]:
        requested = _requested(output.storage, inputs["requested"])
        signed = read_shard(output.storage, inputs["signatures"], ["text_hash", *_BANDED])
        first = pc.index_in(column(signed, "text_hash"), value_set=requested.text_hash, skip_nulls=True)
        for row in pc.indices_nonzero(first.is_valid()).to_pylist():
            by.setdefault(row, ("copy", requested.names[first[row].as_py()], 1.0))
        for row, (number, similarity) in _near(output.storage, inputs["documents"], signed, requested, recipe, by):
            by[row] = ("near_copy", requested.names[number], similarity)
    reasons = {"id": NAME, "url": NAME, "copy": COPY if recipe.copies == "drop" else None, "near_copy": None}
    rows = sorted(by)
    table = pa.table(
        {
            "reason": pa.array([reasons[by[row][0]] for row in rows], pa.string()),
            "by": pa.array([by[row][0] for row in rows], pa.string()),
            "of": pa.array([by[row][1] for row in rows], pa.string()),
            "jaccard": pa.array([by[row][2] for row in rows], pa.float32()),
        }
    )
    dropped = len(rows) - table.column("reason").null_count
    output.table(
        job.shard.key, _spread(table, np.array(rows, np.int64), total), {"dropped": dropped, "named": len(rows)}
    )
    ways = [by[row][0] for row in rows]
    return _all_kept(job), {"found": {way: ways.count(way) for way in reasons}}


def _near(
    storage: Storage,
    documents: str,
    signed: pa.Table,
    requested: _Requested,
    recipe: CopiesRecipe,
    known: Mapping[int, Any],
) -> list[tuple[int, tuple[int, float]]]:
    """Return row, listed document and similarity of each near copy: shared band keys, verified by exact Jaccard."""
    shingles = column(signed, "shingle_count").fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    rows = np.array([r for r in np.flatnonzero(shingles > 0).tolist() if r not in known], np.int64)
    some = np.flatnonzero(requested.shingle_count > 0)
    if not len(rows) or not len(some):
        return []
    bands = _matrix(column(signed, "bands").take(pa.array(rows)))
    pairs: set[tuple[int, int]] = set()
    for band in range(bands.shape[1]):
        order = some[np.argsort(requested.bands[some, band], kind="stable")]
        keys = requested.bands[order, band]
        low = np.searchsorted(keys, bands[:, band])
        high = np.minimum(np.searchsorted(keys, bands[:, band], side="right"), low + _MOST_PARTNERS)
        for i in np.flatnonzero(high > low).tolist():
            pairs.update((int(rows[i]), int(number)) for number in order[low[i] : high[i]])
    if not pairs:
        return []
    width = recipe.signature.shingle_words
    mine = sorted({row for row, _ in pairs})
    texts = column(read_shard(storage, documents, ["text"]), "text").take(pa.array(mine))
    own, starts = shingle_sets(texts, width, shingles[mine])
    place = {row: i for i, row in enumerate(mine)}
    theirs = sorted({number for _, number in pairs})
    other, others = shingle_sets(_texts(storage, requested, theirs), width, requested.shingle_count[theirs])
    there = {number: i for i, number in enumerate(theirs)}
    best: dict[int, tuple[int, float]] = {}
    for row, number in sorted(pairs):
        i, j = place[row], there[number]
        similarity = float(jaccard(own[starts[i] : starts[i + 1]], other[others[j] : others[j + 1]], recipe.threshold))
        if similarity >= 0 and similarity > best.get(row, (0, -1.0))[1]:
            best[row] = (number, similarity)
    return sorted(best.items())


def _texts(storage: Storage, requested: _Requested, numbers: Sequence[int]) -> pa.LargeStringArray:
    """Return the texts of listed documents, each shard read once."""
    by_path: dict[str, list[int]] = {}
    for number in numbers:
        by_path.setdefault(requested.places[number][0], []).append(number)
    found: dict[int, str] = {}
    for path, wanted in by_path.items():
        rows = pa.array([requested.places[number][1] for number in wanted])
        texts = column(read_shard(storage, path, ["text"]), "text").take(rows).to_pylist()
        found.update(zip(wanted, texts, strict=True))
    return pa.array([found[number] for number in numbers], pa.large_string())
