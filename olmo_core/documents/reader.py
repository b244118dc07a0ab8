"""Sources: what files they have, and their records as documents, whatever the format."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence

import pyarrow.compute as pc

from olmo_core.documents.batches import Batch, FileRead, Gatherer, Records, in_columns, missing_ids
from olmo_core.documents.dolma_jsonl import DolmaJsonlSource, jsonl_records
from olmo_core.documents.environment import EnvironmentSource, environment_records, list_environment
from olmo_core.documents.files import Expected, SourceFile, check_expected
from olmo_core.documents.listing import list_files
from olmo_core.documents.parquet import ParquetSource, parquet_records
from olmo_core.documents.streams import HashedFile
from olmo_core.errors import InputError, RecipeError

Source = EnvironmentSource | DolmaJsonlSource | ParquetSource

BATCH_BYTES = 32 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def identity(source: Source) -> Source:
    """Return the source with only what decides how a file becomes documents; the rest is set to its default.

    Where files lie, which ones are selected and how sources rank is left out: the inventory says which files there
    are, by name and content, and priority matters to near duplicates only.
    """
    if isinstance(source, EnvironmentSource):
        return dataclasses.replace(source, max_bytes=None, priority=0)
    return dataclasses.replace(source, paths=(), root=None, priority=0)


def scan(source: Source) -> list[SourceFile]:
    """Return the files of a source, sorted by name, without hashing them.

    Raises RecipeError for a name or path that cannot be; InputError when there is nothing, or something is missing or
    unreadable; TransientStorageError when an object store does not answer.
    """
    if not _NAME.fullmatch(source.name):
        raise RecipeError(
            f"source name {source.name!r}: use letters, digits, '.', '_' and '-', beginning with a letter or digit"
        )
    if isinstance(source, EnvironmentSource):
        return list_environment(source)
    return list_files(source.name, source.paths, source.root)


def read_documents(
    source: Source, files: Sequence[SourceFile], expected: Expected | None = None, batch_bytes: int = BATCH_BYTES
) -> Iterator[Batch]:
    """Yield the records of one group of files, in the order of `files`, in batches of about `batch_bytes`.

    A record larger than that is a batch of its own; at least one batch comes, the last with all files finished. Of
    records with the same id the first is kept, over the whole call. Every file is hashed while it is read; with
    `expected` (size and sha256 by name) its content must be that.

    Raises InputError when a file is not as expected, truncated or damaged, so a caller must publish nothing before the
    iterator ends; TransientStorageError when an object store does not answer.
    """
    gatherer = Gatherer(source.name, batch_bytes)
    for file in files:
        records = derived = 0
        with HashedFile(file.url) as stream:
            try:
                for some in _records(source, file, stream):
                    yield from gatherer.add(file.name, some)
                    records += len(some.positions)
                    derived += pc.sum(missing_ids(some.ids)).as_py() or 0
            except InputError:
                # Damage that the inventory did not know of is a change, which is the better thing to say.
                check_expected(file, *stream.finish(), expected)
                raise
            size, sha256 = stream.finish()
        check_expected(file, size, sha256, expected)
        gatherer.finish(FileRead(name=file.name, size=size, sha256=sha256, records=records, derived_ids=derived))
    yield gatherer.take()


def _records(source: Source, file: SourceFile, stream: HashedFile) -> Iterator[Records]:
    if isinstance(source, DolmaJsonlSource):
        return jsonl_records(source, file, stream)
    if isinstance(source, ParquetSource):
        return parquet_records(source, file, stream)
    return in_columns(environment_records(source, file, stream))
