"""Evaluation sets: outside files whose items a corpus shall not contain."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import orjson

from olmo_core.artifacts.ref import check_name
from olmo_core.documents.files import Expected, SourceFile, check_expected
from olmo_core.documents.listing import list_files
from olmo_core.documents.streams import HashedFile, decompressed
from olmo_core.documents.text_lines import read_lines
from olmo_core.errors import InputError, RecipeError

SetRule = Literal["paragraphs", "ngrams"]
_LONGEST_RECORD = 1 << 30
_WHITE = b" \t\r\n"


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """The files of one evaluation set and how they fall into items."""

    name: str
    """Appears in reasons (`contaminated: NAME`), reports and the inventory's name; no source may have it too."""
    kind: Literal["text", "jsonl", "dolma-jsonl"]
    """`jsonl`: a record a line, its item made of `fields`; `dolma-jsonl`: the same with the field `text`, as in Paloma's
    `source/domain.jsonl.gz`; `text`: plain text. Compressed or not (.gz, .zst, .bz2, .xz)."""
    paths: tuple[str, ...] = ()
    """Files or glob patterns, local or s3://. Not part of the identity: the inventory of what they match is."""
    root: str | None = None
    """File names, and so the items' ids, are relative to it; by default the longest folder all paths share."""
    fields: tuple[str, ...] = ("text",)
    """`jsonl`: what an item is made of, in this order, a line for each value: `question`, `choices`, `choices.text`
    (dots go into objects, lists are gone through). Leave out prompts that all items share."""
    id_field: str | None = "id"
    """`jsonl`, `dolma-jsonl`: field of the record's own id; where a record has none its line number stands for it."""
    items: Literal["blocks", "files"] = "blocks"
    """`text`: each block between blank lines is an item, or each file."""
    rules: tuple[SetRule, ...] = ("paragraphs", "ngrams")
    """Which of the recipe's rules look for this set. Paragraphs alone for large language-modelling sets, as Paloma does."""

    def __post_init__(self) -> None:
        check_name(self.name, "evaluation set name")
        if not self.fields or not self.rules:
            raise RecipeError(f"evaluation set {self.name}: fields and rules need at least one entry each")
        if self.kind != "jsonl" and self.fields != ("text",):
            raise RecipeError(
                f"evaluation set {self.name}: fields {list(self.fields)} are read by kind jsonl only, not by {self.kind}"
            )


class Item(NamedTuple):
    """One thing that a model is evaluated on."""

    id: str
    """`{file}:{the record's id, or its line}`; the file's name alone where it is one item. Unique within the set."""
    file: str
    own_id: str | None
    """The record's own id, by which an evaluation knows it."""
    text: str


def list_set(one: EvaluationSet) -> list[SourceFile]:
    """Return the files of a set, sorted by name. Raises InputError when a pattern matches nothing."""
    return list_files(one.name, one.paths, one.root)


def read_items(one: EvaluationSet, files: Sequence[SourceFile], expected: Expected) -> Iterator[Item]:
    """Yield the items of a set, in order of file and place; those without any text too.

    Raises InputError, naming file and line, for what cannot be read or is not as the inventory says, a broken line, a
    field that no record has or that holds an object: an evaluation set is used whole or not at all.
    """
    for file in files:
        with HashedFile(file.url) as stream:
            seen: set[str] = set()
            try:
                with contextlib.closing(_items(one, file, stream)) as items:
                    for item in items:
                        # Two records of one id are two items; the second is called by its place as well.
                        unique = item if item.id not in seen else item._replace(id=f"{item.id}#{len(seen) + 1}")
                        seen.add(unique.id)
                        yield unique
            except InputError:
                # Damage that the inventory did not know of is a change, which is the better thing to say.
                check_expected(file, *stream.finish(), expected)
                raise
            check_expected(file, *stream.finish(), expected)


def _items(one: EvaluationSet, file: SourceFile, stream: HashedFile) -> Generator[Item, None, None]:
    # Closed before the stream is, whatever stops the reading.
    with contextlib.closing(cast(Generator[bytes, None, None], decompressed(stream, file.name))) as content:
        yield from _blocks(one, file, content) if one.kind == "text" else _records(one, file, content)


def _blocks(one: EvaluationSet, file: SourceFile, content: Iterator[bytes]) -> Iterator[Item]:
    if one.items == "files":
        yield Item(file.name, file.name, None, _decoded(file, 1, b"".join(content)))
        return
    lines: list[str] = []
    first = 1
    for line in read_lines(content, _LONGEST_RECORD):
        text = _decoded(file, line.number, line.data)
        if text.strip():
            first = first if lines else line.number
            lines.append(text)
        elif lines:
            yield Item(f"{file.name}:{first}", file.name, None, "\n".join(lines))
            lines = []
    if lines:
        yield Item(f"{file.name}:{first}", file.name, None, "\n".join(lines))


def _decoded(file: SourceFile, line: int, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file.url}, line {line}: byte {error.start} is not UTF-8 ({error.reason}); convert the file"
        ) from None


def _records(one: EvaluationSet, file: SourceFile, content: Iterator[bytes]) -> Iterator[Item]:
    for line in read_lines(content, _LONGEST_RECORD):
        if not line.data.strip(_WHITE):
            continue
        where = f"{file.url}, line {line.number} (evaluation set {one.name})"
        if line.size > _LONGEST_RECORD:
            raise InputError(f"{where}: the line has {line.size} bytes, over {_LONGEST_RECORD}; is this JSON lines?")
        try:
            record = orjson.loads(line.data)
        except orjson.JSONDecodeError as error:
            raise InputError(f"{where}: not JSON: {error}; an evaluation set is read whole or not at all") from None
        if not isinstance(record, dict):
            raise InputError(f"{where}: a JSON {type(record).__name__}; expected an object")
        own = record.get(one.id_field) if one.id_field else None
        if own is not None and (not isinstance(own, str | int) or isinstance(own, bool)):
            raise InputError(f"{where}: {one.id_field!r} is {own!r}, neither text nor an integer; set id_field: null")
        parts = [part for name in one.fields for part in _values(record, name.split("."), name, where)]
        own_id = None if own is None else str(own)
        yield Item(f"{file.name}:{line.number if own_id is None else own_id}", file.name, own_id, "\n".join(parts))


def _values(value: Any, path: Sequence[str], name: str, where: str) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _values(one, path, name, where)
    elif path:
        if not isinstance(value, dict) or path[0] not in value:
            there = ", ".join(value) if isinstance(value, dict) else f"a {type(value).__name__}"
            raise InputError(f"{where}: there is no field {name!r}; there is: {there}; correct `fields`")
        yield from _values(value[path[0]], path[1:], name, where)
    elif isinstance(value, dict):
        raise InputError(
            f"{where}: field {name!r} is an object with {', '.join(value)}; name one of these behind a dot"
        )
    elif value is not None:
        yield value if isinstance(value, str) else str(value)
