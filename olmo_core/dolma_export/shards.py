"""The jobs of one shard: its documents with their attributes, or a shard of the finished corpus."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.curation.layout import REASON
from olmo_core.documents.shards import column, read_parquet, text_sizes
from olmo_core.dolma_export.attribute_lines import attribute_lines
from olmo_core.dolma_export.document_lines import COLUMNS, document_lines
from olmo_core.dolma_export.files import ExportedFile, Job, Target
from olmo_core.dolma_export.json_columns import compressed, row_ranges, write_strings
from olmo_core.errors import IntegrityError
from olmo_core.storage import Storage

BATCH_BYTES = 1 << 24
"""Text turned into lines at once: bounds the memory beside the shard itself."""


def write_shard(job: Job, targets: Sequence[Target]) -> list[ExportedFile]:
    """Write the files of one shard of a source's documents: the documents, and each stage's attributes.

    Documents that selection dropped for one of the `withheld` reasons have no line in any of them.
    """
    storage = Storage(job.store)
    documents = _table(storage, job.inputs["documents"], COLUMNS)
    shown = _shown(storage, job, documents.num_rows)
    documents = documents if shown is None else documents.filter(shown)
    done = []
    for target in targets:
        stage = job.inputs["stages"][target.path]
        if stage is None:
            done.append(_write(job, target, documents, lambda piece, first: document_lines(piece)))
            continue
        one = job.inputs["attributes"][stage]
        tags, where = _table(storage, one), storage.url(one["path"])
        if one["rows"] != job.inputs["documents"]["rows"]:
            raise IntegrityError(
                f"{where} has {one['rows']} rows for the {job.inputs['documents']['rows']} documents of {job.name}: it "
                "is of another shard; rebuild its stage (`olmo run build-dolma --rebuild STAGE`)"
            )
        tags = tags if shown is None else tags.filter(shown)
        done.append(_write(job, target, documents, _attributes(stage, tags, where)))
    return done


def _shown(storage: Storage, job: Job, rows: int) -> pa.BooleanArray | None:
    """Say which documents may leave the store; None for all."""
    if not job.inputs["withheld"]:
        return None
    reasons = column(_table(storage, job.inputs["selection"], [REASON]), REASON)
    if len(reasons) != rows:
        raise IntegrityError(
            f"{storage.url(job.inputs['selection']['path'])} has {len(reasons)} rows for {rows} documents"
        )
    return pc.invert(pc.is_in(reasons, pa.array(job.inputs["withheld"], pa.string())))


def write_corpus(job: Job, targets: Sequence[Target]) -> list[ExportedFile]:
    """Write one shard of the finished corpus as documents; a document that is repeated is there as often."""
    table = _table(Storage(job.store), job.inputs["corpus"], COLUMNS)
    return [_write(job, target, table, lambda piece, first: document_lines(piece)) for target in targets]


Lines = Callable[[pa.Table, int], pa.LargeStringArray]
"""Makes the lines of some documents, given them and the row of the shard at which they begin."""


def _attributes(stage: str, tags: pa.Table, what: str) -> Lines:
    return lambda piece, first: attribute_lines(stage, piece, tags.slice(first, piece.num_rows), what)


def _table(storage: Storage, one: Mapping[str, Any], columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of a stored object. Raises IntegrityError when it is not, byte for byte, what its manifest says.

    Page checksums do not cover what stands between pages; what leaves the store is compared as a whole.
    """
    where = storage.url(one["path"])
    content = storage.read(one["path"])
    if (seen := hashlib.sha256(content).hexdigest()) != one["sha256"]:
        raise IntegrityError(
            f"{where} has sha256 {seen}, its manifest says {one['sha256']}: it is damaged; "
            "`olmo artifacts verify` checks all of its artifact"
        )
    table = read_parquet(io.BytesIO(content), columns)
    if table.num_rows != one["rows"]:
        raise IntegrityError(f"{where} has {table.num_rows} rows, its manifest says {one['rows']}; this is a bug")
    return table


def _write(job: Job, target: Target, documents: pa.Table, lines: Lines) -> ExportedFile:
    sizes = text_sizes(documents)

    def fill(handle: IO[bytes]) -> None:
        with compressed(handle) as packed:
            for first, last in row_ranges(sizes, BATCH_BYTES):
                write_strings(packed, lines(documents.slice(first, last - first), first))

    return job.write(target, documents.num_rows, fill)
