"""Dolma's JSON lines: one object per line, plain or compressed (.gz, .zst, .bz2, .xz), locally or in an object store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import orjson

from olmo_core.documents.files import SourceFile
from olmo_core.documents.record import Document, IntegerIds, Place, Rejection, may_have_lost_digits, parse_record
from olmo_core.documents.schema import RAW_BYTES, Reason
from olmo_core.documents.streams import HashedFile, decompressed

_BOM = b"\xef\xbb\xbf"
_WHITE = b" \t\r\n"


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


class Line(NamedTuple):
    """A line without its newline; `data` is cut to `RAW_BYTES` when the line is too long (`size` is its real length)."""

    number: int
    offset: int
    size: int
    data: bytes
    ended: bool


def read_lines(pieces: Iterable[bytes], max_bytes: int) -> Iterator[Line]:
    """Split a byte stream at newlines (not at other separators), in one pass and with bounded memory."""
    number, offset, size = 1, 0, 0
    kept: list[bytes] = []  # of a line longer than a piece: joining once keeps a 200 MB line linear in time
    for piece in pieces:
        if number == 1 and offset == 0 and size == 0 and piece.startswith(_BOM):
            piece, offset = piece[len(_BOM) :], len(_BOM)
        *lines, rest = piece.split(b"\n")
        for line in lines:
            if kept:
                size += len(line)
                line = b"".join([*kept, line])
                kept = []
            else:
                size = len(line)
            yield Line(number, offset, size, line if size <= max_bytes else line[:RAW_BYTES], True)
            number, offset, size = number + 1, offset + size + 1, 0
        if rest:
            size += len(rest)
            kept.append(rest)
            if size > max_bytes:
                kept = [b"".join(kept)[: max(RAW_BYTES, 1)]]
    if size:
        yield Line(number, offset, size, b"".join(kept), False)


def jsonl_records(
    source: DolmaJsonlSource, file: SourceFile, stream: HashedFile
) -> Iterator[tuple[Place, Document | Rejection]]:
    """Yield every line of a file with the document it holds or the reason why it holds none; blank lines are passed over.

    Raises InputError, with the position, when compressed data is truncated or damaged.
    """
    for line in read_lines(decompressed(stream, file.name), source.max_record_bytes):
        data = line.data
        place = Place(line.number, line.offset, line.size, data[:RAW_BYTES])
        if line.size > source.max_record_bytes:
            yield (
                place,
                Rejection(
                    Reason.TOO_LARGE, f"the line has {line.size} bytes; max_record_bytes is {source.max_record_bytes}"
                ),
            )
            continue
        try:
            record = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            if data.strip(_WHITE):
                yield place, _broken(line, error)
            continue
        if type(record) is not dict:
            yield (
                place,
                Rejection(Reason.NOT_AN_OBJECT, f"the line is a JSON {type(record).__name__}; expected an object"),
            )
            continue
        parsed = parse_record(record, source.name, source.integer_ids)
        if isinstance(parsed, Document) and may_have_lost_digits(parsed):
            parsed = _exact(data, source) or parsed
        yield place, parsed


def _broken(line: Line, error: orjson.JSONDecodeError) -> Rejection:
    """Tell bad encoding from bad JSON; orjson's message is the same for both."""
    try:
        text = line.data.decode()
    except UnicodeDecodeError as wrong:
        return Rejection(Reason.INVALID_UTF8, f"byte {wrong.start} of the line is not UTF-8 ({wrong.reason})")
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return Rejection(Reason.INVALID_UTF8, "a string holds half of a surrogate pair (\\ud800 to \\udfff)")
    except (ValueError, RecursionError):
        pass
    hint = "" if line.ended else "; it is the file's last line and has no newline: the file may have been cut"
    return Rejection(Reason.BROKEN_JSON, f"{error}{hint}")


def _exact(data: bytes, source: DolmaJsonlSource) -> Document | Rejection | None:
    """Read a line again with integers of any size; None when the standard library cannot (deep nesting)."""
    try:
        return parse_record(json.loads(data), source.name, source.integer_ids, _exact_json)
    except (ValueError, RecursionError):
        return None


def _exact_json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
