"""Reading shards back: tables from Parquet objects of a store, and cutting documents into shards of a given size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from olmo_core.errors import IntegrityError
from olmo_core.storage import Storage


def read_shard(
    storage: Storage,
    path: str,
    columns: Sequence[str] | None = None,
    *,
    rows: int | None = None,
    groups: Sequence[int] | None = None,
) -> pa.Table:
    """Return a shard's rows, or some of its columns or row groups.

    Raises IntegrityError when the object is no whole Parquet file, or has not `rows` rows where that is given: columns
    of other documents must never be taken for those of these.
    """
    try:
        with storage.open(path) as handle:
            table = read_parquet(handle, columns, groups=groups)
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(
            f"{storage.url(path)} is damaged: {error}; `olmo artifacts verify` checks all of its artifact"
        ) from error
    if rows is not None and table.num_rows != rows:
        raise IntegrityError(
            f"{storage.url(path)} has {table.num_rows} rows, but what belongs to it has {rows}: one of them is damaged, or "
            "of another shard; `olmo artifacts verify` checks whole artifacts"
        )
    return table


def read_parquet(
    handle: IO[bytes], columns: Sequence[str] | None = None, *, groups: Sequence[int] | None = None
) -> pa.Table:
    """Return the rows of an open Parquet file, its columns in the order asked for, read by the calling thread alone.

    Arrow's own threads would let go of the Python objects behind a file (the handle, each buffer it returned) when they
    come to it. Where the interpreter is ending by then, CPython ends such a thread inside a C++ destructor, and the
    process dies with `terminate called without an active exception` after its work was done: 22 of 300 readers that
    ended right after `pyarrow.parquet.read_table(handle)`. Workers are processes, so threads bought no time either.

    Raises pyarrow.ArrowException or OSError when it is no whole Parquet file or lacks a column.
    """
    wanted = list(columns) if columns is not None else None
    file = pq.ParquetFile(handle, page_checksum_verification=True, pre_buffer=False)
    if groups is not None:
        table = file.read_row_groups(list(groups), columns=wanted, use_threads=False)
    else:
        table = file.read(columns=wanted, use_threads=False)
    missing = set(wanted or ()).difference(table.column_names)
    if missing:
        raise pa.ArrowInvalid(f"no column {', '.join(sorted(missing))} among {', '.join(file.schema_arrow.names)}")
    return table.select(wanted) if wanted is not None else table


def column(table: pa.Table, name: str) -> pa.Array:
    """Return one column of a table as a single array."""
    combined = table.column(name).combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def text_sizes(table: pa.Table) -> npt.NDArray[np.int64]:
    """Return the UTF-8 bytes of each row's text (n,)."""
    sizes = pc.binary_length(table.column("text"))
    return np.asarray(sizes.combine_chunks().to_numpy(zero_copy_only=False), dtype=np.int64)


def cut(tables: Iterable[pa.Table], target_bytes: int) -> Iterator[pa.Table]:
    """Yield the same rows as tables of at most `target_bytes` of text, or of one longer document.

    Where the cuts fall depends on the rows only, not on how they came in. Yields one empty table when there are tables but no rows.
    """
    pending: list[pa.Table] = []
    held = 0
    empty = True
    for table in tables:
        start = 0
        sizes = text_sizes(table)
        for row, size in enumerate(sizes.tolist()):
            if held and held + size > target_bytes:
                pending.append(table.slice(start, row - start))
                yield pa.concat_tables(pending).combine_chunks()
                pending, held, start, empty = [], 0, row, False
            held += size
        pending.append(table.slice(start))
    rest = pa.concat_tables(pending).combine_chunks() if pending else None
    if rest is not None and (rest.num_rows or empty):
        yield rest
