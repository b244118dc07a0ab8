"""Language, quality, content, PII and signatures: columns about documents, shard by shard in the same order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from olmo_core import assets
from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest, StoredObject
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.step import Job, Shard, Step
from olmo_core.curation import content, language, pii, quality, signatures
from olmo_core.curation.corpus_recipe import LANGUAGE_COLUMN, CorpusRecipe, SourceRecipe
from olmo_core.curation.fasttext_model import load
from olmo_core.curation.layout import document_objects
from olmo_core.documents.shards import column, read_shard, text_sizes
from olmo_core.errors import IntegrityError
from olmo_core.storage import Storage

_NAUGHTY_WORDS = "naughty-words-en"
_MODEL = "model-"
_VERSIONS = {
    "language": language.VERSION,
    "quality": quality.VERSION,
    "content": content.VERSION,
    "pii": pii.VERSION,
    "signatures": signatures.VERSION,
}


@dataclass(frozen=True, kw_only=True)
class TagRecipe:
    """What decides the columns of a tagger."""

    tag: Any
    """The tagger's own recipe."""
    floor: float | None = None
    """Rows with a lower language score are left null; None tags every row."""
    assets: Mapping[str, str] | None = None
    """sha256 of the outside files it uses, by name."""


def tag_step(
    stage: str,
    recipe: CorpusRecipe,
    source: SourceRecipe,
    documents: ArtifactRef,
    language_tags: ArtifactRef | None,
    models: Mapping[str, ArtifactRef] | None = None,
) -> Step:
    """Return the step that runs one tagger over the documents of a source.

    `language_tags` is the source's language artifact, None for the language stage itself; `models` are the model
    artifacts that the content stage uses, by classifier name.
    """
    floor = recipe.floor_of(source) if stage != "language" else None
    own = recipe.near_duplicates.signature if stage == "signatures" else getattr(recipe, stage)
    inputs = {"documents": documents}
    if floor is not None and language_tags is not None:
        inputs["language"] = language_tags
    if stage == "content":
        inputs |= {_MODEL + name: ref for name, ref in (models or {}).items()}
    return Step(
        stage=stage,
        source=source.name,
        version=_VERSIONS[stage],
        kind=Kind.ATTRIBUTES,
        name=f"{source.name}-{stage}",
        recipe=TagRecipe(
            tag=own, floor=floor, assets={name: assets.identity(name) for name in assets_of_stage(stage, own)}
        ),
        inputs=inputs,
        shards=_aligned,
        work=_WORK[stage],
        reads=lambda manifests: manifests["documents"].ledger.kept,
        compiled=True,
    )


def assets_of_stage(stage: str, own: Any) -> list[str]:
    """Return the names of the outside files that a tagger with this recipe uses."""
    if stage == "language":
        return [own.model]
    if stage == "quality":
        return [_NAUGHTY_WORDS] if own.c4 else []
    if stage == "content":
        return content.assets_of(own)
    return []


def _aligned(inputs: Mapping[str, Manifest]) -> list[Shard]:
    """Return one shard of work for each shard of documents, with the language tags of the same rows where needed."""
    scores = {o.key: o for o in inputs["language"].objects} if "language" in inputs else {}
    models = {role.removeprefix(_MODEL): model_object(m) for role, m in inputs.items() if role.startswith(_MODEL)}
    shards = []
    for one in document_objects(inputs["documents"]):
        identity: dict[str, Any] = {"documents": one.digest, **{_MODEL + n: o.digest for n, o in models.items()}}
        paths: dict[str, Any] = {"documents": one.path, "models": models}
        if scores:
            identity["language"] = scores[one.key].digest
            paths["language"] = scores[one.key].path
        shards.append(Shard(key=one.key, identity=identity, inputs=paths, size=one.size))
    return shards


def model_object(manifest: Manifest) -> StoredObject:
    """Return the model file of a model artifact."""
    for one in manifest.objects:
        if one.key.startswith("model."):
            return one
    raise IntegrityError(f"{manifest.ref} holds no model file")


def local_copy(storage: Storage, model: StoredObject) -> Path:
    """Return a file on this machine with a model's bytes, copied into the asset cache the first time it is asked for."""
    path = assets.cache_folder() / model.sha256 / model.key
    if not path.is_file():
        content = storage.read(model.path)
        if (seen := hashlib.sha256(content).hexdigest()) != model.sha256:
            raise IntegrityError(
                f"{storage.url(model.path)} has sha256 {seen}, its manifest says {model.sha256}: it is damaged"
            )
        Storage(str(path.parent)).put(path.name, content)
    return path


def _tag(
    job: Job, output: Output, tagger: Callable[[pa.LargeStringArray], pa.RecordBatch]
) -> tuple[Ledger, Mapping[str, Any]]:
    recipe: TagRecipe = job.recipe[0]
    storage = output.storage
    documents = read_shard(storage, job.shard.inputs["documents"], ["text"])
    texts = column(documents, "text")
    above = None
    if recipe.floor is not None:
        scores = column(read_shard(storage, job.shard.inputs["language"], [LANGUAGE_COLUMN]), LANGUAGE_COLUMN)
        if len(scores) != len(texts):
            raise IntegrityError(
                f"{job.stage}/{job.shard.key}: {len(texts)} documents but {len(scores)} language scores"
            )
        # A row without a score fails no language rule, so it may survive and needs its tags.
        above = pc.fill_null(pc.greater_equal(pc.cast(scores, pa.float64()), recipe.floor), True).to_numpy(
            zero_copy_only=False
        )
    tags = tagger(texts if above is None else texts.filter(pa.array(above)))
    table = _nullable(pa.Table.from_batches([tags]))
    if above is not None and not above.all():
        rows = np.where(above, np.cumsum(above) - 1, 0)
        table = table.take(pa.array(rows, mask=~above))
    if table.num_rows != len(texts):
        raise IntegrityError(
            f"{job.stage}/{job.shard.key}: {len(texts)} documents but {table.num_rows} rows of tags; this is a bug"
        )
    size = int(text_sizes(documents).sum())
    output.table(job.shard.key, table)
    ledger = Ledger()
    ledger.read.add(len(texts), size)
    ledger.kept.add(len(texts), size)
    return ledger, {"below_floor": 0 if above is None else int((~above).sum())}


def _nullable(table: pa.Table) -> pa.Table:
    """Return the table with columns that may be null: rows below the floor are."""
    fields = []
    for one in table.schema:
        kind = one.type
        if pa.types.is_fixed_size_list(kind):
            kind = pa.list_(pa.field("item", kind.value_type), kind.list_size)
        fields.append(pa.field(one.name, kind))
    return table.cast(pa.schema(fields))


def _language(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    own: language.LanguageRecipe = job.recipe[0].tag
    model = load(assets.fetch(own.model))
    return _tag(job, output, lambda texts: language.tag(texts, own, model))


def _quality(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    own: quality.QualityRecipe = job.recipe[0].tag
    words = tuple(assets.fetch(_NAUGHTY_WORDS).read_text(encoding="utf-8").split("\n")) if own.c4 else ()
    words = tuple(word.strip() for word in words if word.strip())
    return _tag(job, output, lambda texts: quality.tag(texts, own, naughty_words=words))


def _content(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    own: content.ContentRecipe = job.recipe[0].tag
    files = {name: local_copy(output.storage, model) for name, model in job.shard.inputs["models"].items()}
    loaded = content.load(own, files)
    return _tag(job, output, lambda texts: content.tag(texts, own, loaded))


def _pii(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    own: pii.PiiRecipe = job.recipe[0].tag
    return _tag(job, output, lambda texts: pii.tag(texts, own))


def _signatures(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    own: signatures.SignatureRecipe = job.recipe[0].tag
    return _tag(job, output, lambda texts: signatures.tag(texts, own))


_WORK = {"language": _language, "quality": _quality, "content": _content, "pii": _pii, "signatures": _signatures}
