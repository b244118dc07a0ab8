"""From tokens back to documents: by the index of a tokens artifact and its corpus, or by the ends of text in other files."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.output import ROW_GROUP
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.layout import INDEX, NPY
from olmo_core.documents.shards import column, read_shard
from olmo_core.documents.urls import urls_in
from olmo_core.errors import InputError, IntegrityError, StorageError
from olmo_core.train.chunks import OpenFile

Row = tuple[str, int]
"""Shard of the corpus (`source/key`) and row of it."""
_NAMED = ["id", "copy", "metadata"]
"""Columns of the corpus that name a document."""
_BACK = 1 << 20
"""Tokens looked at together in search of the end of the document before."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """The tokens of a document in a file, its end-of-text token included."""

    file: int
    start: int
    length: int | None
    """None where a file made elsewhere was not read to the document's end."""
    row: Row | None
    """None in a file made elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Name:
    """What a document is called."""

    source: str
    id: str | None
    url: str | None
    copy: int
    """0, or more where mixing repeats the document."""


class TokenIndex(Protocol):
    """Says which documents tokens are of."""

    def spans(self, file: int, first: int, end: int) -> list[Span]:
        """Return the documents that have any of the tokens `first` to `end` of a file, in order."""

    def names(self, spans: Iterable[Span]) -> dict[Span, Name]:
        """Return what each of the documents is called."""

    def texts(self, spans: Iterable[Span]) -> dict[Span, tuple[Name, str]]:
        """Return name and text of each document, as it went into the corpus; of files made elsewhere the text is empty."""

    def find(self, document: str) -> dict[Span, Name]:
        """Return where the tokens of a document (`id`, or `source/id`) and of its copies are. Raises InputError when it has none."""


class ArtifactIndex:
    """Of a tokens artifact: sorted starts beside each token file, and the rows of the corpus."""

    def __init__(self, store: ArtifactStore, tokens: Manifest) -> None:
        """Raise IntegrityError when the corpus that the tokens are of is not in the store."""
        self._store, self._tokens = store, tokens
        self._indexes = [
            tokens.object(o.key.removesuffix(NPY) + INDEX).path for o in tokens.objects if o.key.endswith(NPY)
        ]
        tokenization = self._input(tokens, "tokenization")
        self._corpus = self._input(tokenization, "corpus")
        self._paths = {o.key: o.path for o in self._corpus.objects}
        # An index of a file of 10^8 tokens is a few MB; the chunks of a batch come from all files in turn.
        self._table = functools.lru_cache(maxsize=256)(self._read)

    def _input(self, manifest: Manifest, role: str) -> Manifest:
        ref: ArtifactRef | None = manifest.inputs.get(role)
        try:
            return self._store.manifest(ref) if ref is not None else _none(manifest, role)
        except StorageError as error:
            raise IntegrityError(
                f"{manifest.ref}: its {role} {ref} cannot be read, so nobody can say which documents its tokens are of: {error}"
            ) from error

    def _read(self, file: int) -> pa.Table:
        return read_shard(
            self._store.storage, self._indexes[file], ["start", "length", "shard", "row"]
        ).combine_chunks()

    def spans(self, file: int, first: int, end: int) -> list[Span]:
        table = self._table(file)
        starts = column(table, "start").to_numpy()
        low = max(int(np.searchsorted(starts, first, side="right")) - 1, 0)
        high = int(np.searchsorted(starts, end, side="left"))
        return [_span(file, record) for record in table.slice(low, high - low).to_pylist()]

    def names(self, spans: Iterable[Span]) -> dict[Span, Name]:
        return {span: _name(shard, record) for shard, span, record in self._rows(spans, _NAMED)}

    def texts(self, spans: Iterable[Span]) -> dict[Span, tuple[Name, str]]:
        # Together: from an object store each column by itself would be requests of its own.
        some = self._rows(spans, [*_NAMED, "text"])
        return {span: (_name(shard, record), str(record["text"])) for shard, span, record in some}

    def _rows(self, spans: Iterable[Span], columns: list[str]) -> Iterator[tuple[str, Span, dict[str, Any]]]:
        """Yield shard, span and row of the corpus of each document; only the row groups that have them are read."""
        by_shard: dict[str, list[Span]] = defaultdict(list)
        for span in spans:
            if span.row is not None:
                by_shard[span.row[0]].append(span)
        for shard, mine in sorted(by_shard.items()):
            rows = np.array([span.row[1] for span in mine if span.row is not None])
            groups = np.unique(rows // ROW_GROUP)
            table = read_shard(self._store.storage, self._path(shard), columns, groups=groups.tolist())
            # All row groups but a shard's last have ROW_GROUP rows.
            at = np.searchsorted(groups, rows // ROW_GROUP) * ROW_GROUP + rows % ROW_GROUP
            if len(at) and int(at.max()) >= table.num_rows:
                raise IntegrityError(
                    f"{self._path(shard)}: the tokens' index names rows that it has not; `olmo artifacts verify` looks into it"
                )
            for span, record in zip(mine, table.take(pa.array(at)).to_pylist(), strict=True):
                yield shard, span, record

    def _path(self, shard: str) -> str:
        if shard not in self._paths:
            raise IntegrityError(
                f"{self._corpus.ref} has no shard {shard!r}, which the index of {self._tokens.ref} names"
            )
        return self._paths[shard]

    def find(self, document: str) -> dict[Span, Name]:
        rows: set[Row] = set()
        for key, path in self._paths.items():
            source = key.split("/")[0]
            ids = column(read_shard(self._store.storage, path, ["id"]), "id")
            wanted = {document, document.removeprefix(f"{source}/")}
            found = pc.indices_nonzero(pc.is_in(ids, value_set=pa.array(sorted(wanted)))).to_pylist()
            rows |= {(key, row) for row in found}
        if not rows:
            raise InputError(
                f"{self._corpus.ref}, of which the tokens are, has no document {document!r}; give its id or source/id. "
                f"`olmo explain` says why a document was dropped"
            )
        keys, numbers = (
            pa.array(sorted({key for key, _ in rows})),
            pa.array(sorted({row for _, row in rows}), pa.int64()),
        )
        spans = []
        for file in range(len(self._indexes)):
            table = self._read(file)
            near = pc.and_(
                pc.is_in(table.column("row"), value_set=numbers), pc.is_in(table.column("shard"), value_set=keys)
            )
            spans += [span for r in table.filter(near).to_pylist() if (span := _span(file, r)).row in rows]
        return self.names(spans)


class OutsideIndex:
    """Of files made elsewhere: their documents have no names, but they end where the end-of-text token is."""

    def __init__(self, files: Sequence[OpenFile], end_of_text_id: int) -> None:
        self._files, self._end = files, end_of_text_id

    def spans(self, file: int, first: int, end: int) -> list[Span]:
        ids = np.memmap(self._files[file].path, self._files[file].dtype, mode="r")
        start = first
        while start > 0:
            low = max(0, start - _BACK)
            ends = np.flatnonzero(ids[low:start] == self._end)
            if len(ends):
                start = low + int(ends[-1]) + 1
                break
            start = low
        ends = first + np.flatnonzero(ids[first:end] == self._end) + 1
        bounds = [start, *ends.tolist()]
        spans = [Span(file=file, start=a, length=b - a, row=None) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        return spans if bounds[-1] == end else [*spans, Span(file=file, start=bounds[-1], length=None, row=None)]

    def names(self, spans: Iterable[Span]) -> dict[Span, Name]:
        return {span: Name(source=self._files[span.file].name, id=None, url=None, copy=0) for span in spans}

    def texts(self, spans: Iterable[Span]) -> dict[Span, tuple[Name, str]]:
        return {span: (name, "") for span, name in self.names(spans).items()}

    def find(self, document: str) -> dict[Span, Name]:
        raise InputError(
            f"document {document!r}: the tokens are files made elsewhere, which have no index of documents; "
            f"`olmo inspect step` shows where documents begin and end in them"
        )


def _name(shard: str, record: dict[str, Any]) -> Name:
    url = next(urls_in(json.loads(record["metadata"])), None)
    return Name(source=shard.split("/")[0], id=record["id"], url=url, copy=record["copy"])


def _none(manifest: Manifest, role: str) -> Manifest:
    raise IntegrityError(f"{manifest.ref} names no {role}: nobody can say which documents its tokens are of")


def _span(file: int, record: dict[str, object]) -> Span:
    return Span(
        file=file,
        start=int(str(record["start"])),
        length=int(str(record["length"])),
        row=(str(record["shard"]), int(str(record["row"]))),
    )
