"""Where a worker's results go: one writer for all Parquet shards, raw objects, and the logical content digest."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from olmo_core.artifacts.manifest import StoredObject
from olmo_core.storage import Storage

ROW_GROUP = 4096
"""Rows of a row group: small enough to read one document's neighbourhood, large enough to compress well."""


class Output:
    """Collects the objects that one shard's work writes below its attempt's folder."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self.storage = storage
        self._folder = folder
        self.objects: list[StoredObject] = []

    def table(self, key: str, table: pa.Table, meta: Mapping[str, Any] | None = None) -> StoredObject:
        """Write a table as `{key}.parquet`; the same rows give the same bytes."""
        path = f"{self._folder}/{key}.parquet"
        with self.storage.writer(path) as (handle, written):
            write_parquet(handle, table)
        done = StoredObject(
            key=key,
            path=path,
            size=written.size,
            sha256=written.sha256,
            digest=content_digest(table),
            rows=table.num_rows,
            meta=dict(meta or {}),
        )
        self.objects.append(done)
        return done

    @contextlib.contextmanager
    def raw(self, key: str, suffix: str, rows: int, meta: Mapping[str, Any] | None = None) -> Iterator[IO[bytes]]:
        """Write any bytes as `{key}{suffix}`; their sha256 is the logical digest too."""
        path = f"{self._folder}/{key}{suffix}"
        with self.storage.writer(path) as (handle, written):
            yield handle
        self.objects.append(
            StoredObject(
                key=key + suffix,
                path=path,
                size=written.size,
                sha256=written.sha256,
                digest=written.sha256,
                rows=rows,
                meta=dict(meta or {}),
            )
        )

    def text(self, key: str, suffix: str, value: str) -> None:
        """Write a text as `{key}{suffix}`, one row; what UTF-8 cannot hold becomes a question mark."""
        with self.raw(key, suffix, rows=1) as handle:
            handle.write(value.encode("utf-8", "replace"))


def write_parquet(handle: IO[bytes], table: pa.Table) -> None:
    """Write a table in the one way all shards are written: combined chunks, fixed row groups, zstd level 3."""
    pq.write_table(
        table.combine_chunks().replace_schema_metadata(None),
        handle,
        row_group_size=ROW_GROUP,
        compression="zstd",
        compression_level=3,
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
        store_schema=True,
        version="2.6",
        data_page_version="1.0",
    )


def content_digest(table: pa.Table) -> str:
    """Return a sha256 over names, types and values of a table; independent of chunks, slices and file encoding."""
    digest = hashlib.sha256()
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        array = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
        digest.update(f"{name}:{array.type}:{len(array)}\n".encode())
        _update(digest, array)
    return digest.hexdigest()


def _update(digest: Any, array: pa.Array) -> None:
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _update(digest, array.dictionary_decode())
    if array.null_count:
        digest.update(np.packbits(array.is_valid().to_numpy(zero_copy_only=False)).tobytes())
    if pa.types.is_null(kind):
        return None
    if pa.types.is_struct(kind):
        for i in range(kind.num_fields):
            _update(digest, array.field(i) if not array.offset and not array.null_count else array.flatten()[i])
        return None
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths = array.value_lengths().fill_null(0)
        digest.update(lengths.to_numpy(zero_copy_only=False).astype(np.int64).tobytes())
        return _update(digest, array.flatten())
    if (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    ):
        large = array.cast(pa.large_binary()).fill_null(b"")
        offsets = np.frombuffer(large.buffers()[1], np.int64)[large.offset : large.offset + len(large) + 1]
        digest.update(np.diff(offsets).tobytes())
        if len(large) and large.buffers()[2] is not None:
            digest.update(memoryview(large.buffers()[2])[int(offsets[0]) : int(offsets[-1])])
        return None
    if pa.types.is_fixed_size_binary(kind):
        digest.update(b"".join(v or b"\0" * kind.byte_width for v in array.to_pylist()))
        return None
    if pa.types.is_boolean(kind):
        digest.update(np.packbits(array.fill_null(False).to_numpy(zero_copy_only=False)).tobytes())
        return None
    values = array.fill_null(0) if array.null_count else array
    digest.update(np.ascontiguousarray(values.to_numpy(zero_copy_only=False)).tobytes())
    return None
