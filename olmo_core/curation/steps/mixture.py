"""The mixture: how often each source's survivors go into the corpus, from shares of tokens or plain repeats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from olmo_core import assets
from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.step import Job, Shard, Step
from olmo_core.curation.corpus_recipe import CorpusRecipe
from olmo_core.curation.layout import document_objects
from olmo_core.curation.sampling import fractions, stable_hashes
from olmo_core.curation.splits import TRAIN
from olmo_core.curation.steps.splits import rows_of, survivors_role, survivors_size
from olmo_core.documents.shards import column, read_shard, text_sizes
from olmo_core.errors import InputError
from olmo_core.recipe import LATER
from olmo_core.tokens.tokenizer import Tokenizer

VERSION = 1
_LEAST = 64
"""Documents of a source to count tokens of, where it has as many: 1% of a small source is too few to judge by."""


@dataclass(frozen=True, kw_only=True)
class SourceShare:
    """What is wanted of one source."""

    name: str
    repeat: float
    share: float | None


@dataclass(frozen=True, kw_only=True)
class MixtureRecipe:
    """What decides the mixture."""

    sources: tuple[SourceShare, ...]
    total_tokens: int | None
    sample: float
    seed: int
    tokenizer: str
    tokenizer_sha256: str
    split: str | None = field(default=None, metadata=LATER)
    """`train` where the corpus has held-out splits: only its documents count."""


def mixture_step(recipe: CorpusRecipe, documents: Mapping[str, ArtifactRef], survivors: ArtifactRef) -> Step:
    """Return the step that counts what survived and decides each source's rate; `survivors` as for `mixing_step`."""
    split = TRAIN if recipe.held_out else None
    tokenizer = recipe.tokens.tokenizer
    own = MixtureRecipe(
        sources=tuple(SourceShare(name=s.name, repeat=s.repeat, share=s.share) for s in recipe.sources),
        total_tokens=recipe.mixing.total_tokens,
        sample=recipe.mixing.sample,
        seed=recipe.seed,
        tokenizer=tokenizer,
        tokenizer_sha256=assets.identity(tokenizer),
        split=split,
    )
    names = sorted(documents)
    return Step(
        stage="mixture",
        source="all",
        version=VERSION,
        kind=Kind.ATTRIBUTES,
        name=f"{recipe.name}-mixture",
        recipe=own,
        inputs={survivors_role(split): survivors, **{f"{name}-documents": documents[name] for name in names}},
        shards=lambda inputs: [_whole(inputs, names, survivors_role(split))],
        work=_plan,
        reads=lambda manifests: survivors_size(manifests, split),
    )


def _whole(inputs: Mapping[str, Manifest], sources: Sequence[str], role: str) -> Shard:
    verdicts = {o.key: o for o in inputs[role].objects}
    entries, identity, size = [], [], 0
    for source in sources:
        for one in document_objects(inputs[f"{source}-documents"]):
            verdict = verdicts[f"{source}/{one.key}"]
            entries.append((source, one.path, verdict.path))
            identity.append([source, one.digest, verdict.digest])
            size += one.size
    return Shard(key="mixture", identity={"shards": identity}, inputs={"entries": entries}, size=size)


def _plan(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    recipe: MixtureRecipe = job.recipe[0]
    counted = {s.name: _Counts() for s in recipe.sources}
    tokenizer = Tokenizer.from_file(assets.fetch(recipe.tokenizer))
    ledger = Ledger()
    for source, path, verdict in job.shard.inputs["entries"]:
        keep = rows_of(output.storage, verdict, recipe.split)
        table = read_shard(output.storage, path, ["id", "text"], rows=len(keep)).filter(pa.array(keep))
        counted[source].add(recipe, source, table, tokenizer)
        size = int(text_sizes(table).sum())
        ledger.read.add(table.num_rows, size)
        ledger.kept.add(table.num_rows, size)
    planned = {s.name: _rate(s, recipe, counted[s.name]) for s in recipe.sources}
    with output.raw("mixture", ".json", rows=len(planned)) as handle:
        handle.write(json.dumps(planned, indent=1, sort_keys=True).encode())
    return ledger, {"sources": planned}


@dataclass(kw_only=True)
class _Counts:
    """What survived of one source, and a sample of its tokens per byte."""

    documents: int = 0
    bytes: int = 0
    sampled_documents: int = 0
    sampled_bytes: int = 0
    sampled_tokens: int = 0

    def add(self, recipe: MixtureRecipe, source: str, table: pa.Table, tokenizer: Tokenizer) -> None:
        sizes = text_sizes(table)
        self.documents += table.num_rows
        self.bytes += int(sizes.sum())
        chance = fractions(stable_hashes(recipe.seed, "token-sample", source, column(table, "id").to_pylist()))
        chosen = chance < recipe.sample
        if self.sampled_documents + chosen.sum() < _LEAST:
            # Too few by chance: the documents with the lowest hashes, which are as random.
            chosen = np.zeros(len(chance), bool)
            chosen[np.argsort(chance, kind="stable")[: _LEAST - self.sampled_documents]] = True
        texts = column(table, "text").filter(pa.array(chosen))
        _, offsets = tokenizer.encode(texts)
        self.sampled_documents += len(texts)
        self.sampled_bytes += int(sizes[chosen].sum())
        self.sampled_tokens += int(offsets[-1]) + len(texts)

    @property
    def tokens(self) -> float:
        """Estimated tokens of all that survived, one end-of-text token per document included."""
        return self.bytes * self.sampled_tokens / self.sampled_bytes if self.sampled_bytes else 0.0


def _rate(source: SourceShare, recipe: MixtureRecipe, counts: _Counts) -> dict[str, float]:
    rate = source.repeat
    if recipe.total_tokens is not None and source.share is not None:
        wanted = source.share * recipe.total_tokens
        if wanted and not counts.tokens:
            raise InputError(
                f"source {source.name} shall give {source.share:.1%} of the tokens, but none of its documents survived; "
                f"loosen its rules, give it more input, or take it out of the recipe"
            )
        rate = wanted / counts.tokens if wanted else 0.0
    return {
        "documents": counts.documents,
        "bytes": counts.bytes,
        "sampled_documents": counts.sampled_documents,
        "estimated_tokens": round(counts.tokens),
        "rate": rate,
        "planned_tokens": round(counts.tokens * rate),
    }
