"""Sources: what files they have, and their records as documents, whatever the format."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pyarrow.compute as pc

from olmo_core.documents.batches import Batch, FileRead, Gatherer, Records, in_columns, missing_ids
from olmo_core.documents.dolma_jsonl import DolmaJsonlSource, jsonl_records
from olmo_core.documents.environment import EnvironmentSource, environment_records, list_environment
from olmo_core.documents.extraction import Extraction
from olmo_core.documents.files import Expected, SourceFile, check_expected
from olmo_core.documents.listing import list_files
from olmo_core.documents.parquet import ParquetSource, parquet_records
from olmo_core.documents.plain_text import TextSource, text_records
from olmo_core.documents.streams import HashedFile
from olmo_core.documents.warc import WarcIdentity, WarcSource, extraction_settings, warc_identity, warc_records
from olmo_core.documents.wet import WetSource, wet_records
from olmo_core.errors import InputError, RecipeError

Source = EnvironmentSource | DolmaJsonlSource | ParquetSource | WarcSource | WetSource | TextSource
Read = Callable[[SourceFile, HashedFile], Iterator[Records]]

BATCH_BYTES = 32 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def identity(source: Source) -> Source | WarcIdentity:
    """Return the source with only what decides how a file becomes documents; the rest is set to its default.

    Where files lie, which ones are selected and how sources rank is left out: the inventory says which files there
    are, by name and content, and priority matters to near duplicates only.
    """
    if isinstance(source, EnvironmentSource):
        return dataclasses.replace(source, max_bytes=None, priority=0)
    placeless = dataclasses.replace(source, paths=(), root=None, priority=0)
    return warc_identity(placeless) if isinstance(placeless, WarcSource) else placeless


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
    with _opened(source) as read:
        for file in files:
            records = derived = 0
            with HashedFile(file.url) as stream:
                try:
                    for some in read(file, stream):
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


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[Read]:
    """Give the function that reads one file of a source, with what it needs over all of them."""
    if isinstance(source, WarcSource):
        with Extraction(extraction_settings(source)) as extraction:
            yield lambda file, stream: in_columns(warc_records(source, extraction, file, stream))
    elif isinstance(source, WetSource):
        yield lambda file, stream: in_columns(wet_records(source, file, stream))
    elif isinstance(source, TextSource):
        yield lambda file, stream: in_columns(text_records(source, file, stream))
    elif isinstance(source, DolmaJsonlSource):
        yield partial(jsonl_records, source)
    elif isinstance(source, ParquetSource):
        yield partial(parquet_records, source)
    else:
        yield lambda file, stream: in_columns(environment_records(source, file, stream))
