"""Near duplicates among the survivors of all sources, in one step over their signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core.artifacts.ledger import Ledger, Tally
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.step import Job, Shard, Step
from olmo_core.curation import near_duplicates
from olmo_core.curation.corpus_recipe import CorpusRecipe
from olmo_core.curation.histograms import breaks, histogram, threshold_rule
from olmo_core.curation.layout import KEEP, document_objects
from olmo_core.curation.near_duplicates import NearDuplicateRecipe
from olmo_core.curation.signatures import SignedDocuments
from olmo_core.documents.shards import column, read_shard
from olmo_core.errors import IntegrityError
from olmo_core.storage import Storage

VERSION = near_duplicates.VERSION
SHOWN_PAIRS = 8
"""Pairs of near duplicates whose places are noted for the report."""
_SIGNATURES = ["text_hash", "text_bytes", "shingle_count", "bands"]


@dataclass(frozen=True, kw_only=True)
class DuplicatesRecipe:
    """What decides which documents are dropped as duplicates."""

    near_duplicates: NearDuplicateRecipe
    priorities: Mapping[str, int]
    """Priority by source; of two duplicates the one of higher priority is kept, then the longer one, then the lower id."""


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The survivors of one document shard."""

    entry: Mapping[str, str]
    rows: npt.NDArray[np.int64]
    total: int


def duplicates_step(
    recipe: CorpusRecipe,
    documents: Mapping[str, ArtifactRef],
    selections: Mapping[str, ArtifactRef],
    signatures: Mapping[str, ArtifactRef],
) -> Step:
    """Return the step that finds duplicates; the three mappings are by source name."""
    roles = {"documents": documents, "selection": selections, "signatures": signatures}
    names = sorted(documents)
    return Step(
        stage="near-duplicates",
        source="all",
        version=VERSION,
        kind=Kind.ATTRIBUTES,
        name=f"{recipe.name}-near-duplicates",
        recipe=DuplicatesRecipe(
            near_duplicates=recipe.near_duplicates,
            priorities={source.name: source.read.priority for source in recipe.sources},
        ),
        inputs={f"{source}-{role}": refs[source] for role, refs in roles.items() for source in names},
        shards=lambda inputs: [_whole(inputs, names)],
        work=_resolve,
        reads=lambda manifests: sum((manifests[f"{name}-selection"].ledger.kept for name in names), Tally()),
        outputs=lambda shard: [f"{entry['source']}/{entry['key']}" for entry in shard.inputs["entries"]],
    )


def _whole(inputs: Mapping[str, Manifest], sources: Sequence[str]) -> Shard:
    entries, identity, size = [], [], 0
    for source in sources:
        selection = {o.key: o for o in inputs[f"{source}-selection"].objects}
        signed = {o.key: o for o in inputs[f"{source}-signatures"].objects}
        for one in document_objects(inputs[f"{source}-documents"]):
            chosen, signature = selection[one.key], signed[one.key]
            entries.append(
                {
                    "source": source,
                    "key": one.key,
                    "documents": one.path,
                    "selection": chosen.path,
                    "signatures": signature.path,
                }
            )
            identity.append([source, one.key, one.digest, chosen.digest, signature.digest])
            size += one.size
    return Shard(key="all", identity={"shards": identity}, inputs={"entries": entries}, size=size)


def _resolve(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    recipe: DuplicatesRecipe = job.recipe[0]
    storage = output.storage
    parts: list[_Rows] = []
    signed: list[pa.Table] = []
    ids: list[pa.Array] = []
    priority: list[npt.NDArray[np.int64]] = []
    for entry in job.shard.inputs["entries"]:
        keep = column(read_shard(storage, entry["selection"], [KEEP]), KEEP).to_numpy(zero_copy_only=False).astype(bool)
        rows = np.flatnonzero(keep)
        taken = pa.array(rows)
        signed.append(read_shard(storage, entry["signatures"], _SIGNATURES, rows=len(keep)).take(taken))
        identified = read_shard(storage, entry["documents"], ["id"], rows=len(keep))
        ids.append(column(identified, "id").take(taken).cast(pa.large_string()))
        parts.append(_Rows(entry=entry, rows=rows, total=len(keep)))
        priority.append(np.full(len(rows), recipe.priorities[entry["source"]], np.int64))
    table = pa.concat_tables(signed).combine_chunks()
    sizes = table.column("text_bytes").to_numpy()
    names = _Names(parts, pa.concat_arrays(ids))
    del ids
    documents = SignedDocuments.from_columns(table, _ranks(np.concatenate(priority), sizes, names))
    found = near_duplicates.resolve(documents, _Texts(storage, parts), recipe.near_duplicates)
    ledger = Ledger()
    ledger.read.add(len(sizes), int(sizes.sum()))
    ledger.kept.add(int(found.keep.sum()), int(sizes[found.keep].sum()))
    for code, reason in ((near_duplicates.EXACT, "exact_duplicate"), (near_duplicates.NEAR, "near_duplicate")):
        hit = found.kind == code
        ledger.drop(reason, int(hit.sum()), int(sizes[hit].sum()))
    _write(output, parts, found, names, sizes)
    counts = {
        "pairs": found.pairs,
        "matched": found.matched,
        "rejected": found.rejected,
        "oversized_buckets": found.oversized_buckets,
        "rows_in_oversized_buckets": found.rows_in_oversized_buckets,
        "rows_beyond_references": found.rows_beyond_references,
        "similarities": _similarities(found, recipe.near_duplicates.threshold),
        "examples": _examples(found, parts),
    }
    return ledger, counts


def _similarities(found: near_duplicates.Resolution, threshold: float) -> dict[str, int]:
    """Return the histogram of the similarity of near duplicates to what they repeat; float32 may round below the threshold."""
    exact = np.maximum(found.jaccard[found.kind == near_duplicates.NEAR].astype(np.float64), threshold)
    return histogram(pa.array(exact), breaks("fraction", [threshold_rule(threshold)]))


def _examples(found: near_duplicates.Resolution, parts: Sequence[_Rows]) -> list[dict[str, Any]]:
    """Return where some pairs lie, for the report: the least similar, the most similar and some between, and one exact copy."""
    starts = np.cumsum([0, *(len(p.rows) for p in parts)])

    def place(row: int) -> dict[str, Any]:
        part = int(np.searchsorted(starts, row, side="right")) - 1
        entry = parts[part].entry
        return {"source": entry["source"], "key": entry["key"], "row": int(parts[part].rows[row - starts[part]])}

    near = np.flatnonzero(found.kind == near_duplicates.NEAR)
    near = near[np.argsort(found.jaccard[near], kind="stable")]
    exact = np.flatnonzero(found.kind == near_duplicates.EXACT)[:1]
    chosen = near[np.unique(np.linspace(0, len(near) - 1, min(len(near), SHOWN_PAIRS)).astype(np.int64))]
    return [
        {
            "kind": near_duplicates.KINDS[found.kind[row]],
            "jaccard": round(float(found.jaccard[row]), 6),
            "dropped": place(row),
            "kept": place(int(found.duplicate_of[row])),
        }
        for row in [*chosen.tolist(), *exact.tolist()]
    ]


class _Names:
    """Source and id of every survivor, as Arrow columns: some 10 bytes a document besides the id's own."""

    def __init__(self, parts: Sequence[_Rows], ids: pa.LargeStringArray) -> None:
        self.ids = ids
        self._sources = pa.array(sorted({part.entry["source"] for part in parts}), pa.large_string())
        number = {name: i for i, name in enumerate(self._sources.to_pylist())}
        counts = [len(part.rows) for part in parts]
        self.source = np.repeat(np.array([number[part.entry["source"]] for part in parts], np.int16), counts)
        """(n,): which of the sources, in the order of their names."""

    def of(self, rows: npt.NDArray[np.int64]) -> pa.StringArray:
        """Return `source/id` of the survivors with these numbers, null for -1."""
        wanted = pa.array(rows, mask=rows < 0)
        sources = self._sources.take(pa.array(self.source[np.maximum(rows, 0)].astype(np.int64)))
        return pa.compute.binary_join_element_wise(
            sources, self.ids.take(wanted), pa.scalar("/", pa.large_string())
        ).cast(pa.string())


def _ranks(priority: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], names: _Names) -> npt.NDArray[np.int64]:
    """Return each row's rank: source priority, then length (the longer copy says more), then source and id."""
    keys = pa.table({"priority": -priority, "size": -np.asarray(sizes), "source": names.source, "id": names.ids})
    order = pa.compute.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names]).to_numpy()
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


class _Texts:
    """Fetches the texts of survivors by their number, a shard at a time."""

    def __init__(self, storage: Storage, parts: Sequence[_Rows]) -> None:
        self._storage = storage
        self._parts = parts
        self._starts = np.cumsum([0, *(len(p.rows) for p in parts)])

    def __call__(self, wanted: npt.NDArray[np.int64]) -> pa.LargeStringArray:
        chunks = []
        shard = np.searchsorted(self._starts, wanted, side="right") - 1
        for one in np.unique(shard):
            part = self._parts[one]
            rows = part.rows[wanted[shard == one] - self._starts[one]]
            texts = column(read_shard(self._storage, part.entry["documents"], ["text"]), "text")
            chunks.append(texts.take(pa.array(rows)))
        return pa.concat_arrays(chunks)


def _write(
    output: Output,
    parts: Sequence[_Rows],
    found: near_duplicates.Resolution,
    names: _Names,
    sizes: npt.NDArray[np.int64],
) -> None:
    """Write one table per document shard, aligned with its rows: keep (null where selection dropped the row) and why."""
    kinds = pa.array([name or None for name in near_duplicates.KINDS], pa.string())
    start = 0
    for part in parts:
        here = slice(start, start + len(part.rows))
        start += len(part.rows)
        place = np.full(part.total, -1, np.int64)
        place[part.rows] = np.arange(len(part.rows))
        partner = found.duplicate_of[here]
        own = pa.table(
            {
                "keep": pa.array(found.keep[here]),
                "duplicate_of": names.of(partner),
                "jaccard": pa.array(found.jaccard[here], mask=partner < 0),
                "kind": kinds.take(pa.array(found.kind[here])),
            }
        )
        if own.num_rows != len(part.rows):
            raise IntegrityError("near-duplicates: rows and verdicts differ in number; this is a bug")
        kept = found.keep[here]
        meta = {"source": part.entry["source"], "documents": int(kept.sum()), "bytes": int(sizes[here][kept].sum())}
        output.table(f"{part.entry['source']}/{part.entry['key']}", own.take(pa.array(place, mask=place < 0)), meta)
