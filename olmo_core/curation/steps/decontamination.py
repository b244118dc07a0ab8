"""Decontamination: documents that hold evaluation data go; and which evaluation items were found in which documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest, StoredObject
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.step import Job, Shard, Step
from olmo_core.curation.contamination_verdicts import REASON, judge
from olmo_core.curation.decontamination import RULES, VERSION, DecontaminationRecipe, NgramRule, ParagraphRule
from olmo_core.curation.layout import KEEP, document_objects
from olmo_core.curation.steps.evaluation_index import load_index
from olmo_core.documents.shards import column, read_shard, text_sizes
from olmo_core.errors import IntegrityError
from olmo_core.storage import Storage

ITEMS_VERSION = 1
_INDEX = "evaluation-index"
_FIRST_IDS = 20


@dataclass(frozen=True, kw_only=True)
class VerdictRecipe:
    """What decides about a source's documents, beside the index."""

    paragraphs: ParagraphRule | None
    ngrams: NgramRule | None
    exempt: bool


def decontamination_step(
    source: str, recipe: DecontaminationRecipe, documents: ArtifactRef, selection: ArtifactRef, index: ArtifactRef
) -> Step:
    """Return the step that looks for evaluation data in what selection kept of a source."""
    return Step(
        stage="decontamination",
        source=source,
        version=VERSION,
        kind=Kind.ATTRIBUTES,
        name=f"{source}-decontamination",
        recipe=VerdictRecipe(paragraphs=recipe.paragraphs, ngrams=recipe.ngrams, exempt=source in recipe.exempt),
        settings=recipe,
        inputs={"documents": documents, "selection": selection, _INDEX: index},
        shards=_aligned,
        work=_decontaminate,
        reads=lambda manifests: manifests["selection"].ledger.kept,
        compiled=True,
    )


def _aligned(inputs: Mapping[str, Manifest]) -> list[Shard]:
    chosen = {one.key: one for one in inputs["selection"].objects}
    index = inputs[_INDEX].objects
    return [
        Shard(
            key=one.key,
            identity={
                "documents": one.digest,
                "selection": chosen[one.key].digest,
                _INDEX: {part.key: part.digest for part in index},
            },
            inputs={"documents": one.path, "selection": chosen[one.key].path, _INDEX: index},
            size=one.size,
        )
        for one in document_objects(inputs["documents"])
    ]


def _decontaminate(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    exempt: bool = job.recipe[0].exempt
    recipe: DecontaminationRecipe = job.recipe[1]
    storage = output.storage
    documents = read_shard(storage, job.shard.inputs["documents"], ["text"])
    keep = column(read_shard(storage, job.shard.inputs["selection"], [KEEP]), KEEP).to_numpy(zero_copy_only=False)
    if len(keep) != documents.num_rows:
        raise IntegrityError(f"{job.stage}/{job.shard.key}: {documents.num_rows} documents but {len(keep)} verdicts")
    names = tuple(one.name for one in recipe.sets)
    index = load_index(storage, job.shard.inputs[_INDEX], names)
    table, found = judge(column(documents, "text"), keep.astype(bool), index, recipe, exempt=exempt)
    output.table(job.shard.key, table)
    sizes = text_sizes(documents)
    ledger = Ledger()
    ledger.read.add(int(keep.sum()), int(sizes[keep].sum()))
    kept = pc.fill_null(column(table, KEEP), False).to_numpy(zero_copy_only=False)
    ledger.kept.add(int(kept.sum()), int(sizes[kept].sum()))
    named = column(table, "set")
    exempted = {}
    for name in names:
        hit = pc.fill_null(pc.equal(named, name), False).to_numpy(zero_copy_only=False)
        if exempt:
            exempted[name] = int(hit.sum())
        else:
            ledger.drop(REASON + name, int(hit.sum()), int(sizes[hit].sum()))
    rules = {rule: len(np.unique(found.row[found.rule == code])) for code, rule in enumerate(RULES)}
    return ledger, {"documents_by_rule": rules, "kept_as_exempt": exempted}


def contaminated_items_step(
    corpus: str,
    recipe: DecontaminationRecipe,
    index: ArtifactRef,
    verdicts: Mapping[str, ArtifactRef],
    documents: Mapping[str, ArtifactRef],
) -> Step:
    """Return the step that lists every evaluation item with the documents that held it; mappings by source."""
    return Step(
        stage="contaminated-items",
        source="all",
        version=ITEMS_VERSION,
        kind=Kind.ATTRIBUTES,
        name=f"{corpus}-contaminated-items",
        recipe={"sets": [one.name for one in recipe.sets]},
        inputs={
            _INDEX: index,
            **{f"{source}-decontamination": ref for source, ref in verdicts.items()},
            **{f"{source}-documents": ref for source, ref in documents.items()},
        },
        shards=lambda inputs: [_whole(inputs, sorted(verdicts))],
        work=_list_items,
    )


def _whole(inputs: Mapping[str, Manifest], sources: Sequence[str]) -> Shard:
    items = next(one for one in inputs[_INDEX].objects if one.key == "items")
    entries, identity = [], []
    for source in sources:
        documents = {one.key: one for one in document_objects(inputs[f"{source}-documents"])}
        for one in inputs[f"{source}-decontamination"].objects:
            entries.append((source, one.path, documents[one.key].path))
            identity.append([source, one.key, one.digest, documents[one.key].digest])
    return Shard(
        key="items",
        identity={"items": items.digest, "shards": identity},
        inputs={"items": items.path, "entries": entries},
        size=items.size,
    )


def _list_items(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    storage = output.storage
    items = read_shard(storage, job.shard.inputs["items"])
    documents = np.zeros(items.num_rows, np.int64)
    staying = np.zeros(items.num_rows, np.int64)
    by_rule = {rule: np.zeros(items.num_rows, bool) for rule in RULES}
    first: dict[int, str] = {}
    for source, path, texts in job.shard.inputs["entries"]:
        matches = _matches(storage, path)
        item, row = matches.column("item").to_numpy(), matches.column("row").to_numpy()
        for rule in RULES:
            by_rule[rule][item[pc.equal(matches.column("rule"), rule).to_numpy()]] = True
        pairs = matches.select(["item", "row", KEEP]).group_by(["item", "row", KEEP], use_threads=False).aggregate([])
        documents += np.bincount(pairs.column("item").to_numpy(), minlength=len(documents))
        stay = pairs.filter(pairs.column(KEEP)).column("item").to_numpy()
        staying += np.bincount(stay, minlength=len(documents))
        new = [(i, r) for i, r in zip(item.tolist(), row.tolist(), strict=True) if i not in first]
        if new:
            ids = column(read_shard(storage, texts, ["id"]), "id")
            for number, place in new:
                first.setdefault(number, f"{source}/{ids[place].as_py()}")
    searchable = (items.column("paragraphs").to_numpy() > 0) | (items.column("ngrams").to_numpy() > 0)
    table = (
        items.append_column("searchable", pa.array(searchable))
        .append_column("contaminated", pa.array(documents > 0))
        .append_column("documents", pa.array(documents))
        .append_column("documents_kept", pa.array(staying))
    )
    for rule, hit in by_rule.items():
        table = table.append_column(f"by_{rule}", pa.array(hit))
    table = table.append_column("document", pa.array([first.get(i) for i in range(items.num_rows)], pa.string()))
    output.table(job.shard.key, table)
    return Ledger(), {"sets": {name: _counts(table, name) for name in job.recipe[0]["sets"]}}


def _matches(storage: Storage, path: str) -> pa.Table:
    """Return one row for each match of a shard: row of the document, whether it stays, item and rule."""
    verdicts = read_shard(storage, path, [KEEP, "matches"])
    lists = column(verdicts, "matches")
    rows = pc.list_parent_indices(lists)
    struct = pc.list_flatten(lists)
    return pa.table(
        {
            "row": rows,
            KEEP: column(verdicts, KEEP).take(rows),
            "item": struct.field("item"),
            "rule": struct.field("rule"),
        }
    )


def _counts(table: pa.Table, name: str) -> dict[str, Any]:
    """Return what the report says of a set."""
    own = table.filter(pc.equal(table.column("set"), name))
    dirty = own.filter(own.column("contaminated"))
    return {
        "items": own.num_rows,
        "searchable": int(pc.sum(own.column("searchable")).as_py() or 0),
        "contaminated": dirty.num_rows,
        **{f"by_{rule}": int(pc.sum(dirty.column(f"by_{rule}")).as_py() or 0) for rule in RULES},
        "first": dirty.column("item").slice(0, _FIRST_IDS).to_pylist(),
    }


def items_object(manifest: Manifest) -> StoredObject:
    """Return the table of all evaluation items of a `contaminated-items` artifact."""
    return manifest.object("items")
