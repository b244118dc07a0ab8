"""Tokenization and packing: the corpus as token ids, then as headerless memory-mapped shards in one shuffled order.

Tokenization leaves, for each corpus shard, its ids and an index, both in the order of the shuffle. Packing gives every
token shard a range of the shuffle's hashes, so that it reads one contiguous piece of each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core import assets
from olmo_core.artifacts.ledger import Ledger, Tally
from olmo_core.artifacts.manifest import FinishedShard, Manifest
from olmo_core.artifacts.output import ROW_GROUP, Output
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.step import Job, Shard, Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.corpus_recipe import CorpusRecipe
from olmo_core.curation.layout import IDS, INDEX, NPY
from olmo_core.curation.sampling import stable_hashes
from olmo_core.curation.splits import SEED, TRAIN
from olmo_core.documents.shards import column, read_shard, text_sizes
from olmo_core.errors import InputError, IntegrityError
from olmo_core.recipe import LATER, fingerprint
from olmo_core.tokens.tokenizer import Tokenizer

TOKENIZATION_VERSION = 1
PACKING_VERSION = 1
_HASHES = 1 << 64
Check = Callable[[ArtifactStore, Sequence[FinishedShard]], None]


@dataclass(frozen=True, kw_only=True)
class TokenizationRecipe:
    """What decides the ids and their order."""

    seed: int
    tokenizer: str
    tokenizer_sha256: str


@dataclass(frozen=True, kw_only=True)
class PackingRecipe:
    """What decides how documents fall into token shards."""

    shard_tokens: int
    split: str | None = field(default=None, metadata=LATER)
    """What the tokens may be used for: `train`, or the name of a held-out split; None where nothing is held out."""


def tokenization_step(recipe: CorpusRecipe, corpus: ArtifactRef, held_out: str | None = None) -> Step:
    """Return the step that encodes every shard of the corpus, or of a held-out split, an end-of-text token after each document."""
    name = recipe.tokens.tokenizer
    seed = SEED if held_out else recipe.seed
    return Step(
        stage="tokenization",
        source=held_out or "all",
        version=TOKENIZATION_VERSION,
        kind=Kind.ATTRIBUTES,
        name=f"{recipe.name}-{held_out}-tokenization" if held_out else f"{recipe.name}-tokenization",
        recipe=TokenizationRecipe(seed=seed, tokenizer=name, tokenizer_sha256=assets.identity(name)),
        inputs={"corpus": corpus},
        shards=_corpus_shards,
        work=_encode,
        reads=_corpus_size,
        compiled=True,
        outputs=lambda shard: [shard.key, shard.key + IDS],
    )


def _corpus_size(inputs: Mapping[str, Manifest]) -> Tally:
    """Return the documents of the corpus and the bytes of their text as it was rewritten."""
    corpus = inputs["corpus"]
    return Tally(documents=corpus.ledger.kept.documents, bytes=sum(int(o.meta["text_bytes"]) for o in corpus.objects))


def _corpus_shards(inputs: Mapping[str, Manifest]) -> list[Shard]:
    return [
        Shard(
            key=o.key,
            identity={"corpus": o.digest},
            inputs={"corpus": o.path, "source": o.key.split("/")[0]},
            size=o.size,
        )
        for o in inputs["corpus"].objects
    ]


def _encode(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    recipe: TokenizationRecipe = job.recipe[0]
    tokenizer = Tokenizer.from_file(assets.fetch(recipe.tokenizer))
    table = read_shard(output.storage, job.shard.inputs["corpus"], ["id", "copy", "text"])
    source = job.shard.inputs["source"]
    hashes = stable_hashes(
        recipe.seed, "shuffle", source, table.column("id").to_pylist(), table.column("copy").to_pylist()
    )
    order = np.argsort(hashes, kind="stable")
    sizes = text_sizes(table)[order]
    ids, offsets = tokenizer.encode(column(table, "text").take(pa.array(order)))
    lengths = np.diff(offsets) + 1
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64) if len(lengths) else np.zeros(0, np.int64)
    total = int(lengths.sum())
    out = np.empty(total, tokenizer.dtype)
    ends = starts + lengths - 1
    out[ends] = tokenizer.end_of_text_id
    body = np.ones(total, bool)
    body[ends] = False
    out[body] = ids
    index = pa.table(
        {
            "hash": pa.array(hashes[order]),
            "row": pa.array(order.astype(np.int64)),
            "start": pa.array(starts),
            "length": pa.array(lengths.astype(np.int64)),
            "bytes": pa.array(sizes),
        }
    )
    meta = {"tokens": total, "source": source, "dtype": str(tokenizer.dtype)}
    firsts = index.column("hash").to_numpy()[::ROW_GROUP].tolist()
    output.table(job.shard.key, index, {**meta, "first_hashes": firsts})
    with output.raw(job.shard.key, IDS, rows=total, meta=meta) as handle:
        handle.write(out.tobytes())
    ledger = Ledger()
    ledger.read.add(table.num_rows, int(sizes.sum()))
    ledger.kept.add(table.num_rows, int(sizes.sum()))
    return ledger, {"tokens": total, "tokens_by_source": {source: total}}


def packing_step(
    recipe: CorpusRecipe, tokenization: ArtifactRef, held_out: str | None = None, check: Check | None = None
) -> Step:
    """Return the step that writes the token artifact: `00000.npy`, ... and the index from tokens back to documents.

    `check` looks at the tokens before they are published. A held-out split may be empty: a trial has few documents.
    """
    split = held_out or (TRAIN if recipe.held_out else None)
    own = PackingRecipe(shard_tokens=recipe.tokens.shard_tokens, split=split)

    def checked(store: ArtifactStore, shards: Sequence[FinishedShard]) -> None:
        if held_out is None:
            _check_not_empty(store, shards)
        if check is not None:
            check(store, shards)

    return Step(
        stage="packing",
        source=held_out or "all",
        version=PACKING_VERSION,
        kind=Kind.TOKENS,
        name=f"{recipe.name}-{held_out}" if held_out else recipe.name,
        recipe=own,
        inputs={"tokenization": tokenization},
        shards=lambda inputs: _ranges(inputs["tokenization"], own.shard_tokens),
        work=_pack,
        reads=lambda manifests: manifests["tokenization"].ledger.kept,
        check=checked,
        outputs=lambda shard: [shard.key + NPY, shard.key + INDEX],
    )


def _ranges(tokenization: Manifest, shard_tokens: int) -> list[Shard]:
    objects = {o.key: o for o in tokenization.objects}
    indexes = [o for o in tokenization.objects if not o.key.endswith(IDS)]
    total = sum(int(o.meta.get("tokens", 0)) for o in indexes)
    count = max(1, -(-total // shard_tokens))
    entries = [
        (o.key, o.path, objects[o.key + IDS].path, o.meta.get("dtype", "uint16"), o.meta.get("first_hashes"))
        for o in indexes
    ]
    digests = fingerprint([[o.key, o.digest, objects[o.key + IDS].digest] for o in indexes])
    return [
        Shard(
            key=f"{i:05d}",
            identity={"part": [i, count], "shards": digests},
            inputs={"entries": entries, "part": (i, count)},
            size=total // count,
        )
        for i in range(count)
    ]


def _pack(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    part, count = job.shard.inputs["part"]
    low, high = part * _HASHES // count, (part + 1) * _HASHES // count - 1
    pieces: list[pa.Table] = []
    tokens: list[npt.NDArray[Any]] = []
    for number, (key, index_path, ids_path, dtype, firsts) in enumerate(job.shard.inputs["entries"]):
        groups = None if firsts is None else row_groups(firsts, low, high)
        if groups is not None and not groups:
            continue
        index = read_shard(output.storage, index_path, groups=groups)
        hashes = index.column("hash").to_numpy()
        first, last = np.searchsorted(hashes, np.uint64(low)), np.searchsorted(hashes, np.uint64(high), side="right")
        if first == last:
            continue
        piece = index.slice(first, last - first)
        start = piece.column("start")[0].as_py()
        length = int(np.sum(piece.column("length").to_numpy()))
        width = np.dtype(dtype).itemsize
        raw = output.storage.read(ids_path, start=start * width, length=length * width)
        if len(raw) != length * width:
            raise IntegrityError(
                f"{ids_path}: {len(raw)} bytes of ids, expected {length * width}; `olmo artifacts verify` checks it"
            )
        tokens.append(np.frombuffer(raw, dtype))
        pieces.append(
            piece.append_column("entry", pa.array(np.full(len(piece), number))).append_column(
                "key", pa.array([key] * len(piece))
            )
        )
    ledger = Ledger()
    if not pieces:
        return ledger, {}
    whole = pa.concat_tables(pieces).combine_chunks()
    order = np.lexsort(
        (whole.column("row").to_numpy(), whole.column("entry").to_numpy(), whole.column("hash").to_numpy())
    )
    lengths = whole.column("length").to_numpy()
    origin = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    ids = joined(tokens, origin[order], lengths[order])
    starts = np.concatenate([[0], np.cumsum(lengths[order])[:-1]])
    keys = whole.column("key").take(pa.array(order)).to_pylist()
    index = pa.table(
        {
            "start": pa.array(starts.astype(np.int64)),
            "length": pa.array(lengths[order]),
            "source": pa.array([k.split("/")[0] for k in keys], pa.string()),
            "shard": pa.array(keys, pa.string()),
            "row": whole.column("row").take(pa.array(order)),
        }
    )
    meta = {"tokens": len(ids), "dtype": str(ids.dtype), "documents": len(keys)}
    with output.raw(job.shard.key, NPY, rows=len(ids), meta=meta) as handle:
        handle.write(ids.data.cast("B"))
    output.table(job.shard.key + INDEX, index, meta)
    size = int(np.sum(whole.column("bytes").to_numpy()))
    ledger.read.add(len(keys), size)
    ledger.kept.add(len(keys), size)
    return ledger, {"tokens": len(ids)}


def row_groups(firsts: Sequence[int], low: int, high: int) -> range:
    """Return the row groups of a sorted index that may have hashes from `low` to `high`; `firsts` begins each group."""
    known = np.array(firsts, np.uint64)
    first = int(np.searchsorted(known, np.uint64(low), side="left"))
    return range(max(first - 1, 0), int(np.searchsorted(known, np.uint64(high), side="right")))


def joined(
    pieces: Sequence[npt.NDArray[Any]], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    """Return runs of ids laid end to end; `starts` count through all pieces, and no run crosses from one into the next.

    Memory: the pieces and the result, 2 bytes a token each for uint16.
    """
    bounds = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
    owner = np.searchsorted(bounds, starts, side="right") - 1
    out = np.empty(int(lengths.sum()), pieces[0].dtype)
    at = 0
    for number, start, length in zip(owner.tolist(), (starts - bounds[owner]).tolist(), lengths.tolist(), strict=True):
        out[at : at + length] = pieces[number][start : start + length]
        at += length
    return out


def _check_not_empty(store: ArtifactStore, shards: Sequence[FinishedShard]) -> None:
    if not any(shard.objects for shard in shards):
        raise InputError(
            "no document survived: there are no tokens to write; look at the waterfall for the stage that dropped them, and loosen it"
        )
