"""Mixing: the survivors' text is rewritten once (spans cut out, PII masked), sampled or repeated, and becomes the corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.step import Job, Shard, Step
from olmo_core.curation.corpus_recipe import CorpusRecipe, MixingRecipe, RemoveSpans
from olmo_core.curation.layout import document_objects
from olmo_core.curation.pii import COMPATIBLE_MASKS, KINDS, MASKS
from olmo_core.curation.sampling import fractions, stable_hashes
from olmo_core.curation.spans import Edit, merge, rewrite
from olmo_core.curation.splits import SEED
from olmo_core.curation.steps.splits import survivors_role, survivors_size, take_in
from olmo_core.documents.shards import column, read_shard, text_sizes
from olmo_core.errors import RecipeError
from olmo_core.recipe import LATER

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class MixRecipe:
    """What decides the corpus, beside the rate of each source."""

    masks: Mapping[str, str]
    """What replaces a PII span, by kind; empty where nothing is masked."""
    remove: tuple[RemoveSpans, ...]
    min_bytes: int
    seed: int
    split: str | None = field(default=None, metadata=LATER)
    """The split whose documents go in; None where the corpus has no held-out splits."""


def mixing_step(
    recipe: CorpusRecipe,
    documents: Mapping[str, ArtifactRef],
    tags: Mapping[str, Mapping[str, ArtifactRef]],
    survivors: ArtifactRef,
    mixture: ArtifactRef | None,
    split: str | None = None,
) -> Step:
    """Return the step that writes the corpus, or that of a held-out split, each of whose documents goes in once.

    `documents` is by source, `tags` by source and stage; `survivors` are the splits, or the verdicts of near-duplicates
    where there are no splits; `mixture` is None for a held-out split.
    """
    own: MixingRecipe = recipe.mixing
    names = sorted(documents)
    held_out = mixture is None
    masks = COMPATIBLE_MASKS if recipe.pii.definition == "dolma_compatible" else MASKS
    inputs = {survivors_role(split): survivors, **({"mixture": mixture} if mixture is not None else {})}
    for name in names:
        inputs[f"{name}-documents"] = documents[name]
        inputs |= {f"{name}-{stage}": tags[name][stage] for stage in _stages(own)}
    return Step(
        stage="mixing",
        source=str(split) if held_out else "all",
        version=VERSION,
        kind=Kind.CORPUS,
        name=f"{recipe.name}-{split}" if held_out else recipe.name,
        recipe=MixRecipe(
            masks=dict(masks) if own.mask_pii else {},
            remove=own.remove,
            min_bytes=own.min_bytes,
            seed=SEED if held_out else recipe.seed,
            split=split,
        ),
        inputs=inputs,
        shards=lambda manifests: _shards(manifests, names, _stages(own), survivors_role(split)),
        work=_mix,
        reads=lambda manifests: (
            survivors_size(manifests, split) if held_out else manifests[survivors_role(split)].ledger.kept
        ),
        compiled=True,
        outputs=lambda shard: [shard.key],
    )


def _stages(recipe: MixingRecipe) -> list[str]:
    """Return the tag stages whose spans are needed."""
    return [*(["pii"] if recipe.mask_pii else []), *(["quality", "content"] if recipe.remove else [])]


def _shards(inputs: Mapping[str, Manifest], sources: Sequence[str], stages: Sequence[str], role: str) -> list[Shard]:
    verdicts = {o.key: o for o in inputs[role].objects}
    planned = inputs["mixture"].counts.get("sources", {}) if "mixture" in inputs else None
    shards = []
    for source in sources:
        rate = 1.0 if planned is None else planned.get(source, {}).get("rate")
        by_stage = {stage: {o.key: o for o in inputs[f"{source}-{stage}"].objects} for stage in stages}
        for one in document_objects(inputs[f"{source}-documents"]):
            verdict = verdicts[f"{source}/{one.key}"]
            tags = {stage: by_stage[stage][one.key] for stage in stages}
            identity = {
                "documents": one.digest,
                "verdict": verdict.digest,
                "rate": rate,
                **{s: o.digest for s, o in tags.items()},
            }
            paths = {"documents": one.path, "verdict": verdict.path, "tags": {s: o.path for s, o in tags.items()}}
            shards.append(
                Shard(
                    key=f"{source}/{one.key}",
                    identity=identity,
                    inputs={**paths, "rate": rate, "source": source},
                    size=one.size,
                )
            )
    return shards


def _mix(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    recipe: MixRecipe = job.recipe[0]
    inputs = job.shard.inputs
    ledger = Ledger()
    table = read_shard(output.storage, inputs["documents"])
    keep = pa.array(take_in(output.storage, inputs["verdict"], recipe.split, table, ledger))
    table = table.filter(keep)
    tags = {}
    for path in inputs["tags"].values():
        one = read_shard(output.storage, path, rows=len(keep))
        tags.update({name: column(one, name).filter(keep) for name in one.column_names})
    sizes = text_sizes(table)
    texts = column(table, "text")
    edits = edits_of(recipe, tags)
    rewritten = rewrite(texts, merge(*edits)) if edits else texts
    copies = how_often(recipe.seed, inputs["source"], column(table, "id").to_pylist(), inputs["rate"])
    stripped = pc.binary_length(pc.utf8_trim_whitespace(rewritten)).to_numpy(zero_copy_only=False)
    short = (stripped < recipe.min_bytes) & (copies > 0)
    unsampled = copies == 0
    ledger.drop("not_sampled", int(unsampled.sum()), int(sizes[unsampled].sum()))
    ledger.drop("too_short", int(short.sum()), int(sizes[short].sum()))
    copies = np.where(short, 0, copies)
    more = np.maximum(copies - 1, 0)
    ledger.repeated.add(int(more.sum()), int((more * sizes).sum()))
    ledger.kept.add(int(copies.sum()), int((copies * sizes).sum()))
    rows = np.repeat(np.arange(table.num_rows), copies)
    copy = np.concatenate([np.arange(n) for n in copies]) if len(rows) else np.zeros(0, np.int64)
    mixed = (
        table.set_column(1, "text", rewritten)
        .take(pa.array(rows))
        .add_column(1, "copy", pa.array(copy.astype(np.int32), pa.int32()))
    )
    text_bytes = int(text_sizes(mixed).sum())
    output.table(job.shard.key, mixed, {"text_bytes": text_bytes, "source": inputs["source"]})
    return ledger, {
        "text_bytes": {inputs["source"]: text_bytes},
        "documents": {inputs["source"]: len(rows)},
        "masked": _masked(recipe, tags, copies > 0),
    }


def how_often(seed: int, source: str, ids: Sequence[str], rate: float) -> npt.NDArray[np.int64]:
    """Return how many copies of each document go in (n,): the whole part of `rate`, and one more by stable hash."""
    whole = int(rate)
    chance = fractions(stable_hashes(seed, "sample", source, ids))
    return whole + (chance < rate - whole).astype(np.int64)


def edits_of(recipe: MixRecipe, tags: Mapping[str, pa.Array]) -> list[Edit]:
    """Return the spans to cut or mask."""
    found = []
    for one in recipe.remove:
        if one.column not in tags:
            raise RecipeError(
                f"mixing.remove: there is no column {one.column!r} in quality or content; there are: {', '.join(sorted(tags))}"
            )
        found.append(Edit(spans=at_least(tags[one.column], one.at_least), replacement=""))
    if recipe.masks:
        found.append(Edit(spans=tags["pii_spans"], replacement=recipe.masks))
    return found


def at_least(spans: pa.Array, score: float | None) -> pa.Array:
    """Return a span column (list of structs with `score`) with only the spans of at least that score; None takes all."""
    if score is None:
        return spans
    flat = spans.flatten()
    keep = pc.fill_null(pc.greater_equal(pc.struct_field(flat, "score"), score), False)
    counts = np.bincount(pc.list_parent_indices(spans).filter(keep).to_numpy(), minlength=len(spans))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat.filter(keep))


def _masked(recipe: MixRecipe, tags: Mapping[str, pa.Array], mixed: npt.NDArray[np.bool_]) -> dict[str, int]:
    """Count the PII spans, by kind, of the documents that went into the corpus, each once however often it did."""
    if not recipe.masks:
        return {}
    kinds = pc.struct_field(tags["pii_spans"].filter(pa.array(mixed)).flatten(), "kind")
    return {kind: int(pc.sum(pc.equal(kinds, kind)).as_py() or 0) for kind in KINDS}
