"""Gathering parsed records into bounded Arrow tables, with derived ids and later duplicates set aside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.documents.ids import IdSet, id_hashes
from olmo_core.documents.record import Document, Place, Rejection
from olmo_core.documents.schema import DOCUMENTS, QUARANTINE, RAW_BYTES, Reason

_ROW_COST = 512
"""Bytes held for a row besides its text, roughly, so that tiny records bound a batch too."""
_RECORDS_AT_ONCE, _BYTES_AT_ONCE = 1024, 1 << 20

PARSED: pa.Schema = pa.schema([DOCUMENTS.field(name) for name in ("text", "added", "created", "metadata")])
"""The columns of parsed documents, but for the id."""


@dataclass(frozen=True, kw_only=True)
class FileRead:
    """A file that was read to its end and is what the inventory says."""

    name: str
    size: int
    """Bytes as stored."""
    sha256: str
    """Of the stored bytes."""
    records: int
    """Documents and quarantined records; 0 for an empty file."""
    derived_ids: int
    """Documents without an id of their own; theirs is `{file}:{line or row}`."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some of a source's records."""

    documents: pa.Table
    """Schema `DOCUMENTS`, in the order of files and of records in them."""
    quarantined: pa.Table
    """Schema `QUARANTINE`, in the same order."""
    finished: tuple[FileRead, ...]
    """Files whose last record is in this batch or an earlier one, each once."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """Consecutive records of one file, in columns. What is said of n records is said of rejected ones too."""

    positions: npt.NDArray[np.int64]
    """(n,): line or row, from 1."""
    offsets: npt.NDArray[np.int64] | None
    """(n,): byte in the decompressed file; None where that says nothing."""
    sizes: npt.NDArray[np.int64]
    """(n,): bytes."""
    raw: Callable[[int], bytes]
    """First `RAW_BYTES` bytes of the record with that index, until the next `Records` are asked for."""
    rejected: Mapping[int, Rejection]
    """Why, by index; the other records are documents."""
    ids: pa.StringArray
    """One for each document; null or empty where it has none."""
    parsed: pa.Table
    """Schema `PARSED`, a row for each document."""


def in_columns(items: Iterable[tuple[Place, Document | Rejection]]) -> Iterator[Records]:
    """Yield in columns what a format gives record by record: up to 1,024 records or about 1 MB at a time."""
    held: list[tuple[Place, Document | Rejection]] = []
    size = 0
    for place, parsed in items:
        held.append((place, parsed))
        size += place.size
        if len(held) >= _RECORDS_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield records_of(held)
            held, size = [], 0
    if held:
        yield records_of(held)


def records_of(items: list[tuple[Place, Document | Rejection]]) -> Records:
    """Return in columns what was read record by record."""
    places = [place for place, _ in items]
    documents = [parsed for _, parsed in items if isinstance(parsed, Document)]
    offsets = [place.byte_offset for place in places]
    return Records(
        positions=np.array([place.position for place in places], np.int64),
        offsets=None if None in offsets else np.array(offsets, np.int64),
        sizes=np.array([place.size for place in places], np.int64),
        raw=lambda index: places[index].raw,
        rejected={i: parsed for i, (_, parsed) in enumerate(items) if isinstance(parsed, Rejection)},
        ids=pa.array([d.id for d in documents], pa.string()),
        parsed=pa.table([[getattr(d, name) for d in documents] for name in PARSED.names], schema=PARSED),
    )


class Gatherer:
    """Collects records until a batch is full. Ids are unique over all that went through one gatherer."""

    def __init__(self, source: str, batch_bytes: int) -> None:
        self._source = source
        self._batch_bytes = batch_bytes
        self._seen = IdSet()
        self._clear()

    def _clear(self) -> None:
        self._size = 0
        self._documents: list[pa.Table] = []
        self._quarantined: list[tuple[object, ...]] = []
        self._finished: list[FileRead] = []

    def add(self, file: str, records: Records) -> Iterator[Batch]:
        """Take records in and yield the batches that became full. A record that exceeds a batch is one by itself."""
        count = len(records.positions)
        is_document = np.ones(count, np.bool_)
        is_document[list(records.rejected)] = False
        rows = np.flatnonzero(is_document)
        ids = _named(records.ids, file, records.positions[rows])
        repeated = self._seen.add(id_hashes(ids))
        rejected = dict(records.rejected)
        for row in np.flatnonzero(repeated).tolist():
            shown = ids[row].as_py()[:200]
            rejected[int(rows[row])] = Rejection(Reason.DUPLICATE_ID, f"an earlier record has the id {shown!r}")
        table = self._table(ids, records.parsed)
        if repeated.any():
            table, rows = table.filter(pa.array(~repeated)), rows[~repeated]
        bad = sorted(rejected)
        raw = [records.raw(index)[:RAW_BYTES] for index in bad]
        cost = records.sizes + _ROW_COST
        for index, data in zip(bad, raw, strict=True):
            if index in records.rejected:
                cost[index] = len(data) + _ROW_COST
        first = 0
        for last in self._cuts(records.sizes, cost):
            inside = slice(*np.searchsorted(rows, [first, last]).tolist())
            self._documents.append(table.slice(inside.start, inside.stop - inside.start))
            for index, data in zip(bad, raw, strict=True):
                if first <= index < last:
                    why = rejected[index]
                    offset = None if records.offsets is None else int(records.offsets[index])
                    place = (file, int(records.positions[index]), offset, int(records.sizes[index]))
                    self._quarantined.append((*place, str(why.reason), why.detail, data))
            self._size += int(cost[first:last].sum())
            first = last
            if last < count:
                yield self.take()

    def _cuts(self, sizes: npt.NDArray[np.int64], cost: npt.NDArray[np.int64]) -> Iterator[int]:
        """Yield where batches end among records, and at last how many records there are."""
        ends = np.cumsum(cost)
        held, first = self._size, 0
        while first < len(cost):
            before = int(ends[first - 1]) if first else 0
            full = held + ends[first:] - cost[first:] - before + sizes[first:] > self._batch_bytes
            if not held:
                full[0] = False
            last = first + int(np.argmax(full)) if full.any() else len(cost)
            yield last
            held, first = 0, last

    def finish(self, file: FileRead) -> None:
        """Note that a file ended."""
        self._finished.append(file)

    def take(self) -> Batch:
        """Return what was gathered since the last batch."""
        batch = Batch(
            documents=pa.concat_tables(self._documents) if self._documents else DOCUMENTS.empty_table(),
            quarantined=self._quarantine(),
            finished=tuple(self._finished),
        )
        self._clear()
        return batch

    def _table(self, ids: pa.StringArray, parsed: pa.Table) -> pa.Table:
        source = pa.repeat(pa.scalar(self._source, pa.string()), len(ids))
        text, *others = parsed.columns
        return pa.Table.from_arrays([ids, text, source, *others], schema=DOCUMENTS)

    def _quarantine(self) -> pa.Table:
        columns = list(zip(*self._quarantined, strict=True)) or [()] * len(QUARANTINE)
        return pa.Table.from_arrays(
            [pa.array(c, f.type) for c, f in zip(columns, QUARANTINE, strict=True)], schema=QUARANTINE
        )


def missing_ids(ids: pa.StringArray) -> pa.BooleanArray:
    """Say of each id whether there is none: null or empty."""
    return pc.equal(pc.fill_null(pc.binary_length(ids), 0), 0)


def _named(ids: pa.StringArray, file: str, positions: npt.NDArray[np.int64]) -> pa.StringArray:
    """Return ids with `{file}:{position}` where there is none."""
    missing = missing_ids(ids)
    if not pc.any(missing).as_py():
        return ids
    places = positions[missing.to_numpy(zero_copy_only=False)].tolist()
    derived = pa.array([f"{file}:{position}" for position in places], pa.string())
    return pc.replace_with_mask(ids, missing, derived)
