"""Examples for people: documents that each rule dropped, duplicates beside what they repeat, and some that were kept.

Only shards whose ledger says that they hold what is looked for are read, one at a time, as many as are needed: the
examples of a large corpus cost what those of a small one do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.artifacts.manifest import Manifest
from olmo_core.curation.layout import document_objects, quarantine_objects
from olmo_core.documents.shards import column, read_shard
from olmo_core.report.excerpt import MOST_SPANS, Excerpt, Kind, Span, excerpt
from olmo_core.storage import Storage

_SHOWN = 400
"""Characters of an example in report.json and report.md."""
_TAGS = ("language", "quality", "content", "pii")
_KINDS: Mapping[str, Kind] = {"pii": "pii", "lexicon": "word", "c4": "line"}
"""What the spans of a column are, by the beginning of its name; those of classifiers are sentences."""

Rewriting = Callable[[Mapping[str, pa.Array]], pa.ListArray | None]
"""From the tag columns of documents to what mixing replaced in them (`spans.REPLACEMENTS`); None where nothing is."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One document as an example."""

    reason: str
    source: str
    id: str
    text: str
    """The beginning of it."""
    facts: Mapping[str, Any]
    excerpt: Excerpt
    """What the page shows of it."""

    def to_json(self) -> dict[str, Any]:
        """Return the example as JSON values, without the excerpt."""
        return {k: dict(v) if k == "facts" else v for k, v in self.__dict__.items() if k != "excerpt"}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A document that was dropped as a duplicate, and the one it repeats."""

    dropped: Example
    kept_name: str
    """`source/id`."""
    left: str
    """Text of the dropped one."""
    right: str
    """Text of the kept one."""


@dataclass(frozen=True, kw_only=True)
class BadRecord:
    """A record that became no document."""

    source: str
    reason: str
    file: str
    position: int
    size: int
    detail: str
    raw: bytes
    """Its first bytes."""


def dropped_by_rules(
    storage: Storage, source: str, manifests: Mapping[str, Manifest], each: int, most: int = 1600
) -> list[Example]:
    """Return up to `each` documents for every rule of a source that was the first to drop them, with the value seen.

    `most` is how many bytes of each, about, an excerpt has.
    """
    selection = manifests[f"selection/{source}"]
    rules = {r["name"]: r for r in selection.recipe["rules"]}
    wanted = dict.fromkeys(rules, each)
    documents = {o.key: o for o in document_objects(manifests[f"documents/{source}"])}
    found: list[Example] = []
    for shard in selection.shards:
        names = [n for n, left in wanted.items() if left and n in shard.ledger.dropped]
        if not names:
            continue
        reasons = column(read_shard(storage, selection.object(shard.key).path, ["reason"]), "reason")
        rows: list[tuple[int, str]] = []
        for name in names:
            hits = pc.indices_nonzero(pc.fill_null(pc.equal(reasons, name), False)).to_numpy()
            rows += [(row, name) for row in spread(hits, wanted[name])]
            wanted[name] -= min(len(hits), wanted[name])
        tags = _tags(storage, shard.key, source, manifests)
        table = read_shard(storage, documents[shard.key].path, ["id", "text"])
        for row, name in rows:
            seen = rules[name]["column"]
            found.append(_example(table, row, name, source, {seen: tags[seen][row].as_py()}, _spans(tags, row), most))
    order = list(rules)
    return sorted(found, key=lambda e: (order.index(e.reason), e.id))


def spread(rows: np.ndarray[Any, Any], count: int) -> list[int]:
    """Return at most `count` of some rows, evenly spread over them."""
    return [int(rows[i]) for i in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(np.int64))]


def _example(
    table: pa.Table, row: int, reason: str, source: str, facts: Mapping[str, Any], spans: Sequence[Span], most: int
) -> Example:
    text = table.column("text")[row].as_py()
    return Example(
        reason=reason,
        source=source,
        id=table.column("id")[row].as_py(),
        text=text[:_SHOWN],
        facts=facts,
        excerpt=excerpt(text.encode(), spans, most),
    )


def _tags(storage: Storage, key: str, source: str, manifests: Mapping[str, Manifest]) -> dict[str, pa.Array]:
    found: dict[str, pa.Array] = {}
    for stage in _TAGS:
        table = read_shard(storage, manifests[f"{stage}/{source}"].object(key).path)
        found.update({name: column(table, name) for name in table.column_names})
    return found


def _spans(tags: Mapping[str, pa.Array], row: int) -> list[Span]:
    """Return the spans of one document in all columns, those of every column in order."""
    found = []
    for name in sorted(n for n in tags if n.endswith("_spans")):
        if not tags[name][row].is_valid:
            continue
        kind = _KINDS.get(name.split("_")[0], "sentence")
        for span in tags[name][row].values.slice(0, MOST_SPANS).to_pylist():
            note = f"{name.removesuffix('_spans')} {span['score']:.3f}" if "score" in span else str(span["kind"])
            found.append(Span(start=span["start"], end=span["end"], kind=kind, note=note.replace("_", " ")))
    return sorted(found, key=lambda s: s.kind == "line")


def duplicates(storage: Storage, manifests: Mapping[str, Manifest]) -> list[Pair]:
    """Return the pairs whose places the near-duplicates stage noted, the least similar first."""
    found = []
    for place in manifests["near-duplicates/all"].counts.get("examples", ()):
        sides = []
        for side in (place["dropped"], place["kept"]):
            path = manifests[f"documents/{side['source']}"].object(side["key"]).path
            sides.append(read_shard(storage, path, ["id", "text"]).slice(side["row"], 1))
        kept_name = f"{place['kept']['source']}/{sides[1].column('id')[0].as_py()}"
        facts = {"of": kept_name, "jaccard": place["jaccard"]}
        source, reason = place["dropped"]["source"], f"{place['kind']}_duplicate"
        found.append(
            Pair(
                dropped=_example(sides[0], 0, reason, source, facts, (), 400),
                kept_name=kept_name,
                left=sides[0].column("text")[0].as_py(),
                right=sides[1].column("text")[0].as_py(),
            )
        )
    return found


def kept(
    storage: Storage, manifests: Mapping[str, Manifest], each: int, rewriting: Rewriting, most: int = 1600
) -> list[Example]:
    """Return up to `each` documents of the corpus of every source, with what mixing replaced in them.

    The first of each source has masks, where the first shard that was masked has a document with some.
    """
    mixing = manifests["mixing/all"]
    found: list[Example] = []
    for source in sorted(mixing.counts.get("documents", {})):
        shards = [s for s in mixing.shards if s.key.startswith(f"{source}/") and s.ledger.kept.documents]
        masked = [s.key for s in shards if any(s.counts.get("masked", {}).values())][:1]
        keys = [*masked, *(shards[i].key for i in spread(np.arange(len(shards)), each) if shards[i].key not in masked)]
        left = each
        for number, key in enumerate(keys[:each]):
            take = -(-left // (min(len(keys), each) - number))
            examples = _kept_of_shard(storage, manifests, source, key, take, key in masked, rewriting, most)
            found += examples
            left -= len(examples)
    return found


def _kept_of_shard(
    storage: Storage,
    manifests: Mapping[str, Manifest],
    source: str,
    key: str,
    count: int,
    masked: bool,
    rewriting: Rewriting,
    most: int,
) -> list[Example]:
    mixed = read_shard(storage, manifests["mixing/all"].object(key).path, ["id", "copy", "text"])
    inner = key.removeprefix(f"{source}/")
    table = read_shard(storage, manifests[f"documents/{source}"].object(inner).path, ["id", "text"])
    tags = _tags(storage, inner, source, manifests)
    rows = pc.index_in(column(mixed, "id"), column(table, "id")).to_numpy()
    first = np.flatnonzero(column(mixed, "copy").to_numpy() == 0)
    chosen = spread(first, count)
    if masked:
        with_pii = first[pc.fill_null(tags["pii_count"].take(pa.array(rows[first])), 0).to_numpy() > 0]
        chosen = [*spread(with_pii, 1), *(c for c in chosen if c not in with_pii[:1])][:count]
    found = []
    for place in chosen:
        row = int(rows[place])
        one = {name: values.slice(row, 1) for name, values in tags.items()}
        replaced = rewriting(one)
        spans = [
            Span(start=s["start"], end=s["end"], kind="mask" if s["replacement"] else "cut", note=s["replacement"])
            for s in (replaced[0].as_py() if replaced is not None else ())
        ]
        others = [s for s in _spans(tags, row) if s.kind != "pii" or not spans]
        text = mixed.column("text")[place].as_py()
        example = _example(table, row, "kept", source, {"characters": len(text)}, [*spans, *others], most)
        found.append(Example(**{**example.__dict__, "text": text[:_SHOWN]}))
    return found


def quarantined(storage: Storage, manifests: Mapping[str, Manifest], each: int) -> list[BadRecord]:
    """Return up to `each` records of every source and reason for which records became no documents."""
    found = []
    for label in sorted(manifests):
        if not label.startswith("documents/"):
            continue
        manifest, source = manifests[label], label.split("/", 1)[1]
        wanted = dict.fromkeys(manifest.ledger.quarantined, each)
        for one in quarantine_objects(manifest):
            if not any(wanted.values()):
                break
            table = read_shard(storage, one.path)
            for row, reason in enumerate(table.column("reason").to_pylist()):
                if wanted.get(reason):
                    wanted[reason] -= 1
                    record = table.slice(row, 1).to_pylist()[0]
                    names = ("file", "position", "size", "detail", "raw")
                    found.append(BadRecord(source=source, reason=reason, **{n: record[n] for n in names}))
    return sorted(found, key=lambda r: (r.source, r.reason, r.file, r.position))
