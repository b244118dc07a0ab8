"""The environment source: the real text that any Python installation carries, one document for each file.

Prose: the long descriptions of installed distributions (the body of METADATA), licence and notice files, and .md, .rst
and .txt documentation. Code: the .py files of site-packages and the standard library.

Left out by selection, not quarantined: symbolic links, files over 5 MB, unreadable files, tests and caches, lists that
tools write (top_level.txt and the like), what is not UTF-8 or holds NUL bytes, what is white space only, and this
project's own packages.
"""

from __future__ import annotations

import email.parser
import hashlib
import os
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from olmo_core.documents.access import reading
from olmo_core.documents.files import SourceFile, modification
from olmo_core.documents.record import Document, Place, Rejection, canonical_json
from olmo_core.documents.schema import RAW_BYTES, Reason
from olmo_core.documents.streams import HashedFile
from olmo_core.errors import InputError

LARGEST_FILE = 5_000_000
_SKIPPED_FOLDERS = {
    "__pycache__",
    "test",
    "tests",
    "_tests",
    "idle_test",
    "testdata",
    "test_data",
    "site-packages",
    "dist-packages",
}
_OWN = re.compile(r"(flows|tasks|olmo_core|olmo_flows-[^/]*|__editable__[^/]*)(/|$)")
_PROSE = re.compile(r"(?i)(licen[cs]e|copying|notice|authors)|.*\.(md|rst|txt)$")
_LISTS = re.compile(
    r"(?i)(top_level|entry_points|sources|requires|dependency_links|namespace_packages|requirements.*|cmakelists)\.txt$"
)
_NOT_PROSE = {
    ".py",
    ".pyi",
    ".pyc",
    ".pyx",
    ".so",
    ".json",
    ".html",
    ".htm",
    ".js",
    ".css",
    ".xml",
    ".csv",
    ".toml",
    ".yaml",
    ".yml",
}
_DISTRIBUTION = re.compile(r"(?P<package>[^/]+)-(?P<version>[^/-]+)\.dist-info/")
_LONGEST_LICENCE = 100  # some distributions put the whole licence text into the header


@dataclass(frozen=True, kw_only=True)
class EnvironmentSource:
    """Documents from the files of this Python installation."""

    kind: Literal["environment"] = "environment"
    name: str
    """The `source` of its documents; letters, digits, `.`, `_` and `-`."""
    part: Literal["prose", "code"] = "prose"
    """Documentation and licences, or Python source."""
    max_bytes: int | None = None
    """Bytes of text at most, None for all. Files are taken in the order of a hash of their names until the next would
    exceed it, so a new package changes little of the selection."""
    priority: int = 0
    """Of two near duplicates the one from the source of higher priority stays."""


def list_environment(source: EnvironmentSource) -> list[SourceFile]:
    """Return the selected files, sorted by name; names begin with `site-packages/` or `stdlib/`.

    Reads candidates in the order of selection (to see that they are text) until `max_bytes` is reached. Raises InputError
    when nothing is selected.
    """
    candidates = [file for prefix, folder in _folders().items() for file in _walk(source, folder, prefix)]
    candidates.sort(key=lambda file: hashlib.sha256(file.name.encode()).digest())
    chosen: list[SourceFile] = []
    total = 0
    for file in candidates:
        size = _text_size(file)
        if source.max_bytes is not None and total + size > source.max_bytes:
            break
        if size:
            chosen.append(file)
            total += size
    if not chosen:
        raise InputError(
            f"source {source.name!r}: no {source.part} of at most {source.max_bytes} bytes found in this Python installation "
            f"({', '.join(_folders().values())}); raise max_bytes"
        )
    return sorted(chosen, key=lambda file: file.name)


def environment_records(
    source: EnvironmentSource, file: SourceFile, stream: HashedFile
) -> Iterator[tuple[Place, Document | Rejection]]:
    """Yield the one document of a file; what it says depends on the file's name and content alone."""
    data = stream.read()
    place = Place(1, 0, len(data), data[:RAW_BYTES])
    try:
        whole = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield place, Rejection(Reason.INVALID_UTF8, f"byte {error.start} is not UTF-8 ({error.reason})")
        return
    headers, text = _split(file.name, whole)
    if not text or text.isspace():
        yield place, Rejection(Reason.EMPTY_TEXT, "the file holds no text")
        return
    yield place, Document(file.name, text, None, None, canonical_json(_describe(file.name, headers)))


def _folders() -> dict[str, str]:
    """Return the folders to look through by the prefix of their names."""
    paths = sysconfig.get_paths()
    folders = {"site-packages": paths["purelib"], "stdlib": paths["stdlib"]}
    if os.path.realpath(paths["platlib"]) != os.path.realpath(paths["purelib"]):
        folders["site-packages-platform"] = paths["platlib"]
    return {prefix: folder for prefix, folder in folders.items() if os.path.isdir(folder)}


def _walk(source: EnvironmentSource, folder: str, prefix: str) -> Iterator[SourceFile]:
    top = "/" not in prefix
    with reading(folder, "list"):
        entries = list(os.scandir(folder))
    for entry in entries:
        if entry.is_symlink() or (top and _OWN.match(entry.name)):
            continue
        name = f"{prefix}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _SKIPPED_FOLDERS and os.access(entry.path, os.R_OK | os.X_OK):
                yield from _walk(source, entry.path, name)
        elif _wanted(source.part, entry.name, name) and entry.is_file(follow_symlinks=False):
            status = entry.stat(follow_symlinks=False)
            if 0 < status.st_size <= LARGEST_FILE and _is_utf8(name) and os.access(entry.path, os.R_OK):
                yield SourceFile(name=name, url=entry.path, size=status.st_size, version=modification(status))


def _wanted(part: str, base: str, name: str) -> bool:
    suffix = PurePosixPath(base).suffix.lower()
    if part == "code":
        return suffix == ".py"
    if base == "METADATA":
        return name.count("/") == 2 and name.endswith(".dist-info/METADATA")
    return _PROSE.match(base) is not None and suffix not in _NOT_PROSE and not _LISTS.match(base)


def _is_utf8(name: str) -> bool:
    return name.isascii() or name.encode(errors="replace").decode() == name


def _text_size(file: SourceFile) -> int:
    """Return the bytes of text in a file, 0 when it holds none."""
    with reading(file.url):
        data = Path(file.url).read_bytes()
    if b"\0" in data:
        return 0
    try:
        _, text = _split(file.name, data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return 0
    return 0 if not text or text.isspace() else len(text.encode())


def _split(name: str, whole: str) -> tuple[str, str]:
    """Return headers and text of a file; all but METADATA has no headers. Old setuptools writes UNKNOWN for no text."""
    if not name.endswith(".dist-info/METADATA"):
        return "", whole
    headers, *body = re.split(r"\r?\n\r?\n", whole, maxsplit=1)
    text = body[0] if body else ""
    return headers, "" if text.strip() == "UNKNOWN" else text


def _describe(name: str, headers: str) -> dict[str, Any]:
    """Return path, and package, version and licence as far as the file itself tells."""
    path = name.partition("/")[2]
    described: dict[str, Any] = {"path": name, "package": path.split("/")[0].removesuffix(".py")}
    if found := _DISTRIBUTION.match(path):
        described |= found.groupdict()
    if headers:
        fields = email.parser.HeaderParser().parsestr(headers)
        described |= {"package": fields.get("Name") or described["package"]}
        licence = str(fields.get("License-Expression") or fields.get("License") or "").strip()
        classes = [
            str(c).rpartition(" :: ")[2] for c in fields.get_all("Classifier", []) if str(c).startswith("License :: ")
        ]
        if not licence or len(licence) > _LONGEST_LICENCE or licence == "UNKNOWN":
            licence = "; ".join(classes)
        if licence:
            described["licence"] = licence
    return described
