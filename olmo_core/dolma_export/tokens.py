"""Tokens as the toolkit's `tokens` command leaves them: headerless memory maps, and which document each range is.

`part-0-00000.csv.gz` has one line for each document of `part-0-00000.npy`, in its order: start and end in tokens (the
end-of-text token included), id, file, and line in that file from 1. The file is that of the exported corpus, relative
to the export's folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.documents.shards import column, read_shard
from olmo_core.dolma_export.files import ExportedFile, Job, Target
from olmo_core.dolma_export.json_columns import STRING, compressed, joined, whole, write_strings
from olmo_core.errors import IntegrityError
from olmo_core.storage import Storage

_BLOCK = 1 << 23
_LINES = 1 << 18


def corpus_path(shard: str) -> str:
    """Return where the export has a shard of the corpus."""
    return f"corpus/documents/{shard}.jsonl.gz"


def write_memory_map(job: Job, targets: Sequence[Target]) -> list[ExportedFile]:
    """Copy a token shard as it is. Raises IntegrityError when its bytes are not those of the manifest."""
    storage = Storage(job.store)
    path, sha256, tokens = job.inputs["tokens"]

    def fill(handle: IO[bytes]) -> None:
        digest = hashlib.sha256()
        with storage.open(path) as source:
            while block := source.read(_BLOCK):
                digest.update(block)
                handle.write(block)
        if digest.hexdigest() != sha256:
            raise IntegrityError(
                f"{storage.url(path)} has sha256 {digest.hexdigest()}, its manifest says {sha256}: it is damaged; "
                "`olmo artifacts verify` checks all of its artifact"
            )

    return [job.write(target, tokens, fill) for target in targets]


def write_tables(job: Job, targets: Sequence[Target]) -> list[ExportedFile]:
    """Write the tables of some token shards, going through the ids of the corpus once for all of them."""
    storage = Storage(job.store)
    indexes = []
    for target in targets:
        path, rows = job.inputs["indexes"][target.path]
        index = read_shard(storage, path, ["start", "length", "shard", "row"])
        if index.num_rows != rows:
            raise IntegrityError(f"{storage.url(path)} has {index.num_rows} rows, its manifest says {rows}: damaged")
        indexes.append(index)
    ids = _ids(storage, job.inputs["corpus"], pa.concat_tables(indexes))
    done, at = [], 0
    for target, index in zip(targets, indexes, strict=True):
        lines = _lines(index, ids.slice(at, index.num_rows))
        at += index.num_rows

        def fill(handle: IO[bytes], lines: pa.LargeStringArray = lines) -> None:
            with compressed(handle) as packed:
                for first in range(0, len(lines), _LINES):
                    write_strings(packed, lines.slice(first, _LINES))

        done.append(job.write(target, index.num_rows, fill))
    return done


def _ids(storage: Storage, corpus: Sequence[tuple[str, str, int]], index: pa.Table) -> pa.LargeStringArray:
    """Return the id of each row of an index; `corpus` is key, path and rows of every shard of the corpus."""
    keys = pa.array([key for key, _, _ in corpus], pa.string())
    owners = pc.index_in(column(index, "shard"), keys)
    if owners.null_count:
        missing = pc.unique(column(index, "shard").filter(pc.is_null(owners))).to_pylist()
        raise IntegrityError(f"the tokens are of the corpus shards {missing[:5]}, which the corpus does not have")
    owner = owners.to_numpy(zero_copy_only=False)
    rows = index.column("row").to_numpy()
    order = np.argsort(owner, kind="stable")
    bounds = np.searchsorted(owner[order], np.arange(len(corpus) + 1))
    pieces = [pa.array([], STRING)]
    for number, (_, path, expected) in enumerate(corpus):
        mine = rows[order[bounds[number] : bounds[number + 1]]]
        if not len(mine):
            continue
        ids = column(read_shard(storage, path, ["id"]), "id")
        if len(ids) != expected or mine.max() >= len(ids):
            raise IntegrityError(f"{storage.url(path)} has {len(ids)} rows, its manifest says {expected}: damaged")
        pieces.append(ids.cast(STRING).take(pa.array(mine)))
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return pa.concat_arrays(pieces).take(pa.array(back))


def _lines(index: pa.Table, ids: pa.LargeStringArray) -> pa.LargeStringArray:
    """Return the lines of a table, as Python's `csv.writer` writes them (fields quoted where they must be, CR and LF)."""
    starts, lengths, rows = (index.column(name).to_numpy() for name in ("start", "length", "row"))
    shards = pc.dictionary_encode(column(index, "shard"))
    paths = _csv(pa.array([corpus_path(shard) for shard in shards.dictionary.to_pylist()], STRING))
    places = [whole(starts), ",", whole(starts + lengths), ",", _csv(ids), ",", paths.take(shards.indices)]
    return joined(*places, ",", whole(rows + 1), "\r\n")


def _csv(strings: pa.LargeStringArray) -> pa.LargeStringArray:
    odd = pc.match_substring_regex(strings, '[,"\r\n]')
    if not pc.any(odd).as_py():
        return strings
    return pc.if_else(odd, joined('"', pc.replace_substring(strings, '"', '""'), '"'), strings)
