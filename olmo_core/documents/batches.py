"""Gathering parsed records into bounded Arrow tables, with derived ids and later duplicates set aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from olmo_core.documents.ids import IdSet, id_hashes
from olmo_core.documents.record import Document, Parsed, PassedOver, Place, Rejection
from olmo_core.documents.schema import DOCUMENTS, QUARANTINE, RAW_BYTES, Reason

_ROW_COST = 512
"""Bytes of Python objects held for a row besides its text, so that tiny records bound a batch too."""


@dataclass(frozen=True, kw_only=True)
class FileRead:
    """A file that was read to its end and is what the inventory says."""

    name: str
    size: int
    """Bytes as stored."""
    sha256: str
    """Of the stored bytes."""
    records: int
    """Documents, quarantined records and those passed over; 0 for an empty file."""
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
    dropped: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Records passed over and their bytes, by reason."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """How many documents carry a note, by note."""


class Gatherer:
    """Collects records until a batch is full. Ids are unique over all that went through one gatherer."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._seen = IdSet()
        self._clear()

    def _clear(self) -> None:
        self.size = 0
        self._documents: list[Document] = []
        self._places: list[tuple[int, str, Place]] = []
        self._rejected: list[tuple[int, str, Place, Rejection]] = []
        self._finished: list[FileRead] = []
        self._dropped: dict[str, tuple[int, int]] = {}

    def add(self, file: str, place: Place, parsed: Parsed) -> None:
        """Take one record; its number in the batch keeps the order between documents and quarantined records."""
        if isinstance(parsed, PassedOver):
            records, size = self._dropped.get(parsed.reason, (0, 0))
            self._dropped[str(parsed.reason)] = (records + 1, size + place.size)
            return
        number = len(self._documents) + len(self._rejected)
        if isinstance(parsed, Rejection):
            self._rejected.append((number, file, place, parsed))
            self.size += len(place.raw) + _ROW_COST
            return
        self._documents.append(parsed)
        self._places.append((number, file, place))
        self.size += place.size + _ROW_COST

    def finish(self, file: FileRead) -> None:
        """Note that a file ended."""
        self._finished.append(file)

    def take(self) -> Batch:
        """Return what was gathered since the last batch."""
        documents = self._table()
        notes = [document.notes for document in self._documents]
        repeated = self._seen.add(id_hashes(documents.column("id").chunk(0)))
        for row in np.flatnonzero(repeated).tolist():
            number, file, place = self._places[row]
            shown = documents.column("id")[row].as_py()[:200]
            self._rejected.append(
                (number, file, place, Rejection(Reason.DUPLICATE_ID, f"an earlier record has the id {shown!r}"))
            )
        if repeated.any():
            documents = documents.filter(pa.array(~repeated)).combine_chunks()
            self._rejected.sort(key=lambda rejected: rejected[0])
            notes = [own for own, again in zip(notes, repeated.tolist(), strict=True) if not again]
        batch = Batch(
            documents=documents,
            quarantined=self._quarantine(),
            finished=tuple(self._finished),
            dropped=self._dropped,
            notes=Counter(note for own in notes for note in own),
        )
        self._clear()
        return batch

    def _table(self) -> pa.Table:
        ids = [
            d.id or f"{file}:{place.position}"
            for d, (_, file, place) in zip(self._documents, self._places, strict=True)
        ]
        columns = [
            pa.array(ids, pa.string()),
            pa.array([d.text for d in self._documents], pa.large_string()),
            pa.repeat(pa.scalar(self._source, pa.string()), len(ids)),
            pa.array([d.added for d in self._documents], pa.string()),
            pa.array([d.created for d in self._documents], pa.string()),
            pa.array([d.metadata for d in self._documents], pa.string()),
        ]
        return pa.Table.from_arrays(columns, schema=DOCUMENTS)

    def _quarantine(self) -> pa.Table:
        rows = [
            (file, place.position, place.byte_offset, place.size, str(why.reason), why.detail, place.raw[:RAW_BYTES])
            for _, file, place, why in self._rejected
        ]
        columns = list(zip(*rows, strict=True)) or [()] * len(QUARANTINE)
        return pa.Table.from_arrays(
            [pa.array(c, f.type) for c, f in zip(columns, QUARANTINE, strict=True)], schema=QUARANTINE
        )
