"""From one record, as a mapping, to a document or the reason why it is none; the same rules for every format.

What Dolma's readers do differently: they stop at the first record they cannot use, and drop keys they do not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

import orjson

from olmo_core.documents.schema import Dropped, Reason

Written = TypeVar("Written", str, bytes)
IntegerIds = Literal["quarantine", "stringify"]

_OBJECT_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    list: "a list",
    dict: "an object",
    str: "a string",
}


class Document(NamedTuple):
    """A record that is a document; `id` is None when the record has none."""

    id: str | None
    text: str
    added: str | None
    created: str | None
    metadata: str
    notes: tuple[str, ...] = ()
    """What the stage counts over its documents, such as how the character encoding was found."""


class Rejection(NamedTuple):
    """A record that is no document, and why."""

    reason: Reason
    detail: str


class PassedOver(NamedTuple):
    """A well-formed record that is no document of this source, and why."""

    reason: Dropped


Parsed = Document | Rejection | PassedOver


class Place(NamedTuple):
    """Where a record was found: line, row or record from 1, byte offset in the decompressed file, length, first bytes."""

    position: int
    byte_offset: int | None
    size: int
    raw: bytes


def canonical_json(value: dict[str, Any]) -> str:
    """Return a JSON object with sorted keys and without spaces. Raises TypeError for what JSON cannot express."""
    return canonical_bytes(value).decode()


def canonical_bytes(value: dict[str, Any]) -> bytes:
    """Return what `canonical_json` returns, in UTF-8."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS) if value else b"{}"


def parse_record(
    record: dict[str, Any],
    source: str,
    integer_ids: IntegerIds,
    write: Callable[[dict[str, Any]], str] = canonical_json,
) -> Document | Rejection:
    """Return the document a record describes; the mapping is used up.

    Keys that are no fields of a document are kept in its metadata, as is the record's own `source` where it differs from
    the recipe's; a name that metadata uses already gets `record_` in front.
    """
    text = record.pop("text", None)
    if text is None:
        return Rejection(Reason.MISSING_TEXT, "the record has no text")
    if type(text) is not str:
        return Rejection(Reason.WRONG_TYPE, f"text is {_kind(text)}; expected a string")
    if not text or text.isspace():
        return Rejection(Reason.EMPTY_TEXT, "the text is empty" if not text else "the text is white space only")
    identifier = record.pop("id", None)
    if identifier is not None and type(identifier) is not str:
        if integer_ids == "stringify" and type(identifier) is int:
            identifier = str(identifier)
        else:
            hint = "; `integer_ids: stringify` in the recipe accepts it" if type(identifier) is int else ""
            return Rejection(
                Reason.WRONG_TYPE, f"id is {_kind(identifier)} ({str(identifier)[:40]}); expected a string{hint}"
            )
    others = parse_others(record, source, write)
    return others if isinstance(others, Rejection) else Document(identifier or None, text, *others)


def parse_others(
    record: dict[str, Any], source: str, write: Callable[[dict[str, Any]], Written]
) -> tuple[str | None, str | None, Written] | Rejection:
    """Return `added`, `created` and the metadata of a record without its text and id; the mapping is used up."""
    added, created = record.pop("added", None), record.pop("created", None)
    if not (added is None or type(added) is str):
        return Rejection(Reason.WRONG_TYPE, f"added is {_kind(added)}; expected a string or null")
    if not (created is None or type(created) is str):
        return Rejection(Reason.WRONG_TYPE, f"created is {_kind(created)}; expected a string or null")
    metadata = record.pop("metadata", None)
    if metadata is None:
        metadata = {}
    elif type(metadata) is not dict:
        return Rejection(Reason.WRONG_TYPE, f"metadata is {_kind(metadata)}; expected an object or null")
    if record and record.get("source", source) in (source, None):
        record.pop("source", None)
    for key in sorted(record) if record else ():
        name = key
        while name in metadata and metadata[name] != record[key]:
            name = f"record_{name}"
        metadata[name] = record[key]
    return added, created, write(metadata)


def _kind(value: object) -> str:
    return _OBJECT_NAMES.get(type(value), type(value).__name__)


_EXPONENT = re.compile(r"[0-9]e\+?[0-9]")


def may_have_lost_digits(metadata: str) -> bool:
    """Say whether metadata shows a number that orjson may have rounded: it reads integers over 64 bits as floats."""
    return _EXPONENT.search(metadata) is not None
