"""The texts of domains: files `domain.jsonl` of a folder, or the sources of a held-out corpus of ours."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.documents.shards import read_shard
from olmo_core.errors import InputError
from olmo_core.evaluation.encoder import Encoder
from olmo_core.evaluation.perplexity import Document
from olmo_core.storage import Storage

_ENDINGS = (".jsonl", ".jsonl.gz", ".json.gz")
_AT_ONCE = 256
"""Documents that are tokenized at a time."""


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """One file of a domain."""

    domain: str
    path: str
    """Below the folder, or in the store."""
    sha256: str


def folder_files(folder: str) -> list[TextFile]:
    """Return the files of a folder, its subfolders' names part of the domain. Raises InputError where there is none."""
    storage = Storage(folder)
    found = []
    for one in storage.walk(""):
        ending = next((e for e in _ENDINGS if one.path.endswith(e)), None)
        if ending:
            digest = hashlib.sha256(storage.read(one.path)).hexdigest()
            found.append(TextFile(domain=one.path.removesuffix(ending), path=one.path, sha256=digest))
    if not found:
        raise InputError(f"{folder} has no file that ends with {', '.join(_ENDINGS)}; each is one domain")
    return found


def corpus_files(manifest: Manifest) -> list[TextFile]:
    """Return the shards of a corpus artifact; each source is a domain."""
    return [TextFile(domain=o.key.split("/")[0], path=o.path, sha256=o.sha256) for o in manifest.objects]


def folder_documents(folder: str, source: str, files: Sequence[TextFile]) -> Iterator[Document]:
    """Yield the documents of a folder's files. Raises InputError, with file and line, for what is no document, or has changed."""
    storage = Storage(folder)
    for file in files:
        raw = storage.read(file.path)
        if hashlib.sha256(raw).hexdigest() != file.sha256:
            raise InputError(f"{storage.url(file.path)} changed while the evaluation ran; run it again")
        try:
            # Not `splitlines`: JSON strings may hold U+2028 and U+0085 as they are.
            lines = (gzip.decompress(raw) if file.path.endswith(".gz") else raw).decode("utf-8").split("\n")
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise InputError(f"{storage.url(file.path)} cannot be read: {error}; get the file again") from error
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _document(line, number, source, file.domain, storage.url(file.path))


def _document(line: str, number: int, source: str, domain: str, where: str) -> Document:
    try:
        value = json.loads(line)
        text = value["text"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where}, line {number}: no JSON object with a field `text` ({error})") from error
    if not isinstance(text, str):
        raise InputError(f"{where}, line {number}: `text` is {type(text).__name__}, expected a string")
    return Document(source=source, domain=domain, id=str(value.get("id", number)), text=text)


def corpus_documents(store: ArtifactStore, source: str, files: Sequence[TextFile]) -> Iterator[Document]:
    """Yield the documents of a corpus's shards."""
    for file in files:
        table = read_shard(store.storage, file.path, ["id", "copy", "text"])
        for row in table.to_pylist():
            name = f"{row['id']}" if not row["copy"] else f"{row['id']}#{row['copy']}"
            yield Document(source=source, domain=file.domain, id=name, text=row["text"])


def subsample(documents: Sequence[Document], encoder: Encoder, tokens: int | None) -> list[tuple[Document, list[int]]]:
    """Return documents with their token ids, of each domain no more than reach `tokens`, chosen by a hash of their ids.

    The same documents whatever their order and whatever other domains there are. Paloma takes 100,000 tokens of a domain (section 3.3).
    """

    def rank(document: Document) -> bytes:
        return hashlib.blake2b(f"{document.domain}\0{document.id}".encode(), digest_size=8).digest()

    by_domain: dict[str, list[Document]] = {}
    for document in documents:
        by_domain.setdefault(document.domain, []).append(document)
    chosen: list[tuple[Document, list[int]]] = []
    for _, some in sorted(by_domain.items()):
        ordered = sorted(some, key=rank)
        taken, start = 0, 0
        while start < len(ordered) and (tokens is None or taken < tokens):
            part = ordered[start : start + _AT_ONCE]
            start += len(part)
            for document, ids in zip(part, encoder.encode([d.text for d in part]), strict=True):
                if tokens is not None and taken >= tokens:
                    break
                chosen.append((document, ids))
                taken += len(ids)
    return chosen
