"""Documents from Parquet files: one row each, with a chosen text column; other columns become metadata."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from olmo_core.documents.batches import PARSED, Records, records_of
from olmo_core.documents.files import SourceFile
from olmo_core.documents.record import (
    Document,
    IntegerIds,
    Place,
    Rejection,
    canonical_bytes,
    parse_others,
    parse_record,
)
from olmo_core.documents.schema import RAW_BYTES, Reason
from olmo_core.documents.streams import HashedFile
from olmo_core.errors import InputError
from olmo_core.kernels.json_lines import blank_rows

_BATCH_BYTES = 8 << 20
_MOST_ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class ParquetSource:
    """Documents from the rows of Parquet files."""

    kind: Literal["parquet"] = "parquet"
    name: str
    """The `source` of its documents; letters, digits, `.`, `_` and `-`."""
    paths: tuple[str, ...] = ()
    """Files or glob patterns, local or s3://. Not part of the identity: the inventory of what they match is."""
    root: str | None = None
    """File names are relative to it; by default the longest folder all paths share. Not part of the identity."""
    priority: int = 0
    """Of two near duplicates the one from the source of higher priority stays."""
    text_column: str = "text"
    """The column with the text; strings."""
    id_column: str | None = "id"
    """The column with the ids; None derives them from file name and row."""
    added_column: str | None = None
    """The column that becomes `added`, strings or times; None: a column of that name, if there is one."""
    created_column: str | None = None
    """The column that becomes `created`, strings or times; None: a column of that name, if there is one."""
    ignored_columns: tuple[str, ...] = ()
    """Columns to leave out of the metadata (and unread)."""
    integer_ids: IntegerIds = "quarantine"
    """`stringify` takes ids of an integer column as text; otherwise such a column is an error."""
    max_record_bytes: int = 1 << 30
    """Rows with a longer text are quarantined."""


def parquet_records(source: ParquetSource, file: SourceFile, stream: HashedFile) -> Iterator[Records]:
    """Yield every row of a file with the document it holds or the reason why it holds none.

    A `metadata` column (a struct, or a JSON object as text) is the base of the metadata; times and decimals become
    text, NaN becomes null. Raises InputError when the file is no Parquet file, truncated or damaged (pages with a
    checksum are verified), or when a column is missing or has the wrong type.
    """
    with stream.random_access() as handle:
        parquet = _open(handle, file.url)
        columns = _columns(source, file.url, parquet.schema_arrow)
        position = 1
        for group in range(parquet.metadata.num_row_groups):
            try:
                for batch in parquet.iter_batches(
                    _rows_at_once(parquet, group), [group], list(columns), use_threads=False
                ):
                    if batch.num_rows:
                        yield _records(source, batch, columns, position)
                    position += batch.num_rows
            except InputError:
                raise
            except (pa.ArrowException, OSError, ValueError, TypeError) as error:
                raise InputError(
                    f"{file.url}: row group {group} (near row {position}) cannot be read: {type(error).__name__}: {error}. If the file is "
                    f"damaged, get it again; if a column has no JSON form, name it in ignored_columns"
                ) from error


def _open(handle: IO[bytes], url: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(handle, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{url}: no complete Parquet file ({error}); an interrupted download? Get it again") from error


def _columns(source: ParquetSource, url: str, schema: pa.Schema) -> dict[str, str]:
    """Return, by column, the key it has in a record."""
    named = {source.text_column: "text"}
    for column, key in ((source.id_column, "id"), (source.added_column, "added"), (source.created_column, "created")):
        if column is not None:
            named[column] = key
    for column, key in named.items():
        if column not in schema.names:
            setting = f"; name another in {key}_column" + (", or null to derive ids" if key == "id" else "")
            raise InputError(f"{url}: no column {column!r}; it has {', '.join(schema.names)}{setting}")
    _check_type(url, schema.field(source.text_column), "text_column", integers=False)
    if source.id_column is not None:
        _check_type(url, schema.field(source.id_column), "id_column", integers=source.integer_ids == "stringify")
    taken = set(named.values())
    rest = [name for name in schema.names if name not in named and name not in source.ignored_columns]
    return named | {name: f"record_{name}" if name in taken or name in ("text", "id") else name for name in rest}


def _check_type(url: str, field: pa.Field, setting: str, *, integers: bool) -> None:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return
    if pa.types.is_integer(kind):
        if integers:
            return
        hint = " (`integer_ids: stringify` accepts it)" if setting == "id_column" else ""
    else:
        hint = ""
    raise InputError(f"{url}: {setting} {field.name!r} has type {field.type}; expected strings{hint}")


def _rows_at_once(parquet: pq.ParquetFile, group: int) -> int:
    metadata = parquet.metadata.row_group(group)
    mean = max(1, metadata.total_byte_size // max(1, metadata.num_rows))
    return int(min(_MOST_ROWS, max(1, _BATCH_BYTES // mean)))


def _records(source: ParquetSource, batch: pa.RecordBatch, columns: dict[str, str], position: int) -> Records:
    """Return a batch's records: whole columns where nothing is odd about them, else row by row.

    No text becomes a Python string, except of rows that are set aside.
    """
    arrays = {columns[name]: _plain(batch.column(name)) for name in batch.schema.names}
    text = _texts(arrays.pop("text"))
    ids, added, created = (_short(arrays.pop(key, None), len(batch)) for key in ("id", "added", "created"))
    if text is None or ids is None or added is None or created is None:
        return records_of(list(_batch_records(source, batch, columns, position)))
    sizes = pc.fill_null(pc.binary_length(text), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    odd = np.zeros(len(batch), np.bool_)
    filled = text.fill_null("") if text.null_count else text
    _, bounds, data = filled.buffers()
    if data is not None:
        ends = np.frombuffer(bounds, np.int64)[filled.offset : filled.offset + len(text) + 1]
        blank_rows(np.frombuffer(data, np.uint8), ends, odd)
    odd |= (sizes == 0) | (sizes > source.max_record_bytes)
    metadata = _metadata(source, arrays, odd)

    def raw(index: int) -> bytes:
        start = text[index].as_buffer()
        return start.slice(0, min(start.size, RAW_BYTES)).to_pybytes() if start is not None else b""

    rejected: dict[int, Rejection] = {}
    for row in np.flatnonzero(odd).tolist():
        ((_, parsed),) = _batch_records(source, batch.slice(row, 1), columns, position + row)
        if isinstance(parsed, Document):
            return records_of(list(_batch_records(source, batch, columns, position)))
        rejected[row] = parsed
    parsed_table = pa.table([text, added, created, metadata], schema=PARSED)
    good = pa.array(~odd)
    return Records(
        positions=np.arange(position, position + len(batch)),
        offsets=None,
        sizes=sizes,
        raw=raw,
        rejected=rejected,
        ids=ids.filter(good) if rejected else ids,
        parsed=parsed_table.filter(good) if rejected else parsed_table,
    )


def _texts(column: pa.Array) -> pa.Array | None:
    """Return the text column as it is kept, or None when a row of it is not UTF-8."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return column.cast(pa.large_string())


def _short(column: pa.Array | None, rows: int) -> pa.Array | None:
    """Return id, added or created as strings, or None when they have to be looked at row by row."""
    if column is None or pa.types.is_null(column.type):
        return pa.nulls(rows, pa.string())
    if not _is_string(column.type):
        return None
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return column.cast(pa.string())


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _metadata(source: ParquetSource, arrays: dict[str, pa.Array], odd: npt.NDArray[np.bool_]) -> pa.StringArray:
    """Return the metadata of all rows from the columns that are left; `odd` is set where a row has to be looked at."""
    own = arrays.get("source")
    if own is not None and _is_string(own.type) and pc.all(pc.fill_null(pc.equal(own, source.name), True)).as_py():
        arrays = {key: column for key, column in arrays.items() if key != "source"}
    if not arrays:
        return pa.repeat(pa.scalar("{}", pa.string()), len(odd))
    keys = list(arrays)
    found: list[bytes | None] = []
    for row, values in enumerate(zip(*(_values(column) for column in arrays.values()), strict=True)):
        parsed = None if odd[row] else _others(source, dict(zip(keys, values, strict=True)))
        odd[row] |= parsed is None
        found.append(parsed)
    return pa.array(found, pa.binary()).cast(pa.string())


def _others(source: ParquetSource, record: dict[str, Any]) -> bytes | None:
    """Return the metadata of a row, None where something is wrong with it."""
    if _NotUtf8 in map(type, record.values()):
        return None
    if type(record.get("metadata")) is str:
        try:
            record["metadata"] = orjson.loads(record["metadata"])
        except orjson.JSONDecodeError:
            return None
    parsed = parse_others(record, source.name, canonical_bytes)
    return None if isinstance(parsed, Rejection) else parsed[2]


def _batch_records(
    source: ParquetSource, batch: pa.RecordBatch, columns: dict[str, str], position: int
) -> Iterator[tuple[Place, Document | Rejection]]:
    values = {columns[name]: _values(_plain(batch.column(name))) for name in batch.schema.names}
    keys = list(values)
    sizes = pc.fill_null(pc.binary_length(_plain(batch.column(source.text_column))), 0).to_pylist()
    for i, row in enumerate(zip(*values.values(), strict=True)):
        record: dict[str, Any] = dict(zip(keys, row, strict=True))
        text = record["text"]
        raw = text[:RAW_BYTES].encode()[:RAW_BYTES] if type(text) is str else b""
        place = Place(position + i, None, sizes[i], raw)
        yield place, _parse(source, record, sizes[i])


def _parse(source: ParquetSource, record: dict[str, Any], size: int) -> Document | Rejection:
    broken = sorted(key for key, value in record.items() if type(value) is _NotUtf8)
    if broken:
        return Rejection(Reason.INVALID_UTF8, f"{', '.join(broken)}: not UTF-8")
    if size > source.max_record_bytes:
        return Rejection(Reason.TOO_LARGE, f"the text has {size} bytes; max_record_bytes is {source.max_record_bytes}")
    if type(record.get("metadata")) is str:
        try:
            record["metadata"] = orjson.loads(record["metadata"])
        except orjson.JSONDecodeError as error:
            return Rejection(Reason.WRONG_TYPE, f"metadata is no JSON object ({error})")
    return parse_record(record, source.name, source.integer_ids)


class _NotUtf8:
    """Stands for a string whose bytes are not UTF-8; Arrow does not check that when it reads Parquet."""


def _plain(column: pa.Array) -> pa.Array:
    """Return a column in a form whose values are JSON values: times and decimals as text, dictionaries decoded."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    if pa.types.is_temporal(column.type) or pa.types.is_decimal(column.type):
        return column.cast(pa.string())
    return column.cast(pa.large_string()) if pa.types.is_string_view(column.type) else column


def _values(column: pa.Array) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        values = [_value(scalar) for scalar in column]
    return values


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return _NotUtf8()
