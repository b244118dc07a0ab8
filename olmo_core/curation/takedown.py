"""Takedown lists: the ids and URLs of documents that must go, read from files and looked up in a shard of documents.

A list has one id (`source/id` or `id`) or URL a line, `#` beginning a comment line; a `.jsonl` file has objects with
`id` (and `source`), `url`, or both. Files may be compressed. A line that cannot be read is an error and never skipped:
whoever asked for a document to be taken down must not be overheard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.documents.shards import column
from olmo_core.documents.streams import HashedFile, compression, decompressed
from olmo_core.documents.urls import normal_url, urls_in
from olmo_core.errors import InputError

NAME = "takedown"
"""Name of the list's inventory, and the reason for which its documents are dropped."""
COPY = "takedown_copy"
"""The reason for which exact copies of a listed document are dropped."""
LIST = pa.schema([("entry", pa.string()), ("as_id", pa.bool_()), ("url", pa.string())])
"""One row for each different entry, sorted: as written, whether it may be an id, and its normal URL or null."""
_HOST = r'^(?:[^/?#"]*@)?(?P<host>\[[^\]]*\]|[^/?#:"]*)'
"""The host in what follows `://`, in a URL or in the JSON text around it."""
_ODD = r"[\x00-\x1f\\]"


@dataclass(frozen=True, kw_only=True)
class TakedownRecipe:
    """Documents to be left out of the corpus on request."""

    paths: tuple[str, ...]
    """Files of ids or URLs, or patterns for them; local or s3://. Their content is identity, not their place."""
    copies: Literal["drop", "report"] = "drop"
    """What to do with documents of any source whose text is that of a listed one, byte for byte."""


def read_list(files: Sequence[tuple[str, str, str]]) -> pa.Table:
    """Return the entries of files (name, url, sha256) as a table `LIST`; order, repetition and comments do not matter.

    Raises InputError, naming file and line, for what cannot be read, or has changed since it was digested.
    """
    found: dict[str, tuple[bool, str | None]] = {}
    for name, url, sha256 in files:
        with HashedFile(url) as stream:
            raw = b"".join(decompressed(stream, name))
            if stream.finish()[1] != sha256:
                raise InputError(f"{url} changed while it was being read; run again when it is complete")
        for entry, as_id, normal in _entries(url, name, raw):
            before = found.get(entry, (False, None))
            found[entry] = (before[0] or as_id, before[1] or normal)
    rows = sorted(found.items())
    columns = [[entry for entry, _ in rows], [as_id for _, (as_id, _) in rows], [url for _, (_, url) in rows]]
    return pa.table([pa.array(v, f.type) for v, f in zip(columns, LIST, strict=True)], schema=LIST)


def _entries(url: str, name: str, raw: bytes) -> Iterator[tuple[str, bool, str | None]]:
    path = PurePosixPath(name)
    suffix = PurePosixPath(path.stem).suffix if compression(name) else path.suffix
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError as error:
            raise InputError(f"{url}: line {number} is not UTF-8 ({error.reason}); convert it") from error
        if not text or text.startswith("#"):
            continue
        if suffix == ".jsonl":
            yield from _json_entry(f"{url}: line {number}", text)
        else:
            yield text, True, normal_url(text)


def _json_entry(where: str, text: str) -> Iterator[tuple[str, bool, str | None]]:
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{where} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise InputError(f"{where} is a JSON {type(row).__name__}, not an object with `id` or `url`")
    identifier, source, url = (row.get(key) for key in ("id", "source", "url"))
    for key, value in (("id", identifier), ("source", source), ("url", url)):
        if value is not None and not (isinstance(value, str) and value.strip()):
            raise InputError(f"{where}: {key} is {value!r}; give a text")
    if identifier is None and url is None:
        raise InputError(f"{where} has neither `id` nor `url`; it has {', '.join(map(str, row)) or 'nothing'}")
    if identifier is not None:
        yield f"{source}/{identifier}" if source else identifier, True, None
    if url is not None:
        if (normal := normal_url(url)) is None:
            raise InputError(f"{where}: {url!r} is no URL with scheme and host, such as https://example.org/page")
        yield url.strip(), False, normal


def as_list(texts: Sequence[str]) -> pa.Table:
    """Return ids or URLs as a table `LIST`, as lines of a list would have them."""
    rows = [(text, True, normal_url(text)) for text in sorted(set(texts))]
    return pa.table([pa.array([r[i] for r in rows], f.type) for i, f in enumerate(LIST)], schema=LIST)


class Requests:
    """The entries of a list, ready to be looked up."""

    def __init__(self, table: pa.Table) -> None:
        """Take over a table `LIST`."""
        self._ids = column(table, "entry").filter(column(table, "as_id"))
        self._urls: dict[str, list[str]] = {}
        for entry, url in zip(*(column(table, name).to_pylist() for name in ("entry", "url")), strict=True):
            if url is not None:
                self._urls.setdefault(url, []).append(entry)
        found = pc.extract_regex(pa.array([url.split("://", 1)[1] for url in self._urls], pa.string()), _HOST)
        self._hosts = pc.unique(pc.utf8_trim(pc.utf8_lower(pc.struct_field(found, "host")), " ."))

    @classmethod
    def of(cls, texts: Sequence[str]) -> Requests:
        """Return requests for ids or URLs as lines of a list would have them."""
        return cls(as_list(texts))

    @property
    def needs_metadata(self) -> bool:
        """Whether there are URLs, for which metadata must be looked at."""
        return bool(self._urls)

    def find(self, source: str, ids: pa.Array, metadata: pa.Array | None) -> dict[int, list[tuple[str, str]]]:
        """Return, by row, the entries that name it, each with `id` or `url`; metadata may be None without URLs."""
        found: dict[int, list[tuple[str, str]]] = {}
        own = self._ids.filter(pc.starts_with(self._ids, f"{source}/"))
        for entries, names in ((self._ids, self._ids), (own, pc.utf8_slice_codeunits(own, len(source) + 1))):
            places = pc.index_in(ids, value_set=names)
            for row in pc.indices_nonzero(places.is_valid()).to_pylist():
                found.setdefault(row, []).append((entries[places[row].as_py()].as_py(), "id"))
        if metadata is None or not self._urls:
            return found
        for row in self._candidates(ids, metadata):
            texts = {ids[row].as_py(), *urls_in(_parsed(metadata[row].as_py()))}
            for normal in sorted({n for text in texts if (n := normal_url(text)) is not None}):
                known = {entry for entry, _ in found.get(row, [])}
                more = [(entry, "url") for entry in self._urls.get(normal, []) if entry not in known]
                if more:
                    found.setdefault(row, []).extend(more)
        return found

    def _candidates(self, ids: pa.Array, metadata: pa.Array) -> list[int]:
        """Return the rows that may have one of the URLs: a close look takes 40 microseconds, so most are ruled out.

        A row has a chance when one of the list's hosts follows a `://` in it. What is not ASCII, or has a backslash or
        a control character, may spell a host otherwise and is looked at too.
        """
        rows: set[int] = set()
        for texts in (ids, metadata):
            pieces = pc.split_pattern(texts, "://")
            hosts = pc.struct_field(pc.extract_regex(pieces.flatten(), _HOST), "host")
            known = pc.is_in(pc.utf8_trim(pc.utf8_lower(hosts), " ."), value_set=self._hosts)
            rows.update(pc.list_parent_indices(pieces).filter(known).to_pylist())
            odd = pc.or_(pc.match_substring_regex(texts, _ODD), pc.invert(pc.string_is_ascii(texts)))
            rows.update(pc.indices_nonzero(pc.and_(odd, pc.match_substring(texts, "://"))).to_pylist())
        return sorted(rows)


def _parsed(metadata: str) -> Any:
    try:
        return orjson.loads(metadata)
    except orjson.JSONDecodeError:  # nested deeper than orjson goes; the reader keeps such metadata as it came
        return {}
