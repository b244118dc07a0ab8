"""Everything that is known of one document: values, verdicts, spans, duplicates, and where its tokens are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.artifacts.manifest import Manifest, StoredObject
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.corpus_recipe import LANGUAGE_COLUMN
from olmo_core.curation.layout import INDEX, TAG_STAGES, document_objects
from olmo_core.curation.splits import TRAIN
from olmo_core.documents.shards import read_shard
from olmo_core.errors import InputError

_SHOWN_TEXT = 500
_SHOWN_SPANS = 20


def manifests_of(store: ArtifactStore, corpus: str) -> dict[str, Manifest]:
    """Return the manifests of all stages of a corpus's newest run, by `stage/source`, from its report's inputs."""
    return manifests_behind(store, store.manifest(store.resolve(f"report/{corpus}")))


def manifests_behind(store: ArtifactStore, report: Manifest) -> dict[str, Manifest]:
    """Return the manifests of all stages that a corpus's report is of, by `stage/source`."""
    return {label: store.manifest(ref) for label, ref in report.inputs.items()}


def explain(store: ArtifactStore, corpus: str, document: str) -> list[dict[str, Any]]:
    """Return one record for each document of that id (one per source). An id may be given as `source/id`.

    Raises InputError when no source of the corpus has it.
    """
    manifests = manifests_of(store, corpus)
    sources = sorted(label.split("/")[1] for label in manifests if label.startswith("documents/"))
    found = []
    for source in sources:
        for identifier in {document, document.removeprefix(f"{source}/")}:
            place = _find(store, manifests[f"documents/{source}"], identifier)
            if place is not None:
                found.append(_record(store, manifests, source, *place))
    if not found:
        raise InputError(
            f"no document {document!r} in the sources of {corpus} ({', '.join(sources)}); the report's examples show ids, --corpus names another corpus"
        )
    return found


def _find(store: ArtifactStore, documents: Manifest, identifier: str) -> tuple[StoredObject, int] | None:
    for one in document_objects(documents):
        row = pc.index(read_shard(store.storage, one.path, ["id"]).column("id"), identifier).as_py()
        if row >= 0:
            return one, row
    return None


def _row(store: ArtifactStore, manifest: Manifest, key: str, row: int) -> dict[str, Any]:
    record: dict[str, Any] = read_shard(store.storage, manifest.object(key).path).slice(row, 1).to_pylist()[0]
    return record


def _record(
    store: ArtifactStore, manifests: Mapping[str, Manifest], source: str, one: StoredObject, row: int
) -> dict[str, Any]:
    document = read_shard(store.storage, one.path).slice(row, 1).to_pylist()[0]
    text = document["text"].encode()
    tags = {stage: _row(store, manifests[f"{stage}/{source}"], one.key, row) for stage in TAG_STAGES}
    tags["signatures"].pop("bands")
    tags["signatures"]["text_hash"] = (tags["signatures"]["text_hash"] or b"").hex()
    verdict = _row(store, manifests[f"selection/{source}"], one.key, row)
    rules = manifests[f"selection/{source}"].recipe["rules"]
    values = {name: value for stage in TAG_STAGES for name, value in tags[stage].items()}
    duplicate = _row(store, manifests["near-duplicates/all"], f"{source}/{one.key}", row)
    contaminated = _contaminated(store, manifests, source, one.key, row, text)
    split = {"split": None, "because_of": None}
    if "splits/all" in manifests:
        split = _row(store, manifests["splits/all"], f"{source}/{one.key}", row)
    place = split["split"] if split["split"] not in (None, TRAIN) else "all"
    return {
        "id": document["id"],
        "source": source,
        "shard": one.path,
        "row": row,
        "metadata": document["metadata"],
        "created": document["created"],
        "added": document["added"],
        "bytes": len(text),
        "text": document["text"][:_SHOWN_TEXT],
        "values": {n: v for n, v in values.items() if not isinstance(v, list)},
        "spans": {n: [_span(text, s) for s in v[:_SHOWN_SPANS]] for n, v in values.items() if isinstance(v, list)},
        "rules": [
            {
                **r,
                "seen": values.get(r["column"]),
                "failed": verdict[f"fails_{r['name']}"],
                "unmeasured": _unmeasured(manifests, source, tags, r["column"]),
            }
            for r in rules
        ],
        "selected": verdict["keep"],
        "dropped_by": verdict["reason"],
        "contaminated": contaminated,
        "duplicate": duplicate if duplicate["duplicate_of"] else None,
        "duplicates_of_it": _duplicates_of(store, manifests, f"{source}/{document['id']}"),
        "takedown": _taken(store, manifests, source, one.key, row),
        "split": split["split"],
        "split_because_of": split["because_of"],
        "tokens": _tokens(store, manifests, f"{source}/{one.key}", document["id"], place),
    }


def _unmeasured(
    manifests: Mapping[str, Manifest], source: str, tags: Mapping[str, Mapping[str, Any]], column: str
) -> str | None:
    """Return why a document has no value in a column, None where it has one."""
    for stage, values in tags.items():
        if column in values and values[column] is None:
            floor, score = manifests[f"{stage}/{source}"].recipe.get("floor"), tags["language"].get(LANGUAGE_COLUMN)
            if floor is not None and score is not None and score < floor:
                return f"below the language floor: {LANGUAGE_COLUMN} {score:.4g} < {floor:g}"
            return "without a value"
    return None


def _contaminated(
    store: ArtifactStore, manifests: Mapping[str, Manifest], source: str, key: str, row: int, text: bytes
) -> dict[str, Any] | None:
    """Return the verdict on a document that holds evaluation data, with the text it shares; None for any other."""
    if f"decontamination/{source}" not in manifests:
        return None
    verdict = _row(store, manifests[f"decontamination/{source}"], key, row)
    return {**_span(text, verdict), "matches": len(verdict["matches"])} if verdict["item"] is not None else None


def _taken(
    store: ArtifactStore, manifests: Mapping[str, Manifest], source: str, key: str, row: int
) -> dict[str, Any] | None:
    """Return what the takedown list says of a document: its entries, and the listed document that it copies."""
    if f"takedown/{source}" not in manifests:
        return None
    copy = _row(store, manifests[f"takedown-copies/{source}"], key, row)
    entries = _row(store, manifests[f"takedown/{source}"], key, row)["entries"]
    return {**copy, "entries": entries} if copy["by"] else None


def _span(text: bytes, span: Mapping[str, Any]) -> dict[str, Any]:
    return {**span, "text": text[span["start"] : span["end"]].decode("utf-8", "replace")[:200]}


def _duplicates_of(store: ArtifactStore, manifests: Mapping[str, Manifest], name: str) -> list[dict[str, Any]]:
    found = []
    for one in manifests["near-duplicates/all"].objects:
        source, key = one.key.split("/", 1)
        table = read_shard(store.storage, one.path, ["duplicate_of", "jaccard", "kind"])
        rows = pc.indices_nonzero(pc.fill_null(pc.equal(table.column("duplicate_of"), name), False))
        if len(rows):
            ids = (
                read_shard(store.storage, manifests[f"documents/{source}"].object(key).path, ["id"])
                .take(rows)
                .column("id")
                .to_pylist()
            )
            verdicts = table.take(rows).to_pylist()
            found += [
                {"id": f"{source}/{i}", "jaccard": v["jaccard"], "kind": v["kind"]}
                for i, v in zip(ids, verdicts, strict=True)
            ]
    return found


def _tokens(
    store: ArtifactStore, manifests: Mapping[str, Manifest], key: str, identifier: str, split: str
) -> list[dict[str, Any]]:
    """Return where each copy of a document lies: token shard, first position, number of tokens (end-of-text included)."""
    corpus = read_shard(store.storage, manifests[f"mixing/{split}"].object(key).path, ["id", "copy"])
    rows = pc.indices_nonzero(pc.equal(corpus.column("id"), identifier)).to_pylist()
    if not rows:
        return []
    packed = manifests[f"packing/{split}"]
    found = []
    for one in packed.objects:
        if not one.key.endswith(INDEX):
            continue
        index = read_shard(store.storage, one.path)
        mask = pc.and_(pc.equal(index.column("shard"), key), pc.is_in(index.column("row"), pa.array(rows, pa.int64())))
        shard = packed.object(one.key.removesuffix(INDEX) + ".npy")
        for record in index.filter(mask).to_pylist():
            found.append(
                {
                    "shard": shard.path,
                    "start": record["start"],
                    "length": record["length"],
                    "copy": corpus["copy"][record["row"]].as_py(),
                }
            )
    return found
