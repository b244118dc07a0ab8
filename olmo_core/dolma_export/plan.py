"""What an export of a corpus consists of: the jobs that write its files, from the manifests of the corpus's run."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from olmo_core.artifacts.manifest import Manifest, StoredObject
from olmo_core.artifacts.ref import Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.layout import INDEX, KEEP, NPY, document_objects
from olmo_core.dolma_export import attribute_lines, mixer, shards, tokens
from olmo_core.dolma_export.files import ExportedFile, Job, Part, Target
from olmo_core.errors import IntegrityError, RecipeError
from olmo_core.recipe import fingerprint

VERSION = 1
"""Raised when the same artifacts give other files."""
NOT_ATTRIBUTES = {
    "signatures": "hashes",
    "mixture": "not of documents",
    "tokenization": "of the corpus, see tokens",
    "takedown": "names what is withheld",
    "takedown-copies": "names what is withheld",
}
"""Stages whose tables are no attributes of a source's documents, and why."""
_ROWS_AT_ONCE = 4_000_000
"""Rows of token indexes whose ids are looked up in one pass over the corpus: about 100 bytes each in memory."""


@dataclass(kw_only=True)
class Plan:
    """The jobs of an export, and what its record says about them."""

    jobs: list[Job] = field(default_factory=list)
    attributes: dict[str, list[str]] = field(default_factory=dict)
    """Keys by stage; keys of categories, and of spans by kind, have a further part behind them."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Columns by stage that have no form in the toolkit's attributes."""
    withheld: dict[str, dict[str, int]] = field(default_factory=dict)
    """Documents by source and reason that have no line: dropped by something other than a rule, such as a takedown list."""

    @property
    def targets(self) -> dict[str, Target]:
        """All files, by path."""
        return {target.path: target for job in self.jobs for target in job.targets}


def plan_export(
    store: ArtifactStore,
    manifests: Mapping[str, Manifest],
    to: str,
    parts: Collection[Part],
    known: Mapping[str, ExportedFile],
) -> Plan:
    """Return the jobs that write `parts` of a corpus to the folder `to`; `manifests` are those of its run by label.

    Raises IntegrityError when a stage lacks the object of a shard, RecipeError for names that the export cannot have.
    """
    made = Plan()
    planner = _Planner(store=store, to=to, known=known)
    sources = sorted(label.split("/")[1] for label in manifests if label.startswith("documents/"))
    for source in sources:
        if source in ("corpus", "tokens", "mixed"):
            raise RecipeError(f"a source named {source!r} cannot be exported: the export has a folder of that name")
        if not {"documents", "attributes"} & set(parts):
            continue
        stages = _stages(manifests, source) if "attributes" in parts else {}
        selection = manifests[f"selection/{source}"]
        if held := _withheld(selection):
            made.withheld[source] = held
        for one in document_objects(manifests[f"documents/{source}"]):
            made.jobs.append(
                planner.shard(source, one, stages, selection.object(one.key), sorted(held), "documents" in parts)
            )
        if stages:
            made.jobs.append(_mixer(planner, manifests, source, stages, made))
    if "corpus" in parts:
        made.jobs += [planner.corpus(one) for one in manifests["mixing/all"].objects]
    if "tokens" in parts:
        made.jobs += list(planner.tokens(manifests["packing/all"], manifests["mixing/all"]))
    return made


@dataclass(frozen=True, kw_only=True)
class _Planner:
    store: ArtifactStore
    to: str
    known: Mapping[str, ExportedFile]

    def job(self, name: str, targets: Sequence[Target], inputs: Mapping[str, Any], work: Any, size: int = 0) -> Job:
        known = {t.path: self.known[t.path] for t in targets if t.path in self.known}
        return Job(
            name=name,
            store=self.store.uri,
            to=self.to,
            targets=tuple(targets),
            known=known,
            inputs=inputs,
            work=work,
            size=size,
        )

    def shard(
        self,
        source: str,
        one: StoredObject,
        stages: Mapping[str, _Stage],
        selection: StoredObject,
        withheld: Sequence[str],
        documents: bool,
    ) -> Job:
        decided = [selection.digest, withheld] if withheld else []
        targets: list[Target] = []
        by_path: dict[str, str | None] = {}
        attributes: dict[str, dict[str, Any]] = {}
        if documents:
            path = f"{source}/documents/{one.key}.jsonl.gz"
            targets.append(_target(path, "documents", one.digest, *decided))
            by_path[path] = None
        for stage, held in stages.items():
            tags = held.object(one.key)
            path = f"{source}/attributes/{stage}/{one.key}.jsonl.gz"
            targets.append(_target(path, "attributes", one.digest, tags.digest, *decided))
            by_path[path] = stage
            attributes[stage] = tags.to_json()
        inputs = {
            "documents": one.to_json(),
            "attributes": attributes,
            "stages": by_path,
            "selection": selection.to_json(),
            "withheld": withheld,
        }
        return self.job(f"{source}/{one.key}", targets, inputs, shards.write_shard, one.size)

    def corpus(self, one: StoredObject) -> Job:
        target = _target(tokens.corpus_path(one.key), "corpus", one.digest)
        return self.job(f"corpus/{one.key}", [target], {"corpus": one.to_json()}, shards.write_corpus, one.size)

    def tokens(self, packed: Manifest, corpus: Manifest) -> Iterator[Job]:
        entries = [(one.key, one.path, one.rows) for one in corpus.objects]
        digests = [[one.key, one.digest] for one in corpus.objects]
        group: list[tuple[Target, StoredObject]] = []
        for one in packed.objects:
            name = one.key.removesuffix(INDEX).removesuffix(NPY)
            if one.key.endswith(NPY):
                target = _target(f"tokens/part-0-{name}.npy", "tokens", one.digest)
                inputs = {"tokens": (one.path, one.sha256, one.rows)}
                yield self.job(f"tokens/{name}", [target], inputs, tokens.write_memory_map, one.size)
            else:
                if group and sum(o.rows for _, o in group) + one.rows > _ROWS_AT_ONCE:
                    yield self._tables(group, entries)
                    group = []
                group.append((_target(f"tokens/part-0-{name}.csv.gz", "tokens", one.digest, digests), one))
        if group:
            yield self._tables(group, entries)

    def _tables(self, group: Sequence[tuple[Target, StoredObject]], corpus: Sequence[tuple[str, str, int]]) -> Job:
        inputs = {"indexes": {t.path: (o.path, o.rows) for t, o in group}, "corpus": corpus}
        size = sum(o.size for _, o in group)
        return self.job(f"tokens/{group[0][1].key}", [t for t, _ in group], inputs, tokens.write_tables, size)


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """A stage with a table for each shard of a source's documents."""

    manifest: Manifest
    prefix: str
    objects: Mapping[str, StoredObject]

    def object(self, key: str) -> StoredObject:
        if self.prefix + key not in self.objects:
            raise IntegrityError(
                f"{self.manifest.ref} has nothing for the document shard {self.prefix + key}, so its documents would go "
                "without these attributes; `olmo artifacts verify` tells whether objects are missing"
            )
        return self.objects[self.prefix + key]


def _stages(manifests: Mapping[str, Manifest], source: str) -> dict[str, _Stage]:
    """Return the stages with attributes of a source's documents: its own, and those over all sources that have its shards."""
    keys = [one.key for one in document_objects(manifests[f"documents/{source}"])]
    found = {}
    for label, manifest in manifests.items():
        stage, owner = label.split("/")
        prefix = "" if owner == source else f"{source}/"
        if manifest.ref.kind != Kind.ATTRIBUTES or stage in NOT_ATTRIBUTES or owner not in (source, "all"):
            continue
        objects = {one.key: one for one in manifest.objects}
        if owner == source or any(prefix + key in objects for key in keys):
            found[stage] = _Stage(manifest=manifest, prefix=prefix, objects=objects)
    return dict(sorted(found.items()))


def _withheld(selection: Manifest) -> dict[str, int]:
    """Return the documents that selection dropped for anything but a rule, by reason: they may not leave the store."""
    rules = {rule["name"] for rule in selection.recipe["rules"]}
    return {reason: tally.documents for reason, tally in selection.ledger.dropped.items() if reason not in rules}


def _target(path: str, part: Part, *made_from: Any) -> Target:
    return Target(path=path, part=part, made_from=fingerprint(["dolma-export", VERSION, path, list(made_from)]))


def _schema(store: ArtifactStore, stage: _Stage) -> pa.Schema:
    """Return the columns of a stage, from its first shard."""
    first = next(iter(stage.objects.values()))
    with store.storage.open(first.path) as handle:
        return pq.read_schema(handle)


def _mixer(
    planner: _Planner, manifests: Mapping[str, Manifest], source: str, stages: Mapping[str, _Stage], made: Plan
) -> Job:
    """Return the job that writes the toolkit's configuration; notes in `made` what each stage has."""
    owners: dict[str, str] = {}
    verdicts = []
    for stage, held in stages.items():
        schema = _schema(planner.store, held)
        named = attribute_lines.keys(stage, schema)
        owners.update(dict.fromkeys(named, stage))
        made.attributes[stage] = sorted({*made.attributes.get(stage, ()), *named.values()})
        if lost := attribute_lines.left_out(schema):
            made.left_out[stage] = lost
        if KEEP in schema.names and stage != "selection":
            verdicts.append(stage)
    configuration = mixer.mixer_configuration(
        source,
        list(stages),
        owners,
        manifests[f"selection/{source}"].recipe["rules"],
        manifests["mixing/all"].recipe,
        verdicts,
        [one["name"] for one in manifests["splits/all"].recipe["held_out"]] if "splits/all" in manifests else (),
    )
    text = json.dumps(configuration, indent=1, ensure_ascii=False) + "\n"
    target = _target(f"{source}/mix.json", "attributes", text)
    return planner.job(f"{source}/mix", [target], {"text": text}, _write_text)


def _write_text(job: Job, targets: Sequence[Target]) -> list[ExportedFile]:
    text: str = job.inputs["text"]
    return [job.write(target, 0, lambda handle: _put(handle, text)) for target in targets]


def _put(handle: Any, text: str) -> None:
    handle.write(text.encode())
