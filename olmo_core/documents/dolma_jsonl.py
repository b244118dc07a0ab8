"""Dolma's JSON lines: one object per line, plain or compressed (.gz, .zst, .bz2, .xz), locally or in an object store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from olmo_core.documents.batches import PARSED, Records
from olmo_core.documents.files import SourceFile
from olmo_core.documents.line_blocks import Block, line_blocks
from olmo_core.documents.record import (
    Document,
    IntegerIds,
    Rejection,
    canonical_bytes,
    may_have_lost_digits,
    parse_others,
    parse_record,
)
from olmo_core.documents.schema import RAW_BYTES, Reason
from olmo_core.documents.streams import HashedFile, content_filler
from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.json_decoding import PADDING
from olmo_core.kernels.json_lines import TAKEN, rows_with_exponents, scan

_MOST_LINES = 1 << 16
_BROKEN = Rejection(Reason.BROKEN_JSON, "")


@dataclass(frozen=True, kw_only=True)
class DolmaJsonlSource:
    """Documents from JSON lines with Dolma's fields: `id`, `text`, and optionally `added`, `created`, `metadata`."""

    kind: Literal["dolma-jsonl"] = "dolma-jsonl"
    name: str
    """The `source` of its documents; letters, digits, `.`, `_` and `-`."""
    paths: tuple[str, ...] = ()
    """Files or glob patterns, local or s3://. Not part of the identity: the inventory of what they match is."""
    root: str | None = None
    """File names are relative to it; by default the longest folder all paths share. Not part of the identity."""
    priority: int = 0
    """Of two near duplicates the one from the source of higher priority stays."""
    integer_ids: IntegerIds = "quarantine"
    """What becomes of a record whose id is an integer (Dolma's readers stop there): set aside, or the id taken as text."""
    max_record_bytes: int = 1 << 30
    """Longer lines are quarantined and never held in memory as a whole."""


def jsonl_records(source: DolmaJsonlSource, file: SourceFile, stream: HashedFile) -> Iterator[Records]:
    """Yield the lines of a file with the documents they hold or the reasons why they hold none; blank lines are passed over.

    Raises InputError, with the position, when compressed data is truncated or damaged.
    """
    line = 1
    found = _Scanned(source)
    for block in line_blocks(content_filler(stream, file.name), source.max_record_bytes):
        at = 0
        while at < block.size:
            at = found.scan(block, at)
            if found.count:
                yield found.records(line)
            line += found.lines


class _Scanned:
    """What a compiled scan found in a block, and a library's word on the lines that it left."""

    def __init__(self, source: DolmaJsonlSource) -> None:
        self._source = source
        self._own = np.frombuffer(orjson.dumps(source.name), np.uint8).copy()
        self._text_ends, self._id_ends, self._rest_ends = (np.zeros(_MOST_LINES + 1, np.int64) for _ in range(3))
        self._numbers, self._starts, self._sizes = (np.empty(_MOST_LINES, np.int64) for _ in range(3))
        self._states = np.empty(_MOST_LINES, np.uint8)
        self._ids = self._rest = np.empty(0, np.uint8)
        self.count = self.lines = 0

    def scan(self, block: Block, at: int) -> int:
        """Read the lines from byte `at` on, `_MOST_LINES` at most; return where the next one begins."""
        self._block = block
        if len(self._ids) < block.size + PADDING:
            self._ids = np.empty(block.size + PADDING, np.uint8)
            self._rest = np.empty(block.size + 2 * _MOST_LINES + PADDING, np.uint8)
        # Arrow's allocator keeps memory that was given back; pages that are new to a process cost as much as the scan.
        self._text = np.frombuffer(pa.allocate_buffer(block.size - at + PADDING), np.uint8)
        self.count, self.lines, end = scan(
            block.data,
            at,
            block.size,
            self._own,
            self._source.max_record_bytes,
            self._text,
            self._text_ends[1:],
            self._ids,
            self._id_ends[1:],
            self._rest,
            self._rest_ends[1:],
            self._numbers,
            self._starts,
            self._sizes,
            self._states,
        )
        return int(end)

    def records(self, line: int) -> Records:
        """Return the records of the block, of which the first line has that number."""
        count, block = self.count, self._block
        sizes = self._sizes[:count].copy()
        if block.cut_from:
            sizes[0] = block.cut_from
        found: dict[int, Document | Rejection] = {}
        others = self._others(found)
        for index in np.flatnonzero(self._states[:count] != TAKEN).tolist():
            found[index] = self._closer(index, int(sizes[index]))
        extra = [(index, one) for index, one in sorted(found.items()) if isinstance(one, Document)]
        columns = [
            _strings(self._ids[: self._id_ends[count]].copy(), self._id_ends[: count + 1]).cast(pa.string()),
            _strings(self._text, self._text_ends[: count + 1]),
            *others,
        ]
        if found:
            place = np.arange(count)
            place[[index for index, one in found.items() if isinstance(one, Rejection)]] = -1
            place[[index for index, _ in extra]] = count + np.arange(len(extra))
            taken = pa.array(place[place >= 0])
            columns = [
                pa.concat_arrays([column, pa.array([one[n] for _, one in extra], column.type)]).take(taken)
                for n, column in enumerate(columns)
            ]
        starts = self._starts[:count]
        return Records(
            positions=line + self._numbers[:count],
            offsets=block.offset + starts,
            sizes=sizes,
            raw=lambda index: self._line(index, RAW_BYTES),
            rejected={index: one for index, one in found.items() if isinstance(one, Rejection)},
            ids=columns[0],
            parsed=pa.table(columns[1:], schema=PARSED),
        )

    def _line(self, index: int, most: int | None = None) -> bytes:
        start, size = int(self._starts[index]), int(self._sizes[index])
        return self._block.data[start : start + (size if most is None else min(size, most))].tobytes()

    def _others(self, found: dict[int, Document | Rejection]) -> list[pa.Array]:
        """Return added, created and metadata of all records; those with something odd in them go to `found`."""
        count = self.count
        bounds = self._rest_ends[: count + 1]
        having = np.flatnonzero(np.diff(bounds)).tolist()
        if not having:
            return [pa.nulls(count, pa.string()), pa.nulls(count, pa.string()), pa.repeat("{}", count)]
        added: list[str | None] = [None] * count
        created: list[str | None] = [None] * count
        metadata = [b"{}"] * count
        source = self._source.name
        written = self._rest[: bounds[-1]].tobytes()
        ends = bounds[1:].tolist()
        parts = [written[ends[index - 1] if index else 0 : ends[index]] for index in having]
        for index, record in zip(having, _objects(parts), strict=True):
            parsed = _BROKEN if record is None else parse_others(record, source, canonical_bytes)
            if isinstance(parsed, Rejection):
                found[index] = self._closer(index, int(self._sizes[index]))
            else:
                added[index], created[index], metadata[index] = parsed
        texts = pa.array(metadata, pa.binary()).cast(pa.string())
        for index in np.flatnonzero(rows_with_exponents(*text_buffers(texts))).tolist():
            found[index] = self._closer(index, int(self._sizes[index]))
        return [pa.array(added, pa.string()), pa.array(created, pa.string()), texts]

    def _closer(self, index: int, size: int) -> Document | Rejection:
        """Have a library read a line."""
        source = self._source
        if size > source.max_record_bytes:
            return Rejection(
                Reason.TOO_LARGE, f"the line has {size} bytes; max_record_bytes is {source.max_record_bytes}"
            )
        data = self._line(index)
        try:
            record = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            last = int(self._starts[index]) + size + 1 == self._block.size
            return _broken(data, error, cut=last and not self._block.ended)
        if type(record) is not dict:
            return Rejection(Reason.NOT_AN_OBJECT, f"the line is a JSON {type(record).__name__}; expected an object")
        parsed = parse_record(record, source.name, source.integer_ids)
        if isinstance(parsed, Document) and may_have_lost_digits(parsed.metadata):
            return _exact(data, source) or parsed
        return parsed


def _strings(data: npt.NDArray[np.uint8], bounds: npt.NDArray[np.int64]) -> pa.LargeStringArray:
    """Return strings over memory that a scan has filled and leaves alone; a copy where most of it was not needed."""
    used = int(bounds[-1])
    if used < len(data) // 2:
        data = data[:used].copy()
    buffers = [None, pa.py_buffer(bounds.copy()), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_string(), len(bounds) - 1, buffers)


def _objects(parts: list[bytes]) -> list[dict[str, Any] | None]:
    """Return JSON objects, None for what is none; read all at once where nothing is wrong with any of them."""
    try:
        found: list[dict[str, Any] | None] = orjson.loads(b"[" + b",".join(parts) + b"]")
        return found
    except orjson.JSONDecodeError:
        return [_object(part) for part in parts]


def _object(part: bytes) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = orjson.loads(part)
        return found
    except orjson.JSONDecodeError:
        return None


def _broken(data: bytes, error: orjson.JSONDecodeError, *, cut: bool) -> Rejection:
    """Tell bad encoding from bad JSON; orjson's message is the same for both."""
    try:
        text = data.decode()
    except UnicodeDecodeError as wrong:
        return Rejection(Reason.INVALID_UTF8, f"byte {wrong.start} of the line is not UTF-8 ({wrong.reason})")
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return Rejection(Reason.INVALID_UTF8, "a string holds half of a surrogate pair (\\ud800 to \\udfff)")
    except (ValueError, RecursionError):
        pass
    hint = "" if not cut else "; it is the file's last line and has no newline: the file may have been cut"
    return Rejection(Reason.BROKEN_JSON, f"{error}{hint}")


def _exact(data: bytes, source: DolmaJsonlSource) -> Document | Rejection | None:
    """Read a line again with integers of any size; None when the standard library cannot (deep nesting)."""
    try:
        return parse_record(json.loads(data), source.name, source.integer_ids, _exact_json)
    except (ValueError, RecursionError):
        return None


def _exact_json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
